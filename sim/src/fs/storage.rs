//! Index storage: files that redb writes, kept by path on the machine. What was not synced is gone
//! after a power loss; a file is open once at a time; a dead daemon writes nothing more.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use chainsync_env::StorageBackend;

use super::disk::{DEVICE, SharedDisk};
use super::durability::Loss;
use super::errno::{EINVAL, EIO, fail};
use super::faults::CallClass;
use super::journal::SECTOR_BYTES;
use crate::rng::Stream;
use crate::shared::lock;

/// All storage files of one machine.
#[derive(Default)]
pub struct Storages(BTreeMap<Vec<u8>, Stored>);

#[derive(Default)]
struct Stored {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What differs between the two, as (offset, length); the lengths may differ as well.
    dirty: Vec<(usize, usize)>,
    /// The life of the daemon that has it open.
    open: Option<u64>,
}

impl Stored {
    /// Of what was written and not synced, some pages reach the disk, in any order. `tears`: some of
    /// them in part.
    fn scatter(&mut self, rng: &mut Stream, tears: bool) {
        for (offset, length) in std::mem::take(&mut self.dirty) {
            let end = (offset + length).min(self.bytes.len());
            let mut from = offset;
            while from < end {
                let next = (from - from % PAGE_BYTES + PAGE_BYTES).min(end);
                if rng.one_in(2) {
                    let sectors = (next - from).div_ceil(SECTOR_BYTES) as u64;
                    let to = match tears && rng.one_in(TEARS_ONE_IN) {
                        true => (from + rng.between(0, sectors) as usize * SECTOR_BYTES).min(next),
                        false => next,
                    };
                    if self.durable.len() < to {
                        self.durable.resize(to, 0);
                    }
                    self.durable[from..to].copy_from_slice(&self.bytes[from..to]);
                }
                from = next;
            }
        }
    }
}

/// Copies of storage files, for `save-index` and `restore-index`.
#[derive(Clone, Default)]
pub struct Saved(BTreeMap<Vec<u8>, Vec<u8>>);

pub type SharedStorages = Arc<Mutex<Storages>>;

/// What a disk stores as a whole.
const PAGE_BYTES: usize = 4096;
/// Few pages are under way at the very moment.
const TEARS_ONE_IN: u64 = 8;
/// A sync of the index: a commit on an SSD.
const SYNC_NS: (u64, u64) = (150_000, 900_000);

impl Storages {
    pub fn power_loss(&mut self, loss: Loss, rng: &mut Stream) {
        for stored in self.0.values_mut() {
            match loss {
                Loss::Strict => {}
                Loss::Scattered => stored.scatter(rng, false),
                Loss::Journal => stored.scatter(rng, true),
            }
            stored.bytes.clone_from(&stored.durable);
            stored.dirty.clear();
            stored.open = None;
        }
    }

    /// A killed daemon's files are closed by the kernel.
    pub fn crash(&mut self) {
        self.0.values_mut().for_each(|stored| stored.open = None);
    }

    pub fn is_open(&self) -> bool {
        self.0.values().any(|stored| stored.open.is_some())
    }

    pub fn wipe(&mut self) {
        self.0.clear();
    }

    pub fn save(&self) -> Saved {
        Saved(self.0.iter().map(|(path, stored)| (path.clone(), stored.bytes.clone())).collect())
    }

    pub fn restore(&mut self, saved: &Saved) {
        self.0 = saved
            .0
            .iter()
            .map(|(path, bytes)| {
                let stored =
                    Stored { bytes: bytes.clone(), durable: bytes.clone(), ..Stored::default() };
                (path.clone(), stored)
            })
            .collect();
    }
}

/// An open storage file.
pub struct SimStorage {
    storages: SharedStorages,
    disk: SharedDisk,
    path: Vec<u8>,
    process: u64,
}

impl SimStorage {
    /// Opens or creates the file; `WouldBlock` if it is open.
    pub fn open(
        storages: &SharedStorages,
        disk: &SharedDisk,
        path: &[u8],
        process: u64,
    ) -> io::Result<Self> {
        {
            let mut disk = lock(disk);
            disk.enter(process)?;
            disk.fault(CallClass::Open)?;
            let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            disk.resolve(&path[..parent])?;
        }
        let mut locked = lock(storages);
        let stored = locked.0.entry(path.to_vec()).or_default();
        if stored.open.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        stored.open = Some(process);
        Ok(Self {
            storages: SharedStorages::clone(storages),
            disk: SharedDisk::clone(disk),
            path: path.to_vec(),
            process,
        })
    }

    fn operation(&self, call: &'static str, class: CallClass) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.operation(self.process, call)?;
        disk.fault(class)
    }

    fn with<R>(&self, call: impl FnOnce(&mut Stored) -> io::Result<R>) -> io::Result<R> {
        let mut storages = lock(&self.storages);
        match storages.0.get_mut(&self.path) {
            Some(stored) if stored.open == Some(self.process) => call(stored),
            _ => fail(EIO),
        }
    }
}

impl StorageBackend for SimStorage {
    fn len(&self) -> io::Result<u64> {
        self.with(|stored| Ok(stored.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        lock(&self.disk).fault(CallClass::IndexRead)?;
        self.with(|stored| {
            let range = offset as usize..offset as usize + out.len();
            match stored.bytes.get(range) {
                Some(bytes) => {
                    out.copy_from_slice(bytes);
                    Ok(())
                }
                None => fail(EINVAL),
            }
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operation("set-len-index", CallClass::IndexWrite)?;
        self.with(|stored| {
            let (before, after) = (stored.bytes.len(), length as usize);
            stored.bytes.resize(after, 0);
            // What is cut off and grown again is zero: it has to become so in the durable image too.
            if after > before {
                stored.dirty.push((before, after - before));
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.disk).operation(self.process, "sync-index")?;
        let refused = lock(&self.disk).fault(CallClass::IndexSync);
        if refused.is_err() {
            // The pages count as clean from now on: the next sync will not store them.
            self.with(|stored| {
                stored.dirty.clear();
                refused
            })?;
        }
        let synced = self.with(|stored| {
            stored.durable.resize(stored.bytes.len(), 0);
            let mut synced = 0;
            for (offset, length) in std::mem::take(&mut stored.dirty) {
                let end = (offset + length).min(stored.bytes.len());
                if offset < end {
                    stored.durable[offset..end].copy_from_slice(&stored.bytes[offset..end]);
                    synced += end - offset;
                }
            }
            Ok(synced)
        })?;
        let mut disk = lock(&self.disk);
        disk.owe(SYNC_NS);
        // State is on the first file system.
        disk.commit_log(DEVICE);
        disk.event("sync-index", format_args!("{synced}"));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (fell, length) = {
            let mut disk = lock(&self.disk);
            let fell = disk.operation(self.process, "write-index");
            let mut length = disk.torn(&fell, data.len());
            let failed = fell.and_then(|()| {
                let refused = disk.fault(CallClass::IndexWrite);
                if refused.is_err() {
                    length = disk.written_before_failing(data.len());
                }
                refused
            });
            (failed, length)
        };
        let data = &data[..length];
        self.with(|stored| {
            let range = offset as usize..offset as usize + data.len();
            let length = data.len();
            match stored.bytes.get_mut(range) {
                Some(bytes) => {
                    bytes.copy_from_slice(data);
                    stored.dirty.push((offset as usize, length));
                    Ok(())
                }
                None => fail(EINVAL),
            }
        })?;
        fell
    }

    fn close(&self) -> io::Result<()> {
        let mut storages = lock(&self.storages);
        if let Some(stored) = storages.0.get_mut(&self.path)
            && stored.open == Some(self.process)
        {
            stored.open = None;
        }
        Ok(())
    }
}

impl Drop for SimStorage {
    fn drop(&mut self) {
        // A backend dropped without having been closed still gives up its lock.
        let _ = StorageBackend::close(self);
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStorage").field("process", &self.process).finish_non_exhaustive()
    }
}
