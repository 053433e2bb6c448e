//! The calls that change something, for the daemon and the web application alike: errnos, times,
//! link counts, durable bookkeeping, watch events.

use std::io;

use chainsync_env::RenameMode;

use super::disk::{Actor, Defect, Disk, check_name};
use super::errno::{EEXIST, EINVAL, EISDIR, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, fail};
use super::inode::{Body, Content, Dir, Meta, Name, Pending, Slot, Twin};
use crate::watch::Happening;

impl Disk {
    pub(crate) fn create(
        &mut self,
        actor: Actor,
        dir: Slot,
        name: &[u8],
        mode: u32,
    ) -> io::Result<Slot> {
        if self.full() {
            return fail(ENOSPC);
        }
        let slot = self.make(dir, name, mode, Body::File(Content::default()))?;
        self.post(dir, name, Happening::Created, false);
        let path = self.path_of(dir, name);
        self.daemon_did(actor, "create", &path);
        if actor == Actor::Daemon
            && let Some(relative) = self.in_share(&path)
        {
            self.judge_publication(relative, &Content::default());
        }
        Ok(slot)
    }

    pub(crate) fn make_dir(
        &mut self,
        actor: Actor,
        dir: Slot,
        name: &[u8],
        mode: u32,
    ) -> io::Result<Slot> {
        let slot = self.make(dir, name, mode, Body::Dir(Dir::default()))?;
        if actor == Actor::Writer
            && let Some(path) = self.in_share(&self.path_of(dir, name))
        {
            crate::shared::lock(&self.shared.oracle).ledger.named(path);
        }
        self.dir_mut(dir)?.subdirs += 1;
        self.post(dir, name, Happening::Created, true);
        let path = self.path_of(dir, name);
        self.daemon_did(actor, "mkdir", &path);
        Ok(slot)
    }

    pub(crate) fn make_symlink(
        &mut self,
        actor: Actor,
        dir: Slot,
        name: &[u8],
        target: &[u8],
    ) -> io::Result<()> {
        if target.is_empty() || target.len() > 4095 {
            return fail(if target.is_empty() { ENOENT } else { super::errno::ENAMETOOLONG });
        }
        self.make(dir, name, 0o777, Body::Symlink(target.to_vec()))?;
        if actor == Actor::Writer
            && let Some(path) = self.in_share(&self.path_of(dir, name))
        {
            crate::shared::lock(&self.shared.oracle).ledger.no_directory(path);
        }
        self.post(dir, name, Happening::Created, false);
        let path = self.path_of(dir, name);
        self.daemon_did(actor, "symlink", &path);
        Ok(())
    }

    fn make(&mut self, dir: Slot, name: &[u8], mode: u32, body: Body) -> io::Result<Slot> {
        self.check_free(dir, name)?;
        let now = self.stamp_ns();
        let meta = Meta { mode, uid: 0, gid: 0, mtime_ns: now, ctime_ns: now };
        let slot = self.allocate(body, meta);
        self.inode_mut(slot).device = self.inode(dir).device;
        self.enter_name(dir, name.into(), slot, None);
        Ok(slot)
    }

    pub(crate) fn write(
        &mut self,
        actor: Actor,
        slot: Slot,
        data: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let Body::File(content) = &self.inode(slot).body else { return fail(EINVAL) };
        let end = offset as usize + data.len();
        let grows = end.saturating_sub(content.len()) as u64;
        if grows > 0 && self.used_bytes + grows > self.options.capacity_bytes {
            return fail(ENOSPC);
        }
        self.used_bytes += grows;
        let now = self.stamp_ns();
        let hidden = actor == Actor::Writer && self.options.defect == Some(Defect::HidesWriters);
        let inode = self.inode_mut(slot);
        if !hidden {
            (inode.meta.mtime_ns, inode.meta.ctime_ns) = (now, now);
        }
        if let Body::File(content) = &mut inode.body {
            let bytes = std::sync::Arc::make_mut(content);
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[offset as usize..end].copy_from_slice(data);
        }
        self.mark_dirty(slot);
        self.changed_file(actor, slot, "write", data.len());
        Ok(())
    }

    pub(crate) fn truncate(&mut self, actor: Actor, slot: Slot, length: usize) {
        let now = self.stamp_ns();
        let inode = self.inode_mut(slot);
        (inode.meta.mtime_ns, inode.meta.ctime_ns) = (now, now);
        if let Body::File(content) = &mut inode.body {
            let before = content.len() as u64;
            std::sync::Arc::make_mut(content).resize(length, 0);
            self.used_bytes = self.used_bytes - before + length as u64;
        }
        self.mark_dirty(slot);
        self.changed_file(actor, slot, "truncate", 0);
    }

    /// Changes the metadata of an inode that is reached by a name, or by a handle that was.
    pub(crate) fn set_meta(
        &mut self,
        actor: Actor,
        slot: Slot,
        at: Option<(Slot, Name)>,
        call: &str,
        change: impl FnOnce(&mut Meta),
    ) {
        let now = self.stamp_ns();
        let inode = self.inode_mut(slot);
        change(&mut inode.meta);
        inode.meta.ctime_ns = now;
        self.mark_dirty(slot);
        if let Some((dir, name)) = at {
            let is_dir = self.inode(slot).is_dir();
            self.post(dir, &name, Happening::Attributes, is_dir);
        }
        self.post_self(slot, Happening::Attributes);
        self.changed_file(actor, slot, call, 0);
        if actor == Actor::Daemon {
            self.note_mode(slot);
        }
    }

    /// Tells the oracle under which mode the daemon shows a file.
    fn note_mode(&mut self, slot: Slot) {
        let (now, inode) = (self.now_ns(), self.inode(slot));
        let (mode, home) = (inode.meta.mode, inode.home.clone());
        let path = home.map(|(dir, name)| self.path_of(dir, &name)).unwrap_or_default();
        if let (Some(path), Body::File(content)) = (self.in_share(&path), &self.inode(slot).body) {
            let mut oracle = crate::shared::lock(&self.shared.oracle);
            oracle.published_mode(now, self.index, path, content, mode);
        }
    }

    fn changed_file(&mut self, actor: Actor, slot: Slot, call: &str, length: usize) {
        if actor == Actor::Writer {
            return;
        }
        let Some((dir, name)) = self.inode(slot).home.clone() else { return };
        let path = self.path_of(dir, &name);
        self.judge_place(call, &path);
        if self.in_share(&path).is_some() {
            self.tree_changed();
            if call == "write" {
                let content = self.content(slot);
                let relative = self.in_share(&path).unwrap_or_default();
                self.judge_publication(relative, &content);
            }
        }
        let shown = crate::trace::Shown(&path);
        match length {
            0 => self.event(call, format_args!("{shown}")),
            length => self.event(call, format_args!("{shown} {length}")),
        }
    }

    pub(crate) fn content(&self, slot: Slot) -> Content {
        match &self.inode(slot).body {
            Body::File(content) => Content::clone(content),
            _ => Content::default(),
        }
    }

    pub(crate) fn unlink(&mut self, actor: Actor, dir: Slot, name: &[u8]) -> io::Result<()> {
        let slot = self.lookup(dir, name)?;
        if self.inode(slot).is_dir() {
            return fail(EISDIR);
        }
        let path = self.path_of(dir, name);
        self.judge_removal(actor, slot, &path);
        self.leave_name(dir, name, None);
        self.unname_handles(slot, dir, name);
        self.drop_link(slot);
        self.post(dir, name, Happening::Deleted, false);
        self.daemon_did(actor, "unlink", &path);
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, actor: Actor, dir: Slot, name: &[u8]) -> io::Result<()> {
        let slot = self.lookup(dir, name)?;
        self.check_busy(slot)?;
        if !self.dir(slot)?.names.is_empty() {
            return fail(ENOTEMPTY);
        }
        let path = self.path_of(dir, name);
        self.leave_name(dir, name, None);
        self.dir_mut(dir)?.subdirs -= 1;
        self.drop_link(slot);
        self.post(dir, name, Happening::Deleted, true);
        self.daemon_did(actor, "rmdir", &path);
        Ok(())
    }

    pub(crate) fn link(&mut self, dir: Slot, name: &[u8], slot: Slot) -> io::Result<()> {
        self.check_free(dir, name)?;
        self.check_devices(slot, dir)?;
        if self.inode(slot).is_dir() {
            return fail(libc::EPERM);
        }
        let home = self.inode(slot).home.clone();
        self.enter_name(dir, name.into(), slot, None);
        // Events go on being reported under the first name, as for the handle that opened it.
        self.inode_mut(slot).home = home;
        let now = self.stamp_ns();
        self.inode_mut(slot).meta.ctime_ns = now;
        self.post(dir, name, Happening::Created, false);
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        actor: Actor,
        (from, from_name): (Slot, &[u8]),
        (to, to_name): (Slot, &[u8]),
        mode: RenameMode,
    ) -> io::Result<()> {
        self.check_devices(from, to)?;
        let moved = self.lookup(from, from_name)?;
        self.check_alive(to)?;
        check_name(to_name)?;
        self.check_busy(moved)?;
        let target = self.dir(to)?.names.get(to_name).copied();
        // In the order of do_renameat2() and vfs_rename().
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return fail(EEXIST),
            (RenameMode::Exchange, None) => return fail(ENOENT),
            _ => {}
        }
        if self.inode(moved).is_dir() && self.is_within(to, moved) {
            return fail(EINVAL);
        }
        if let Some(target) = target {
            if self.inode(target).is_dir() && self.is_within(from, target) {
                return fail(if mode == RenameMode::Exchange { EINVAL } else { ENOTEMPTY });
            }
            if target == moved {
                // One name, or two of one file: nothing is done.
                return Ok(());
            }
            if mode == RenameMode::Replace {
                self.check_replace(moved, target)?;
            }
        }
        let paths = (self.path_of(from, from_name), self.path_of(to, to_name));
        self.judge_rename(actor, &paths, mode, (moved, target));
        let (from_twin, to_twin) = self.twins(from, to);
        self.leave_name(from, from_name, Some(to_twin));
        if target.is_some() {
            self.leave_name(to, to_name, Some(from_twin));
        }
        self.enter_name(to, to_name.into(), moved, Some(from_twin));
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => {
                self.enter_name(from, from_name.into(), target, Some(to_twin));
                self.rename_handles(target, (to, to_name), (from, from_name));
                self.moved(target, to, from);
            }
            (_, Some(target)) => {
                if self.inode(target).is_dir() {
                    self.dir_mut(to)?.subdirs -= 1;
                }
                self.unname_handles(target, to, to_name);
            }
            (_, None) => {}
        }
        self.rename_handles(moved, (from, from_name), (to, to_name));
        self.moved(moved, from, to);
        let replaced = target.filter(|_| mode != RenameMode::Exchange);
        self.post_move(moved, (from, from_name), (to, to_name), replaced);
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => {
                self.post_move(target, (to, to_name), (from, from_name), None);
            }
            (_, Some(target)) => self.drop_link(target),
            (_, None) => {}
        }
        if actor == Actor::Daemon {
            if self.fails(Defect::CutsContents, 50)
                && let Body::File(content) = &mut self.inode_mut(moved).body
            {
                std::sync::Arc::make_mut(content).pop();
                self.used_bytes -= 1;
            }
            self.daemon_renamed(&paths, mode, moved, target);
        }
        Ok(())
    }

    fn check_replace(&self, moved: Slot, target: Slot) -> io::Result<()> {
        match (self.inode(moved).is_dir(), self.inode(target).is_dir()) {
            (true, false) => fail(ENOTDIR),
            (false, true) => fail(EISDIR),
            (true, true) if !self.dir(target)?.names.is_empty() => fail(ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn moved(&mut self, slot: Slot, from: Slot, to: Slot) {
        let now = self.stamp_ns();
        self.inode_mut(slot).meta.ctime_ns = now;
        self.mark_dirty(slot);
        self.inode_mut(slot).links -= 1; // The name it left; entering the new one counted it again.
        if self.inode(slot).is_dir() && from != to {
            for (dir, delta) in [(from, -1), (to, 1)] {
                if let Ok(dir) = self.dir_mut(dir) {
                    dir.subdirs = dir.subdirs.saturating_add_signed(delta);
                }
            }
        }
    }

    fn daemon_renamed(
        &mut self,
        (from, to): &(Vec<u8>, Vec<u8>),
        mode: RenameMode,
        moved: Slot,
        target: Option<Slot>,
    ) {
        if self.in_share(from).is_some() || self.in_share(to).is_some() {
            self.tree_changed();
        }
        let call = match mode {
            RenameMode::Exchange => "exchange",
            RenameMode::NoReplace | RenameMode::Replace => "rename",
        };
        let (shown_from, shown_to) = (crate::trace::Shown(from), crate::trace::Shown(to));
        self.event(call, format_args!("{shown_from} {shown_to}"));
        let published = [(Some(moved), to), (target, from)];
        let both = if mode == RenameMode::Exchange { 2 } else { 1 };
        for (slot, path) in published.into_iter().take(both) {
            let Some(slot) = slot else { continue };
            if let Some(relative) = self.in_share(path)
                && matches!(self.inode(slot).body, Body::File(_))
            {
                let content = self.content(slot);
                self.judge_publication(relative, &content);
                self.note_mode(slot);
            }
        }
    }

    /// A file got its final name by the daemon's hand: is it what somebody wrote? (S1, S2)
    fn judge_publication(&mut self, path: &[u8], content: &Content) {
        let now = self.now_ns();
        let index = self.index;
        let shared = std::sync::Arc::clone(&self.shared);
        crate::shared::lock(&shared.oracle).published(now, index, path, content);
    }

    // Directory entries, with what will be durable of them.

    fn enter_name(&mut self, dir: Slot, name: Name, slot: Slot, twin: Option<Twin>) {
        let inode = self.inode_mut(slot);
        inode.links += 1;
        inode.held += 1;
        inode.home = Some((dir, Name::clone(&name)));
        self.change_dir(dir, Name::clone(&name), Some(slot), twin);
        if let Ok(dir) = self.dir_mut(dir) {
            dir.names.insert(name, slot);
        }
    }

    fn leave_name(&mut self, dir: Slot, name: &[u8], twin: Option<Twin>) {
        self.change_dir(dir, name.into(), None, twin);
        if let Ok(dir) = self.dir_mut(dir) {
            dir.names.remove(name);
        }
    }

    fn change_dir(&mut self, slot: Slot, name: Name, to: Option<Slot>, twin: Option<Twin>) {
        let now = self.stamp_ns();
        let at = twin.map_or(self.next_token, |twin| twin.token);
        self.next_token = self.next_token.max(at + 1);
        let pending = Pending { name, to, at, twin };
        let inode = self.inode_mut(slot);
        (inode.meta.mtime_ns, inode.meta.ctime_ns) = (now, now);
        self.mark_dirty(slot);
        let Ok(dir) = self.dir_mut(slot) else { return };
        dir.pending.push(pending);
        if dir.pending.len() == 1 {
            self.dirty_dirs.push(slot);
        }
    }

    fn twins(&mut self, from: Slot, to: Slot) -> (Twin, Twin) {
        let token = self.next_token;
        self.next_token += 1;
        (Twin { dir: from, token }, Twin { dir: to, token })
    }

    pub(crate) fn mark_dirty(&mut self, slot: Slot) {
        let inode = self.inode_mut(slot);
        if !inode.dirty {
            inode.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn drop_link(&mut self, slot: Slot) {
        let now = self.stamp_ns();
        let inode = self.inode_mut(slot);
        inode.links -= 1;
        inode.meta.ctime_ns = now;
        self.release(slot);
        if self.inodes[slot].as_ref().is_some_and(|inode| inode.links == 0) {
            self.pin_parent(slot);
        }
    }

    /// Whether a name can be made.
    fn check_free(&self, dir: Slot, name: &[u8]) -> io::Result<()> {
        self.check_alive(dir)?;
        check_name(name)?;
        if self.dir(dir)?.names.contains_key(name) { fail(EEXIST) } else { Ok(()) }
    }

    fn is_within(&self, mut slot: Slot, ancestor: Slot) -> bool {
        loop {
            if slot == ancestor {
                return true;
            }
            match &self.inode(slot).home {
                Some((parent, _)) => slot = *parent,
                None => return false,
            }
        }
    }

    fn full(&self) -> bool {
        self.used_bytes >= self.options.capacity_bytes
    }

    /// What happened to a name, or to what was opened under it.
    pub(crate) fn post(&mut self, dir: Slot, name: &[u8], happening: Happening, is_dir: bool) {
        if self.kernel.watches(dir) && !self.fails(Defect::LosesEvents, 50) {
            let now = self.now_ns();
            self.kernel.post(now, dir, Some(name), happening, is_dir);
        }
    }

    /// What happened to a directory, told to whom watches it itself.
    fn post_self(&mut self, slot: Slot, happening: Happening) {
        if self.kernel.watches(slot) {
            let now = self.now_ns();
            self.kernel.post(now, slot, None, happening, true);
        }
    }

    fn post_move(
        &mut self,
        moved: Slot,
        from: (Slot, &[u8]),
        to: (Slot, &[u8]),
        replaced: Option<Slot>,
    ) {
        let is_dir = self.inode(moved).is_dir();
        self.post(from.0, from.1, Happening::MovedFrom, is_dir);
        self.post(to.0, to.1, Happening::MovedTo, is_dir);
        if let Some(replaced) = replaced {
            // It has a link less.
            self.post_self(replaced, Happening::Attributes);
        }
        self.post_self(moved, Happening::MovedSelf);
    }
}
