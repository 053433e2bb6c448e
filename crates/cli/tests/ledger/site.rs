//! A node's share as the applications there see it. Nothing here follows a symlink: one of the
//! writers swaps directories for symlinks that lead outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::ledger::Ledger;

pub struct Site {
    pub index: usize,
    pub path: PathBuf,
    root: OwnedFd,
    /// Beside the share, on the same file system: what is renamed into the share is made in
    /// `prepared`, what is taken out of it goes to `trash`, where the audit finds it.
    pub prepared: PathBuf,
    pub trash: PathBuf,
    trash_dir: OwnedFd,
    prepared_dir: OwnedFd,
    pub ledger: Arc<Ledger>,
    /// Paths at which a writer of this node is at work. Applications that share files agree among
    /// themselves on one machine; it is between machines that nobody agrees.
    claimed: Mutex<BTreeMap<String, ()>>,
    /// Odd while a file at this path may be half-written by this node's own writers.
    in_place: Mutex<BTreeMap<String, u64>>,
    numbers: AtomicU64,
}

/// Nobody else of this node works at the path, above or below it until this is dropped.
pub struct Claim<'s> {
    site: &'s Site,
    path: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.site.claimed.lock().unwrap().remove(&self.path);
    }
}

/// The file at the path may be half-written until this is dropped.
pub struct InPlace<'s> {
    site: &'s Site,
    path: String,
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        *self.site.in_place.lock().unwrap().get_mut(&self.path).unwrap() += 1;
    }
}

impl Site {
    pub fn new(index: usize, share: PathBuf, aside: &Path, ledger: Arc<Ledger>) -> Self {
        let (prepared, trash) = (aside.join("prepared"), aside.join("trash"));
        std::fs::create_dir_all(&prepared).unwrap();
        std::fs::create_dir_all(&trash).unwrap();
        Self {
            index,
            root: open_dir(&share),
            path: share,
            trash_dir: open_dir(&trash),
            prepared_dir: open_dir(&prepared),
            prepared,
            trash,
            ledger,
            claimed: Mutex::default(),
            in_place: Mutex::default(),
            numbers: AtomicU64::new(0),
        }
    }

    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn claim(&self, path: &str) -> Option<Claim<'_>> {
        let mut claimed = self.claimed.lock().unwrap();
        let below = |one: &str, other: &str| one.starts_with(&format!("{other}/"));
        if claimed.keys().any(|it| it == path || below(it, path) || below(path, it)) {
            return None;
        }
        claimed.insert(path.to_owned(), ());
        Some(Claim { site: self, path: path.to_owned() })
    }

    pub fn in_place(&self, path: &str) -> InPlace<'_> {
        *self.in_place.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        InPlace { site: self, path: path.to_owned() }
    }

    pub fn generation(&self, path: &str) -> u64 {
        self.in_place.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    pub fn open(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let mode = Mode::from_raw_mode(if flags.contains(OFlags::CREATE) { 0o644 } else { 0 });
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, mode, resolve) {
                // A rename somewhere while the path was walked.
                Err(Errno::AGAIN) => {}
                opened => return opened.map(File::from),
            }
        }
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let mut content = Vec::new();
        let mut file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        file.read_to_end(&mut content).map_err(|error| Errno::from_io_error(&error).unwrap())?;
        Ok(content)
    }

    /// The directory above a path, and the name in it.
    pub fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
        match path.rsplit_once('/') {
            Some((parent, name)) => {
                Ok((self.open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?.into(), name))
            }
            None => Ok((self.root.try_clone().unwrap(), path)),
        }
    }

    /// `mkdir -p` of what is above a path.
    pub fn make_parents(&self, path: &str) -> Result<(), Errno> {
        for (end, _) in path.match_indices('/') {
            let (parent, name) = self.parent(&path[..end])?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// From `prepared` to a path, in one call.
    pub fn bring(&self, prepared: &str, path: &str, flags: RenameFlags) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::renameat_with(&self.prepared_dir, prepared, &parent, name, flags)
    }

    pub fn put_back(&self, trashed: &str, path: &str) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(&self.trash_dir, trashed, &parent, name, flags)
    }

    /// Out of the share, in one call; the name in `trash`.
    pub fn take(&self, path: &str) -> Result<String, Errno> {
        let (parent, name) = self.parent(path)?;
        let trashed = format!("{}-{}", self.number(), path.replace('/', "-"));
        rustix::fs::renameat_with(
            &parent,
            name,
            &self.trash_dir,
            &*trashed,
            RenameFlags::NOREPLACE,
        )?;
        Ok(trashed)
    }

    /// All names below a directory of the share, files only, and whether that is all.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut left = vec![String::new()];
        while let Some(dir) = left.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let opened = if dir.is_empty() {
                Ok(self.root.try_clone().unwrap().into())
            } else {
                self.open(&dir, flags)
            };
            let Ok(opened) = opened else { continue };
            let Ok(entries) = rustix::fs::Dir::read_from(&opened) else { continue };
            for entry in entries.flatten() {
                let name = String::from_utf8(entry.file_name().to_bytes().to_vec()).unwrap();
                if [".", "..", ".chainsync"].contains(&&*name) {
                    continue;
                }
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                match entry.file_type() {
                    rustix::fs::FileType::Directory => left.push(path),
                    rustix::fs::FileType::RegularFile => files.push(path),
                    _ => {}
                }
            }
        }
        files
    }
}

fn open_dir(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}
