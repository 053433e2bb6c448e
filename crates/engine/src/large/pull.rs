//! Fetching contents that entries announced and this node does not have.
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
//! A peer that has not got the content itself yet says so, and is asked again. A connection that
//! ends costs what was under way on it; the next try goes on from the partial file.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chainsync_core::recipe::{ChunkSizes, Recipe};
use chainsync_core::wire::{Chunk, Frame, RecipePart, Want, WantRecipe};
use chainsync_core::{ContentHash, RelPath};
use chainsync_env::{Env, Vfs};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::abandon::NOWHERE_FOR;
use super::chunks::Cutting;
use super::digest::sleep_until_some;
use super::partial::{Partial, Source};
use crate::disk::{Dirs, is_absent};
use crate::index::Rows;
use crate::link::connection::encode;
use crate::link::receive::Chain;
use crate::share::{Share, ShareError, lock};

/// Contents fetched at a time: one that its upstream does not have yet holds up no other.
const PULLS_MAX: usize = 4;
/// Contents that wait their turn. The rest is asked for again when publishing is tried again.
const WAITING_MAX: usize = 4096;
/// Bytes asked for and not here yet: what a 1 Gbit link carries in 35 ms.
const WINDOW_BYTES: u64 = 4 << 20;
/// Ranges asked for and not here yet.
const WINDOW_RANGES: usize = 32;
/// Neighbouring chunks are asked for together up to this.
const RANGE_BYTES_MAX: u64 = 1 << 20;
/// Frames of one pull between the connection and the pull. A full window takes half of it.
const DELIVERIES_MAX: usize = 512;
/// Before asking again for what nobody had, then twice as long, and so on.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);
/// A peer that says nothing about a content for so long is asked for another one first. Long: it may
/// have to read some hundred gigabytes to find the recipe.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be fetched and what is being fetched.
#[derive(Default)]
pub struct Pulls {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<ContentHash, Wanted>,
    active: BTreeMap<ContentHash, Active>,
}

#[derive(Debug, Clone)]
struct Wanted {
    /// Where it is to be published, first of all.
    path: RelPath,
    hash: ContentHash,
    size: u64,
    due: Instant,
    wait: Duration,
    /// Since when all upstreams have said that they do not have it.
    nowhere_since: Option<Instant>,
}

/// The way to a pull from the connection that it uses.
struct Active {
    connection: u64,
    deliveries: mpsc::Sender<Delivered>,
    /// Bytes that were asked for and have not come.
    credit: u64,
}

/// What a peer sent about a content.
pub enum Delivered {
    Recipe(RecipePart),
    Chunk(Chunk),
    Unavailable,
}

impl Pulls {
    /// Asks for a content, unless it is asked for already.
    pub fn want(&self, path: RelPath, hash: ContentHash, size: u64) {
        let mut state = lock(&self.state);
        let known = state.active.contains_key(&hash) || state.waiting.contains_key(&hash);
        if !known && state.waiting.len() < WAITING_MAX {
            let wanted = Wanted {
                path,
                hash,
                size,
                due: Instant::now(),
                wait: AGAIN_MIN,
                nowhere_since: None,
            };
            state.waiting.insert(hash, wanted);
            self.wake.notify_one();
        }
    }

    /// Hands a frame to the pull that waits for it. An error is the peer's fault.
    pub fn deliver(
        &self,
        connection: u64,
        hash: &ContentHash,
        delivered: Delivered,
    ) -> Result<(), &'static str> {
        let mut state = lock(&self.state);
        // A pull that has ended, or goes by another connection now: late, and nobody's fault.
        let Some(active) = state.active.get_mut(hash) else { return Ok(()) };
        if active.connection != connection {
            return Ok(());
        }
        if let Delivered::Chunk(chunk) = &delivered {
            let bytes = chunk.data.len() as u64;
            active.credit =
                active.credit.checked_sub(bytes).ok_or("more of a content than was asked for")?;
        }
        match active.deliveries.try_send(delivered) {
            Err(mpsc::error::TrySendError::Full(_)) => Err("more frames than were asked for"),
            _ => Ok(()),
        }
    }

    fn next(&self) -> Option<Wanted> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let ready = state.waiting.values().filter(|wanted| wanted.due <= now);
        let hash = ready.min_by_key(|wanted| (wanted.due, wanted.size))?.hash;
        state.waiting.remove(&hash)
    }

    fn due(&self) -> Option<Instant> {
        lock(&self.state).waiting.values().map(|wanted| wanted.due).min()
    }

    fn begin(&self, hash: ContentHash, deliveries: mpsc::Sender<Delivered>) {
        let active = Active { connection: 0, deliveries, credit: 0 };
        lock(&self.state).active.insert(hash, active);
    }

    fn end(&self, hash: &ContentHash) {
        lock(&self.state).active.remove(hash);
    }

    fn again(&self, mut wanted: Wanted) {
        wanted.due = Instant::now() + wanted.wait;
        wanted.wait = (wanted.wait * 2).min(AGAIN_MAX);
        lock(&self.state).waiting.insert(wanted.hash, wanted);
    }

    /// From now on only this connection is listened to.
    fn listen(&self, hash: &ContentHash, connection: u64) {
        if let Some(active) = lock(&self.state).active.get_mut(hash) {
            (active.connection, active.credit) = (connection, 0);
        }
    }

    fn grant(&self, hash: &ContentHash, bytes: u64) {
        if let Some(active) = lock(&self.state).active.get_mut(hash) {
            active.credit += bytes;
        }
    }
}

/// Fetches what is asked for, for ever.
pub async fn run<E: Env>(share: Arc<Share<E>>) {
    let mut pulls = JoinSet::new();
    loop {
        while pulls.len() < PULLS_MAX
            && let Some(wanted) = share.pulls.next()
        {
            pulls.spawn(pull(share.clone(), wanted));
        }
        let due = if pulls.len() < PULLS_MAX { share.pulls.due() } else { None };
        tokio::select! {
            biased;
            Some(ended) = pulls.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            () = share.pulls.wake.notified() => {}
            () = sleep_until_some(due) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PullError {
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

async fn pull<E: Env>(share: Arc<Share<E>>, mut wanted: Wanted) {
    let (sender, deliveries) = mpsc::channel(DELIVERIES_MAX);
    share.pulls.begin(wanted.hash, sender);
    let mut pull = Pull { share: share.clone(), wanted: wanted.clone(), deliveries };
    let ended = pull.run().await;
    share.pulls.end(&wanted.hash);
    match ended {
        Ok(()) => {}
        Err(error) => {
            let path = &wanted.path;
            match error {
                PullError::NoUpstream | PullError::Unavailable | PullError::Lost => {
                    tracing::debug!(%path, %error, "a content is not here yet");
                }
                _ => tracing::warn!(%path, error = %Chain(&error), "a content was not fetched"),
            }
            wanted.nowhere_since = match error {
                PullError::Unavailable => wanted.nowhere_since.or(Some(Instant::now())),
                _ => None,
            };
            if wanted.nowhere_since.is_some_and(|since| since.elapsed() >= NOWHERE_FOR)
                && let Err(error) = share.abandon(path, (wanted.hash, wanted.size)).await
            {
                tracing::warn!(%path, error = %Chain(&error), "a content could not be given up");
            }
            share.pulls.again(wanted);
        }
    }
}

struct Pull<E: Env> {
    share: Arc<Share<E>>,
    wanted: Wanted,
    deliveries: mpsc::Receiver<Delivered>,
}

type V<E> = <E as Env>::Vfs;

impl<E: Env> Pull<E> {
    async fn run(&mut self) -> Result<(), PullError> {
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
    async fn fetch_by(&mut self, outbox: &mpsc::Sender<Bytes>) -> Result<(), PullError> {
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

    async fn next(&mut self, outbox: &mpsc::Sender<Bytes>) -> Result<Delivered, PullError> {
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

    async fn ask_recipe(&mut self, outbox: &mpsc::Sender<Bytes>) -> Result<Recipe, PullError> {
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
        outbox: &mpsc::Sender<Bytes>,
    ) -> Result<Partial<V<E>>, PullError> {
        let mut missing: VecDeque<(usize, u64)> = partial.missing().into();
        let mut asked: VecDeque<Range> = VecDeque::new();
        loop {
            let mut under_way: u64 = asked.iter().map(|range| range.bytes).sum();
            while under_way < WINDOW_BYTES
                && asked.len() < WINDOW_RANGES
                && let Some(range) = Range::next(&mut missing, recipe)
            {
                under_way += range.bytes;
                self.share.pulls.grant(&self.wanted.hash, range.bytes);
                let (hash, path) = (self.wanted.hash, self.wanted.path.clone());
                let (offset, length) = (range.offset, range.bytes);
                say(outbox, &Frame::Want(Want { hash, path, offset, length })).await?;
                asked.push_back(range);
            }
            let Some(range) = asked.pop_front() else { return Ok(partial) };
            let data = self.receive(&range, outbox).await?;
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
        outbox: &mpsc::Sender<Bytes>,
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

async fn say(outbox: &mpsc::Sender<Bytes>, frame: &Frame) -> Result<(), PullError> {
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

    /// Asks for contents that are not here.
    pub fn ask_for(&self, missing: Vec<(RelPath, ContentHash, u64)>) {
        for (path, hash, size) in missing {
            self.pulls.want(path, hash, size);
        }
    }
}
