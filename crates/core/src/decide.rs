//! The pure heart of ingest and apply: given what the index holds of a path, what the disk shows
//! there and what a peer sent, what is to be done.
//!
//! Total: every combination has an answer, and the answer never destroys what is on disk unless the
//! disk shows exactly what was published. Whatever else the disk shows is a change and is recorded
//! as one first; then one decides again.

use crate::disk::{FileType, Stat};
use crate::entry::{Entry, Kind, MODE_MASK, Merge, merge};
use crate::record::{Identity, Published, Record};
use crate::version::{Dot, ReplicaId, Stamp, Version};

/// What is to be done about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Disk, index and peer agree, or nobody has anything there.
    Nothing,
    /// Only reading the content (or the target) tells whether this is what was published.
    Examine,
    /// The disk shows a change: read it, record it, decide again.
    Ingest,
    /// The disk shows what cannot be replicated, or covers what should be there.
    Problem(Unsupported),
    /// The incoming entry wins: record it, then bring the disk to it.
    Accept { conflict: bool },
    /// The incoming entry loses: keep its content if it is a conflict.
    Refuse { conflict: bool },
}

/// What chainsync does not replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("a {} is not replicated", special_noun(*.0))]
    Special(FileType),
    #[error("another file system is mounted here")]
    Mount,
}

/// What the disk shows against what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    AsPublished,
    /// The identity is not proof: compare the content.
    Examine,
    Changed,
    Unsupported(Unsupported),
}

/// `root_device`: the file system of the share's root.
pub fn decide(
    record: Option<&Record>,
    disk: Option<&Stat>,
    incoming: Option<&Entry>,
    root_device: u64,
) -> Action {
    let published = record.and_then(Record::published);
    match see(published.as_ref(), disk, root_device) {
        Seen::Unsupported(what) => Action::Problem(what),
        Seen::Examine => Action::Examine,
        Seen::Changed => Action::Ingest,
        Seen::AsPublished => match incoming {
            None => Action::Nothing,
            Some(incoming) => {
                let known = record.map(|record| (&record.kind, &record.version));
                match merge(known, (&incoming.kind, &incoming.version)) {
                    Merge::Same => Action::Nothing,
                    Merge::Wins { conflict } => Action::Accept { conflict },
                    Merge::Loses { conflict } => Action::Refuse { conflict },
                }
            }
        },
    }
}

/// Compares the disk with what is published, without reading contents.
pub fn see(published: Option<&Published>, disk: Option<&Stat>, root_device: u64) -> Seen {
    let live = published.filter(|published| published.kind.is_live());
    let Some(stat) = disk else {
        return if live.is_some() { Seen::Changed } else { Seen::AsPublished };
    };
    if stat.device != root_device {
        return Seen::Unsupported(Unsupported::Mount);
    }
    let Some(published) = live else {
        return match special(stat) {
            Some(what) => Seen::Unsupported(what),
            None => Seen::Changed,
        };
    };
    match (&published.kind, stat.file_type) {
        (Kind::Dir { mode, owner }, FileType::Dir) => {
            let owner_differs =
                owner.is_some_and(|owner| (owner.uid, owner.gid) != (stat.uid, stat.gid));
            if *mode != stat.mode & MODE_MASK || owner_differs {
                Seen::Changed
            } else {
                Seen::AsPublished
            }
        }
        (Kind::File { .. }, FileType::File) | (Kind::Symlink { .. }, FileType::Symlink) => {
            match &published.identity {
                Some(identity) if identity.matches(stat) && identity.settled => Seen::AsPublished,
                _ => Seen::Examine,
            }
        }
        _ => match special(stat) {
            Some(what) => Seen::Unsupported(what),
            None => Seen::Changed,
        },
    }
}

fn special(stat: &Stat) -> Option<Unsupported> {
    match stat.file_type {
        FileType::File | FileType::Dir | FileType::Symlink => None,
        special => Some(Unsupported::Special(special)),
    }
}

fn special_noun(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::Device => "device node",
        FileType::File => "file",
        FileType::Dir => "directory",
        FileType::Symlink => "symlink",
    }
}

/// The version of a change found on disk, made at `made_ms` on top of what was published.
pub fn change_version(
    published: Option<&Published>,
    made_ms: u64,
    replica: ReplicaId,
    counter: u64,
) -> Version {
    let base = published.map(|published| &published.version);
    Version {
        stamp: Stamp::of_change(made_ms, replica, base.map(|version| &version.stamp)),
        dot: Dot { replica, counter },
        past: base.map(Version::as_past).unwrap_or_default(),
    }
}

/// The step that brings a name from what is published to what should be there. Each is one atomic
/// operation on the final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The disk is right.
    Nothing,
    /// A staged file, symlink or directory takes a free name.
    Place,
    /// A staged file, symlink or directory changes places with the published file or symlink.
    Swap,
    /// Same content: only mode, mtime or owner change.
    Metadata,
    /// The published file or symlink moves out into staging.
    Take,
    /// The published directory goes, if it is empty.
    RemoveDir,
}

/// Directory → file takes two steps (`RemoveDir`, then `Place`): decide again after the first.
pub fn effect(published: Option<&Kind>, desired: &Kind) -> Effect {
    let published = published.filter(|kind| kind.is_live());
    match (published, desired) {
        (None, Kind::Tombstone { .. }) => Effect::Nothing,
        (None, _) => Effect::Place,
        (Some(published), desired) if published == desired => Effect::Nothing,
        (Some(Kind::Dir { .. }), Kind::Dir { .. }) => Effect::Metadata,
        (Some(Kind::Dir { .. }), _) => Effect::RemoveDir,
        (Some(_), Kind::Tombstone { .. }) => Effect::Take,
        (Some(Kind::File { hash: old, size: was, .. }), Kind::File { hash, size, .. })
            if old == hash && was == size =>
        {
            Effect::Metadata
        }
        (Some(_), _) => Effect::Swap,
    }
}

/// When a change that a stat shows was made: the inode's ctime, clamped to now. Milliseconds.
pub fn made_ms(stat: &Stat, now_ms: u64) -> u64 {
    let ctime_ms = u64::try_from(stat.ctime_ns.max(0) / 1_000_000).unwrap_or(u64::MAX);
    ctime_ms.min(now_ms)
}

/// Which node's files are known to be right at a first import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preferred {
    Nobody,
    ThisNode,
    AnotherNode,
}

/// The stamp of a file, directory or symlink found by a first import, with an empty index: made
/// here at its ctime if nobody set its mtime, else imported at its mtime (PROTOCOL B3). Where a node
/// is preferred, nothing counts as made that was found.
pub fn import_stamp(
    stat: &Stat,
    now_ms: u64,
    tick_ns: i128,
    replica: ReplicaId,
    preferred: Preferred,
) -> Stamp {
    let apart_ns = stat.ctime_ns.abs_diff(stat.mtime_ns);
    let mtime_ms = u64::try_from(stat.mtime_ns.max(0) / 1_000_000).unwrap_or(u64::MAX);
    let mtime_ms = mtime_ms.min(now_ms);
    match preferred {
        Preferred::ThisNode => Stamp::preferred(mtime_ms, replica),
        Preferred::Nobody if apart_ns <= tick_ns.max(IMPORT_TICK_NS).unsigned_abs() => {
            Stamp::made(made_ms(stat, now_ms), replica)
        }
        Preferred::Nobody | Preferred::AnotherNode => Stamp::imported(mtime_ms, replica),
    }
}

/// mtime and ctime of one write may be stamped a kernel tick (at most 10 ms) apart.
const IMPORT_TICK_NS: i128 = 10_000_000;

/// Whether a published identity still stands for the content that `stat` shows after the inode was
/// renamed by us: its ctime moved, so the rest must agree and must have been proof.
pub fn displaced_as_published(identity: Option<&Identity>, stat: &Stat) -> bool {
    identity.is_some_and(|identity| identity.settled && identity.is_content_of(stat))
}
