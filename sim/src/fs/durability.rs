//! What survives a power loss.
//!
//! Strict: a content is durable when its file was synced, a name when its directory was, and nothing
//! else is. Two things are granted because every journaled file system grants them: a rename becomes
//! durable as a whole, and syncing a file whose content changed stores its
//! metadata too. Scattered: some of the rest has reached the disk all the same, each name and each
//! content for itself, as a kernel writes back what it likes when it likes. Journal: see `journal`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::disk::{Defect, Disk, ROOT, SYNC_ALL_NS, SYNC_ONE_NS};
use super::inode::{Body, Content, Durable, Inode, Name, Slot, Twin};
use crate::shared::lock;

/// How much of what was not synced a power loss destroys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Strict,
    /// Some of it: each change of a name, each content and each page of the index for itself.
    Scattered,
    /// Of the names, what was changed last; of contents and pages of the index, some.
    Journal,
}

impl Disk {
    pub(crate) fn sync_data(&mut self, slot: Slot) {
        self.owe(SYNC_ONE_NS);
        let Body::File(content) = &self.inode(slot).body else { return };
        // fdatasync(2) leaves times alone when nothing but them changed.
        let lost = self.inode(slot).lost.as_ref();
        let clean = lost.is_some_and(|lost| Arc::ptr_eq(content, lost));
        if !clean && !Arc::ptr_eq(content, &self.inode(slot).durable.content) {
            self.store_inode(slot);
        }
        self.commit_log(self.inode(slot).device);
        let path = self.inode(slot).home.clone().map(|(dir, name)| self.path_of(dir, &name));
        let path = path.unwrap_or_default();
        self.event("sync", format_args!("{}", crate::trace::Shown(&path)));
    }

    pub(crate) fn sync_dir(&mut self, slot: Slot) -> io::Result<()> {
        self.owe(SYNC_ONE_NS);
        self.dir(slot)?;
        self.store_dir(slot);
        self.store_inode(slot);
        self.commit_log(self.inode(slot).device);
        let path = match self.inode(slot).home.clone() {
            Some((parent, name)) => self.path_of(parent, &name),
            None => b"/".to_vec(),
        };
        self.event("sync-dir", format_args!("{}", crate::trace::Shown(&path)));
        Ok(())
    }

    pub(crate) fn sync_all(&mut self, device: u64) {
        self.owe(SYNC_ALL_NS);
        self.store_device(device);
        self.commit_log(device);
        self.event("sync-all", format_args!(""));
    }

    /// For free and without a trace: what a machine's installer left.
    pub(crate) fn store_everything(&mut self) {
        let dirty = self.dirty.iter().chain(&self.dirty_dirs);
        let used = dirty.filter_map(|slot| self.inodes[*slot].as_ref());
        let devices: BTreeSet<u64> = used.map(|inode| inode.device).collect();
        devices.into_iter().for_each(|device| self.store_device(device));
    }

    fn store_device(&mut self, device: u64) {
        let is_here = |inodes: &[Option<Inode>], slot: &Slot| {
            inodes[*slot].as_ref().is_none_or(|inode| inode.device == device)
        };
        let inodes = &self.inodes;
        let dirty: Vec<Slot> = self.dirty.extract_if(.., |slot| is_here(inodes, slot)).collect();
        for slot in dirty {
            if self.inodes[slot].is_some() {
                self.store_inode(slot);
            }
        }
        let inodes = &self.inodes;
        let dirs: Vec<Slot> =
            self.dirty_dirs.extract_if(.., |slot| is_here(inodes, slot)).collect();
        for slot in dirs {
            while let Some(Some(inode)) = self.inodes.get_mut(slot)
                && let Body::Dir(dir) = &mut inode.body
                && !dir.pending.is_empty()
            {
                for pending in std::mem::take(&mut dir.pending) {
                    self.store_name(slot, pending.name, pending.to);
                }
            }
        }
    }

    pub(crate) fn store_inode(&mut self, slot: Slot) {
        let forgets = self.options.defect == Some(Defect::ForgetsContents);
        let writable = self.writable(slot);
        let inode = self.inode_mut(slot);
        inode.dirty = false;
        let content = if forgets && writable.len() > 1024 { Content::default() } else { writable };
        inode.durable = Durable { meta: inode.meta, content };
    }

    fn store_dir(&mut self, slot: Slot) {
        let Ok(dir) = self.dir_mut(slot) else { return };
        let pending = std::mem::take(&mut dir.pending);
        for pending in pending {
            self.store_name(slot, pending.name, pending.to);
            if let Some(twin) = pending.twin {
                self.store_twin(twin);
            }
        }
    }

    /// The other half of a rename, and whatever happened to that name before.
    fn store_twin(&mut self, Twin { dir: slot, token }: Twin) {
        let Some(Some(inode)) = self.inodes.get_mut(slot) else { return };
        let Body::Dir(dir) = &mut inode.body else { return };
        let is_half =
            |twin: Option<Twin>| twin.is_some_and(|Twin { token: other, .. }| other == token);
        let Some(last) = dir.pending.iter().rposition(|pending| is_half(pending.twin)) else {
            return;
        };
        self.store_up_to(slot, last);
    }

    /// Makes one pending entry of a directory durable, with everything that happened to the same
    /// name before.
    fn store_up_to(&mut self, slot: Slot, last: usize) {
        let Ok(dir) = self.dir_mut(slot) else { return };
        let name = Name::clone(&dir.pending[last].name);
        let mut stored = Vec::new();
        let mut index = 0;
        dir.pending.retain(|pending| {
            let store = index <= last && pending.name == name;
            index += 1;
            if store {
                stored.push((pending.to, pending.twin));
            }
            !store
        });
        for (to, twin) in stored {
            self.store_name(slot, Name::clone(&name), to);
            // The half that is being stored is not pending any more: this ends.
            if let Some(twin) = twin {
                self.store_twin(twin);
            }
        }
    }

    /// Stores some of what was not synced: of each name a prefix of its changes, of each content
    /// nothing, the beginning, or all.
    fn scatter(&mut self) {
        let dirs: BTreeSet<Slot> = self.dirty_dirs.iter().copied().collect();
        for slot in dirs {
            let pending = |disk: &Self| match disk.inodes.get(slot) {
                Some(Some(Inode { body: Body::Dir(dir), .. })) => {
                    dir.pending.iter().map(|pending| Name::clone(&pending.name)).collect()
                }
                _ => Vec::new(),
            };
            let names: BTreeSet<Name> = pending(self).into_iter().collect();
            for name in names {
                // Storing one name may have stored another's twin: what is left of this one?
                let left = pending(self);
                let of_name = (0..left.len()).filter(|index| left[*index] == name);
                let of_name: Vec<usize> = of_name.collect();
                let kept = self.rng.between(0, of_name.len() as u64) as usize;
                if let Some(last) = kept.checked_sub(1) {
                    self.store_up_to(slot, of_name[last]);
                }
            }
        }
        let dirty: BTreeSet<Slot> = self.dirty.iter().copied().collect();
        for slot in dirty {
            if self.inodes.get(slot).is_none_or(Option::is_none) {
                continue;
            }
            match self.rng.between(0, 2) {
                0 => {}
                1 => self.store_inode(slot),
                _ => self.store_torn(slot),
            }
        }
    }

    /// The beginning of a content; in place of the rest, nothing or zeros.
    pub(crate) fn store_torn(&mut self, slot: Slot) {
        let Body::File(content) = &self.inode(slot).body else { return };
        if Arc::ptr_eq(content, &self.inode(slot).durable.content) {
            return;
        }
        let content = self.writable(slot);
        let length = content.len();
        let cut = self.rng.between(0, length as u64) as usize;
        let mut torn = content[..cut].to_vec();
        if self.rng.one_in(2) {
            torn.resize(length, 0);
        }
        let meta = self.inode(slot).meta;
        self.inode_mut(slot).durable = Durable { meta, content: Content::new(torn) };
    }

    pub(crate) fn store_name(&mut self, dir: Slot, name: Name, to: Option<Slot>) {
        let Ok(dir) = self.dir_mut(dir) else { return };
        // The hold of the pending entry becomes that of the durable one.
        let before = match to {
            Some(slot) => dir.durable.insert(name, slot),
            None => dir.durable.remove(&name),
        };
        if let Some(before) = before {
            self.unhold(before);
        }
    }

    /// The machine loses its power and comes back: memory, handles and watches are gone, and
    /// everything that was not durable.
    pub fn power_loss(&mut self, loss: Loss) {
        match loss {
            Loss::Strict => {}
            Loss::Scattered => self.scatter(),
            Loss::Journal => self.replay_journal(),
        }
        self.boot += 1;
        self.handles = 0;
        self.new_process();
        self.kernel.power_loss();
        self.jobs.abort();
        let mut alive = vec![false; self.inodes.len()];
        let mut links = vec![0_u32; self.inodes.len()];
        let roots = self.mounts.roots.clone();
        let mut todo = vec![ROOT];
        todo.extend(&roots);
        while let Some(slot) = todo.pop() {
            if std::mem::replace(&mut alive[slot], true) {
                continue;
            }
            if let Ok(dir) = self.dir(slot) {
                for below in dir.durable.values() {
                    links[*below] += 1;
                    todo.push(*below);
                }
            }
        }
        for root in std::iter::once(ROOT).chain(roots) {
            links[root] = 1;
        }
        let dead = (0..self.inodes.len()).filter(|slot| !alive[*slot]).collect::<Vec<_>>();
        for slot in &dead {
            self.inodes[*slot] = None;
        }
        self.reset_numbers(dead);
        (self.dirty, self.dirty_dirs, self.used_bytes) = (Vec::new(), Vec::new(), 0);
        for slot in (0..alive.len()).filter(|slot| alive[*slot]) {
            self.restore(slot, links[slot]);
        }
        self.rename_homes();
        self.register_survivors();
    }

    fn restore(&mut self, slot: Slot, links: u32) {
        let number = match self.inode(slot).number {
            0 => self.new_number(),
            number => number,
        };
        let inode = self.inode_mut(slot);
        inode.number = number;
        (inode.links, inode.held, inode.open, inode.writers) = (links, links, 0, 0);
        inode.opened.clear();
        (inode.pins, inode.pins_parent) = (0, false);
        (inode.dirty, inode.lost) = (false, None);
        inode.meta = inode.durable.meta;
        match &mut inode.body {
            Body::File(content) => {
                *content = Content::clone(&inode.durable.content);
                self.used_bytes += content.len() as u64;
            }
            Body::Dir(dir) => {
                dir.pending.clear();
                dir.names = dir.durable.clone();
            }
            Body::Symlink(_) => {}
        }
    }

    fn rename_homes(&mut self) {
        let mut homes = Vec::new();
        for (slot, inode) in self.inodes.iter().enumerate() {
            let Some(inode) = inode else { continue };
            if let Body::Dir(dir) = &inode.body {
                homes.extend(dir.names.iter().map(|(name, to)| (*to, slot, Name::clone(name))));
            }
        }
        for inode in self.inodes.iter_mut().flatten() {
            if let Body::Dir(dir) = &mut inode.body {
                dir.subdirs = 0;
            }
        }
        for (slot, parent, name) in homes {
            self.inode_mut(slot).home = Some((parent, name));
            if self.inode(slot).is_dir()
                && let Ok(parent) = self.dir_mut(parent)
            {
                parent.subdirs += 1;
            }
        }
    }

    /// Half an upload that happened to be synced is, after a power loss, a file like any other: from
    /// now on its content counts as written by somebody.
    fn register_survivors(&mut self) {
        let Ok(root) = self.share_slot() else { return };
        let mut files = Vec::new();
        self.files_below(root, &mut Vec::new(), &mut files);
        let (shared, now) = (Arc::clone(&self.shared), self.now_ns());
        let acknowledged = crate::check::acknowledged(&lock(&shared.frames));
        lock(&shared.oracle).survived(now, self.index, &files, &acknowledged);
    }

    /// All files below a directory, with their paths relative to it, `.chainsync` left out.
    pub(crate) fn files_below(
        &self,
        slot: Slot,
        prefix: &mut Vec<u8>,
        files: &mut Vec<(Vec<u8>, Content)>,
    ) {
        let Ok(dir) = self.dir(slot) else { return };
        for (name, below) in &dir.names {
            if prefix.is_empty() && **name == *super::disk::OWN_DIR {
                continue;
            }
            let length = prefix.len();
            if length > 0 {
                prefix.push(b'/');
            }
            prefix.extend_from_slice(name);
            match &self.inode(*below).body {
                Body::File(content) => files.push((prefix.clone(), Content::clone(content))),
                Body::Dir(_) => self.files_below(*below, prefix, files),
                Body::Symlink(_) => {}
            }
            prefix.truncate(length);
        }
    }
}
