//! A file system, as system calls relative to an open root.

use std::io;

use chainsync_core::{RelPath, Stat};

/// How [`Vfs::rename`] treats an existing target (renameat2(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// `RENAME_NOREPLACE`: fails with `EEXIST` if the target exists.
    NoReplace,
    /// `RENAME_EXCHANGE`: both exist and change places atomically.
    Exchange,
    /// Replaces the target atomically. Only for chainsync's own names.
    Replace,
}

/// One name of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: Vec<u8>,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// A file system below an open root directory.
///
/// Synchronous and shaped like system calls; errors carry the real errno
/// ([`io::Error::raw_os_error`]). Paths are resolved beneath the root and never through a symlink
/// nor into another file system (openat2(2) with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
/// RESOLVE_NO_XDEV`): a symlink on the way is `ELOOP`, a file on the way `ENOTDIR`, a mount on the way
/// or at its end `EXDEV`. Names are single components.
///
/// Nothing is durable until [`sync_data`](Vfs::sync_data) (contents),
/// [`sync_dir`](Vfs::sync_dir) (names) or [`sync_all`](Vfs::sync_all) (everything before it).
pub trait Vfs: Clone + Send + Sync + 'static {
    /// An open directory (`O_PATH` or more).
    type Dir: Send + Sync + 'static;
    /// An open file.
    type File: Send + Sync + 'static;

    /// Opens a directory; `None` is the root.
    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<Self::Dir>;

    /// The names in a directory, without `.` and `..`, in no particular order.
    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<DirEntry>>;

    /// lstat(2) of a name.
    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Stat>;

    /// fstat(2) of an open directory.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat>;

    /// fstat(2).
    fn stat_file(&self, file: &Self::File) -> io::Result<Stat>;

    /// Opens a regular file for reading, without following a symlink, without blocking on a FIFO.
    fn open_file(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::File>;

    /// pread(2): how many bytes were read; 0 at the end.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Whether anybody has the file open for writing or mapped writable: `Some` if the system can
    /// tell (a read lease is granted or refused, fcntl(2) `F_SETLEASE`), `None` if it cannot.
    fn has_writer(&self, file: &Self::File) -> io::Result<Option<bool>>;

    /// Creates a file that did not exist (`O_CREAT | O_EXCL`), open for reading and writing, with
    /// exactly this mode of at most 0777. A umask may make that two steps, and two events to a watcher.
    fn create_file(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<Self::File>;

    /// Opens a file of chainsync's own for reading and writing.
    fn open_own_file(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::File>;

    /// Writes all of `data` at `offset`.
    fn write_at(&self, file: &Self::File, data: &[u8], offset: u64) -> io::Result<()>;

    fn set_file_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;

    /// Sets mtime (ns since 1970); the access time becomes the same.
    fn set_file_mtime(&self, file: &Self::File, mtime_ns: i128) -> io::Result<()>;

    fn set_file_owner(&self, file: &Self::File, uid: u32, gid: u32) -> io::Result<()>;

    fn set_dir_mode(&self, dir: &Self::Dir, mode: u32) -> io::Result<()>;

    fn set_dir_owner(&self, dir: &Self::Dir, uid: u32, gid: u32) -> io::Result<()>;

    /// Creates a directory with exactly this mode, whatever the umask.
    fn make_dir(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()>;

    fn make_symlink(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> io::Result<()>;

    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>>;

    fn rename(
        &self,
        from: &Self::Dir,
        from_name: &[u8],
        to: &Self::Dir,
        to_name: &[u8],
        mode: RenameMode,
    ) -> io::Result<()>;

    /// Removes a name that is not a directory.
    fn unlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;

    /// fdatasync(2).
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// fsync(2) of a directory: its names.
    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()>;

    /// syncfs(2): everything on this file system.
    fn sync_all(&self) -> io::Result<()>;

    fn space(&self) -> io::Result<Space>;

    /// The resolution of ctime in nanoseconds: two changes within it may show the same ctime. 0 if
    /// the kernel gives a changed inode a new ctime whenever the old one was looked at (Linux 6.13
    /// on ext4, XFS, Btrfs and tmpfs).
    fn ctime_tick_ns(&self) -> i128;
}
