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
    waiting: BTreeMap<ContentHash, Request>,
    active: BTreeMap<ContentHash, Active>,
}

/// What is to be fetched, and the name at which it is to be published.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub path: RelPath,
    pub hash: ContentHash,
    pub size: u64,
}

struct Request {
    /// For one name after the other.
    wanted: Wanted,
    /// Where else it is missing.
    alike: BTreeSet<RelPath>,
    due: Instant,
    wait: Duration,
    /// Since when all upstreams have said that they do not have it.
    nowhere_since: Option<Instant>,
}

/// A pull, and the way to it from the connection that it uses.
struct Active {
    request: Request,
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

impl Request {
    fn new(wanted: Wanted, alike: BTreeSet<RelPath>) -> Self {
        Self { wanted, alike, due: Instant::now(), wait: AGAIN_MIN, nowhere_since: None }
    }
}

impl Pulls {
    /// Asks for a content. If it is asked for already, for another name, this one is next.
    pub fn want(&self, wanted: Wanted) {
        let mut state = lock(&self.state);
        let State { waiting, active } = &mut *state;
        let active = active.get_mut(&wanted.hash).map(|active| &mut active.request);
        if let Some(request) = active.or_else(|| waiting.get_mut(&wanted.hash)) {
            if request.wanted.path != wanted.path && request.alike.len() < ALIKE_MAX {
                request.alike.insert(wanted.path);
            }
        } else if waiting.len() < WAITING_MAX {
            waiting.insert(wanted.hash, Request::new(wanted, BTreeSet::new()));
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

    /// The next pull, and what is delivered to it. It is active until `succeeded` or `failed`.
    fn begin(&self) -> Option<(Wanted, mpsc::Receiver<Delivered>)> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let ready = state.waiting.iter().filter(|(_, request)| request.due <= now);
        let hash = *ready.min_by_key(|(_, request)| (request.due, request.wanted.size))?.0;
        let request = state.waiting.remove(&hash)?;
        let wanted = request.wanted.clone();
        let (sender, deliveries) = mpsc::channel(DELIVERIES_MAX);
        let active = Active { request, connection: 0, deliveries: sender, credit: 0 };
        state.active.insert(hash, active);
        Some((wanted, deliveries))
    }

    fn due(&self) -> Option<Instant> {
        lock(&self.state).waiting.values().map(|request| request.due).min()
    }

    /// It is at its name now, or not wanted there any more: what about the next?
    fn succeeded(&self, hash: &ContentHash) {
        let mut state = lock(&self.state);
        let Some(Active { mut request, .. }) = state.active.remove(hash) else { return };
        if let Some(path) = request.alike.pop_first() {
            let wanted = Wanted { path, ..request.wanted };
            state.waiting.insert(*hash, Request::new(wanted, request.alike));
            self.wake.notify_one();
        }
    }

    /// Says whether no upstream has had it for so long that it is to be given up.
    fn note_failure(&self, hash: &ContentHash, unavailable: bool) -> bool {
        let mut state = lock(&self.state);
        let Some(Active { request, .. }) = state.active.get_mut(hash) else { return false };
        let since = unavailable.then(|| request.nowhere_since.unwrap_or_else(Instant::now));
        request.nowhere_since = since;
        since.is_some_and(|since| since.elapsed() >= NOWHERE_FOR)
    }

    /// It waits, longer each time.
    fn failed(&self, hash: &ContentHash) {
        let mut state = lock(&self.state);
        let Some(Active { mut request, .. }) = state.active.remove(hash) else { return };
        request.due = Instant::now() + request.wait;
        request.wait = (request.wait * 2).min(AGAIN_MAX);
        state.waiting.insert(*hash, request);
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
            && let Some((wanted, deliveries)) = share.pulls.begin()
        {
            pulls.spawn(pull(share.clone(), wanted, deliveries));
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

async fn pull<E: Env>(share: Arc<Share<E>>, wanted: Wanted, deliveries: mpsc::Receiver<Delivered>) {
    let pull = Pull { share: share.clone(), wanted: wanted.clone(), deliveries };
    let Wanted { path, hash, size } = wanted;
    let Err(error) = pull.run().await else { return share.pulls.succeeded(&hash) };
    match error {
        PullError::NoUpstream | PullError::Unavailable | PullError::Lost => {
            tracing::debug!(%path, %error, "a content is not here yet");
        }
        _ => tracing::warn!(%path, error = %Chain(&error), "a content was not fetched"),
    }
    if share.pulls.note_failure(&hash, matches!(error, PullError::Unavailable))
        && let Err(error) = share.abandon(&path, (hash, size)).await
    {
        tracing::warn!(%path, error = %Chain(&error), "a content could not be given up");
    }
    share.pulls.failed(&hash);
}

impl<E: Env> Share<E> {
    /// Asks for contents that are not here.
    pub fn ask_for(&self, missing: Vec<Wanted>) {
        missing.into_iter().for_each(|wanted| self.pulls.want(wanted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(pulls: &Pulls, hash: ContentHash, path: &str) {
        pulls.want(Wanted { path: RelPath::new(path).unwrap(), hash, size: 11 });
    }

    #[test]
    fn a_content_that_several_names_want_is_fetched_for_one_after_the_other_at_once() {
        let (pulls, hash) = (Pulls::default(), ContentHash::of(b"one content"));
        want(&pulls, hash, "a");
        want(&pulls, hash, "b");
        let mut order = Vec::new();
        while let Some((wanted, _deliveries)) = pulls.begin() {
            // Who waits is asked about again and again.
            if order.is_empty() {
                ["a", "b", "c"].into_iter().for_each(|path| want(&pulls, hash, path));
            }
            assert!(pulls.begin().is_none(), "it is under way");
            order.push(wanted.path.to_string());
            pulls.succeeded(&hash);
        }
        assert_eq!(order, ["a", "b", "c"]);
        assert!(pulls.due().is_none());
    }

    #[test]
    fn what_failed_waits_with_the_names_that_asked_meanwhile() {
        let (pulls, hash) = (Pulls::default(), ContentHash::of(b"one content"));
        want(&pulls, hash, "a");
        let (_, _deliveries) = pulls.begin().unwrap();
        want(&pulls, hash, "b");
        assert!(!pulls.note_failure(&hash, true), "for a moment only");
        pulls.failed(&hash);
        assert!(pulls.begin().is_none(), "it has to wait");
        assert!(pulls.due().is_some_and(|due| due > Instant::now()));
        want(&pulls, hash, "c");
        let request = lock(&pulls.state).waiting.remove(&hash).unwrap();
        assert_eq!(request.wanted.path.to_string(), "a");
        let alike: Vec<_> = request.alike.iter().map(ToString::to_string).collect();
        assert_eq!(alike, ["b", "c"]);
        assert!(request.nowhere_since.is_some());
    }
}
