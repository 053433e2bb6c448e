//! What the disk tells the checkers of the daemon's calls: where each one was (S7), what it took away
//! (S6, S8). Told before a name changes hands, while the disk still shows what was there.

use chainsync_env::RenameMode;

use super::disk::{Actor, Disk};
use super::inode::{Body, Slot};
use crate::check;
use crate::shared::lock;

impl Disk {
    /// A call of the daemon at an absolute path. (S7)
    pub(crate) fn judge_place(&mut self, call: &str, path: &[u8]) {
        if self.share_root.is_empty() {
            return;
        }
        let now = self.now_ns();
        if let Err(failure) = check::confined(&self.share_root, call, path, now) {
            lock(&self.shared.oracle).fail(failure.on(&self.node));
        }
    }

    /// Somebody is about to unlink a name. (S6, S8)
    pub(crate) fn judge_removal(&mut self, actor: Actor, slot: Slot, path: &[u8]) {
        if actor == Actor::Daemon
            && let Some(relative) = self.in_share(path).map(<[u8]>::to_vec)
        {
            self.judge_removal_of(slot, &relative);
        }
    }

    /// Somebody is about to rename: what leaves a final name is displaced, and removed if nothing
    /// takes its place.
    pub(crate) fn judge_rename(
        &mut self,
        actor: Actor,
        (from, to): &(Vec<u8>, Vec<u8>),
        mode: RenameMode,
        (moved, target): (Slot, Option<Slot>),
    ) {
        if actor != Actor::Daemon {
            return;
        }
        let both = [from, to].map(|path| self.in_share(path).map(<[u8]>::to_vec));
        match (both, mode) {
            ([Some(from), to], RenameMode::NoReplace | RenameMode::Replace) => {
                // A directory with everything below it.
                if self.inode(moved).is_dir() {
                    let mut files = Vec::new();
                    self.files_below(moved, &mut from.clone(), &mut files);
                    let now = self.now_ns();
                    let mut oracle = lock(&self.shared.oracle);
                    for (path, content) in files {
                        oracle.displaced(now, self.index, &path, &content);
                        oracle.removed_by_daemon(now, self.index, &path);
                    }
                } else {
                    self.judge_removal_of(moved, &from);
                }
                if let (Some(target), Some(to)) = (target, to) {
                    self.tell_displaced(target, &to);
                }
            }
            ([from, to], _) => {
                if let Some(from) = from {
                    self.tell_displaced(moved, &from);
                }
                if let (Some(target), Some(to)) = (target, to) {
                    self.tell_displaced(target, &to);
                }
            }
        }
    }

    /// Directories of the share, its root and the daemon's own among them.
    pub(crate) fn share_dirs(&self) -> usize {
        let Ok(root) = self.resolve(&self.share_root) else { return 0 };
        let (mut todo, mut count) = (vec![root], 0);
        while let Some(slot) = todo.pop() {
            if let Ok(dir) = self.dir(slot) {
                count += 1;
                todo.extend(dir.names.values());
            }
        }
        count
    }

    fn judge_removal_of(&mut self, slot: Slot, relative: &[u8]) {
        self.tell_displaced(slot, relative);
        let now = self.now_ns();
        lock(&self.shared.oracle).removed_by_daemon(now, self.index, relative);
    }

    fn tell_displaced(&mut self, slot: Slot, relative: &[u8]) {
        if !matches!(self.inode(slot).body, Body::File(_)) {
            return;
        }
        let (now, content) = (self.now_ns(), self.content(slot));
        lock(&self.shared.oracle).displaced(now, self.index, relative, &content);
    }
}
