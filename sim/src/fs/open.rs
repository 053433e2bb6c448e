//! Open files and directories, as the kernel's dentries keep them.
//!
//! A handle knows the name under which its file was opened: the name follows renames, and once it
//! is removed the handle goes on being reported under it, in a directory that stays for as long as
//! somebody has something open that was in it.

use super::disk::Disk;
use super::inode::{Name, Slot};
use crate::watch::Happening;

/// The name under which a file was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub dir: Slot,
    pub name: Name,
    /// Whether the name is still there.
    pub named: bool,
    pub writable: bool,
}

impl Disk {
    /// Opens a file under a name; a directory has one only, and needs none here.
    pub(crate) fn open(&mut self, slot: Slot, at: Option<(Slot, &[u8])>, writable: bool) -> u64 {
        self.next_handle += 1;
        let handle = self.next_handle;
        let inode = self.inode_mut(slot);
        inode.open += 1;
        inode.writers += u32::from(writable);
        if let Some((dir, name)) = at {
            inode.opened.insert(handle, Opened { dir, name: name.into(), named: true, writable });
        }
        handle
    }

    pub(crate) fn close(&mut self, slot: Slot, handle: u64) {
        let inode = self.inode_mut(slot);
        inode.open -= 1;
        let opened = inode.opened.remove(&handle);
        let Some(Opened { dir, name, named, writable }) = opened else {
            return self.release(slot);
        };
        if writable {
            self.inode_mut(slot).writers -= 1;
            self.post(dir, &name, Happening::ClosedAfterWriting, false);
        }
        self.release(slot);
        if !named {
            self.unpin(dir);
        }
    }

    /// Where events about a handle are reported.
    pub(crate) fn opened_at(&self, slot: Slot, handle: u64) -> Option<(Slot, Name)> {
        let inode = self.inode(slot);
        let opened = inode.opened.get(&handle).map(|at| (at.dir, Name::clone(&at.name)));
        opened.or_else(|| inode.home.clone())
    }

    /// A name was renamed: the handles that were opened under it go along.
    pub(crate) fn rename_handles(
        &mut self,
        slot: Slot,
        (from, from_name): (Slot, &[u8]),
        (to, to_name): (Slot, &[u8]),
    ) {
        for opened in self.inode_mut(slot).opened.values_mut() {
            if opened.named && opened.dir == from && *opened.name == *from_name {
                (opened.dir, opened.name) = (to, to_name.into());
            }
        }
    }

    /// A name was removed.
    pub(crate) fn unname_handles(&mut self, slot: Slot, dir: Slot, name: &[u8]) {
        let mut unnamed = 0;
        for opened in self.inode_mut(slot).opened.values_mut() {
            if opened.named && opened.dir == dir && *opened.name == *name {
                opened.named = false;
                unnamed += 1;
            }
        }
        self.inode_mut(dir).pins += unnamed;
    }

    /// A directory was removed: if it is still in use, so is the one that held it.
    pub(crate) fn pin_parent(&mut self, slot: Slot) {
        let Some(Some(inode)) = self.inodes.get_mut(slot) else { return };
        if inode.number != 0
            && inode.is_dir()
            && let Some((parent, _)) = inode.home
        {
            inode.pins_parent = true;
            self.inode_mut(parent).pins += 1;
        }
    }

    pub(crate) fn unpin(&mut self, dir: Slot) {
        self.inode_mut(dir).pins -= 1;
        self.release(dir);
    }
}
