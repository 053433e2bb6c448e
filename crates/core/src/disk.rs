//! What a file system says of one name. Produced by the host or the simulated disk, judged by
//! [`crate::decide`].

use serde::{Deserialize, Serialize};

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileType {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// What `lstat` (statx(2), `AT_SYMLINK_NOFOLLOW`) says of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub file_type: FileType,
    /// The file system; differs from the root's on a mount inside the share.
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    /// Bytes; of a symlink the length of its target, of a directory meaningless.
    pub size: u64,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Nanoseconds since 1970.
    pub ctime_ns: i128,
}
