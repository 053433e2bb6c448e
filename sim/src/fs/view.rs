//! What the engine gets: a view of the disk from an open root, as `chainsync_env::Vfs`.

use std::io;

use chainsync_core::{RelPath, Stat};
use chainsync_env::{DirEntry, RenameMode, Space, Vfs};

use super::disk::{Actor, Defect, Disk, SharedDisk, listing_order};
use super::errno::{EINVAL, EIO, EISDIR, ELOOP, fail};
use super::faults::CallClass;
use super::inode::{Body, Slot};
use crate::shared::lock;

/// A file system below an open root, for one life of the daemon.
#[derive(Clone)]
pub struct SimFs {
    disk: SharedDisk,
    root: std::sync::Arc<Handle>,
    process: u64,
}

/// An open directory.
pub struct SimDir(Handle);

/// An open file.
pub struct SimFile(Handle);

struct Handle {
    disk: SharedDisk,
    slot: Slot,
    writable: bool,
    boot: u64,
}

impl SimFs {
    /// Opens the directory at an absolute path. Errors as `open(2)` with `O_DIRECTORY`.
    pub fn open(disk: &SharedDisk, path: &[u8], process: u64) -> io::Result<Self> {
        let root = {
            let mut locked = lock(disk);
            locked.enter(process)?;
            locked.judge_place("open", path);
            locked.fault(CallClass::Open)?;
            let slot = locked.resolve(path)?;
            Handle::open(disk, &mut locked, slot, false)
        };
        Ok(Self { disk: SharedDisk::clone(disk), root: std::sync::Arc::new(root), process })
    }

    fn call<R>(
        &self,
        class: CallClass,
        call: impl FnOnce(&mut Disk) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut disk = lock(&self.disk);
        disk.enter(self.process)?;
        disk.fault(class)?;
        call(&mut disk)
    }
}

impl SimFs {
    /// A call that changes something.
    fn change<R>(
        &self,
        (class, name): (CallClass, &'static str),
        call: impl FnOnce(&mut Disk) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut disk = lock(&self.disk);
        disk.enter(self.process)?;
        disk.operation(self.process, name)?;
        disk.fault(class)?;
        call(&mut disk)
    }

    /// A sync: one that fails has consequences.
    fn sync(
        &self,
        name: &'static str,
        lose: impl FnOnce(&mut Disk),
        sync: impl FnOnce(&mut Disk) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.enter(self.process)?;
        disk.operation(self.process, name)?;
        if let Err(error) = disk.fault(CallClass::Sync) {
            lose(&mut disk);
            return Err(error);
        }
        sync(&mut disk)
    }
}

impl Handle {
    /// The lock is held by the caller.
    fn open(shared: &SharedDisk, disk: &mut Disk, slot: Slot, writable: bool) -> Self {
        disk.open(slot, writable);
        disk.handles += 1;
        Self { disk: SharedDisk::clone(shared), slot, writable, boot: disk.boot }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        // A handle from before a power loss closes nothing: its inode may be gone.
        if disk.boot == self.boot {
            disk.close(self.slot, self.writable);
            disk.handles -= 1;
        }
    }
}

impl Vfs for SimFs {
    type Dir = SimDir;
    type File = SimFile;

    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<SimDir> {
        self.call(CallClass::Open, |disk| {
            let slot = match path {
                None => self.root.slot,
                Some(path) => disk.walk(self.root.slot, path.components())?,
            };
            Ok(SimDir(Handle::open(&self.disk, disk, slot, false)))
        })
    }

    fn list(&self, dir: &SimDir) -> io::Result<Vec<DirEntry>> {
        self.call(CallClass::List, |disk| {
            let names = disk.dir(dir.0.slot)?.names.keys().cloned();
            let names = listing_order(disk.listing_salt ^ dir.0.slot as u64, names);
            Ok(names.into_iter().map(|name| DirEntry { name: name.to_vec() }).collect())
        })
    }

    fn stat(&self, dir: &SimDir, name: &[u8]) -> io::Result<Stat> {
        self.call(CallClass::Stat, |disk| {
            disk.lookup(dir.0.slot, name).map(|slot| disk.stat(disk.across(slot)))
        })
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<Stat> {
        self.call(CallClass::Stat, |disk| Ok(disk.stat(dir.0.slot)))
    }

    fn stat_file(&self, file: &SimFile) -> io::Result<Stat> {
        self.call(CallClass::Stat, |disk| Ok(disk.stat(file.0.slot)))
    }

    fn open_file(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        self.call(CallClass::Open, |disk| {
            let slot = disk.lookup(dir.0.slot, name)?;
            match disk.inode(slot).body {
                Body::File(_) => Ok(SimFile(Handle::open(&self.disk, disk, slot, false))),
                Body::Dir(_) => fail(EISDIR),
                Body::Symlink(_) => fail(ELOOP),
            }
        })
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(CallClass::Read, |disk| {
            let Body::File(content) = &disk.inode(file.0.slot).body else { return fail(EINVAL) };
            let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..));
            let rest = rest.unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        })
    }

    fn has_writer(&self, file: &SimFile) -> io::Result<Option<bool>> {
        self.call(CallClass::Stat, |disk| {
            let hidden = disk.options.defect == Some(Defect::HidesWriters);
            Ok(Some(disk.inode(file.0.slot).writers > 0 && !hidden))
        })
    }

    fn create_file(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        self.change((CallClass::Create, "create"), |disk| {
            let slot = disk.create(Actor::Daemon, dir.0.slot, name, 0o600)?;
            Ok(SimFile(Handle::open(&self.disk, disk, slot, true)))
        })
    }

    fn open_own_file(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        self.call(CallClass::Open, |disk| {
            let slot = disk.lookup(dir.0.slot, name)?;
            match disk.inode(slot).body {
                Body::File(_) => Ok(SimFile(Handle::open(&self.disk, disk, slot, true))),
                Body::Dir(_) => fail(EISDIR),
                Body::Symlink(_) => fail(ELOOP),
            }
        })
    }

    fn write_at(&self, file: &SimFile, data: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.enter(self.process)?;
        if !file.0.writable {
            return fail(libc::EBADF);
        }
        let fell = disk.operation(self.process, "write");
        let mut length = disk.torn(&fell, data.len());
        let failed = fell.and_then(|()| {
            let grows = (offset + data.len() as u64).saturating_sub(disk.stat(file.0.slot).size);
            let refused = disk.fault(CallClass::Write).and_then(|()| disk.within_quota(grows));
            if refused.is_err() {
                length = disk.written_before_failing(data.len());
            }
            refused
        });
        if length > 0 || failed.is_ok() {
            disk.write(Actor::Daemon, file.0.slot, &data[..length], offset)?;
        }
        failed
    }

    fn set_file_mode(&self, file: &SimFile, mode: u32) -> io::Result<()> {
        self.set(file.0.slot, "chmod", move |meta| meta.mode = mode & 0o7777)
    }

    fn set_file_mtime(&self, file: &SimFile, mtime_ns: i128) -> io::Result<()> {
        self.set(file.0.slot, "utimens", move |meta| meta.mtime_ns = mtime_ns)
    }

    fn set_file_owner(&self, file: &SimFile, uid: u32, gid: u32) -> io::Result<()> {
        self.set(file.0.slot, "chown", move |meta| (meta.uid, meta.gid) = (uid, gid))
    }

    fn set_dir_mode(&self, dir: &SimDir, mode: u32) -> io::Result<()> {
        self.set(dir.0.slot, "chmod", move |meta| meta.mode = mode & 0o7777)
    }

    fn set_dir_owner(&self, dir: &SimDir, uid: u32, gid: u32) -> io::Result<()> {
        self.set(dir.0.slot, "chown", move |meta| (meta.uid, meta.gid) = (uid, gid))
    }

    fn make_dir(&self, dir: &SimDir, name: &[u8], mode: u32) -> io::Result<()> {
        self.change((CallClass::Create, "mkdir"), |disk| {
            disk.make_dir(Actor::Daemon, dir.0.slot, name, mode & 0o7777).map(drop)
        })
    }

    fn make_symlink(&self, dir: &SimDir, name: &[u8], target: &[u8]) -> io::Result<()> {
        self.change((CallClass::Create, "symlink"), |disk| {
            disk.make_symlink(Actor::Daemon, dir.0.slot, name, target)
        })
    }

    fn read_link(&self, dir: &SimDir, name: &[u8]) -> io::Result<Vec<u8>> {
        self.call(CallClass::Read, |disk| {
            let slot = disk.lookup(dir.0.slot, name)?;
            match &disk.inode(slot).body {
                Body::Symlink(target) => Ok(target.clone()),
                _ => fail(EINVAL),
            }
        })
    }

    fn rename(
        &self,
        from: &SimDir,
        from_name: &[u8],
        to: &SimDir,
        to_name: &[u8],
        mode: RenameMode,
    ) -> io::Result<()> {
        let (from, to) = ((from.0.slot, from_name), (to.0.slot, to_name));
        self.change((CallClass::Rename, "rename"), |disk| {
            disk.rename(Actor::Daemon, from, to, mode)
        })
    }

    fn unlink(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        self.change((CallClass::Remove, "unlink"), |disk| {
            disk.unlink(Actor::Daemon, dir.0.slot, name)
        })
    }

    fn remove_dir(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        self.change((CallClass::Remove, "rmdir"), |disk| {
            disk.remove_dir(Actor::Daemon, dir.0.slot, name)
        })
    }

    fn sync_data(&self, file: &SimFile) -> io::Result<()> {
        let slot = file.0.slot;
        let lose = |disk: &mut Disk| disk.lose_content(slot);
        self.sync("sync", lose, |disk| {
            disk.sync_data(slot);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &SimDir) -> io::Result<()> {
        self.sync("sync-dir", |_| {}, |disk| disk.sync_dir(dir.0.slot))
    }

    fn sync_all(&self) -> io::Result<()> {
        let root = self.root.slot;
        let lose = |disk: &mut Disk| disk.lose_contents(disk.inode(root).device);
        self.sync("sync-all", lose, |disk| {
            disk.sync_all(disk.inode(root).device);
            Ok(())
        })
    }

    fn space(&self) -> io::Result<Space> {
        self.call(CallClass::Stat, |disk| {
            let total_bytes = disk.options.capacity_bytes;
            Ok(Space { free_bytes: total_bytes.saturating_sub(disk.used_bytes), total_bytes })
        })
    }

    fn ctime_tick_ns(&self) -> i128 {
        lock(&self.disk).options.ctime_tick_ns
    }
}

impl SimFs {
    fn set(
        &self,
        slot: Slot,
        call: &'static str,
        change: impl FnOnce(&mut super::inode::Meta),
    ) -> io::Result<()> {
        self.change((CallClass::Metadata, call), |disk| {
            disk.set_meta(Actor::Daemon, slot, call, change);
            Ok(())
        })
    }

    /// Whether this view belongs to the daemon that runs now.
    pub fn is_current(&self) -> io::Result<()> {
        if lock(&self.disk).is_current(self.process) { Ok(()) } else { fail(EIO) }
    }
}
