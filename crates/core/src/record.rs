//! What a node's index holds of one path: what should be there (*known*), and what this node last
//! put or read there (*published*). Two records, because a change has to be computed against what
//! was on this disk, never against the newest thing heard of (PROTOCOL A4, A5).

use serde::{Deserialize, Serialize};

use crate::disk::Stat;
use crate::entry::{Entry, Kind};
use crate::path::RelPath;
use crate::version::Version;

/// How an inode is recognised without reading it. Never replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub inode: u64,
    pub size: u64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    /// Whether a later change is sure to show in the ctime. False when the inode had changed less
    /// than a clock tick before it was looked at (git calls such files racy): then an equal identity
    /// proves nothing, and the content has to be compared.
    pub settled: bool,
}

impl Identity {
    /// `tick_ns`: the resolution of the file system's ctime; `looked_ns`: the wall clock *before*
    /// the stat.
    pub fn of(stat: &Stat, looked_ns: i128, tick_ns: i128) -> Self {
        Self {
            inode: stat.inode,
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            settled: tick_ns == 0
                || stat.ctime_ns.checked_add(tick_ns).is_some_and(|moved| moved <= looked_ns),
        }
    }

    /// Whether `stat` shows this very inode, unchanged as far as its times tell.
    pub fn matches(&self, stat: &Stat) -> bool {
        self.is_content_of(stat) && self.ctime_ns == stat.ctime_ns
    }

    /// The same without the ctime, which a rename of the inode moves.
    pub fn is_content_of(&self, stat: &Stat) -> bool {
        self.inode == stat.inode && self.size == stat.size && self.mtime_ns == stat.mtime_ns
    }
}

/// What this node last put or read at a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub kind: Kind,
    pub version: Version,
    /// `None` for a tombstone.
    pub identity: Option<Identity>,
}

/// The index record of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The place of the known entry in this node's journal.
    pub sequence: u64,
    pub kind: Kind,
    pub version: Version,
    publication: Publication,
}

/// Stored so that the usual case, published as known, costs no second version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Publication {
    Never,
    Known { identity: Option<Identity> },
    Other(Box<Published>),
}

impl Record {
    /// A record of an entry that is not published yet.
    pub fn new(entry: &Entry, sequence: u64) -> Self {
        Self {
            sequence,
            kind: entry.kind.clone(),
            version: entry.version.clone(),
            publication: Publication::Never,
        }
    }

    pub fn entry(&self, path: RelPath) -> Entry {
        Entry { path, kind: self.kind.clone(), version: self.version.clone() }
    }

    /// Replaces the known entry; what is published stays.
    pub fn supersede(&mut self, entry: &Entry, sequence: u64) {
        let published = self.published();
        *self = Self::new(entry, sequence);
        // By way of `publish`: what was put there may be the very entry that now becomes known.
        if let Some(published) = published {
            self.publish(published);
        }
    }

    /// Notes what is at the name now.
    pub fn publish(&mut self, published: Published) {
        let as_known = published.version == self.version && published.kind == self.kind;
        self.publication = if as_known {
            Publication::Known { identity: published.identity }
        } else {
            Publication::Other(Box::new(published))
        };
    }

    pub fn published(&self) -> Option<Published> {
        match &self.publication {
            Publication::Never => None,
            Publication::Known { identity } => Some(Published {
                kind: self.kind.clone(),
                version: self.version.clone(),
                identity: *identity,
            }),
            Publication::Other(published) => Some((**published).clone()),
        }
    }

    /// Whether something is published at the name.
    pub fn is_live_on_disk(&self) -> bool {
        match &self.publication {
            Publication::Never => false,
            Publication::Known { .. } => self.kind.is_live(),
            Publication::Other(published) => published.kind.is_live(),
        }
    }

    /// Whether the known entry is live and, on purpose, not on disk (PROTOCOL B5).
    pub fn is_shadowed(&self) -> bool {
        match &self.publication {
            Publication::Other(published) => {
                published.version.dot == self.version.dot
                    && self.kind.is_live()
                    && !published.kind.is_live()
            }
            Publication::Never | Publication::Known { .. } => false,
        }
    }

    pub fn is_published_as_known(&self) -> bool {
        matches!(self.publication, Publication::Known { .. })
    }
}
