//! `keygen`: writes a private key and prints the id that the other nodes pin. Never overwrites:
//! the old key may be the only way into a ring.

use std::io::ErrorKind;

use crate::host::key;

use crate::args;
use crate::failure::{Exit, Failure};

pub(crate) fn run(options: &args::Keygen) -> Result<Exit, Failure> {
    let path = options.out.display();
    let secret = key::generate();
    let id = key::public_id(&secret);
    key::write_new(&options.out, &secret).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            Exit::Usage,
            format!("{path} exists, and a key is never overwritten"),
            "choose another file, or move the old key away first",
        ),
        ErrorKind::NotFound => Failure::new(
            Exit::Usage,
            format!("cannot write {path}: its directory does not exist"),
            "create the directory, owned by the user that runs the daemon",
        ),
        _ => Failure::new(
            Exit::Usage,
            format!("cannot write {path}: {error}"),
            "run keygen as the user that runs the daemon, or choose another directory",
        ),
    })?;
    println!("{id}");
    Ok(Exit::Good)
}
