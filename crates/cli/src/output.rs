//! Standard output. A reader that has seen enough (`chainsync status | head -1`) closes the pipe; that
//! is neither a panic nor an error.

use std::io::Write;

/// Whether anybody still reads.
pub(crate) fn print(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// One line of JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> bool {
    // Statuses, reports and verdicts: maps with string keys, numbers and strings.
    let json = serde_json::to_string(value).expect("what the CLI prints has a JSON form");
    print(&format!("{json}\n"))
}
