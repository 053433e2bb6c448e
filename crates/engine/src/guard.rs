//! The guards against deletions that nobody meant: an unmounted or emptied root must not empty the
//! other nodes.
//!
//! What a sweep finds missing is recorded last, and only if it is not suspiciously much. What is
//! deleted while the watcher looks on is not guarded: somebody just did that.

use std::sync::atomic::{AtomicBool, Ordering};

use chainsync_core::{NodeName, RelPath};
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
    /// A full pass halted the share: what is accepted next is accepted to a full pass.
    full_pass_refused: AtomicBool,
    /// The next full pass may drop as much as its sender does not hold.
    accept_full_pass: AtomicBool,
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
            full_pass_refused: AtomicBool::new(false),
            accept_full_pass: AtomicBool::new(false),
            done: signal::Sender::new(0),
            found: std::sync::Mutex::default(),
        }
    }
}

impl Sweeping {
    pub fn accept_deletes(&self) {
        let by_a_full_pass = self.full_pass_refused.swap(false, Ordering::Relaxed);
        let accepted = if by_a_full_pass { &self.accept_full_pass } else { &self.accept_deletes };
        accepted.store(true, Ordering::Relaxed);
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

    /// The same of a full pass.
    pub fn end_full_pass(&self) {
        self.accept_full_pass.store(false, Ordering::Relaxed);
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
        let Some(empty) = too_much(gone, entries, most) else { return Ok(()) };
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

    /// The same for what a full pass would drop here. A node that is away for long may come back to a
    /// ring in which most of what it holds was deleted; or to one that has lost it.
    pub fn guard_full_pass(&self, from: &NodeName, gone: u64) -> Result<(), ShareError> {
        let entries = self.index.state().entries;
        if self.sweeping.accept_full_pass.load(Ordering::Relaxed)
            || too_much(gone, entries, self.settings().limits.mass_delete_max).is_none()
        {
            return Ok(());
        }
        self.sweeping.full_pass_refused.store(true, Ordering::Relaxed);
        self.board.halt_for(
            Cause::Deletes,
            &format!(
                "`{from}` says that {gone} of {entries} paths here were deleted long ago. Nothing was \
                 deleted. Look at its tree; if they are to go here, too (they are kept in the \
                 archive): `chainsync resume --accept-deletes`"
            ),
        );
        Err(ShareError::Halted)
    }
}

/// Whether so many deletions are too many to be believed; if so, whether nothing would be left.
fn too_much(gone: u64, entries: u64, max: u64) -> Option<bool> {
    let empty = gone >= entries && gone >= SUDDENLY_EMPTY_PATHS;
    let most = gone > max && gone > entries / 2;
    (empty || most).then_some(empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MASS_DELETE_MAX_DEFAULT;

    #[test]
    fn an_emptied_tree_and_most_of_a_large_one_are_too_much() {
        assert_eq!(too_much(9, 9, MASS_DELETE_MAX_DEFAULT), None);
        assert_eq!(too_much(10, 10, MASS_DELETE_MAX_DEFAULT), Some(true));
        assert_eq!(too_much(1_000, 1_100, MASS_DELETE_MAX_DEFAULT), None);
        assert_eq!(too_much(1_001, 2_002, MASS_DELETE_MAX_DEFAULT), None);
        assert_eq!(too_much(1_002, 2_002, MASS_DELETE_MAX_DEFAULT), Some(false));
    }

    #[test]
    fn what_is_accepted_is_accepted_to_the_one_that_was_refused() {
        let sweeping = Sweeping::default();
        let accepted = || {
            let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
            (is(&sweeping.accept_deletes), is(&sweeping.accept_full_pass))
        };
        sweeping.full_pass_refused.store(true, Ordering::Relaxed);
        sweeping.accept_deletes();
        assert_eq!(accepted(), (false, true));
        sweeping.end();
        assert_eq!(accepted(), (false, true), "the sweep that follows takes nothing of it");
        sweeping.end_full_pass();
        sweeping.accept_deletes();
        assert_eq!(accepted(), (true, false));
    }
}
