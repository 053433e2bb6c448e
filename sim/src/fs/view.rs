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

pub(super) struct Handle {
    pub(super) disk: SharedDisk,
    pub(super) slot: Slot,
    pub(super) id: u64,
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
            Handle::open(disk, &mut locked, slot, None, false)
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
    pub(super) fn open(
        shared: &SharedDisk,
        disk: &mut Disk,
        slot: Slot,
        at: Option<(Slot, &[u8])>,
        writable: bool,
    ) -> Self {
        let id = disk.open(slot, at, writable);
        disk.handles += 1;
        Self { disk: SharedDisk::clone(shared), slot, id, writable, boot: disk.boot }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        // A handle from before a power loss closes nothing: its inode may be gone.
        if disk.boot == self.boot {
            disk.close(self.slot, self.id);
            disk.handles -= 1;
        }
    }
}

impl Vfs for SimFs {
    type Dir = SimDir;
    type File = SimFile;

    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<SimDir> {
        self.call(CallClass::Open, |disk| {
            let slot = disk.dir_at(self.root.slot, path)?;
            Ok(SimDir(Handle::open(&self.disk, disk, slot, None, false)))
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
        component(name)?;
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
        component(name)?;
        let at = Some((dir.0.slot, name));
        self.call(CallClass::Open, |disk| {
            let slot = disk.lookup(dir.0.slot, name)?;
            match disk.inode(slot).body {
                Body::File(_) => Ok(SimFile(Handle::open(&self.disk, disk, slot, at, false))),
                Body::Dir(_) => fail(EISDIR),
                Body::Symlink(_) => fail(ELOOP),
            }
        })
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(CallClass::Read, |disk| {
            if i64::try_from(offset).is_err() {
                return fail(EINVAL);
            }
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

    fn create_file(&self, dir: &SimDir, name: &[u8], mode: u32) -> io::Result<SimFile> {
        component(name)?;
        if mode > 0o777 {
            return fail(EINVAL);
        }
        let at = Some((dir.0.slot, name));
        self.change((CallClass::Create, "create"), |disk| {
            let slot = disk.create(Actor::Daemon, dir.0.slot, name, mode)?;
            Ok(SimFile(Handle::open(&self.disk, disk, slot, at, true)))
        })
    }

    fn open_own_file(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        component(name)?;
        let at = Some((dir.0.slot, name));
        self.call(CallClass::Open, |disk| {
            let slot = disk.lookup(dir.0.slot, name)?;
            match disk.inode(slot).body {
                Body::File(_) => Ok(SimFile(Handle::open(&self.disk, disk, slot, at, true))),
                Body::Dir(_) => fail(EISDIR),
                Body::Symlink(_) => fail(ELOOP),
            }
        })
    }

    fn write_at(&self, file: &SimFile, data: &[u8], offset: u64) -> io::Result<()> {
        if data.is_empty() {
            // Nothing is left to be written: the host makes no call.
            return Ok(());
        }
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
        permissions(mode)?;
        self.set(&file.0, "chmod", move |meta| meta.mode = mode)
    }

    fn set_file_mtime(&self, file: &SimFile, mtime_ns: i128) -> io::Result<()> {
        if i64::try_from(mtime_ns.div_euclid(1_000_000_000)).is_err() {
            return fail(EINVAL);
        }
        self.set(&file.0, "utimens", move |meta| meta.mtime_ns = mtime_ns)
    }

    fn set_file_owner(&self, file: &SimFile, uid: u32, gid: u32) -> io::Result<()> {
        owner(uid, gid)?;
        self.set(&file.0, "chown", move |meta| (meta.uid, meta.gid) = (uid, gid))
    }

    fn set_dir_mode(&self, dir: &SimDir, mode: u32) -> io::Result<()> {
        permissions(mode)?;
        self.set(&dir.0, "chmod", move |meta| meta.mode = mode)
    }

    fn set_dir_owner(&self, dir: &SimDir, uid: u32, gid: u32) -> io::Result<()> {
        owner(uid, gid)?;
        self.set(&dir.0, "chown", move |meta| (meta.uid, meta.gid) = (uid, gid))
    }

    fn make_dir(&self, dir: &SimDir, name: &[u8], mode: u32) -> io::Result<()> {
        component(name)?;
        permissions(mode)?;
        // Two calls, as the host needs two to be rid of the umask.
        self.change((CallClass::Create, "mkdir"), |disk| {
            disk.make_dir(Actor::Daemon, dir.0.slot, name, 0o700).map(drop)
        })?;
        let made = self.change((CallClass::Metadata, "chmod"), |disk| {
            let slot = disk.walk(dir.0.slot, std::iter::once(name))?;
            let at = Some((dir.0.slot, name.into()));
            disk.set_meta(Actor::Daemon, slot, at, "chmod", |meta| meta.mode = mode);
            Ok(())
        });
        if made.is_err() {
            let _ = self.remove_dir(dir, name);
        }
        made
    }

    fn make_symlink(&self, dir: &SimDir, name: &[u8], target: &[u8]) -> io::Result<()> {
        component(name)?;
        if target.contains(&0) {
            return fail(EINVAL);
        }
        self.change((CallClass::Create, "symlink"), |disk| {
            disk.make_symlink(Actor::Daemon, dir.0.slot, name, target)
        })
    }

    fn read_link(&self, dir: &SimDir, name: &[u8]) -> io::Result<Vec<u8>> {
        component(name)?;
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
        component(from_name)?;
        component(to_name)?;
        let (from, to) = ((from.0.slot, from_name), (to.0.slot, to_name));
        self.change((CallClass::Rename, "rename"), |disk| {
            disk.rename(Actor::Daemon, from, to, mode)
        })
    }

    fn unlink(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        component(name)?;
        self.change((CallClass::Remove, "unlink"), |disk| {
            disk.unlink(Actor::Daemon, dir.0.slot, name)
        })
    }

    fn remove_dir(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        component(name)?;
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
        handle: &Handle,
        call: &'static str,
        change: impl FnOnce(&mut super::inode::Meta),
    ) -> io::Result<()> {
        self.change((CallClass::Metadata, call), |disk| {
            let at = disk.opened_at(handle.slot, handle.id);
            disk.set_meta(Actor::Daemon, handle.slot, at, call, change);
            Ok(())
        })
    }

    pub(crate) fn root_slot(&self) -> Slot {
        self.root.slot
    }

    pub(super) fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// Whether this view belongs to the daemon that runs now.
    pub fn is_current(&self) -> io::Result<()> {
        if lock(&self.disk).is_current(self.process) { Ok(()) } else { fail(EIO) }
    }
}

// What the host refuses before it asks the kernel.

fn component(name: &[u8]) -> io::Result<()> {
    match name {
        b"" | b"." | b".." => fail(EINVAL),
        name if name.contains(&b'/') || name.contains(&0) => fail(EINVAL),
        _ => Ok(()),
    }
}

fn permissions(mode: u32) -> io::Result<()> {
    if mode > 0o7777 { fail(EINVAL) } else { Ok(()) }
}

fn owner(uid: u32, gid: u32) -> io::Result<()> {
    if uid == u32::MAX || gid == u32::MAX { fail(EINVAL) } else { Ok(()) }
}
