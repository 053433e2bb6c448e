//! `status`: asks the daemon and shows what it says, once or each second.

use std::time::Duration;

use crate::args;
use crate::control::{Client, ClientError};
use crate::failure::{Exit, Failure};
use crate::show::{self, Now};

/// How often `--watch` draws: as often as people read.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Cursor home and clear to the end: no flicker, unlike clearing first.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(crate) fn run(options: &args::Status) -> Result<Exit, Failure> {
    let client = Client::new(&options.control.socket);
    loop {
        let answer = client.status(options.control.share.as_deref());
        let text = match answer {
            // A daemon that restarts is what somebody watches for.
            Err(ClientError::Unreachable { .. }) if options.watch && !options.control.json => {
                format!("{}\n", answer.err().map(|error| error.to_string()).unwrap_or_default())
            }
            Err(error) => return Err(error.into()),
            Ok(status) if options.control.json => format!("{}\n", json(&status)),
            Ok(status) => show::status(&status, &Now::here()),
        };
        if options.watch && !options.control.json {
            print!("{CLEAR}");
        }
        print!("{text}");
        // A reader that went away (`status --watch | head`) is the end, not an error.
        if std::io::Write::flush(&mut std::io::stdout()).is_err() || !options.watch {
            return Ok(Exit::Good);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> String {
    // These values came out of JSON a moment ago.
    serde_json::to_string(value).expect("what was parsed from JSON serialises")
}
