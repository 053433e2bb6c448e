//! Several file systems on one machine. A mount point is a directory over which the root of another
//! file system lies: whoever comes by path gets there, whoever has a directory open stays where it
//! is. So after a lazy unmount (`umount -l`; a plain one is refused while a daemon has the root open)
//! the daemon goes on seeing the tree that is gone for everybody else, and no event tells it:
//! `IN_UNMOUNT` comes when the last handle is closed.

use std::io;

use super::disk::{DEVICE, Disk};
use super::errno::{EBUSY, ENOENT, EXDEV, fail};
use super::inode::{Body, Dir, Meta, Slot};
use crate::failure::Failure;
use crate::shared::{EPOCH_NS, lock};

/// The file systems of a machine.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// The roots of those beside the first, by the directory over which they lie.
    over: std::collections::BTreeMap<Slot, Slot>,
    /// Every root but the first, mounted or not.
    pub roots: Vec<Slot>,
    /// The share's: its mount point and its root, while it is not mounted.
    away: Option<(Slot, Slot)>,
    /// Since when.
    away_since_ns: u64,
}

/// The engine looks at the root's path every 5 s, and finishes the batch at hand.
const NOTICED_WITHIN_NS: u64 = 7_000_000_000;

impl Disk {
    /// Mounts a new, empty file system over a directory.
    pub fn install_mount(&mut self, path: &[u8]) -> io::Result<()> {
        let point = self.resolve(path)?;
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime_ns: EPOCH_NS, ctime_ns: EPOCH_NS };
        let root = self.allocate(Body::Dir(Dir::default()), meta);
        let device = DEVICE + 1 + self.mounts.roots.len() as u64;
        // By this name it is found, for the trace and for whoever judges what is published.
        let home = self.inode(point).home.clone();
        let inode = self.inode_mut(root);
        (inode.links, inode.device, inode.home) = (1, device, home);
        self.mounts.over.insert(point, root);
        self.mounts.roots.push(root);
        Ok(())
    }

    /// Takes the share's file system away. Nothing happens if it is away, or none of its own.
    pub fn unmount_share(&mut self) {
        let path = self.share_root.clone();
        let Ok(root) = self.resolve(&path) else { return };
        let point = self.mounts.over.iter().find(|(_, over)| **over == root);
        if let Some(point) = point.map(|(point, _)| *point) {
            self.mounts.over.remove(&point);
            self.mounts.away = Some((point, root));
            self.mounts.away_since_ns = self.now_ns();
        }
    }

    /// Puts it back. Whatever the daemon wrote into the empty mount point was written to nowhere.
    pub fn mount_share(&mut self) {
        let Some((point, root)) = self.mounts.away.take() else { return };
        self.mounts.over.insert(point, root);
        if let Ok(dir) = self.dir(point)
            && let Some(name) = dir.names.keys().next().cloned()
        {
            let now_ns = self.now_ns();
            let sentence = "the daemon wrote into the empty mount point of a root that was away";
            let failure = Failure::new(crate::check::Invariant::S7, now_ns, sentence)
                .on(&self.node)
                .at_path(&name);
            lock(&self.shared.oracle).fail(failure);
        }
    }

    /// The daemon has changed the share's tree. One that does so for long while the tree is away
    /// writes to where nobody reads.
    pub(crate) fn tree_changed(&mut self) {
        self.tree_changes += 1;
        let now_ns = self.now_ns();
        if self.is_share_away() && now_ns > self.mounts.away_since_ns + NOTICED_WITHIN_NS {
            let sentence = "the root is away, and the daemon goes on writing to where nobody reads";
            let failure =
                Failure::new(crate::check::Invariant::S7, now_ns, sentence).on(&self.node);
            lock(&self.shared.oracle).fail(failure);
        }
    }

    pub fn is_share_away(&self) -> bool {
        self.mounts.away.is_some()
    }

    /// The root of the share's own tree, wherever it is.
    pub(crate) fn share_slot(&self) -> io::Result<Slot> {
        match self.mounts.away {
            Some((_, root)) => Ok(root),
            None => self.resolve(&self.share_root),
        }
    }

    /// What lies over a directory, or itself.
    pub(crate) fn across(&self, slot: Slot) -> Slot {
        self.mounts.over.get(&slot).copied().unwrap_or(slot)
    }

    pub(crate) fn is_mount_point(&self, slot: Slot) -> bool {
        self.mounts.over.contains_key(&slot)
    }

    /// `RESOLVE_NO_XDEV`.
    pub(crate) fn stay_within(&self, slot: Slot) -> io::Result<()> {
        if self.is_mount_point(slot) { fail(EXDEV) } else { Ok(()) }
    }

    /// rename(2) and link(2) move nothing to another file system.
    pub(crate) fn check_devices(&self, from: Slot, to: Slot) -> io::Result<()> {
        if self.inode(from).device == self.inode(to).device { Ok(()) } else { fail(EXDEV) }
    }

    /// A mount point can be neither removed nor renamed.
    pub(crate) fn check_busy(&self, slot: Slot) -> io::Result<()> {
        if self.is_mount_point(slot) { fail(EBUSY) } else { Ok(()) }
    }

    /// Where the web application stores things: while the share is away it fails, as an application
    /// does that does not find its directories.
    pub(crate) fn writers_root(&self) -> io::Result<Slot> {
        if self.is_share_away() { fail(ENOENT) } else { self.resolve(&self.share_root) }
    }
}
