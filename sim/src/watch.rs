//! The simulated watcher: inotify as the kernel does it (`kernel`), what the host makes of it
//! (`table`), and a reader that is late.
//!
//! The reader wakes a few milliseconds after the first event and turns what is queued into
//! [`WatchEvent`]s, under the path at which a directory was last added. Whoever writes, the daemon
//! included, is reported alike. A crash loses queue and watches.

mod kernel;
mod table;
#[cfg(test)]
mod tests;

use std::io;

use chainsync_core::RelPath;
use chainsync_env::{Added, Watch, WatchError, WatchEvent, WatchSink};

pub(crate) use kernel::{Happening, Kernel};

use crate::fs::{SharedDisk, SimFs};
use crate::shared::lock;
use kernel::Delivery;

/// A watcher of one tree.
pub struct SimWatch {
    disk: SharedDisk,
    /// Stays the directory that it was, wherever that is.
    root: SimFs,
    id: u64,
    process: u64,
}

impl SimWatch {
    /// Watches nothing yet but the root's name in its parent.
    pub fn new(
        disk: &SharedDisk,
        root: &[u8],
        process: u64,
        sink: WatchSink,
    ) -> Result<Self, WatchError> {
        let root = SimFs::open(disk, root, process).map_err(watch_error)?;
        let mut locked = lock(disk);
        let id = locked.kernel.open(sink);
        let watches_max = locked.options.watches_max;
        if let Some((parent, name)) = locked.inode(root.root_slot()).home.clone()
            && locked.kernel.add_parent(id, (parent, &name), watches_max).is_none()
        {
            locked.kernel.close(id);
            return Err(WatchError::Limit);
        }
        drop(locked);
        Ok(Self { disk: SharedDisk::clone(disk), root, id, process })
    }
}

impl Watch for SimWatch {
    fn add(&self, path: Option<&RelPath>) -> Result<Added, WatchError> {
        let mut disk = lock(&self.disk);
        disk.enter(self.process).map_err(WatchError::Io)?;
        let (now, watches_max) = (disk.now_ns(), disk.options.watches_max);
        let slot = match disk.dir_at(self.root.root_slot(), path) {
            Ok(slot) => slot,
            Err(error) => {
                disk.kernel.not_added(now, self.id, path);
                return Err(watch_error(error));
            }
        };
        let added = disk.kernel.add(now, self.id, (slot, path), watches_max);
        added.ok_or(WatchError::Limit)
    }

    fn remove(&self, path: &RelPath) {
        let mut disk = lock(&self.disk);
        if disk.is_current(self.process) {
            let now = disk.now_ns();
            disk.kernel.remove(now, self.id, path);
        }
    }

    fn len(&self) -> usize {
        lock(&self.disk).kernel.len(self.id)
    }
}

impl Drop for SimWatch {
    fn drop(&mut self) {
        lock(&self.disk).kernel.close(self.id);
    }
}

/// Delivers what is due on a machine; the sinks run here, on no lock.
pub fn deliver(disk: &SharedDisk) {
    let deliveries = {
        let mut disk = lock(disk);
        let now = disk.shared.step_ns();
        let deliveries = disk.kernel.due(now);
        for event in deliveries.iter().flat_map(|delivery| &delivery.events) {
            match event {
                WatchEvent::Hint(path, urgency) => {
                    disk.event("watch", format_args!("{urgency:?} {path}"));
                }
                other => disk.event("watch", format_args!("{other:?}")),
            }
        }
        deliveries
    };
    for Delivery { sink, events } in deliveries {
        events.into_iter().for_each(|event| sink(event));
    }
}

fn watch_error(error: io::Error) -> WatchError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => WatchError::Gone,
        _ => WatchError::Io(error),
    }
}
