//! `keygen`: writes a private key and prints the id that the other nodes pin. Never overwrites:
//! the old key may be the only way into a ring.

use std::io::ErrorKind;

use chainsync_host::{KeyError, PrivateKey};

use crate::args;
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};

pub(crate) fn run(options: &args::Keygen) -> Result<Exit, Failure> {
    let path = options.out.display();
    let key = PrivateKey::generate().map_err(|error| {
        Failure::new(Exit::Usage, error, "is this a system whose random generator is not ready?")
    })?;
    key.write_new(&options.out).map_err(|error| match error {
        KeyError::Exists { .. } => Failure::new(
            Exit::Usage,
            format!("{path} exists, and a key is never overwritten"),
            "choose another file, or move the old key away first",
        ),
        KeyError::Write { source, .. } if source.kind() == ErrorKind::NotFound => Failure::new(
            Exit::Usage,
            format!("cannot write {path}: its directory does not exist"),
            "create the directory, owned by the user that runs the daemon",
        ),
        KeyError::Write { source, .. } => Failure::new(
            Exit::Usage,
            format!("cannot write {path}: {source}"),
            "run keygen as the user that runs the daemon, or choose another directory",
        ),
        error => Failure::new(Exit::Usage, error, "choose another file"),
    })?;
    let id = key.public_id().to_string();
    match options.json {
        true => print_json(&serde_json::json!({ "id": id, "file": path.to_string() })),
        false => print(&format!("{id}\n")),
    };
    Ok(Exit::Good)
}
