//! Fetching a content that an entry announced and this node does not have.
//!
//! ```text
//! downstream                              upstream
//!     WantRecipe ─────────────────────────────▶
//!     ◀──────────────────── Recipe, Recipe, …      or Unavailable
//!     (takes what it has: an earlier try, the version it shows, another name)
//!     Want ───────────────────────────────────▶
//!     ◀────────────────────── Chunk, Chunk, …      within a window, in the order asked for
//!     (hashes the whole, publishes)
//! ```
//!
//! A peer that has not got the content itself yet says so, and is asked again (see
//! [`queue`](super::queue)). A connection that ends costs what was under way on it; the next try goes
//! on from the partial file.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::recipe::{ChunkSizes, Recipe};
use chainsync_core::wire::{Frame, Want, WantRecipe};
use chainsync_core::{ContentHash, RelPath};
use chainsync_env::{Env, Vfs};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::chunks::Cutting;
use super::partial::{Partial, Source};
use super::queue::{Delivered, Wanted};
use super::window::Window;
use crate::disk::{Dirs, is_absent};
use crate::index::Rows;
use crate::link::connection::{Encoded, encode};
use crate::share::{Share, ShareError, lock};

/// Ranges asked for and not here yet.
const WINDOW_RANGES: usize = 32;
/// Neighbouring chunks are asked for together up to this: what a small file waits for at each hop.
pub const RANGE_BYTES_MAX: u64 = 256 << 10;
/// A peer that says nothing about a content for so long is asked for another one first. Long: it may
/// have to read some hundred gigabytes to find the recipe.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("no upstream is connected")]
    NoUpstream,
    #[error("the upstream does not have it yet")]
    Unavailable,
    #[error("the connection ended")]
    Lost,
    #[error("no answer for {PATIENCE:?}")]
    Silent,
    /// The peer, or a file that changes under its hands.
    #[error("what came is not what was announced: {0}")]
    Wrong(&'static str),
    #[error("it is not wanted any more")]
    Unwanted,
    #[error("staging")]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Share(#[from] ShareError),
}

/// One content on its way, by one upstream after the other.
pub struct Pull<E: Env> {
    pub share: Arc<Share<E>>,
    pub wanted: Wanted,
    pub deliveries: mpsc::Receiver<Delivered>,
}

type V<E> = <E as Env>::Vfs;

impl<E: Env> Pull<E> {
    pub async fn run(mut self) -> Result<(), PullError> {
        if !self.is_wanted().await? {
            // Superseded meanwhile. Who else wants it begins anew.
            return self.share.remove_partial(&self.wanted.hash).await;
        }
        let upstreams = lock(&self.share.outboxes).clone();
        if upstreams.is_empty() {
            return Err(PullError::NoUpstream);
        }
        let mut last = PullError::NoUpstream;
        for (connection, outbox) in upstreams.into_values() {
            self.share.pulls.listen(&self.wanted.hash, connection);
            while self.deliveries.try_recv().is_ok() {}
            match self.fetch_by(&outbox).await {
                Ok(()) => return self.publish().await,
                Err(PullError::Unwanted) => {
                    return self.share.remove_partial(&self.wanted.hash).await;
                }
                Err(error @ (PullError::Disk(_) | PullError::Share(_))) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether the intent that asked is still there and has no content yet.
    async fn is_wanted(&self) -> Result<bool, ShareError> {
        let (worker, wanted) = (self.share.clone(), self.wanted.clone());
        let job = self.share.env.blocking(move || -> Result<bool, ShareError> {
            let intent = worker.index.read()?.intent(&wanted.path)?;
            let content = Some((wanted.hash, wanted.size));
            Ok(intent
                .is_some_and(|intent| intent.kind.content() == content && intent.staged.is_none()))
        });
        job.await
    }

    /// Puts the content together, with what one upstream has to add.
    async fn fetch_by(&mut self, outbox: &mpsc::Sender<Encoded>) -> Result<(), PullError> {
        let recipe = match self.share.recipes.get(&self.wanted.hash) {
            Some(recipe) => recipe,
            None => Arc::new(self.ask_recipe(outbox).await?),
        };
        let share = self.share.clone();
        let (vfs, hash, durable) = (share.vfs.clone(), self.wanted.hash, share.durable());
        let cooking = recipe.clone();
        let worker = share.clone();
        let open = share.env.blocking(move || {
            worker.use_spare(&hash)?;
            Partial::open(vfs, &hash, cooking, durable)
        });
        let mut partial = open.await?.resume(&share.env).await?;
        for path in self.share.spares.shown(&hash).into_iter().chain([self.wanted.path.clone()]) {
            if !partial.missing().is_empty()
                && let Some(source) = self.source(path).await?
            {
                partial = partial.copy_from(&share.env, source).await?;
            }
        }
        let chunk_bytes = |(index, _): &(usize, u64)| u64::from(recipe.chunks()[*index].bytes);
        let bytes = partial.missing().iter().map(chunk_bytes).sum();
        let worker = share.clone();
        share.env.blocking(move || worker.need_room(bytes)).await?;
        partial = self.fetch(partial, &recipe, outbox).await?;
        partial = partial.repeat(&share.env).await?;
        if partial.finish(&share.env).await? != self.wanted.hash {
            share.remove_partial(&self.wanted.hash).await?;
            return Err(PullError::Wrong("the whole has another hash"));
        }
        share.recipes.insert(self.wanted.hash, recipe);
        Ok(())
    }

    async fn next(&mut self, outbox: &mpsc::Sender<Encoded>) -> Result<Delivered, PullError> {
        tokio::select! {
            biased;
            delivered = self.deliveries.recv() => match delivered {
                Some(Delivered::Unavailable) => Err(PullError::Unavailable),
                Some(delivered) => Ok(delivered),
                None => Err(PullError::Lost),
            },
            () = outbox.closed() => Err(PullError::Lost),
            () = sleep(PATIENCE) => Err(PullError::Silent),
        }
    }

    async fn ask_recipe(&mut self, outbox: &mpsc::Sender<Encoded>) -> Result<Recipe, PullError> {
        let (hash, path) = (self.wanted.hash, self.wanted.path.clone());
        say(outbox, &Frame::WantRecipe(WantRecipe { hash, path })).await?;
        let mut recipe = Recipe::default();
        loop {
            let Delivered::Recipe(part) = self.next(outbox).await? else {
                return Err(PullError::Wrong("a chunk before its recipe"));
            };
            recipe.extend(&part.chunks, self.wanted.size).map_err(PullError::Wrong)?;
            if part.ends {
                break;
            }
        }
        if recipe.bytes() != self.wanted.size {
            return Err(PullError::Wrong("a recipe for less than the content"));
        }
        Ok(recipe)
    }

    /// What is shown at a path: the version before, or the same content.
    async fn source(&self, path: RelPath) -> Result<Option<Source<V<E>>>, PullError> {
        let worker = self.share.clone();
        let job = self.share.env.blocking(move || -> Result<_, ShareError> {
            let record = worker.index.read()?.record(&path)?;
            let published = record.and_then(|record| record.published());
            let Some((hash, size)) = published.and_then(|published| published.kind.content())
            else {
                return Ok(None);
            };
            let mut dirs = Dirs::new(&worker.vfs);
            let opened =
                dirs.parent(&path).and_then(|parent| worker.vfs.open_file(&parent, path.name()));
            Ok(opened.ok().map(|file| (hash, size, Arc::new(file))))
        });
        let Some((hash, size, file)) = job.await? else { return Ok(None) };
        let sizes = ChunkSizes::of(self.wanted.size);
        let cached = self.share.recipes.get(&hash).filter(|_| ChunkSizes::of(size) == sizes);
        let recipe = match cached {
            Some(recipe) => recipe,
            None => {
                let cutting = Cutting::new(self.share.vfs.clone(), file.clone(), sizes);
                Arc::new(cutting.finish(&self.share.env).await?.1)
            }
        };
        Ok(Some(Source { file, recipe }))
    }

    /// Fetches what is missing, a window at a time.
    async fn fetch(
        &mut self,
        mut partial: Partial<V<E>>,
        recipe: &Recipe,
        outbox: &mpsc::Sender<Encoded>,
    ) -> Result<Partial<V<E>>, PullError> {
        let mut missing: VecDeque<(usize, u64)> = partial.missing().into();
        let mut asked: VecDeque<(Range, Instant)> = VecDeque::new();
        let mut window = Window::new(Instant::now());
        loop {
            let mut under_way: u64 = asked.iter().map(|(range, _)| range.bytes).sum();
            while under_way < window.bytes()
                && asked.len() < WINDOW_RANGES
                && let Some(range) = Range::next(&mut missing, recipe)
            {
                under_way += range.bytes;
                self.share.pulls.grant(&self.wanted.hash, range.bytes);
                let (hash, path) = (self.wanted.hash, self.wanted.path.clone());
                let (offset, length) = (range.offset, range.bytes);
                say(outbox, &Frame::Want(Want { hash, path, offset, length })).await?;
                asked.push_back((range, Instant::now()));
            }
            let Some((range, since)) = asked.pop_front() else { return Ok(partial) };
            let data = self.receive(&range, outbox).await?;
            let now = Instant::now();
            window.came(range.bytes, now - since, now);
            let job = self.share.env.blocking(move || {
                let result = take_range(&mut partial, &range, &data);
                (partial, result)
            });
            let result;
            (partial, result) = job.await;
            if !result? {
                return Err(PullError::Wrong("a chunk has another hash"));
            }
            if !self.is_wanted().await? {
                return Err(PullError::Unwanted);
            }
        }
    }

    /// The bytes of one range.
    async fn receive(
        &mut self,
        range: &Range,
        outbox: &mpsc::Sender<Encoded>,
    ) -> Result<Vec<u8>, PullError> {
        let mut data = Vec::new();
        while (data.len() as u64) < range.bytes {
            let Delivered::Chunk(chunk) = self.next(outbox).await? else {
                return Err(PullError::Wrong("a recipe among chunks"));
            };
            if chunk.offset != range.offset + data.len() as u64 || chunk.data.is_empty() {
                return Err(PullError::Wrong("chunks out of order"));
            }
            data.extend_from_slice(&chunk.data);
        }
        if data.len() as u64 != range.bytes {
            return Err(PullError::Wrong("chunks across two ranges"));
        }
        Ok(data)
    }

    async fn publish(&mut self) -> Result<(), PullError> {
        let _gate = self.share.gate.lock().await;
        let (worker, wanted) = (self.share.clone(), self.wanted.clone());
        let job = self
            .share
            .env
            .blocking(move || worker.adopt_content(&wanted.path, (wanted.hash, wanted.size)));
        let left = job.await?;
        self.share.ask_for(left.missing);
        Ok(())
    }
}

/// Neighbouring chunks that are asked for together.
struct Range {
    offset: u64,
    bytes: u64,
    /// Index, offset and length of each.
    chunks: Vec<(usize, u64, u32)>,
}

impl Range {
    fn next(missing: &mut VecDeque<(usize, u64)>, recipe: &Recipe) -> Option<Self> {
        let (_, offset) = *missing.front()?;
        let mut range = Self { offset, bytes: 0, chunks: Vec::new() };
        while let Some((index, at)) = missing.front().copied() {
            let bytes = recipe.chunks()[index].bytes;
            let apart = at != range.offset + range.bytes;
            let full = range.bytes + u64::from(bytes) > RANGE_BYTES_MAX;
            if !range.chunks.is_empty() && (apart || full) {
                break;
            }
            range.chunks.push((index, at, bytes));
            range.bytes += u64::from(bytes);
            missing.pop_front();
        }
        Some(range)
    }
}

fn take_range<V: Vfs>(partial: &mut Partial<V>, range: &Range, data: &[u8]) -> io::Result<bool> {
    let mut rest = data;
    for (index, offset, bytes) in &range.chunks {
        let (chunk, after) = rest.split_at(*bytes as usize);
        if !partial.take(*index, *offset, chunk)? {
            return Ok(false);
        }
        rest = after;
    }
    Ok(true)
}

async fn say(outbox: &mpsc::Sender<Encoded>, frame: &Frame) -> Result<(), PullError> {
    outbox.send(encode(frame)).await.map_err(|_| PullError::Lost)
}

impl<E: Env> Share<E> {
    async fn remove_partial(self: &Arc<Self>, hash: &ContentHash) -> Result<(), PullError> {
        let (worker, name) = (self.clone(), super::partial::partial_name(hash));
        let job = self.env.blocking(move || worker.discard([name]));
        match job.await {
            Err(error) if !is_absent(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
