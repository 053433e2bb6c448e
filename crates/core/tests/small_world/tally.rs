//! How often each branch was met: a comparison of what never happens shows nothing.

use std::collections::BTreeMap;
use std::fmt;

use chainsync_core::decide::{Action, Unsupported};
use chainsync_core::entry::{Kind, Merge, merge};
use chainsync_core::record::{Published, Record};
use chainsync_core::version::{Relation, Version};
use chainsync_core::{FileType, Stat, decide};

use crate::generate::{ROOT_DEVICE, Triple};

/// Rarer than this, of a million, and a branch counts as not tested.
const SHARE_MIN: u64 = 1000;

#[derive(Default)]
pub(crate) struct Tally {
    triples: u64,
    counts: BTreeMap<(&'static str, &'static str, &'static str), u64>,
}

impl Tally {
    pub(crate) fn count(&mut self, triple: &Triple) {
        self.triples += 1;
        let Triple { record, disk, incoming, .. } = triple;
        let (record, disk, incoming) = (record.as_ref(), disk.as_ref(), incoming.as_ref());
        let action = decide(record, disk, incoming, ROOT_DEVICE);
        self.add(("action", action_name(&action), ""));
        let published = record.and_then(Record::published);
        self.add(("published, shown", published_name(published.as_ref()), shown_name(disk)));
        let (Some(record), Some(incoming)) = (record, incoming) else { return };
        let (known, incoming) =
            ((&record.kind, &record.version), (&incoming.kind, &incoming.version));
        let verdict = merge(Some(known), incoming);
        self.add(("verdict, relation", verdict_name(verdict), relation_name(known.1, incoming.1)));
        self.add(("decided by", decider_name(known, incoming), ""));
    }

    /// Panics unless every branch there is was met, and none is rare.
    pub(crate) fn check(&self) {
        for (subject, cells) in CELLS {
            let met = self.counts.keys().filter(|(of, _, _)| of == subject).count();
            assert_eq!(met, *cells, "{subject}: {met} of {cells} branches were met:\n{self}");
        }
        for (cell, count) in &self.counts {
            let share = count * 1_000_000 / self.triples;
            assert!(share >= SHARE_MIN, "{cell:?} is rare: {share} of a million\n{self}");
        }
    }

    fn add(&mut self, cell: (&'static str, &'static str, &'static str)) {
        *self.counts.entry(cell).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.iter().try_for_each(|((subject, first, second), count)| {
            writeln!(
                f,
                "{count:9}  {subject}: {first}{}{second}",
                if second.is_empty() { "" } else { ", " }
            )
        })
    }
}

/// How many branches there are: actions; what can be published, by what a name can show; verdicts,
/// by the relations that they go with (only one dot is the same); parts of the order.
const CELLS: &[(&str, usize)] =
    &[("action", 9), ("published, shown", 5 * 8), ("verdict, relation", 11), ("decided by", 7)];

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Examine => "examine",
        Action::Ingest => "ingest",
        Action::Problem(Unsupported::Mount) => "problem: mount",
        Action::Problem(Unsupported::Special(_)) => "problem: special",
        Action::Accept { conflict: false } => "accept",
        Action::Accept { conflict: true } => "accept, conflict",
        Action::Refuse { conflict: false } => "refuse",
        Action::Refuse { conflict: true } => "refuse, conflict",
    }
}

fn published_name(published: Option<&Published>) -> &'static str {
    match published.map(|published| &published.kind) {
        None => "never",
        Some(Kind::File { .. }) => "file",
        Some(Kind::Dir { .. }) => "directory",
        Some(Kind::Symlink { .. }) => "symlink",
        Some(Kind::Tombstone { .. }) => "tombstone",
    }
}

fn shown_name(disk: Option<&Stat>) -> &'static str {
    match disk {
        None => "nothing",
        Some(stat) if stat.device != ROOT_DEVICE => "another file system",
        Some(stat) => match stat.file_type {
            FileType::File => "file",
            FileType::Dir => "directory",
            FileType::Symlink => "symlink",
            FileType::Fifo => "named pipe",
            FileType::Socket => "socket",
            FileType::Device => "device",
        },
    }
}

fn verdict_name(verdict: Merge) -> &'static str {
    match verdict {
        Merge::Same => "same",
        Merge::Wins { conflict: false } => "wins",
        Merge::Wins { conflict: true } => "wins, conflict",
        Merge::Loses { conflict: false } => "loses",
        Merge::Loses { conflict: true } => "loses, conflict",
    }
}

fn relation_name(known: &Version, incoming: &Version) -> &'static str {
    match incoming.relation(known) {
        Relation::Same => "one dot",
        Relation::After => "after",
        Relation::Before => "before",
        Relation::Concurrent => "concurrent",
    }
}

/// The first part of the order in which the two differ.
fn decider_name(left: (&Kind, &Version), right: (&Kind, &Version)) -> &'static str {
    let (one, other) = (left.1, right.1);
    let parts = [
        ("class", one.stamp.class == other.stamp.class),
        ("wall clock", one.stamp.wall_ms == other.stamp.wall_ms),
        ("counter", one.stamp.counter == other.stamp.counter),
        ("replica", one.stamp.replica == other.stamp.replica),
        ("dot", one.dot == other.dot),
        ("kind", left.0 == right.0),
    ];
    parts.iter().find(|(_, equal)| !equal).map_or("nothing: the same", |(name, _)| name)
}
