//! Performs a script on both arms and finds the first thing that differs.
//!
//! After each operation: its result, what every name and every open handle shows, which of them are
//! the same file, and whose times have moved since the operation before. At the end also the
//! contents and all events.

use std::collections::BTreeMap;

use chainsync_core::{FileType, Stat};

use crate::arm::{Arm, Key, Outcome, Snapshot, World};
use crate::script::Operation;
use crate::tally::Tally;

/// What the Linux arm can tell on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Each change of a file that was looked at shows in its times.
    pub fine_times: bool,
    /// The same of directories. Not so on tmpfs: it gives the directory the time that it has just
    /// found for the file, and that may be the one that the directory has already.
    pub fine_dir_times: bool,
    /// A directory's links are its subdirectories and two: not so on Btrfs.
    pub counts_subdirs: bool,
}

impl Terms {
    fn shows_changes_of(self, file_type: FileType) -> bool {
        if file_type == FileType::Dir { self.fine_dir_times } else { self.fine_times }
    }
}

/// The first difference, and the operation that showed it.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub operation: usize,
    pub what: String,
}

pub fn compare<L: World, S: World>(
    terms: Terms,
    script: &[Operation],
    (linux, simulated): (L, S),
    tally: &mut Tally,
) -> Option<Difference> {
    let mut linux = Arm::new(linux).unwrap();
    let mut simulated = Arm::new(simulated).unwrap();
    let mut before = (linux.snapshot(), simulated.snapshot());
    for (index, operation) in script.iter().chain([&Operation::ReadEvents]).enumerate() {
        let differ = |what| Some(Difference { operation: index, what });
        let outcomes = (linux.perform(operation), simulated.perform(operation));
        tally.count(operation, &outcomes.0);
        if !same_outcome(terms, &outcomes.0, &outcomes.1) {
            return differ(format!("Linux      {:?}\nsimulation {:?}", outcomes.0, outcomes.1));
        }
        let after = (linux.snapshot(), simulated.snapshot());
        let (linux, simulated) =
            (Side::new(&linux, &before.0, &after.0), Side::new(&simulated, &before.1, &after.1));
        if let Some(what) = differs(terms, &linux, &simulated) {
            return differ(what);
        }
        before = after;
    }
    let contents = (linux.contents(&before.0), simulated.contents(&before.1));
    let what = || format!("contents\nLinux      {:?}\nsimulation {:?}", contents.0, contents.1);
    (contents.0 != contents.1).then(|| Difference { operation: script.len() + 1, what: what() })
}

fn same_outcome(terms: Terms, linux: &Outcome, simulated: &Outcome) -> bool {
    match (linux, simulated) {
        // Not every file system knows leases, nor may everybody ask for one.
        (Outcome::HasWriter(None), Outcome::HasWriter(_)) => true,
        (Outcome::Seen(linux), Outcome::Seen(simulated))
            if linux.file_type == FileType::Dir && !terms.counts_subdirs =>
        {
            let mut linux = linux.clone();
            linux.links = simulated.links;
            linux == *simulated
        }
        _ => linux == simulated,
    }
}

/// One arm before and after an operation.
struct Side<'s> {
    before: BTreeMap<u64, &'s Stat>,
    after: &'s Snapshot,
    /// The first key of each inode.
    first: BTreeMap<u64, &'s Key>,
    looks: BTreeMap<&'s Key, Outcome>,
}

impl<'s> Side<'s> {
    fn new<W: World>(arm: &Arm<W>, before: &'s Snapshot, after: &'s Snapshot) -> Self {
        let mut first = BTreeMap::new();
        for (key, stat) in after {
            first.entry(stat.inode).or_insert(key);
        }
        let looks = after.iter().map(|(key, stat)| (key, Outcome::Seen(arm.looks(stat))));
        let before = before.values().map(|stat| (stat.inode, stat)).collect();
        Self { before, after, first, looks: looks.collect() }
    }

    /// What is not the same as before: `mtime`, `ctime`; `None` if this file was not seen before.
    fn moved(&self, stat: &Stat) -> Option<(bool, bool)> {
        let before = self.before.get(&stat.inode)?;
        Some((before.mtime_ns != stat.mtime_ns, before.ctime_ns != stat.ctime_ns))
    }
}

fn differs(terms: Terms, linux: &Side<'_>, simulated: &Side<'_>) -> Option<String> {
    let keys = linux.after.keys().chain(simulated.after.keys());
    for key in keys {
        let (Some(of_linux), Some(of_simulated)) = (linux.after.get(key), simulated.after.get(key))
        else {
            let place = if linux.after.contains_key(key) { "Linux" } else { "simulation" };
            return Some(format!("{key:?}: only on {place}"));
        };
        let looks = (&linux.looks[key], &simulated.looks[key]);
        if !same_outcome(terms, looks.0, looks.1) {
            return Some(format!("{key:?}\nLinux      {:?}\nsimulation {:?}", looks.0, looks.1));
        }
        let same = (linux.first[&of_linux.inode], simulated.first[&of_simulated.inode]);
        if same.0 != same.1 {
            return Some(format!(
                "{key:?} is the same file as\nLinux      {:?}\nsimulation {:?}",
                same.0, same.1
            ));
        }
        let moved = (linux.moved(of_linux), simulated.moved(of_simulated));
        let same = match moved {
            (Some(linux), Some(simulated)) if !terms.shows_changes_of(of_linux.file_type) => {
                (!linux.0 || simulated.0) && (!linux.1 || simulated.1)
            }
            (Some(linux), Some(simulated)) => linux == simulated,
            // A number that was free has been given to a new file.
            _ => true,
        };
        if !same {
            return Some(format!(
                "{key:?}: whether (mtime, ctime) moved\nLinux      {:?}\nsimulation {:?}",
                moved.0, moved.1
            ));
        }
        // A time that somebody set, not one that passed.
        if of_linux.mtime_ns != of_simulated.mtime_ns && was_set(of_linux, of_simulated) {
            return Some(format!(
                "{key:?}: mtime\nLinux      {}\nsimulation {}",
                of_linux.mtime_ns, of_simulated.mtime_ns
            ));
        }
    }
    None
}

/// Whether one of the two shows a time that is neither of the two clocks.
fn was_set(linux: &Stat, simulated: &Stat) -> bool {
    const DAY_NS: i128 = 86_400_000_000_000;
    [linux, simulated].iter().any(|stat| (stat.mtime_ns - stat.ctime_ns).abs() > DAY_NS)
}
