//! Entries: the replicated record of one path.

use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;
use crate::path::RelPath;
use crate::version::Version;

/// A symlink's target: Linux `PATH_MAX`.
pub const SYMLINK_TARGET_BYTES_MAX: usize = 4096;

/// The permission bits that are replicated: setuid and setgid bits never travel.
pub const MODE_MASK: u32 = 0o1777;

/// Numeric owner, replicated only with `owner = true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    File {
        size: u64,
        hash: ContentHash,
        mode: u32,
        /// Nanoseconds since 1970.
        mtime_ns: i128,
        owner: Option<Owner>,
    },
    Dir {
        mode: u32,
        owner: Option<Owner>,
    },
    Symlink {
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    /// Nothing any more. Keeps what the directory was like, in case one is implied (PROTOCOL B5).
    Tombstone {
        mode: Option<u32>,
        owner: Option<Owner>,
    },
}

impl Kind {
    pub fn is_live(&self) -> bool {
        !matches!(self, Kind::Tombstone { .. })
    }

    pub fn is_dir(&self) -> bool {
        matches!(self, Kind::Dir { .. })
    }

    /// The hash and size of the content that has to travel with this kind, if any does.
    pub fn content(&self) -> Option<(ContentHash, u64)> {
        match self {
            Kind::File { size, hash, .. } if *size > 0 => Some((*hash, *size)),
            _ => None,
        }
    }

    /// The tombstone that a deletion of this leaves.
    pub fn tombstone(&self) -> Kind {
        match self {
            Kind::File { mode, owner, .. } | Kind::Dir { mode, owner } => {
                Kind::Tombstone { mode: Some(*mode), owner: *owner }
            }
            Kind::Symlink { .. } => Kind::Tombstone { mode: None, owner: None },
            Kind::Tombstone { .. } => self.clone(),
        }
    }

    /// Whether the two would look the same on disk.
    pub fn same_on_disk(&self, other: &Kind) -> bool {
        self == other || (!self.is_live() && !other.is_live())
    }

    /// A word for people.
    pub fn noun(&self) -> &'static str {
        match self {
            Kind::File { .. } => "file",
            Kind::Dir { .. } => "directory",
            Kind::Symlink { .. } => "symlink",
            Kind::Tombstone { .. } => "deletion",
        }
    }
}

/// The index record of one path, as it travels round the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub path: RelPath,
    pub kind: Kind,
    pub version: Version,
}

/// What merging an incoming entry into what is known comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The incoming entry is the one that is known already.
    Same,
    /// The incoming entry wins. `conflict`: what it displaces was made without knowing it, and has
    /// a content that nobody else may keep.
    Wins { conflict: bool },
    /// The incoming entry loses. `conflict`: it was made without knowing the winner, and has a
    /// content that nobody else may keep.
    Loses { conflict: bool },
}

/// The merge rule: the greater stamp wins. Pure and total; folded over any set of entries of one
/// path, in any order and with repetitions, it leaves the same one.
pub fn merge(known: Option<(&Kind, &Version)>, incoming: (&Kind, &Version)) -> Merge {
    let Some(known) = known else { return Merge::Wins { conflict: false } };
    let conflict = |loser: &Kind, winner: &Kind| {
        known.1.concurrent(incoming.1) && loser.loses_content_to(winner)
    };
    match rank(incoming).cmp(&rank(known)) {
        std::cmp::Ordering::Equal => Merge::Same,
        std::cmp::Ordering::Greater => Merge::Wins { conflict: conflict(known.0, incoming.0) },
        std::cmp::Ordering::Less => Merge::Loses { conflict: conflict(incoming.0, known.0) },
    }
}

/// Stamps decide. Two versions of a path share a stamp only as copies of one loser that two nodes
/// kept, which are equal (PROTOCOL B2), or if a peer breaks the rules: the dot and the kind make the
/// order total for those too.
fn rank<'a>((kind, version): (&'a Kind, &'a Version)) -> impl Ord + 'a {
    (version.stamp, version.dot, kind)
}

impl Kind {
    fn loses_content_to(&self, winner: &Kind) -> bool {
        match self {
            Kind::File { .. } => self.content().is_some() && self.content() != winner.content(),
            Kind::Symlink { .. } => self != winner,
            Kind::Dir { .. } | Kind::Tombstone { .. } => false,
        }
    }
}
