//! demo
use crate::args;
use crate::failure::{Exit, Failure};
pub(crate) fn run(options: &args::Demo) -> Result<Exit, Failure> {
    let _ = options;
    Ok(Exit::No)
}
