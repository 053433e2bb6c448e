//! What is to be fetched, and what is being fetched.
//!
//! A content that its upstream has not got itself yet is asked for again, later each time. Only a few
//! are under way at a time; the smallest of those whose time has come is next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainsync_core::wire::{Chunk, RecipePart};
use chainsync_core::{ContentHash, RelPath};
use chainsync_env::Env;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::abandon::NOWHERE_FOR;
use super::digest::sleep_until_some;
use super::pull::{Pull, PullError};
use crate::link::receive::Chain;
use crate::share::{Share, lock};

/// Contents fetched at a time: one that its upstream does not have yet holds up no other.
const PULLS_MAX: usize = 4;
/// Contents that wait their turn. The rest is asked for again when publishing is tried again.
const WAITING_MAX: usize = 4096;
/// Frames of one pull between the connection and the pull. A full window takes half of it.
const DELIVERIES_MAX: usize = 512;
/// Before asking again for what nobody had, then twice as long, and so on.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

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
pub struct Wanted {
    /// Where it is to be published, first of all.
    pub path: RelPath,
    pub hash: ContentHash,
    pub size: u64,
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
    pub fn listen(&self, hash: &ContentHash, connection: u64) {
        if let Some(active) = lock(&self.state).active.get_mut(hash) {
            (active.connection, active.credit) = (connection, 0);
        }
    }

    pub fn grant(&self, hash: &ContentHash, bytes: u64) {
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

impl<E: Env> Share<E> {
    /// Asks for contents that are not here.
    pub fn ask_for(&self, missing: Vec<(RelPath, ContentHash, u64)>) {
        for (path, hash, size) in missing {
            self.pulls.want(path, hash, size);
        }
    }
}
