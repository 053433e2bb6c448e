//! The archive: contents that lost a conflict. Under the state directory, never under a web root,
//! each named by its hash; which path and version it was is in the index.

use std::io;

use bytes::Bytes;
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::{ContentHash, ContentHasher};
use chainsync_env::{RenameMode, Vfs};

use crate::disk::{OWN_FILE_MODE, is_absent, read_all};

/// Read and written at a time.
const COPY_BYTES: usize = 256 << 10;

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
        self.put_from(hash, |file| self.vfs.write_at(file, content, 0))
    }

    /// Keeps the content of a file that may change meanwhile; says whether it has the hash. Durable
    /// when this returns.
    pub fn put_file(&self, hash: &ContentHash, from: &V, file: &V::File) -> io::Result<bool> {
        let mut hasher = ContentHasher::default();
        let mut buffer = vec![0; COPY_BYTES];
        let copied = self.put_from(hash, |copy| {
            let mut offset = 0;
            loop {
                match from.read_at(file, &mut buffer, offset)? {
                    0 => break,
                    read => {
                        hasher.update(&buffer[..read]);
                        self.vfs.write_at(copy, &buffer[..read], offset)?;
                        offset += read as u64;
                    }
                }
            }
            if hasher.finish() == *hash { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        });
        match copied {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put_from(
        &self,
        hash: &ContentHash,
        fill: impl FnOnce(&V::File) -> io::Result<()>,
    ) -> io::Result<()> {
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
        let file = self.vfs.create_file(&dir, incoming.as_bytes(), OWN_FILE_MODE)?;
        fill(&file)?;
        self.vfs.sync_data(&file)?;
        let replace = RenameMode::Replace;
        self.vfs.rename(&dir, incoming.as_bytes(), &dir, name.as_bytes(), replace)?;
        self.vfs.sync_dir(&dir)
    }

    /// What is kept, and since when (milliseconds since 1970).
    pub fn list(&self) -> io::Result<Vec<(ContentHash, u64)>> {
        let dir = self.vfs.open_dir(None)?;
        let mut listed = Vec::new();
        for entry in self.vfs.list(&dir)? {
            let Some(hash) = std::str::from_utf8(&entry.name).ok().and_then(ContentHash::from_hex)
            else {
                continue;
            };
            match self.vfs.stat(&dir, &entry.name) {
                Ok(stat) => {
                    let put_ms = u64::try_from(stat.mtime_ns / 1_000_000).unwrap_or(0);
                    listed.push((hash, put_ms));
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    pub fn remove(&self, hash: &ContentHash) -> io::Result<()> {
        let dir = self.vfs.open_dir(None)?;
        match self.vfs.unlink(&dir, hash.to_string().as_bytes()) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
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

    /// A content and its size, not held against its hash.
    pub fn open(&self, hash: &ContentHash) -> io::Result<Option<(V::File, u64)>> {
        let dir = self.vfs.open_dir(None)?;
        match self.vfs.open_file(&dir, hash.to_string().as_bytes()) {
            Ok(file) => {
                let size = self.vfs.stat_file(&file)?.size;
                Ok(Some((file, size)))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A small content; nothing if it is large or damaged.
    pub fn get(&self, hash: &ContentHash) -> io::Result<Option<Bytes>> {
        let Some((file, size)) = self.open(hash)? else { return Ok(None) };
        if size > INLINE_BYTES_MAX {
            return Ok(None);
        }
        let content = read_all(&self.vfs, &file, size)?;
        Ok((ContentHash::of(&content) == *hash).then(|| content.into()))
    }
}
