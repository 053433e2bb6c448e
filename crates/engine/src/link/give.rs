//! The upstream's side of a pull: says what a content is made of and sends ranges of it, beside the
//! batches and never before them.
//!
//! Nothing is verified here that the other side verifies anyway: a file that changes while it is
//! read gives chunks with other hashes, and is asked for again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chainsync_core::recipe::{ChunkSizes, RECIPE_PART_CHUNKS_MAX, Recipe, RecipeChunk};
use chainsync_core::wire::{CHUNK_BYTES_MAX, Chunk, Frame, RecipePart, Want, WantRecipe};
use chainsync_core::{ContentHash, Record, RelPath};
use chainsync_env::{Env, Vfs};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::LinkError;
use super::connection::{Encoded, encode};
use crate::disk::Dirs;
use crate::index::Rows;
use crate::large::chunks::Cutting;
use crate::share::{Share, ShareError};

/// Requests of one connection that wait: more than a receiver has under way.
pub const ASKED_MAX: usize = 256;
/// Encoded chunks between the disk and the connection: what a small batch may have to wait for.
pub const BULK_FRAMES_MAX: usize = 2;

/// How long a file is kept open for the next request.
const SOURCE_KEPT: Duration = Duration::from_secs(1);

pub enum Asked {
    Recipe(WantRecipe),
    Range(Want),
}

/// Where a content is.
enum Source<V: Vfs> {
    Memory(Bytes),
    File { file: Arc<V::File>, size: u64 },
}

impl<V: Vfs> Clone for Source<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Memory(content) => Self::Memory(content.clone()),
            Self::File { file, size } => Self::File { file: file.clone(), size: *size },
        }
    }
}

/// Answers requests until the connection ends.
pub async fn give<E: Env>(
    share: Arc<Share<E>>,
    mut asked: mpsc::Receiver<Asked>,
    bulk: mpsc::Sender<Encoded>,
) -> Result<(), LinkError> {
    // Usually the same content again and again.
    let mut open: Option<(ContentHash, Source<E::Vfs>)> = None;
    loop {
        let request = tokio::select! {
            biased;
            request = asked.recv() => request,
            // A file that was deleted takes room for as long as it is open.
            () = sleep(SOURCE_KEPT), if open.is_some() => {
                open = None;
                continue;
            }
        };
        let Some(request) = request else { return Ok(()) };
        let (hash, path) = match &request {
            Asked::Recipe(want) => (want.hash, want.path.clone()),
            Asked::Range(want) => (want.hash, want.path.clone()),
        };
        // A recipe is asked for once, and then the content may be somewhere else by now.
        let again = matches!(request, Asked::Range(_));
        let source = match &open {
            Some((held, source)) if *held == hash && again => Some(source.clone()),
            _ => share.find_source(path, hash).await?,
        };
        let given = match (&request, &source) {
            (_, None) => false,
            (Asked::Recipe(_), Some(source)) => match share.recipe(hash, source).await? {
                Some(recipe) => {
                    send_recipe(&bulk, hash, &recipe).await?;
                    true
                }
                None => false,
            },
            (Asked::Range(want), Some(source)) => send_range(&share, &bulk, want, source).await?,
        };
        open = source.map(|source| (hash, source));
        if !given {
            send(&bulk, &Frame::Unavailable(hash)).await?;
        }
    }
}

async fn send(bulk: &mpsc::Sender<Encoded>, frame: &Frame) -> Result<(), LinkError> {
    bulk.send(encode(frame)).await.map_err(|_| LinkError::Closed)
}

async fn send_recipe(
    bulk: &mpsc::Sender<Encoded>,
    hash: ContentHash,
    recipe: &Recipe,
) -> Result<(), LinkError> {
    let parts = recipe.chunks().chunks(RECIPE_PART_CHUNKS_MAX);
    let count = parts.len();
    for (number, part) in parts.enumerate() {
        let ends = number + 1 == count;
        send(bulk, &Frame::Recipe(RecipePart { hash, chunks: part.to_vec(), ends })).await?;
    }
    Ok(())
}

/// Says whether all of it was there.
async fn send_range<E: Env>(
    share: &Arc<Share<E>>,
    bulk: &mpsc::Sender<Encoded>,
    want: &Want,
    source: &Source<E::Vfs>,
) -> Result<bool, LinkError> {
    let Some(end) = want.offset.checked_add(want.length) else { return Ok(false) };
    let mut offset = want.offset;
    while offset < end {
        let bytes = (end - offset).min(CHUNK_BYTES_MAX as u64) as usize;
        let (vfs, source) = (share.vfs.clone(), source.clone());
        let data = share.env.blocking(move || read(&vfs, &source, offset, bytes)).await;
        let data = data.map_err(ShareError::disk("reading a content"))?;
        if data.len() != bytes {
            return Ok(false);
        }
        send(bulk, &Frame::Chunk(Chunk { hash: want.hash, offset, data })).await?;
        offset += bytes as u64;
    }
    Ok(true)
}

fn read<V: Vfs>(vfs: &V, source: &Source<V>, offset: u64, bytes: usize) -> io::Result<Bytes> {
    match source {
        Source::Memory(content) => {
            let from = usize::try_from(offset).map_or(content.len(), |at| at.min(content.len()));
            Ok(content.slice(from..content.len().min(from + bytes)))
        }
        Source::File { file, .. } => {
            let mut buffer = vec![0; bytes];
            let mut length = 0;
            while length < bytes {
                match vfs.read_at(file, &mut buffer[length..], offset + length as u64)? {
                    0 => break,
                    read => length += read,
                }
            }
            buffer.truncate(length);
            Ok(buffer.into())
        }
    }
}

impl<E: Env> Share<E> {
    /// A content from wherever it is on this node.
    async fn find_source(
        self: &Arc<Self>,
        path: RelPath,
        hash: ContentHash,
    ) -> Result<Option<Source<E::Vfs>>, ShareError> {
        let worker = self.clone();
        let job = self.env.blocking(move || -> Result<_, ShareError> {
            if let Some(content) = worker.content(&hash) {
                return Ok(Some(Source::Memory(content)));
            }
            let reader = worker.index.read()?;
            let mut dirs = Dirs::new(&worker.vfs);
            let published = reader.record(&path)?.as_ref().and_then(Record::published);
            let shown = published.and_then(|published| published.kind.content());
            let mut opened = None;
            if shown.is_some_and(|(shown, _)| shown == hash) {
                opened = dirs
                    .parent(&path)
                    .and_then(|parent| worker.vfs.open_file(&parent, path.name()))
                    .ok();
            }
            if opened.is_none()
                && let Some(intent) = reader.intent(&path)?
                && intent.kind.content().is_some_and(|(wanted, _)| wanted == hash)
                && let Some(name) = intent.staged
            {
                opened = dirs
                    .staging()
                    .and_then(|staging| worker.vfs.open_file(&staging, name.as_bytes()))
                    .ok();
            }
            if let Some(file) = opened {
                let size = worker.vfs.stat_file(&file);
                let size = size.map_err(ShareError::disk("looking at a content"))?.size;
                return Ok(Some(Source::File { file: Arc::new(file), size }));
            }
            let kept = worker.archive.open(&hash);
            let kept = kept.map_err(ShareError::disk("reading from the archive"))?;
            Ok(kept.map(|(file, size)| Source::File { file: Arc::new(file), size }))
        });
        job.await
    }

    /// What a content is made of; nothing if the source turns out to be another content.
    async fn recipe(
        &self,
        hash: ContentHash,
        source: &Source<E::Vfs>,
    ) -> Result<Option<Arc<Recipe>>, ShareError> {
        if let Some(recipe) = self.recipes.get(&hash) {
            return Ok(Some(recipe));
        }
        let (found, recipe) = match source {
            Source::Memory(content) => (ContentHash::of(content), recipe_of(content)),
            Source::File { file, size } => {
                let sizes = ChunkSizes::of(*size);
                let cutting = Cutting::new(self.vfs.clone(), file.clone(), sizes);
                let cut = cutting.finish(&self.env).await;
                cut.map_err(ShareError::disk("reading a content"))?
            }
        };
        if found != hash {
            return Ok(None);
        }
        let recipe = Arc::new(recipe);
        self.recipes.insert(hash, recipe.clone());
        Ok(Some(recipe))
    }
}

/// A small content is cut anywhere: nobody has a part of it.
fn recipe_of(content: &[u8]) -> Recipe {
    let mut recipe = Recipe::default();
    let largest = ChunkSizes::of(content.len() as u64).max as usize;
    for piece in content.chunks(largest) {
        recipe.push(RecipeChunk { bytes: piece.len() as u32, hash: ContentHash::of(piece) });
    }
    recipe
}
