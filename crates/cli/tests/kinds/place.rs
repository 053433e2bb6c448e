//! Changes to a directory by relative paths of any bytes and any length: each path is walked
//! component by component, so that no limit of the kernel on whole paths is in the way.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};

#[derive(Clone)]
pub struct Place(Arc<OwnedFd>);

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Place {
    pub fn open(path: &Path) -> Self {
        Self(Arc::new(rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()))
    }

    /// A directory in this one, made if it is not there.
    pub fn child(&self, name: &str) -> Self {
        let _ = rustix::fs::mkdirat(&*self.0, name, Mode::from_raw_mode(0o755));
        self.enter(name.as_bytes())
    }

    fn enter(&self, name: &[u8]) -> Self {
        let opened = rustix::fs::openat(&*self.0, name, DIRECTORY, Mode::empty());
        Self(Arc::new(opened.unwrap_or_else(|error| panic!("{}: {error}", name.escape_ascii()))))
    }

    /// The directory above a path, and its name there.
    fn at<'p>(&self, path: &'p [u8]) -> (Self, &'p [u8]) {
        let mut components = path.split(|byte| *byte == b'/').peekable();
        let mut dir = self.clone();
        loop {
            let name = components.next().unwrap();
            if components.peek().is_none() {
                return (dir, name);
            }
            dir = dir.enter(name);
        }
    }

    pub fn mkdir(&self, path: impl AsRef<[u8]>) {
        let (dir, name) = self.at(path.as_ref());
        rustix::fs::mkdirat(&*dir.0, name, Mode::from_raw_mode(0o755)).unwrap();
    }

    fn file(&self, path: &[u8], flags: OFlags) -> File {
        let (dir, name) = self.at(path);
        let mode = Mode::from_raw_mode(0o644);
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*dir.0, name, flags, mode);
        opened.unwrap_or_else(|error| panic!("{}: {error}", path.escape_ascii())).into()
    }

    /// Creates or overwrites in place, in pieces.
    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let mut file = self.file(path.as_ref(), OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY);
        for piece in content.as_ref().chunks(7000) {
            file.write_all(piece).unwrap();
        }
    }

    pub fn append(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        self.file(path.as_ref(), OFlags::APPEND | OFlags::WRONLY)
            .write_all(content.as_ref())
            .unwrap();
    }

    /// Left open: the writer goes on later.
    pub fn begin(&self, path: impl AsRef<[u8]>) -> File {
        self.file(path.as_ref(), OFlags::CREATE | OFlags::WRONLY)
    }

    pub fn write_at(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>, offset: u64) {
        let file = self.file(path.as_ref(), OFlags::CREATE | OFlags::WRONLY);
        file.write_all_at(content.as_ref(), offset).unwrap();
    }

    pub fn set_len(&self, path: impl AsRef<[u8]>, length: u64) {
        self.file(path.as_ref(), OFlags::CREATE | OFlags::WRONLY).set_len(length).unwrap();
    }

    pub fn symlink(&self, target: impl AsRef<[u8]>, path: impl AsRef<[u8]>) {
        let (dir, name) = self.at(path.as_ref());
        rustix::fs::symlinkat(target.as_ref(), &*dir.0, name).unwrap();
    }

    pub fn link(&self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) {
        let ((from, old), (to, new)) = (self.at(old.as_ref()), self.at(new.as_ref()));
        rustix::fs::linkat(&*from.0, old, &*to.0, new, AtFlags::empty()).unwrap();
    }

    pub fn rename(&self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) {
        self.rename_into(old, self, new);
    }

    pub fn rename_into(&self, old: impl AsRef<[u8]>, other: &Place, new: impl AsRef<[u8]>) {
        let ((from, old), (to, new)) = (self.at(old.as_ref()), other.at(new.as_ref()));
        rustix::fs::renameat(&*from.0, old, &*to.0, new).unwrap();
    }

    pub fn exchange(&self, one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) {
        let ((from, one), (to, other)) = (self.at(one.as_ref()), self.at(other.as_ref()));
        rustix::fs::renameat_with(&*from.0, one, &*to.0, other, RenameFlags::EXCHANGE).unwrap();
    }

    pub fn unlink(&self, path: impl AsRef<[u8]>) {
        let (dir, name) = self.at(path.as_ref());
        rustix::fs::unlinkat(&*dir.0, name, AtFlags::empty()).unwrap();
    }

    pub fn rmdir(&self, path: impl AsRef<[u8]>) {
        let (dir, name) = self.at(path.as_ref());
        rustix::fs::unlinkat(&*dir.0, name, AtFlags::REMOVEDIR).unwrap();
    }

    /// `rm -r`.
    pub fn remove(&self, path: impl AsRef<[u8]>) {
        let (dir, name) = self.at(path.as_ref());
        let stat = rustix::fs::statat(&*dir.0, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return dir.unlink(name);
        }
        let below = dir.enter(name);
        for name in below.names() {
            below.remove(name);
        }
        dir.rmdir(name);
    }

    pub fn names(&self) -> Vec<Vec<u8>> {
        let entries = rustix::fs::Dir::read_from(&*self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_bytes().to_vec());
        let mut names: Vec<_> = names.filter(|name| name != b"." && name != b"..").collect();
        names.sort();
        names
    }

    pub fn chmod(&self, path: impl AsRef<[u8]>, mode: u32) {
        let (dir, name) = self.at(path.as_ref());
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::chmodat(&*dir.0, name, mode, AtFlags::empty()).unwrap();
    }

    pub fn touch(&self, path: impl AsRef<[u8]>, mtime_ns: i128) {
        let (dir, name) = self.at(path.as_ref());
        let time = Timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000).try_into().unwrap(),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000).try_into().unwrap(),
        };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(&*dir.0, name, &times, AtFlags::empty()).unwrap();
    }

    /// A FIFO, a socket or a device.
    pub fn special(&self, path: impl AsRef<[u8]>, kind: FileType) {
        let (dir, name) = self.at(path.as_ref());
        // The null device: harmless whoever opens it.
        let device = if kind == FileType::CharacterDevice { rustix::fs::makedev(1, 3) } else { 0 };
        rustix::fs::mknodat(&*dir.0, name, kind, Mode::from_raw_mode(0o644), device).unwrap();
    }
}
