//! What another program than the daemon does to the files of its choice: writing in place,
//! truncating, linking, moving the root away. Paths are resolved below the root, never through a
//! symlink.

use std::io;

use chainsync_core::RelPath;
use chainsync_env::RenameMode;

use super::disk::{Actor, Disk};
use super::errno::{EISDIR, ELOOP, fail};
use super::inode::Body;
use super::view::{Handle, SimFs};
use crate::shared::lock;

/// A file that another program has open for reading and writing.
pub struct OthersFile(Handle);

impl SimFs {
    /// open(2) with `O_RDWR`, perhaps with `O_TRUNC`.
    pub fn others_open(&self, path: &RelPath, truncate: bool) -> io::Result<OthersFile> {
        let disk = &mut *lock(self.disk());
        disk.advance(CALL_NS);
        disk.check_path(path)?;
        let dir = disk.dir_at(self.root_slot(), path.parent().as_ref())?;
        let slot = disk.lookup(dir, path.name())?;
        match disk.inode(slot).body {
            Body::File(_) => {}
            Body::Dir(_) => return fail(EISDIR),
            Body::Symlink(_) => return fail(ELOOP),
        }
        let handle = Handle::open(self.disk(), disk, slot, Some((dir, path.name())), true);
        if truncate {
            disk.truncate(Actor::Writer, slot, 0);
        }
        Ok(OthersFile(handle))
    }

    /// link(2).
    pub fn others_link(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let disk = &mut *lock(self.disk());
        disk.advance(CALL_NS);
        let from_dir = disk.dir_at(self.root_slot(), from.parent().as_ref())?;
        let to_dir = disk.dir_at(self.root_slot(), to.parent().as_ref())?;
        let slot = disk.lookup(from_dir, from.name())?;
        disk.link(to_dir, to.name(), slot)
    }
}

impl OthersFile {
    pub fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let disk = &mut *lock(&self.0.disk);
        disk.advance(CALL_NS);
        disk.write(Actor::Writer, self.0.slot, data, offset)
    }

    pub fn truncate(&self, length: usize) {
        let disk = &mut *lock(&self.0.disk);
        disk.advance(CALL_NS);
        disk.truncate(Actor::Writer, self.0.slot, length);
    }
}

impl Disk {
    /// rename(2), of absolute paths.
    pub fn others_rename(&mut self, from: &[u8], to: &[u8]) -> io::Result<()> {
        self.advance(CALL_NS);
        let (from, from_name) = parent_and_name(from);
        let (to, to_name) = parent_and_name(to);
        let (from, to) = (self.resolve(from)?, self.resolve(to)?);
        self.rename(Actor::Writer, (from, from_name), (to, to_name), RenameMode::Replace)
    }
}

fn parent_and_name(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    (&path[..slash], path.get(slash + 1..).unwrap_or_default())
}

/// What a call of another program takes; any time does.
const CALL_NS: u64 = 2_000;
