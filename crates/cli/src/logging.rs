//! Where log lines go: to journald with their fields when it is on the other end of stderr, else to
//! stderr as text. `--log` outranks `$RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::failure::{Exit, Failure};

const FILTER_DEFAULT: &str = "info";

pub(crate) fn start(filter: Option<&str>) -> Result<(), Failure> {
    let from_environment = std::env::var("RUST_LOG").ok();
    let text = filter.or(from_environment.as_deref()).unwrap_or(FILTER_DEFAULT);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        let next = "write a level such as `info`, or `chainsync_engine=debug,info`";
        Failure::new(Exit::Usage, format!("`{text}` is not a log filter: {error}"), next)
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal).init();
    } else {
        let text = fmt::layer().with_writer(std::io::stderr);
        registry.with(text.with_ansi(std::io::stderr().is_terminal())).init();
    }
    Ok(())
}

/// systemd names the device and inode of the stream it connected; a child may have another stderr.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
