//! What the scripts came to: whether they reach what they are there for.

use std::collections::{BTreeMap, BTreeSet};

use crate::arm::Outcome;
use crate::script::Operation;

#[derive(Debug, Default)]
pub struct Tally {
    /// How often an operation was called, and how often it succeeded.
    calls: BTreeMap<String, (u64, u64)>,
    errnos: BTreeSet<(String, i32)>,
    events: BTreeSet<String>,
}

impl Tally {
    pub fn count(&mut self, operation: &Operation, outcome: &Outcome) {
        let kind = kind(operation);
        match outcome {
            Outcome::Skipped => return,
            Outcome::Errno(code) => {
                self.errnos.insert((kind.clone(), *code));
            }
            Outcome::Events(events) => {
                let first = |event: &String| event.split(' ').next().unwrap_or_default().to_owned();
                self.events.extend(events.iter().map(first));
            }
            _ => {}
        }
        let failed = matches!(outcome, Outcome::Errno(_) | Outcome::NotWatched(_));
        let (calls, successes) = self.calls.entry(kind).or_default();
        *calls += 1;
        *successes += u64::from(!failed);
    }

    pub fn add(&mut self, other: Self) {
        for (kind, (calls, successes)) in other.calls {
            let sum = self.calls.entry(kind).or_default();
            *sum = (sum.0 + calls, sum.1 + successes);
        }
        self.errnos.extend(other.errnos);
        self.events.extend(other.events);
    }

    /// Panics if thousands of scripts never came to something that matters.
    pub fn demand(&self) {
        for (kind, (calls, successes)) in &self.calls {
            assert!(successes * 50 > *calls, "{kind} succeeded {successes} times of {calls}");
        }
        for (kind, codes) in [
            ("OpenDir", &[libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG][..]),
            ("Stat", &[libc::ENOENT, libc::ENAMETOOLONG, libc::EINVAL]),
            ("OpenFile", &[libc::ENOENT, libc::EISDIR, libc::ELOOP]),
            ("CreateFile", &[libc::EEXIST, libc::EINVAL, libc::ENOENT]),
            ("Read", &[libc::EINVAL]),
            ("Write", &[libc::EBADF]),
            ("SetFileMtime", &[libc::EINVAL]),
            ("MakeDir", &[libc::EEXIST, libc::EINVAL, libc::ENOENT]),
            ("RemoveDir", &[libc::ENOTEMPTY, libc::ENOTDIR, libc::ENOENT]),
            ("MakeSymlink", &[libc::EEXIST, libc::ENOENT, libc::ENAMETOOLONG]),
            ("ReadLink", &[libc::EINVAL]),
            (
                "Rename",
                &[
                    libc::ENOENT,
                    libc::EEXIST,
                    libc::EINVAL,
                    libc::EISDIR,
                    libc::ENOTDIR,
                    libc::ENOTEMPTY,
                    libc::ENAMETOOLONG,
                ],
            ),
            ("Unlink", &[libc::EISDIR, libc::ENOENT]),
            ("OthersLink", &[libc::EPERM, libc::EEXIST]),
        ] {
            for code in codes {
                let reached = self.errnos.contains(&(kind.to_owned(), *code));
                assert!(reached, "{kind} never failed with {code}");
            }
        }
        for event in ["started", "finished", "RootGone"] {
            assert!(self.events.contains(event), "no event {event}");
        }
    }
}

/// The name of the variant.
fn kind(operation: &Operation) -> String {
    let shown = format!("{operation:?}");
    shown.split(' ').next().unwrap_or_default().to_owned()
}
