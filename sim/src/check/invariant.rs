//! What is promised, one name each: the invariants of DESIGN.md (section 7), and the few things that
//! a run itself needs.
//!
//! The sentences are for a person who has never seen the code; they are printed with each failure.

use std::fmt;

use serde::Serialize;

/// A promise that a run can find broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    S7,
    S8,
    S9,
    S10,
    L1,
    L2,
    L3,
    L4,
    L5,
    L6,
    M1,
    M2,
    M3,
    /// A daemon starts, runs until it is told to stop, and stops then.
    Daemon,
    /// An idle ring comes up.
    WarmUp,
    /// The simulated world itself works.
    World,
    /// The trace is written.
    Trace,
    /// `chainsync verify` says what the disks say.
    Verify,
    /// Dead nodes are passed by in time.
    Bypass,
    /// As many conflicts as the scenario expects.
    Conflicts,
    /// What the scenario is about has happened.
    Expected,
    /// The rare places that the scenario is about were reached.
    Passes,
    /// What `flush` answers.
    Flush,
}

impl Invariant {
    pub const ALL: [Self; 29] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::L1,
        Self::L2,
        Self::L3,
        Self::L4,
        Self::L5,
        Self::L6,
        Self::M1,
        Self::M2,
        Self::M3,
        Self::Daemon,
        Self::WarmUp,
        Self::World,
        Self::Trace,
        Self::Verify,
        Self::Bypass,
        Self::Conflicts,
        Self::Expected,
        Self::Passes,
        Self::Flush,
    ];

    /// The name in reports, file names and `ci/plants.d`.
    pub fn id(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S7 => "S7",
            Self::S8 => "S8",
            Self::S9 => "S9",
            Self::S10 => "S10",
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
            Self::L5 => "L5",
            Self::L6 => "L6",
            Self::M1 => "M1",
            Self::M2 => "M2",
            Self::M3 => "M3",
            Self::Daemon => "daemon",
            Self::WarmUp => "warm-up",
            Self::World => "world",
            Self::Trace => "trace",
            Self::Verify => "verify",
            Self::Bypass => "bypass",
            Self::Conflicts => "conflicts",
            Self::Expected => "expected",
            Self::Passes => "passes",
            Self::Flush => "flush",
        }
    }

    /// The invariant of this id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|invariant| invariant.id() == id)
    }

    /// The promise, in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::S1 => {
                "A file that can be seen under its name is always whole: never half of a version, \
                 never a mixture of two."
            }
            Self::S2 => {
                "Nothing appears that nobody wrote: every file is under a name that somebody gave \
                 to just this content."
            }
            Self::S3 => {
                "No finished upload is lost, and no older version takes the place of a newer one."
            }
            Self::S4 => "What was deleted or renamed away does not come back by itself.",
            Self::S5 => {
                "What a server has acknowledged is safe there, even if its power fails in the next \
                 moment."
            }
            Self::S6 => {
                "After a crash or a power loss a server never believes that it holds something \
                 which its disk has lost, and never takes the loss for a deletion."
            }
            Self::S7 => {
                "The daemon touches nothing outside the shared directory and its own state \
                 directory."
            }
            Self::S8 => {
                "The daemon removes only what somebody removed on some server: no accident becomes \
                 a mass deletion."
            }
            Self::S9 => {
                "Each content crosses each link once, nothing goes back to where it came from, and \
                 what the daemon writes itself is not taken for somebody's change."
            }
            Self::S10 => {
                "Queues, batches, open files, watches, staging and connection attempts stay within \
                 their limits."
            }
            Self::L1 => {
                "When all faults are over, all servers soon hold exactly the same files, \
                 directories and links."
            }
            Self::L2 => "Once all servers hold the same, nothing is sent or written any more.",
            Self::L3 => "When all is quiet, nothing is left in the staging directories.",
            Self::L4 => {
                "A server recovers from a death at whichever disk operation it happens, and the \
                 result is what the application made."
            }
            Self::L5 => "Delivering the same batch twice changes nothing.",
            Self::L6 => "Small files do not wait for large ones.",
            Self::M1 => "The same seed gives the same run, event by event.",
            Self::M2 => "The simulated disk and watcher do what Linux does.",
            Self::M3 => "A bug that was planted on purpose is noticed.",
            Self::Daemon => {
                "A daemon starts, runs until it is told to stop, and then stops in good order."
            }
            Self::WarmUp => "An idle ring comes up by itself.",
            Self::World => "The simulated world itself works: the application comes to its end.",
            Self::Trace => "What happens in a run can be written down.",
            Self::Verify => "`chainsync verify` says what the disks say.",
            Self::Bypass => {
                "When servers die or are cut off, uploads reach all others within the time that \
                 the scenario gives."
            }
            Self::Conflicts => "There are as many conflicts as the scenario expects.",
            Self::Expected => "What the scenario is about has happened.",
            Self::Flush => {
                "`chainsync flush` says yes only when every member has what was changed before."
            }
            Self::Passes => "A run gets to the rare places that its scenario is about.",
        }
    }

    /// Where it is checked: a file below `sim/`.
    pub fn checked_in(self) -> &'static str {
        match self {
            Self::S1 => "src/check/s01_torn.rs",
            Self::S2 => "src/check/s02_invented.rs",
            Self::S3 => "src/check/s03_lost.rs",
            Self::S4 => "src/check/s04_returned.rs",
            Self::S5 => "src/check/s05_acknowledged.rs",
            Self::S6 => "src/check/s06_ahead.rs",
            Self::S7 => "src/check/s07_confined.rs",
            Self::S8 => "src/check/s08_removed.rs",
            Self::S9 => "src/check/s09_echo.rs",
            Self::S10 => "src/check/s10_bounds.rs",
            Self::L1 => "src/check/l01_equal.rs",
            Self::L2 => "src/check/l02_quiet.rs",
            Self::L3 => "src/check/l03_leftovers.rs",
            Self::L4 => "src/everywhere.rs",
            Self::L5 => "src/check/l05_twice.rs",
            Self::L6 => "src/check/l06_starved.rs",
            Self::M1 => "tests/determinism.rs",
            Self::M2 => "tests/conformance/main.rs",
            Self::M3 => "tests/runs/canary.rs",
            Self::Daemon | Self::World => "src/world.rs",
            Self::WarmUp | Self::Trace => "src/run.rs",
            Self::Verify => "src/verify.rs",
            Self::Bypass => "src/check/bypass.rs",
            Self::Conflicts => "src/check/conflicts.rs",
            Self::Expected => "src/check/expected.rs",
            Self::Passes => "src/check/passes.rs",
            Self::Flush => "src/check/flush.rs",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl Serialize for Invariant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of this crate are real ones")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_promise_has_a_name_a_sentence_and_a_checker() {
        let ids: BTreeSet<&str> = Invariant::ALL.iter().map(|invariant| invariant.id()).collect();
        assert_eq!(ids.len(), Invariant::ALL.len());
        for invariant in Invariant::ALL {
            assert_eq!(Invariant::of_id(invariant.id()), Some(invariant));
            assert!(invariant.sentence().ends_with('.'), "{invariant}");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(invariant.checked_in());
            assert!(
                file.exists(),
                "{invariant} is checked in {}, which is not there",
                file.display()
            );
        }
        assert_eq!(Invariant::of_id("S11"), None);
    }
}
