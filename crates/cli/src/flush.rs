//! `flush`: asks whether everybody has what was changed here, and waits for it.

use crate::args;
use crate::control::Client;
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};
use crate::show;

pub(crate) fn run(options: &args::Flush) -> Result<Exit, Failure> {
    let client = Client::new(&options.control.socket);
    let reports = client.flush(options.control.share.as_deref(), options.timeout, options.live)?;
    if options.control.json {
        print_json(&reports);
    } else {
        print(&show::flush(&reports));
    }
    let complete = reports.iter().all(|report| report.complete);
    Ok(if complete { Exit::Good } else { Exit::No })
}
