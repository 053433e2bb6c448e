//! The file of an index.
//!
//! Locked from the moment it is opened, where redb's own backend would lock it only when a database
//! is opened on it: a second daemon must not even look. The lock (flock(2)) belongs to the open
//! file, so it ends with the process, however that ends; redb's own tools honour it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{BackendError, StorageBackend};
use thiserror::Error;

/// An index file that nobody else has open.
#[derive(Debug)]
pub struct HostStorage {
    file: File,
}

#[derive(Debug, Error)]
#[error("the index {} is in use by another process", .path.display())]
struct InUse {
    path: PathBuf,
}

impl HostStorage {
    /// Opens the file, or creates it with mode 0600, durably. `WouldBlock` if somebody else has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, InUse { path: path.to_owned() })
            }
            TryLockError::Error(error) => error,
        })?;
        // Each time: the crash may have come between the creation and this.
        crate::sync_parent(path)?;
        Ok(Self { file })
    }
}

impl StorageBackend for HostStorage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    // The whole file is ours since `open`, which is all that redb's exclusive mode asks for. Parts
    // of it, for its shared modes, are `Unsupported`.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        whole(start, end).map(|()| true)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        whole(start, end).map(|()| true)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        // Not before the file is closed: until then nobody else may touch it.
        whole(start, end)
    }
}

fn whole(start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
    match (start, end) {
        (Bound::Unbounded | Bound::Included(0), Bound::Unbounded) => Ok(()),
        _ => Err(BackendError::Unsupported),
    }
}
