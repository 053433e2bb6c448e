//! The guards against deletions that nobody meant: an unmounted or emptied root must not empty the
//! other nodes.
//!
//! What a sweep finds missing is recorded last, and only if it is not suspiciously much. What is
//! deleted while the watcher looks on is not guarded: somebody just did that.

use std::sync::atomic::{AtomicBool, Ordering};

use chainsync_core::RelPath;
use chainsync_env::{Env, Point};

use crate::answers::RescanReport;
use crate::board::Cause;
use crate::index::Rows;
use crate::share::{Share, ShareError, lock};
use crate::signal;

/// A tree with at least so many paths does not become empty by itself.
pub const SUDDENLY_EMPTY_PATHS: u64 = 10;

/// What the commands and the sweeps tell each other.
pub struct Sweeping {
    /// The next sweep may delete as much as it finds missing.
    accept_deletes: AtomicBool,
    /// Sweeps that came to their end.
    pub done: signal::Sender<u64>,
    /// What sweeps have found so far.
    found: std::sync::Mutex<SweepFound>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SweepFound {
    pub created: u64,
    pub changed: u64,
    pub deleted: u64,
}

impl Default for Sweeping {
    fn default() -> Self {
        Self {
            accept_deletes: AtomicBool::new(false),
            done: signal::Sender::new(0),
            found: std::sync::Mutex::default(),
        }
    }
}

impl Sweeping {
    pub fn accept_deletes(&self) {
        self.accept_deletes.store(true, Ordering::Relaxed);
    }

    pub fn note(&self, was_live: bool, is_live: bool) {
        let mut found = lock(&self.found);
        match (was_live, is_live) {
            (false, true) => found.created += 1,
            (true, true) => found.changed += 1,
            (_, false) => found.deleted += 1,
        }
    }

    pub fn found(&self) -> SweepFound {
        *lock(&self.found)
    }

    /// A sweep is complete: what it was allowed was allowed to it alone.
    pub fn end(&self) {
        self.accept_deletes.store(false, Ordering::Relaxed);
        self.done.send_modify(|done| *done += 1);
    }
}

impl SweepFound {
    /// What was found since `earlier`.
    pub fn since(&self, earlier: SweepFound, report: &mut RescanReport) {
        report.created = self.created - earlier.created;
        report.changed = self.changed - earlier.changed;
        report.deleted = self.deleted - earlier.deleted;
    }
}

impl<E: Env> Share<E> {
    /// Whether what a sweep found missing may be recorded as deleted. If not, the share is halted.
    pub fn guard_deletes(&self, missing: &[RelPath]) -> Result<(), ShareError> {
        let entries = self.index.state().entries;
        if missing.is_empty() || self.sweeping.accept_deletes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let reader = self.index.read()?;
        let mut gone = 0;
        for path in missing {
            gone += u64::from(reader.record(path)?.is_some_and(|record| record.is_live_on_disk()));
            reader.below(path, &mut |record| {
                gone += u64::from(record.is_live_on_disk());
                false
            })?;
        }
        let most = self.settings().limits.mass_delete_max;
        let empty = gone >= entries && gone >= SUDDENLY_EMPTY_PATHS;
        if !empty && (gone <= most || gone <= entries / 2) {
            return Ok(());
        }
        let what = if empty {
            format!("the share is suddenly empty: all {gone} paths are gone")
        } else {
            format!("{gone} of {entries} paths are gone")
        };
        self.env.probe(Point::MassDelete);
        self.board.halt_for(
            Cause::Deletes,
            &format!(
                "{what}. Nothing was deleted on the other nodes. Is the file system mounted? If they \
                 were deleted on purpose: `chainsync resume --accept-deletes`"
            ),
        );
        Err(ShareError::Halted)
    }
}
