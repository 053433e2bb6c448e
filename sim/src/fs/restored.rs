//! A share's files as a backup brings them back.

use std::io;

use super::disk::{Actor, Disk};
use super::errno::{ENOENT, errno};
use super::writer::{Leaf, Tree};
use crate::ledger::{Fact, What};
use crate::shared::lock;
use chainsync_core::ContentHash;

impl Disk {
    /// Makes the share what `tree` is, durable. Nobody's daemon runs meanwhile. Inodes are other ones,
    /// and their ctimes are now; mtimes are those of the backup.
    pub fn restore_tree(&mut self, tree: &Tree) -> io::Result<()> {
        let share = self.share_root.clone();
        // What is in a directory comes behind it in the order of paths.
        for (path, leaf) in self.tree(&share)?.iter().rev() {
            let (dir, name) = self.place(path)?;
            match leaf {
                Leaf::Dir { .. } => self.remove_dir(Actor::Writer, dir, &name)?,
                _ => self.unlink(Actor::Writer, dir, &name)?,
            }
        }
        for (path, leaf) in tree {
            let (dir, name) = self.place(path)?;
            match leaf {
                Leaf::Dir { mode } => drop(self.make_dir(Actor::Writer, dir, &name, *mode)?),
                Leaf::Symlink { target } => self.make_symlink(Actor::Writer, dir, &name, target)?,
                Leaf::File { content, mode, mtime_ns } => {
                    let slot = self.create(Actor::Writer, dir, &name, *mode)?;
                    self.write(Actor::Writer, slot, content, 0)?;
                    self.inode_mut(slot).meta.mtime_ns = *mtime_ns;
                    let (at_ns, node) = (self.now_ns(), self.index);
                    let fact = Fact { at_ns, node, what: What::Survived };
                    let hash = ContentHash::of(content);
                    let mut oracle = lock(&self.shared.oracle);
                    oracle.ledger.note(path, hash, fact);
                    // A copy may hold what was half written when it was made.
                    oracle.left_behind(path, content);
                }
            }
        }
        self.store_everything();
        Ok(())
    }

    /// The directory and the name of a path of the share.
    fn place(&self, path: &[u8]) -> io::Result<(super::inode::Slot, Vec<u8>)> {
        let root = self.writers_root()?;
        let mut components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let name = components.pop().ok_or_else(|| errno(ENOENT))?.to_vec();
        Ok((self.walk(root, components.into_iter())?, name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::DiskOptions;
    use crate::fs::inode::Content;
    use crate::shared::Shared;
    use crate::trace::Trace;

    #[test]
    fn a_backup_brings_back_what_was_and_nothing_else() {
        let shared = Shared::new(1, Trace::new(None));
        let mut disk = Disk::new(Arc::clone(&shared), "apollo", 0, DiskOptions::default());
        disk.install_share(b"/srv/files").unwrap();
        let file = |content: &[u8]| Leaf::File {
            content: Content::new(content.to_vec()),
            mode: 0o640,
            mtime_ns: 7,
        };
        let tree: Tree = [
            (b"d".to_vec(), Leaf::Dir { mode: 0o755 }),
            (b"d/a".to_vec(), file(b"old")),
            (b"l".to_vec(), Leaf::Symlink { target: b"d".to_vec() }),
        ]
        .into();
        disk.restore_tree(&tree).unwrap();
        assert_eq!(disk.tree(b"/srv/files").unwrap(), tree);
        let other: Tree =
            [(b"d".to_vec(), file(b"")), (b"e".to_vec(), Leaf::Dir { mode: 0o700 })].into();
        disk.restore_tree(&other).unwrap();
        assert_eq!(disk.tree(b"/srv/files").unwrap(), other);
    }
}
