//! One run in a process of its own, and what came of it.
//!
//! tokio numbers its tasks for the whole process and drops them, when a daemon is killed, in an order
//! that depends on the numbers: what ran before in a process would show. So a search is many processes,
//! and a panic or an endless loop ends one run only.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use chainsync_sim::scenario::Scenario;
use chainsync_sim::verdict::Verdict;

/// A run of a default plan takes about a second; one that takes this long never ends.
const RUN_MAX: Duration = Duration::from_secs(120);
/// How often a running child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Runs plans, each in a process.
pub(crate) struct Children {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Children {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let directory = tempfile::tempdir().context("a directory for plans")?;
        Ok(Self { program, directory })
    }

    /// Runs a plan that is not in a file yet.
    pub(crate) fn run(&self, name: &str, plan: &Scenario) -> anyhow::Result<Verdict> {
        let path = self.directory.path().join(format!("{name}.toml"));
        fs::write(&path, plan.to_toml()).with_context(|| format!("{}", path.display()))?;
        let verdict = self.run_file(&path);
        let _ = fs::remove_file(&path);
        verdict
    }

    fn run_file(&self, path: &Path) -> anyhow::Result<Verdict> {
        let begun = Instant::now();
        let mut child = Command::new(&self.program)
            .arg("replay")
            .arg(path)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("a run cannot be started")?;
        let mut output = child.stdout.take().context("no output")?;
        let mut errors = child.stderr.take().context("no errors")?;
        // Both pipes are read while it runs: neither fills up.
        let read = std::thread::scope(|scope| {
            let errors = scope.spawn(move || {
                let mut text = String::new();
                let _ = errors.read_to_string(&mut text);
                text
            });
            let output = scope.spawn(move || {
                let mut text = String::new();
                let _ = output.read_to_string(&mut text);
                text
            });
            let status = loop {
                match child.try_wait() {
                    Ok(Some(status)) => break Some(status),
                    Ok(None) if begun.elapsed() > RUN_MAX => {
                        // It is ours, and it has not been waited for: the id is still its own.
                        let _ = child.kill();
                        let _ = child.wait();
                        break None;
                    }
                    Ok(None) => std::thread::sleep(LOOK_EVERY),
                    Err(_) => break None,
                }
            };
            (status, output.join().unwrap_or_default(), errors.join().unwrap_or_default())
        });
        let (status, output, errors) = read;
        Ok(match status.and_then(|status| status.code()) {
            Some(0 | 1) => serde_json::from_str(&output)
                .with_context(|| format!("what a run said cannot be read: {output}"))?,
            Some(2) => Verdict::refused(errors.trim()),
            Some(_) => Verdict::panicked(&errors),
            None => Verdict::endless(RUN_MAX),
        })
    }
}
