//! `status`: asks the daemon and shows what it says, once or each second.

use std::time::Duration;

use crate::args;
use crate::control::{Client, ClientError};
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};
use crate::show::{self, Now};

/// How often `--watch` draws: as often as people read.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Cursor home and clear to the end: no flicker, unlike clearing first.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(crate) fn run(options: &args::Status) -> Result<Exit, Failure> {
    let client = Client::new(&options.control.socket);
    let ask = || client.status(options.control.share.as_deref());
    if !options.watch {
        let status = ask()?;
        match options.control.json {
            true => print_json(&status),
            false => print(&show::status(&status, &Now::here())),
        };
        return Ok(Exit::Good);
    }
    loop {
        let read = match ask() {
            // For programs: one object a line, nothing else.
            Ok(status) if options.control.json => print_json(&status),
            Ok(status) => print(&format!("{CLEAR}{}", show::status(&status, &Now::here()))),
            // A daemon that restarts is what somebody watches for.
            Err(error @ ClientError::Unreachable { .. }) if !options.control.json => {
                print(&format!("{CLEAR}{error}\n"))
            }
            Err(error) => return Err(error.into()),
        };
        if !read {
            return Ok(Exit::Good);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}
