//! A content being put together in staging.
//!
//! The file is named after the hash of the whole, so that the next try finds it, after a restart too.
//! What it holds is never believed: a chunk is in place once its bytes have been hashed here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use chainsync_core::recipe::Recipe;
use chainsync_core::{ContentHash, ContentHasher};
use chainsync_env::{Env, Vfs};

use super::{READ_BYTES, SLICE_BYTES};
use crate::disk::{OWN_FILE_MODE, STAGING, is_absent, own_path};

/// Written between two calls of fdatasync: small files that become durable meanwhile wait for this much,
/// or twice this, where one slice is copied while the one before is synced.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;
/// Runs of zeros of this size, aligned, become holes.
const HOLE_BYTES: usize = 4 << 10;

pub const PREFIX: &str = "pull-";

/// The name in staging of a content under way.
pub fn partial_name(hash: &ContentHash) -> String {
    format!("{PREFIX}{hash}")
}

/// A file that may hold some of the chunks: an older version of the content, say.
pub struct Source<V: Vfs> {
    pub file: Arc<V::File>,
    pub recipe: Arc<Recipe>,
}

pub struct Partial<V: Vfs> {
    vfs: V,
    file: Arc<V::File>,
    recipe: Arc<Recipe>,
    /// Whether the file was empty: then what is not written are holes.
    fresh: bool,
    durable: bool,
    in_place: Vec<bool>,
    unsynced: u64,
}

impl<V: Vfs> Partial<V> {
    /// Opens or begins the file. Runs on a thread for blocking work, like all that is not async here.
    pub fn open(
        vfs: V,
        hash: &ContentHash,
        recipe: Arc<Recipe>,
        durable: bool,
    ) -> io::Result<Self> {
        let staging = vfs.open_dir(Some(&own_path(STAGING)))?;
        let name = partial_name(hash);
        let (file, fresh) = match vfs.open_own_file(&staging, name.as_bytes()) {
            Ok(file) => (file, false),
            Err(error) if is_absent(&error) => {
                (vfs.create_file(&staging, name.as_bytes(), OWN_FILE_MODE)?, true)
            }
            Err(error) => return Err(error),
        };
        let in_place = vec![false; recipe.chunks().len()];
        Ok(Self { vfs, file: Arc::new(file), recipe, fresh, durable, in_place, unsynced: 0 })
    }

    /// Finds the chunks that are in place from an earlier try.
    pub async fn resume<E: Env<Vfs = V>>(mut self, env: &E) -> io::Result<Self> {
        let mut place = Place::default();
        while !self.fresh && place.index < self.in_place.len() {
            let job = env.blocking(move || {
                let result = self.resume_slice(&mut place);
                (self, place, result)
            });
            let (partial, now, result) = job.await;
            result?;
            (self, place) = (partial, now);
        }
        Ok(self)
    }

    fn resume_slice(&mut self, place: &mut Place) -> io::Result<()> {
        let until = place.offset + SLICE_BYTES;
        let mut buffer = Vec::new();
        while place.index < self.in_place.len() && place.offset < until {
            let chunk = self.recipe.chunks()[place.index];
            read_exactly(&self.vfs, &self.file, place.offset, chunk.bytes, &mut buffer)?;
            self.in_place[place.index] = ContentHash::of(&buffer) == chunk.hash;
            place.offset += u64::from(chunk.bytes);
            place.index += 1;
        }
        Ok(())
    }

    /// Copies what a source holds.
    pub async fn copy_from<E: Env<Vfs = V>>(self, env: &E, source: Source<V>) -> io::Result<Self> {
        let known = places(&source.recipe, |_| true);
        self.copy(env, source.file, known).await
    }

    /// Copies chunks that occur more than once from where they are in place.
    pub async fn repeat<E: Env<Vfs = V>>(self, env: &E) -> io::Result<Self> {
        let known = places(&self.recipe, |index| self.in_place[index]);
        let file = self.file.clone();
        self.copy(env, file, known).await
    }

    /// Copies a slice while the one before it becomes durable.
    async fn copy<E: Env<Vfs = V>>(
        mut self,
        env: &E,
        source: Arc<V::File>,
        known: BTreeMap<ContentHash, u64>,
    ) -> io::Result<Self> {
        let known = Arc::new(known);
        let mut place = Place::default();
        while place.index < self.in_place.len() {
            let (vfs, file, due) = (self.vfs.clone(), self.file.clone(), self.is_sync_due());
            let sync = async {
                match due {
                    true => env.blocking(move || vfs.sync_data(&file)).await,
                    false => Ok(()),
                }
            };
            let (source, known) = (source.clone(), known.clone());
            let job = env.blocking(move || {
                let result = self.copy_slice(&mut place, &source, &known);
                (self, place, result)
            });
            let ((partial, now, result), synced) = tokio::join!(job, sync);
            result.and(synced)?;
            (self, place) = (partial, now);
        }
        Ok(self)
    }

    fn copy_slice(
        &mut self,
        place: &mut Place,
        source: &V::File,
        known: &BTreeMap<ContentHash, u64>,
    ) -> io::Result<()> {
        let until = place.offset + UNSYNCED_BYTES_MAX;
        let mut buffer = Vec::new();
        while place.index < self.in_place.len() && place.offset < until {
            let chunk = self.recipe.chunks()[place.index];
            if !self.in_place[place.index]
                && let Some(from) = known.get(&chunk.hash)
            {
                read_exactly(&self.vfs, source, *from, chunk.bytes, &mut buffer)?;
                if ContentHash::of(&buffer) == chunk.hash {
                    self.write(place.index, place.offset, &buffer)?;
                }
            }
            place.offset += u64::from(chunk.bytes);
            place.index += 1;
        }
        Ok(())
    }

    /// What is still to be fetched: index and offset of each chunk, each content once.
    pub fn missing(&self) -> Vec<(usize, u64)> {
        let mut asked = places(&self.recipe, |index| self.in_place[index]);
        let mut offset = 0;
        let mut missing = Vec::new();
        for (index, chunk) in self.recipe.chunks().iter().enumerate() {
            if !self.in_place[index] && asked.insert(chunk.hash, offset).is_none() {
                missing.push((index, offset));
            }
            offset += u64::from(chunk.bytes);
        }
        missing
    }

    /// Takes in a chunk that arrived; says whether it is what the recipe says.
    pub fn take(&mut self, index: usize, offset: u64, data: &[u8]) -> io::Result<bool> {
        let good = ContentHash::of(data) == self.recipe.chunks()[index].hash;
        if good {
            self.write(index, offset, data)?;
            if self.is_sync_due() {
                self.vfs.sync_data(&self.file)?;
            }
        }
        Ok(good)
    }

    fn write(&mut self, index: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.fresh {
            write_around_holes(&self.vfs, &self.file, data, offset)?;
        } else {
            self.vfs.write_at(&self.file, data, offset)?;
        }
        self.in_place[index] = true;
        self.unsynced += data.len() as u64;
        Ok(())
    }

    /// Whether the caller has to sync what was written.
    fn is_sync_due(&mut self) -> bool {
        let due = self.durable && self.unsynced >= UNSYNCED_BYTES_MAX;
        if due {
            self.unsynced = 0;
        }
        due
    }

    /// Hashes the whole, as it is on disk. The caller compares.
    pub async fn finish<E: Env<Vfs = V>>(mut self, env: &E) -> io::Result<ContentHash> {
        let size = self.recipe.bytes();
        let mut hasher = ContentHasher::default();
        let mut offset = 0;
        let job = env.blocking(move || {
            let result = self.set_length(size);
            (self, result)
        });
        let (mut partial, result) = job.await;
        result?;
        while offset < size {
            let job = env.blocking(move || {
                let end = size.min(offset + SLICE_BYTES);
                let result = hash_range(&partial.vfs, &partial.file, &mut hasher, offset, end);
                (partial, hasher, result)
            });
            let result;
            (partial, hasher, result) = job.await;
            result?;
            offset = size.min(offset + SLICE_BYTES);
        }
        let job = env.blocking(move || match partial.durable {
            true => partial.vfs.sync_data(&partial.file),
            false => Ok(()),
        });
        job.await?;
        Ok(hasher.finish())
    }

    /// A hole at the end is no end yet.
    fn set_length(&mut self, size: u64) -> io::Result<()> {
        if self.vfs.stat_file(&self.file)?.size < size {
            self.vfs.write_at(&self.file, &[0], size - 1)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    index: usize,
    offset: u64,
}

/// Where in a content its chunks are.
fn places(recipe: &Recipe, held: impl Fn(usize) -> bool) -> BTreeMap<ContentHash, u64> {
    let mut offset = 0;
    let mut places = BTreeMap::new();
    for (index, chunk) in recipe.chunks().iter().enumerate() {
        if held(index) {
            places.insert(chunk.hash, offset);
        }
        offset += u64::from(chunk.bytes);
    }
    places
}

/// Reads so many bytes, fewer at the end of the file.
fn read_exactly<V: Vfs>(
    vfs: &V,
    file: &V::File,
    offset: u64,
    bytes: u32,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    buffer.clear();
    buffer.resize(bytes as usize, 0);
    let mut length = 0;
    while length < buffer.len() {
        match vfs.read_at(file, &mut buffer[length..], offset + length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    buffer.truncate(length);
    Ok(())
}

fn write_around_holes<V: Vfs>(vfs: &V, file: &V::File, data: &[u8], offset: u64) -> io::Result<()> {
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    // Blocks of the file, not of the chunk.
    let first = HOLE_BYTES - (offset % HOLE_BYTES as u64) as usize;
    let (head, rest) = data.split_at(first.min(data.len()));
    let mut begin = 0;
    let mut end = 0;
    for block in std::iter::once(head).chain(rest.chunks(HOLE_BYTES)) {
        let next = end + block.len();
        if is_zero(block) {
            if begin < end {
                vfs.write_at(file, &data[begin..end], offset + begin as u64)?;
            }
            begin = next;
        }
        end = next;
    }
    if begin < end {
        vfs.write_at(file, &data[begin..end], offset + begin as u64)?;
    }
    Ok(())
}

/// Hashes some of a file; less if it ends before.
pub fn hash_range<V: Vfs>(
    vfs: &V,
    file: &V::File,
    hasher: &mut ContentHasher,
    mut offset: u64,
    end: u64,
) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    while offset < end {
        let want = usize::try_from(end - offset).map_or(READ_BYTES, |rest| rest.min(READ_BYTES));
        match vfs.read_at(file, &mut buffer[..want], offset)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                offset += read as u64;
            }
        }
    }
    Ok(offset)
}
