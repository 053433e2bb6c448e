//! A share's files, a step above system calls: looking at paths, reading a content that holds still,
//! and chainsync's own corner of the tree.
//!
//! ```text
//! <root>/.chainsync/           mode 0700, never watched, never replicated
//!                  marker      a random number that the index remembers: proof that this is the tree
//!                  staging/    contents on their way in, displaced ones on their way out
//!                  cookies/    watched: a name made here comes back when all earlier events have
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::entry::MODE_MASK;
use chainsync_core::{ContentHash, ContentHasher, FileType, Identity, Kind, Owner, RelPath, Stat};
use chainsync_env::Vfs;

use crate::large::partial::hash_range;

pub const OWN_DIR: &str = ".chainsync";
pub const STAGING: &str = ".chainsync/staging";
pub const COOKIES: &str = ".chainsync/cookies";
pub const MARKER: &[u8] = b"marker";
/// Of files that are not, or not yet, anybody's.
pub const OWN_FILE_MODE: u32 = 0o600;

/// Directories kept open within one job.
const DIRS_OPEN_MAX: usize = 128;

/// Open directories, so that many names of one directory are resolved once. Lives for one job: a
/// directory may be renamed at any time, and then it is not at its path any more.
pub struct Dirs<'a, V: Vfs> {
    vfs: &'a V,
    open: BTreeMap<Option<RelPath>, Arc<V::Dir>>,
    /// The last [`parent`](Dirs::parent): names come sorted by directory.
    last: Option<(Option<RelPath>, Arc<V::Dir>)>,
}

impl<'a, V: Vfs> Dirs<'a, V> {
    pub fn new(vfs: &'a V) -> Self {
        Self { vfs, open: BTreeMap::new(), last: None }
    }

    pub fn dir(&mut self, path: Option<&RelPath>) -> io::Result<Arc<V::Dir>> {
        let key = path.cloned();
        if let Some(dir) = self.open.get(&key) {
            return Ok(dir.clone());
        }
        let dir = Arc::new(self.vfs.open_dir(path)?);
        if self.open.len() >= DIRS_OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(key, dir.clone());
        Ok(dir)
    }

    pub fn parent(&mut self, path: &RelPath) -> io::Result<Arc<V::Dir>> {
        if let Some((last, dir)) = &self.last
            && last.as_ref().map(RelPath::as_bytes) == path.parent_bytes()
        {
            return Ok(dir.clone());
        }
        let parent = path.parent();
        let dir = self.dir(parent.as_ref())?;
        self.last = Some((parent, dir.clone()));
        Ok(dir)
    }

    pub fn staging(&mut self) -> io::Result<Arc<V::Dir>> {
        self.dir(Some(&own_path(STAGING)))
    }

    /// Forgets what is open at and below a path, because something else is there now.
    pub fn forget(&mut self, path: &RelPath) {
        self.last = None;
        self.open
            .retain(|dir, _| dir.as_ref().is_none_or(|dir| dir != path && !dir.is_below(path)));
    }

    /// What is at a path; `None` if nothing is, also because a directory above it is missing or is
    /// something else.
    pub fn stat(&mut self, path: &RelPath) -> io::Result<Option<Stat>> {
        let found = self.parent(path).and_then(|parent| self.vfs.stat(&parent, path.name()));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A constant of this module, which is a path.
pub fn own_path(path: &'static str) -> RelPath {
    RelPath::new(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a path belongs to chainsync itself.
pub fn is_own(path: &RelPath) -> bool {
    path.first() == OWN_DIR.as_bytes()
}

const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;
const ELOOP: i32 = 40;

pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR | ELOOP))
}

/// Another file system is mounted at the path or above it: openat2(2) with `RESOLVE_NO_XDEV`.
pub fn is_mount(error: &io::Error) -> bool {
    const EXDEV: i32 = 18;
    error.raw_os_error() == Some(EXDEV)
}

/// Trouble of the process rather than of one path: too many open files.
pub fn is_exhausted(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Trouble of the whole file system rather than of one path: nothing else will work either.
pub fn is_disk_trouble(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOSPC: i32 = 28;
    const EROFS: i32 = 30;
    const EDQUOT: i32 = 122;
    matches!(error.raw_os_error(), Some(EIO | ENFILE | EMFILE | ENOSPC | EROFS | EDQUOT))
}

/// What reading a file came to.
pub enum Reading<F> {
    Content {
        hash: ContentHash,
        /// Unless it is large.
        bytes: Option<Bytes>,
        stat: Stat,
        file: F,
    },
    /// Somebody has it open for writing.
    Writing,
    /// It changed while it was read.
    Torn,
    Gone,
}

/// Reads a whole file, and makes sure that it held still meanwhile. A large one is hashed while the
/// caller waits.
pub fn read_file<V: Vfs>(vfs: &V, dir: &V::Dir, name: &[u8]) -> io::Result<Reading<V::File>> {
    let file = match vfs.open_file(dir, name) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(Reading::Gone),
        Err(error) => return Err(error),
    };
    let before = vfs.stat_file(&file)?;
    if vfs.has_writer(&file)? == Some(true) {
        return Ok(Reading::Writing);
    }
    let (hash, bytes, length) = if before.size > INLINE_BYTES_MAX {
        let mut hasher = ContentHasher::default();
        let length = hash_range(vfs, &file, &mut hasher, 0, u64::MAX)?;
        (hasher.finish(), None, length)
    } else {
        let bytes = read_all(vfs, &file, before.size)?;
        let length = bytes.len() as u64;
        (ContentHash::of(&bytes), Some(bytes.into()), length)
    };
    let after = vfs.stat_file(&file)?;
    let still = before.size == after.size
        && before.mtime_ns == after.mtime_ns
        && before.ctime_ns == after.ctime_ns
        && length == after.size;
    if !still {
        return Ok(Reading::Torn);
    }
    Ok(Reading::Content { hash, bytes, stat: after, file })
}

/// Reads to the end, at most a byte more than `size`.
pub fn read_all<V: Vfs>(vfs: &V, file: &V::File, size: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // One more byte, so that a file that grew shows it.
    let mut buffer = vec![0; size + 1];
    let mut length = 0;
    while length < buffer.len() {
        match vfs.read_at(file, &mut buffer[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    buffer.truncate(length);
    Ok(buffer)
}

/// The kind of a file of which the content is known.
pub fn file_kind(stat: &Stat, hash: ContentHash, with_owner: bool) -> Kind {
    Kind::File {
        size: stat.size,
        hash,
        mode: stat.mode & MODE_MASK,
        mtime_ns: stat.mtime_ns,
        owner: owner(stat, with_owner),
    }
}

pub fn dir_kind(stat: &Stat, with_owner: bool) -> Kind {
    Kind::Dir { mode: stat.mode & MODE_MASK, owner: owner(stat, with_owner) }
}

fn owner(stat: &Stat, with_owner: bool) -> Option<Owner> {
    with_owner.then_some(Owner { uid: stat.uid, gid: stat.gid })
}

/// Whether a name now shows `kind`, content included. Reads the file if it is one.
pub fn shows<V: Vfs>(
    vfs: &V,
    dir: &V::Dir,
    name: &[u8],
    kind: &Kind,
    look_ns: i128,
) -> io::Result<Option<Identity>> {
    let stat = match vfs.stat(dir, name) {
        Ok(stat) => stat,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let identity = Identity::of(&stat, look_ns, vfs.ctime_tick_ns());
    let same = match (kind, stat.file_type) {
        (Kind::Dir { .. }, FileType::Dir) => dir_kind(&stat, has_owner(kind)) == *kind,
        (Kind::Symlink { target }, FileType::Symlink) => vfs.read_link(dir, name)? == *target,
        (Kind::File { size, .. }, FileType::File) if *size == stat.size => {
            match read_file(vfs, dir, name)? {
                Reading::Content { hash, stat, .. } => {
                    file_kind(&stat, hash, has_owner(kind)) == *kind
                }
                _ => false,
            }
        }
        _ => false,
    };
    Ok(same.then_some(identity))
}

pub fn has_owner(kind: &Kind) -> bool {
    matches!(kind, Kind::File { owner: Some(_), .. } | Kind::Dir { owner: Some(_), .. })
}
