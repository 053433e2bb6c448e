//! The file system, by system calls beneath an open root.
//!
//! Every path is resolved by openat2(2) from the root's descriptor with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_XDEV`; every name is one component, relative to an open directory. So nothing
//! here can leave the root, whatever is renamed or linked meanwhile. Errors are the kernel's.
//!
//! It does not sort, retry, cache descriptors or decide anything, and it does not notice that the
//! root's path leads to another directory by now: it stays with the directory it opened.

mod lease;
mod tick;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use chainsync_core::{FileType, RelPath, Stat};
use chainsync_env::{DirEntry, RenameMode, Space, Vfs};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Statx, Uid};
use rustix::io::{Errno, retry_on_intr};

/// A file system view of one directory. A clone shares the root.
#[derive(Debug, Clone)]
pub struct HostVfs(Arc<Root>);

#[derive(Debug)]
struct Root {
    // Not `O_PATH`: syncfs(2) refuses such a descriptor. And open for as long as the view lives:
    // syncfs reports a failed write-back only to descriptors that were open when it failed.
    directory: OwnedFd,
    ctime_tick_ns: i128,
}

/// An open directory.
#[derive(Debug)]
pub struct HostDir(OwnedFd, AtomicU32);

impl HostDir {
    fn new(directory: OwnedFd) -> Self {
        Self(directory, AtomicU32::new(0))
    }

    /// Bits of modes that files made here were seen to have got: neither the umask nor a default ACL
    /// of the directory takes them away.
    fn modes_spared(&self) -> &AtomicU32 {
        &self.1
    }
}

/// An open regular file.
#[derive(Debug)]
pub struct HostFile(File);

impl HostVfs {
    /// Opens a directory that exists; a symlink to one is followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = open_root(path)?;
        let ctime_tick_ns = tick::ctime_tick_ns(directory.as_fd())?;
        Ok(Self::new(directory, ctime_tick_ns))
    }

    /// Like [`open`](Self::open), on a file system said to have this [`Vfs::ctime_tick_ns`].
    pub fn open_with_ctime_tick(path: &Path, ctime_tick_ns: i128) -> io::Result<Self> {
        Ok(Self::new(open_root(path)?, ctime_tick_ns))
    }

    fn new(directory: OwnedFd, ctime_tick_ns: i128) -> Self {
        // Before the first lease is asked for.
        lease::ignore_lease_breaks();
        Self(Arc::new(Root { directory, ctime_tick_ns }))
    }
}

impl Vfs for HostVfs {
    type Dir = HostDir;
    type File = HostFile;

    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<HostDir> {
        let path = path.map_or(b".".as_slice(), RelPath::as_bytes);
        Ok(HostDir::new(open_beneath(self.0.directory.as_fd(), path, DIRECTORY)?))
    }

    fn list(&self, dir: &HostDir) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        // Opens the directory anew: the position of a listing is shared by all who use a descriptor.
        for entry in fs::Dir::read_from(&dir.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push(DirEntry { name: name.to_vec() });
            }
        }
        Ok(entries)
    }

    fn stat(&self, dir: &HostDir, name: &[u8]) -> io::Result<Stat> {
        stat_of(dir.0.as_fd(), component(name)?, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn stat_dir(&self, dir: &HostDir) -> io::Result<Stat> {
        stat_of(dir.0.as_fd(), b"", AtFlags::EMPTY_PATH)
    }

    fn stat_file(&self, file: &HostFile) -> io::Result<Stat> {
        stat_of(file.0.as_fd(), b"", AtFlags::EMPTY_PATH)
    }

    fn open_file(&self, dir: &HostDir, name: &[u8]) -> io::Result<HostFile> {
        // `O_NONBLOCK`: a FIFO without a writer, or a file under somebody's write lease, must not
        // hold the caller. `O_NOCTTY`: a terminal must not become ours.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let name = component(name)?;
        let open = |flags| retry_on_intr(|| fs::openat(&dir.0, name, flags, Mode::empty()));
        // Our reading is nobody's access, and noting it would cost a write each. Only the owner may
        // ask for that (open(2)).
        let file = match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags)?,
            opened => opened?,
        };
        match stat_of(file.as_fd(), b"", AtFlags::EMPTY_PATH)?.file_type {
            FileType::File => Ok(HostFile(file.into())),
            FileType::Dir => Err(Errno::ISDIR.into()),
            // A symlink was `ELOOP` and a socket `ENXIO` in openat already.
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn read_at(&self, file: &HostFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&file.0, &mut *buffer, offset))?)
    }

    fn has_writer(&self, file: &HostFile) -> io::Result<Option<bool>> {
        Ok(lease::has_writer(file.0.as_fd()))
    }

    fn create_file(&self, dir: &HostDir, name: &[u8], mode: u32) -> io::Result<HostFile> {
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let name = component(name)?;
        if mode > 0o777 {
            return Err(Errno::INVAL.into());
        }
        let asked = permissions(mode)?;
        let file: File = retry_on_intr(|| fs::openat(&dir.0, name, flags, asked))?.into();
        // Bits may have been taken away; none can have been added.
        let spared = dir.modes_spared();
        if mode & !spared.load(Relaxed) != 0 {
            let got = fs::fstat(&file)?.st_mode & 0o7777;
            spared.fetch_or(got, Relaxed);
            if got != mode {
                fs::fchmod(&file, asked)?;
            }
        }
        Ok(HostFile(file))
    }

    fn open_own_file(&self, dir: &HostDir, name: &[u8]) -> io::Result<HostFile> {
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let name = component(name)?;
        let file = retry_on_intr(|| fs::openat(&dir.0, name, flags, Mode::empty()))?;
        Ok(HostFile(file.into()))
    }

    fn write_at(&self, file: &HostFile, data: &[u8], offset: u64) -> io::Result<()> {
        // Retries short writes and `EINTR`; how much was written before an error is not known.
        file.0.write_all_at(data, offset)
    }

    fn set_file_mode(&self, file: &HostFile, mode: u32) -> io::Result<()> {
        Ok(fs::fchmod(&file.0, permissions(mode)?)?)
    }

    fn set_file_mtime(&self, file: &HostFile, mtime_ns: i128) -> io::Result<()> {
        let time = timespec(mtime_ns)?;
        let times = fs::Timestamps { last_access: time, last_modification: time };
        Ok(fs::futimens(&file.0, &times)?)
    }

    fn set_file_owner(&self, file: &HostFile, uid: u32, gid: u32) -> io::Result<()> {
        set_owner(file.0.as_fd(), uid, gid)
    }

    fn set_dir_mode(&self, dir: &HostDir, mode: u32) -> io::Result<()> {
        Ok(fs::fchmod(&dir.0, permissions(mode)?)?)
    }

    fn set_dir_owner(&self, dir: &HostDir, uid: u32, gid: u32) -> io::Result<()> {
        set_owner(dir.0.as_fd(), uid, gid)
    }

    fn make_dir(&self, dir: &HostDir, name: &[u8], mode: u32) -> io::Result<()> {
        let name = component(name)?;
        let mode = permissions(mode)?;
        // First for nobody else, then with its mode: never wider than it shall be, and whatever
        // the umask or a set-group-id parent would have made of the mode.
        fs::mkdirat(&dir.0, name, Mode::RWXU)?;
        let made = open_beneath(dir.0.as_fd(), name, DIRECTORY)
            .and_then(|made| Ok(fs::fchmod(&made, mode)?));
        if made.is_err() {
            // Best effort: the error to report is the first. It is empty, or it is somebody's.
            let _ = fs::unlinkat(&dir.0, name, AtFlags::REMOVEDIR);
        }
        made
    }

    fn make_symlink(&self, dir: &HostDir, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &dir.0, component(name)?)?)
    }

    fn read_link(&self, dir: &HostDir, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&dir.0, component(name)?, Vec::new())?.into_bytes())
    }

    fn rename(
        &self,
        from: &HostDir,
        from_name: &[u8],
        to: &HostDir,
        to_name: &[u8],
        mode: RenameMode,
    ) -> io::Result<()> {
        let flags = match mode {
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
            RenameMode::Replace => RenameFlags::empty(),
        };
        let (from_name, to_name) = (component(from_name)?, component(to_name)?);
        Ok(fs::renameat_with(&from.0, from_name, &to.0, to_name, flags)?)
    }

    fn unlink(&self, dir: &HostDir, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&dir.0, component(name)?, AtFlags::empty())?)
    }

    fn remove_dir(&self, dir: &HostDir, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&dir.0, component(name)?, AtFlags::REMOVEDIR)?)
    }

    fn sync_data(&self, file: &HostFile) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fdatasync(&file.0))?)
    }

    fn sync_dir(&self, dir: &HostDir) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fsync(&dir.0))?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::syncfs(&self.0.directory))?)
    }

    fn space(&self) -> io::Result<Space> {
        let space = fs::fstatvfs(&self.0.directory)?;
        Ok(Space {
            // What an ordinary user may still take, without the blocks reserved for root.
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }

    fn ctime_tick_ns(&self) -> i128 {
        self.0.ctime_tick_ns
    }
}

/// Opens `path` beneath `directory`, never through a symlink.
pub(crate) fn open_beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> io::Result<OwnedFd> {
    // `NO_XDEV`: what is mounted inside a share must not be taken for what the share holds there.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(retry_on_intr(|| fs::openat2(directory, path, flags, Mode::empty(), resolve))?)
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(retry_on_intr(|| fs::open(path, DIRECTORY, Mode::empty()))?)
}

/// For listing and fsync(2), so not `O_PATH`.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A name is one component: a path here would be resolved through symlinks. An empty name would
/// mean the directory itself to some calls; a name too long is the kernel's to refuse.
fn component(name: &[u8]) -> io::Result<&[u8]> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL.into()),
        path if path.contains(&b'/') => Err(Errno::INVAL.into()),
        name => Ok(name),
    }
}

fn permissions(mode: u32) -> io::Result<Mode> {
    if mode > 0o7777 {
        return Err(Errno::INVAL.into());
    }
    Ok(Mode::from_raw_mode(mode))
}

fn timespec(ns: i128) -> io::Result<fs::Timespec> {
    const SECOND_NS: i128 = 1_000_000_000;
    // Rounded down, so that the nanoseconds are positive before 1970 too.
    let (seconds, nanoseconds) = (ns.div_euclid(SECOND_NS), ns.rem_euclid(SECOND_NS));
    match (seconds.try_into(), nanoseconds.try_into()) {
        (Ok(tv_sec), Ok(tv_nsec)) => Ok(fs::Timespec { tv_sec, tv_nsec }),
        _ => Err(Errno::INVAL.into()),
    }
}

fn set_owner(of: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    // To fchown(2) the highest number means "leave it": nobody's id.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL.into());
    }
    Ok(fs::fchown(of, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

fn stat_of(directory: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Stat> {
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    let stat = fs::statx(directory, name, flags, fs::StatxFlags::BASIC_STATS)?;
    Ok(Stat {
        file_type: file_type(&stat),
        device: fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        links: stat.stx_nlink.into(),
        size: stat.stx_size,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime_ns: nanoseconds(&stat.stx_mtime),
        ctime_ns: nanoseconds(&stat.stx_ctime),
    })
}

fn file_type(stat: &Statx) -> FileType {
    match fs::FileType::from_raw_mode(stat.stx_mode.into()) {
        fs::FileType::RegularFile => FileType::File,
        fs::FileType::Directory => FileType::Dir,
        fs::FileType::Symlink => FileType::Symlink,
        fs::FileType::Fifo => FileType::Fifo,
        fs::FileType::Socket => FileType::Socket,
        // Linux has no other; an unknown one is as little ours as a device.
        _ => FileType::Device,
    }
}

fn nanoseconds(time: &fs::StatxTimestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
