//! The disk as its machine's owner sees it: directories that are there from the start, the way to a
//! path for the web application, and a snapshot of a tree for the checkers.

use std::collections::BTreeMap;
use std::io;

use chainsync_core::RelPath;

use super::disk::{Actor, Disk, OWN_DIR, ROOT};
use super::errno::{EEXIST, ELOOP, ENOTDIR, fail};
use super::inode::{Body, Content, Meta, Slot};

/// A tree, `.chainsync` left out, by path below its root.
pub type Tree = BTreeMap<Vec<u8>, Leaf>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    File { content: Content, mode: u32, mtime_ns: i128 },
    Dir { mode: u32 },
    Symlink { target: Vec<u8> },
}

impl Disk {
    /// Makes a directory and its ancestors, durable: part of the installation.
    pub fn install_dir(&mut self, path: &[u8], mode: u32) -> io::Result<()> {
        self.make_dirs(Actor::Writer, ROOT, path.split(|byte| *byte == b'/'), mode)?;
        self.store_everything();
        Ok(())
    }

    /// Which tree is the share. Installs its root.
    pub fn install_share(&mut self, path: &[u8]) -> io::Result<()> {
        self.install_dir(path, 0o755)?;
        self.share_root = path.to_vec();
        Ok(())
    }

    /// `Env::create_state_dir`: each new name is made durable.
    pub(crate) fn create_state_dir(&mut self, path: &[u8]) -> io::Result<()> {
        let mut slot = ROOT;
        let components = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        for component in components {
            match self.make_dir(Actor::Daemon, slot, component, 0o700) {
                Ok(_) => self.sync_dir(slot)?,
                Err(error) if error.raw_os_error() == Some(EEXIST) => {}
                Err(error) => return Err(error),
            }
            slot = self.walk(slot, std::iter::once(component))?;
        }
        Ok(())
    }

    /// The directory that holds a path of the share, made if it is missing, as an application does
    /// before it stores an upload.
    pub(crate) fn upload_dir(&mut self, path: &RelPath) -> io::Result<Slot> {
        let root = self.writers_root()?;
        let parent = path.parent();
        let components = parent.iter().flat_map(RelPath::components);
        self.make_dirs(Actor::Writer, root, components, 0o755)
    }

    fn make_dirs<'a>(
        &mut self,
        actor: Actor,
        from: Slot,
        components: impl Iterator<Item = &'a [u8]>,
        mode: u32,
    ) -> io::Result<Slot> {
        let mut slot = from;
        for component in components.filter(|component| !component.is_empty()) {
            slot = match self.dir(slot)?.names.get(component).copied() {
                None => {
                    self.jobs.calls += u64::from(actor == Actor::Writer);
                    self.make_dir(actor, slot, component, mode)?
                }
                Some(below) => match self.inode(below).body {
                    Body::Dir(_) => below,
                    Body::Symlink(_) => return fail(ELOOP),
                    Body::File(_) => return fail(ENOTDIR),
                },
            };
        }
        Ok(slot)
    }

    /// Changes a byte of the first file below an absolute path: no time moves, nobody is told.
    pub(crate) fn rot(&mut self, path: &[u8]) {
        let Ok(root) = self.resolve(path) else { return };
        let mut todo = vec![(root, true)];
        while let Some((slot, is_root)) = todo.pop() {
            match &mut self.inode_mut(slot).body {
                Body::Dir(dir) => {
                    let names = dir.names.iter().rev();
                    let names = names.filter(|(name, _)| !is_root || ***name != *OWN_DIR);
                    todo.extend(names.map(|(_, below)| (*below, false)));
                }
                Body::File(content) if !content.is_empty() => {
                    std::sync::Arc::make_mut(content)[0] ^= 1;
                    return;
                }
                _ => {}
            }
        }
    }

    /// What is below an absolute path, on the disk itself.
    pub fn tree(&self, path: &[u8]) -> io::Result<Tree> {
        let mut tree = Tree::new();
        let root = self.resolve(path)?;
        let mut todo = vec![(root, Vec::new())];
        while let Some((slot, prefix)) = todo.pop() {
            for (name, below) in &self.dir(slot)?.names {
                if prefix.is_empty() && **name == *OWN_DIR {
                    continue;
                }
                let mut path = prefix.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                let inode = self.inode(*below);
                let Meta { mode, mtime_ns, .. } = inode.meta;
                let leaf = match &inode.body {
                    Body::File(content) => {
                        Leaf::File { content: Content::clone(content), mode, mtime_ns }
                    }
                    Body::Dir(_) => {
                        todo.push((*below, path.clone()));
                        Leaf::Dir { mode }
                    }
                    Body::Symlink(target) => Leaf::Symlink { target: target.clone() },
                };
                tree.insert(path, leaf);
            }
        }
        Ok(tree)
    }
}
