//! The archive: contents that lost a conflict. Under the state directory, never under a web root,
//! each named by its hash; which path and version it was is in the index.

use std::io;

use bytes::Bytes;
use chainsync_core::ContentHash;
use chainsync_env::{RenameMode, Vfs};

use crate::disk::{is_absent, read_all};

/// The contents that lost, by hash.
#[derive(Clone)]
pub struct Archive<V: Vfs> {
    vfs: V,
}

impl<V: Vfs> Archive<V> {
    pub fn new(vfs: V) -> Self {
        Self { vfs }
    }

    /// Keeps a content. Durable when this returns.
    pub fn put(&self, hash: &ContentHash, content: &[u8]) -> io::Result<()> {
        let dir = self.vfs.open_dir(None)?;
        let name = hash.to_string();
        match self.vfs.stat(&dir, name.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        let incoming = format!("{name}.new");
        // Left by a crash; one content has one writer at a time.
        match self.vfs.unlink(&dir, incoming.as_bytes()) {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
        let file = self.vfs.create_file(&dir, incoming.as_bytes())?;
        self.vfs.write_at(&file, content, 0)?;
        self.vfs.sync_data(&file)?;
        let replace = RenameMode::Replace;
        self.vfs.rename(&dir, incoming.as_bytes(), &dir, name.as_bytes(), replace)?;
        self.vfs.sync_dir(&dir)
    }

    /// Whether a content of this name is there.
    pub fn has(&self, hash: &ContentHash) -> io::Result<bool> {
        let dir = self.vfs.open_dir(None)?;
        match self.vfs.stat(&dir, hash.to_string().as_bytes()) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn get(&self, hash: &ContentHash) -> io::Result<Option<Bytes>> {
        let dir = self.vfs.open_dir(None)?;
        let file = match self.vfs.open_file(&dir, hash.to_string().as_bytes()) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = self.vfs.stat_file(&file)?.size;
        let content = read_all(&self.vfs, &file, size)?;
        Ok((ContentHash::of(&content) == *hash).then(|| content.into()))
    }
}
