//! Other programs, waiting with a limit, and being interrupted.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Set by Ctrl-C and SIGTERM; every wait looks at it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Making a file system is the slowest of what goes through [`output`].
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

extern "C" fn interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on a signal ends the run in order: hosts and disks are taken down.
pub fn catch_signals() {
    let handler = interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is safe in a signal handler.
        unsafe { libc::signal(signal, handler) };
    }
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

pub fn check_interrupted() -> Result<()> {
    ensure!(!interrupted(), "interrupted");
    Ok(())
}

/// Sleeps in short pieces, so that an interrupt is noticed.
pub fn sleep(duration: Duration) -> Result<()> {
    let until = Instant::now() + duration;
    loop {
        check_interrupted()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// What a program printed; an error with what it complained if it failed.
pub fn output<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    // Not stopped by an interrupt: it may be what takes the hosts down.
    output_until(command, COMMAND_TIMEOUT, || false)
}

pub fn output_of(command: Command, patience: Duration) -> Result<String> {
    output_until(command, patience, interrupted)
}

fn output_until(mut command: Command, patience: Duration, stop: fn() -> bool) -> Result<String> {
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    // Both are read to their ends beside the wait: a full pipe would block the program.
    let readers = (child.stdout.take().map(drain), child.stderr.take().map(drain));
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline || stop() {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{what} did not end within {patience:?}");
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (said, complained) = (text(readers.0), text(readers.1));
    ensure!(status.success(), "{what}: {status}: {}{}", said.trim(), complained.trim());
    Ok(said)
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
