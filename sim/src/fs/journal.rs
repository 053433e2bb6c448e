//! A power loss as a journaled file system survives it: names come and go in the order in which they
//! were changed, for the whole file system, and the log is cut somewhere after the last sync of
//! anything. Contents are another matter: of a file that was not synced itself there may be nothing,
//! all, a beginning, zeros, or some blocks and not others, the last one torn.

use std::collections::BTreeSet;

use super::disk::Disk;
use super::inode::{Body, Content, Slot};

/// What a disk writes as a whole, unless the power goes meanwhile.
const BLOCK_BYTES: usize = 4096;
/// What it writes as a whole even then.
pub(crate) const SECTOR_BYTES: usize = 512;

impl Disk {
    /// Something on this file system was synced: the log is durable up to here.
    pub(crate) fn commit_log(&mut self, device: u64) {
        self.committed.insert(device, self.next_token - 1);
    }

    /// Stores what a journal that is cut at a random place brings back.
    pub(crate) fn replay_journal(&mut self) {
        let in_use = |disk: &Self, slots: &[Slot]| -> BTreeSet<Slot> {
            let used = slots.iter().copied().filter(|slot| disk.inodes[*slot].is_some());
            used.collect()
        };
        let dirs = in_use(self, &self.dirty_dirs);
        let devices: BTreeSet<u64> = dirs.iter().map(|slot| self.inode(*slot).device).collect();
        for device in devices {
            let newest = self.next_token - 1;
            let committed = self.committed.get(&device).copied().unwrap_or(0);
            let cut = self.rng.between(committed, newest);
            for slot in &dirs {
                if self.inodes[*slot].as_ref().is_some_and(|inode| inode.device == device) {
                    self.store_names_up_to(*slot, cut);
                }
            }
        }
        for slot in in_use(self, &self.dirty) {
            match self.rng.between(0, 4) {
                0 => {}
                1 | 2 => self.store_inode(slot),
                3 => self.store_torn(slot),
                _ => self.store_blocks(slot),
            }
        }
    }

    fn store_names_up_to(&mut self, slot: Slot, cut: u64) {
        let Ok(dir) = self.dir_mut(slot) else { return };
        let kept = dir.pending.partition_point(|pending| pending.at <= cut);
        let stored: Vec<_> = dir.pending.drain(..kept).collect();
        for pending in stored {
            self.store_name(slot, pending.name, pending.to);
        }
    }

    /// Each block of a content for itself, the last one perhaps in part.
    fn store_blocks(&mut self, slot: Slot) {
        if !matches!(self.inode(slot).body, Body::File(_)) {
            return;
        }
        let content = self.writable(slot);
        let mut bytes = vec![0; content.len()];
        let before = Content::clone(&self.inode(slot).durable.content);
        let common = before.len().min(bytes.len());
        bytes[..common].copy_from_slice(&before[..common]);
        let mut written = 0..0;
        for from in (0..content.len()).step_by(BLOCK_BYTES) {
            let to = (from + BLOCK_BYTES).min(content.len());
            if self.rng.one_in(2) {
                copy(&content, &mut bytes, written);
                written = from..to;
            }
        }
        // The head was on its way over the last one.
        let sectors = written.len().div_ceil(SECTOR_BYTES) as u64;
        let length = (self.rng.between(0, sectors) as usize * SECTOR_BYTES).min(written.len());
        copy(&content, &mut bytes, written.start..written.start + length);
        let meta = self.inode(slot).meta;
        self.inode_mut(slot).durable = super::inode::Durable { meta, content: Content::new(bytes) };
    }
}

fn copy(from: &[u8], to: &mut [u8], range: std::ops::Range<usize>) {
    to[range.clone()].copy_from_slice(&from[range]);
}
