//! `demo`: three real nodes on loopback, a storm, a failure, a verdict.
//!
//! The measuring is in [`story`], the writing in [`generator`], the judging in [`audit`], the
//! processes in [`cluster`]. Here: where it happens, what is printed, and what is left behind.

mod audit;
mod cluster;
mod generator;
mod report;
mod story;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::args;
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};
use cluster::{Cluster, INTERRUPTED};
use story::Story;

/// Something that keeps the demo from its verdict.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {reason}")]
pub(crate) struct Trouble {
    what: String,
    reason: String,
}

impl Trouble {
    fn new(what: impl Display, reason: impl Display) -> Self {
        Self { what: what.to_string(), reason: reason.to_string() }
    }
}

pub(crate) fn run(options: &args::Demo) -> Result<Exit, Failure> {
    catch_interrupts();
    let place = Place::open(options.dir.as_deref())?;
    let mut cluster =
        Cluster::prepare(&place.path).map_err(|trouble| failed(&trouble, &place, None))?;
    let outcome = Story::new(options, &mut cluster).run();
    // Before anything is said or removed: nobody reads what still changes.
    cluster.stop();
    let (report, findings) = match outcome {
        Ok(told) => told,
        Err(trouble) => return Err(failed(&trouble, &place.keep(), Some(&cluster))),
    };
    let good = report.converged && report.lost == 0 && findings.is_empty();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !good {
        let place = place.keep();
        eprintln!("everything is kept in {}", place.path.display());
        for log in cluster.logs() {
            eprintln!("log: {}", log.display());
        }
    }
    if options.json {
        print_json(&report);
    } else {
        print(&report.in_words(&options.kill));
    }
    Ok(if good { Exit::Good } else { Exit::No })
}

fn failed(trouble: &Trouble, place: &Place, cluster: Option<&Cluster>) -> Failure {
    let mut next = format!("look into {}", place.path.display());
    for log in cluster.into_iter().flat_map(Cluster::logs) {
        next.push_str(&format!("\n       {}", log.display()));
    }
    Failure::new(Exit::No, trouble, next)
}

/// Where the demo happens. A temporary one goes away unless it is kept.
struct Place {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn open(wanted: Option<&Path>) -> Result<Self, Failure> {
        let refused = |path: &Path, reason: &dyn Display| {
            let next = "name an empty or missing directory with --dir, or leave it out";
            Failure::new(Exit::Usage, format!("cannot use {}: {reason}", path.display()), next)
        };
        let Some(path) = wanted else {
            let temporary = tempfile::Builder::new().prefix("chainsync-demo-").tempdir();
            let base = std::env::temp_dir();
            let temporary = temporary.map_err(|error| refused(&base, &error))?;
            let path = temporary.path().canonicalize().map_err(|error| refused(&base, &error))?;
            return Ok(Self { path, temporary: Some(temporary) });
        };
        std::fs::create_dir_all(path).map_err(|error| refused(path, &error))?;
        let mut entries = std::fs::read_dir(path).map_err(|error| refused(path, &error))?;
        if entries.next().is_some() {
            return Err(refused(path, &"it is not empty"));
        }
        let path = path.canonicalize().map_err(|error| refused(path, &error))?;
        Ok(Self { path, temporary: None })
    }

    /// With everything in it, for whoever wants to know what happened.
    fn keep(self) -> Self {
        let path = match self.temporary {
            Some(temporary) => temporary.keep(),
            None => self.path,
        };
        Self { path, temporary: None }
    }
}

/// Ctrl-C and SIGTERM only raise a flag: whoever waits looks at it, and the daemons are stopped on
/// the way out.
fn catch_interrupts() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Without a handler the signal ends the demo, and the kernel its daemons.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
}
