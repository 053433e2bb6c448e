//! Inodes: contents, metadata, and what of both would survive a power loss.

use std::collections::BTreeMap;
use std::sync::Arc;

use chainsync_core::FileType;

use super::open::Opened;

/// The place of an inode in the disk's table. Not its number: a number is free for the next file as
/// soon as its inode has no name and no handle, a slot only when nothing durable needs it either.
pub(crate) type Slot = usize;
pub(crate) type Name = Arc<[u8]>;
/// Copy-on-write: a durable image costs a reference, not a copy.
pub(crate) type Content = Arc<Vec<u8>>;

#[derive(Debug)]
pub(crate) struct Inode {
    pub number: u64,
    /// The file system it is on.
    pub device: u64,
    pub body: Body,
    pub meta: Meta,
    /// Names that lead here.
    pub links: u32,
    /// Open handles; of these, the ones that may write.
    pub open: u32,
    pub writers: u32,
    /// Of these, the ones of a file: under which name each was opened.
    pub opened: BTreeMap<u64, Opened>,
    /// What was in this directory, has no name any more, and is still open.
    pub pins: u32,
    /// Whether this directory, removed and still in use, is such a pin of its parent.
    pub pins_parent: bool,
    /// Durable names, and pending ones that may become durable.
    pub held: u32,
    /// A directory's only name, and what it was last; the first name of anything else.
    pub home: Option<(Slot, Name)>,
    /// What a power loss leaves.
    pub durable: Durable,
    /// A content that the kernel takes for stored, and that a failed sync has lost.
    pub lost: Option<Content>,
    /// Whether `durable` lags behind.
    pub dirty: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    File(Content),
    Dir(Dir),
    Symlink(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
}

#[derive(Debug)]
pub(crate) struct Durable {
    pub meta: Meta,
    pub content: Content,
}

#[derive(Debug, Default)]
pub(crate) struct Dir {
    pub names: BTreeMap<Name, Slot>,
    pub subdirs: u32,
    pub durable: BTreeMap<Name, Slot>,
    pub pending: Vec<Pending>,
}

/// A change of a directory that is not durable yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub name: Name,
    pub to: Option<Slot>,
    /// Its place in the log of the file system; both halves of a rename have the same.
    pub at: u64,
    /// The other half of a rename: both become durable or neither, as on every journaled file
    /// system.
    pub twin: Option<Twin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Twin {
    pub dir: Slot,
    pub token: u64,
}

impl Inode {
    pub(crate) fn file_type(&self) -> FileType {
        match self.body {
            Body::File(_) => FileType::File,
            Body::Dir(_) => FileType::Dir,
            Body::Symlink(_) => FileType::Symlink,
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub(crate) fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.len() as u64,
            Body::Symlink(target) => target.len() as u64,
            Body::Dir(_) => 4096,
        }
    }
}
