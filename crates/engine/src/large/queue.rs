//! What is to be fetched, and what is being fetched.
//!
//! A content that its upstream has not got itself yet is asked for again, later each time. Only a few
//! are under way at a time; the smallest of those whose time has come is next. One that is missing at
//! several names comes once over the link: for the others it is copied from the first, one by one.

use std::collections::{BTreeMap, BTreeSet};
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
/// Names that wait for a content that is fetched for another one. Likewise.
const ALIKE_MAX: usize = 4096;
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
    /// Where it is to be published then.
    alike: BTreeSet<RelPath>,
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
    path: RelPath,
    /// Names that have asked for the same meanwhile.
    alike: BTreeSet<RelPath>,
}

/// What a peer sent about a content.
pub enum Delivered {
    Recipe(RecipePart),
    Chunk(Chunk),
    Unavailable,
}

impl Wanted {
    fn new(path: RelPath, hash: ContentHash, size: u64, alike: BTreeSet<RelPath>) -> Self {
        let (due, wait) = (Instant::now(), AGAIN_MIN);
        Self { path, hash, size, alike, due, wait, nowhere_since: None }
    }
}

impl Pulls {
    /// Asks for a content. If it is asked for already, for another name, this one is next.
    pub fn want(&self, path: RelPath, hash: ContentHash, size: u64) {
        let mut state = lock(&self.state);
        let State { waiting, active } = &mut *state;
        let known = match active.get_mut(&hash) {
            Some(active) => Some((&active.path, &mut active.alike)),
            None => waiting.get_mut(&hash).map(|wanted| (&wanted.path, &mut wanted.alike)),
        };
        if let Some((first, alike)) = known {
            if *first != path && alike.len() < ALIKE_MAX {
                alike.insert(path);
            }
        } else if waiting.len() < WAITING_MAX {
            waiting.insert(hash, Wanted::new(path, hash, size, BTreeSet::new()));
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

    fn begin(&self, wanted: &Wanted, deliveries: mpsc::Sender<Delivered>) {
        let (path, alike) = (wanted.path.clone(), BTreeSet::new());
        let active = Active { connection: 0, deliveries, credit: 0, path, alike };
        lock(&self.state).active.insert(wanted.hash, active);
    }

    /// It is fetched no more, whatever came of it.
    fn end(&self, wanted: &mut Wanted) {
        if let Some(active) = lock(&self.state).active.remove(&wanted.hash) {
            wanted.alike.extend(active.alike);
        }
    }

    /// It is at its name now, or not wanted there any more: what about the next?
    fn go_on(&self, mut wanted: Wanted) {
        if let Some(path) = wanted.alike.pop_first() {
            let next = Wanted::new(path, wanted.hash, wanted.size, wanted.alike);
            lock(&self.state).waiting.insert(next.hash, next);
            self.wake.notify_one();
        }
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
    share.pulls.begin(&wanted, sender);
    let mut pull = Pull { share: share.clone(), wanted: wanted.clone(), deliveries };
    let ended = pull.run().await;
    share.pulls.end(&mut wanted);
    match ended {
        Ok(()) => share.pulls.go_on(wanted),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_that_several_names_want_is_fetched_for_one_after_the_other_at_once() {
        let (pulls, content) = (Pulls::default(), b"one content");
        let hash = ContentHash::of(content);
        let want = |path: &str| pulls.want(RelPath::new(path).unwrap(), hash, 11);
        want("a");
        want("b");
        let mut wanted = pulls.next().unwrap();
        pulls.begin(&wanted, mpsc::channel(1).0);
        // Who waits is asked about again and again.
        for path in ["a", "b", "c"] {
            want(path);
        }
        assert!(pulls.next().is_none(), "it is under way");
        pulls.end(&mut wanted);
        pulls.go_on(wanted);
        let mut order = Vec::new();
        while let Some(next) = pulls.next() {
            order.push(next.path.to_string());
            pulls.go_on(next);
        }
        assert_eq!(order, ["b", "c"]);
        assert!(pulls.due().is_none());
    }
}
