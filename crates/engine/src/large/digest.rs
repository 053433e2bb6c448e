//! Hashing large files that changed, one after the other, away from the gate: small files are looked
//! at and applied meanwhile.
//!
//! A look that meets a large file asks for its digest and goes on. When the digest is there, the path
//! is looked at again; the hash counts only if the file still has the very stat with which it was
//! hashed. A file that changed while it was read is hashed again later, and later each time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainsync_core::hints::Urgency;
use chainsync_core::recipe::ChunkSizes;
use chainsync_core::{ContentHash, RelPath, Stat};
use chainsync_env::{Env, Point, Vfs};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::chunks::Cutting;
use crate::disk::{Dirs, is_absent};
use crate::share::{Share, lock};
use crate::signal;

/// After a file changed while it was read, then twice as long, and so on.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Digests that nobody came for yet.
const DONE_MAX: usize = 1024;

/// Files to be hashed, and hashes to be picked up.
#[derive(Default)]
pub struct Digests {
    state: Mutex<State>,
    wake: Notify,
    /// Counts paths that were done with.
    moved: signal::Sender<u64>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<RelPath, Waiting>,
    done: BTreeMap<RelPath, Digest>,
}

/// The hash of a file.
#[derive(Debug, Clone, Copy)]
pub struct Digest {
    pub hash: ContentHash,
    /// With which it was read.
    stat: Stat,
    /// The wall clock before it was read, ns since 1970.
    pub looked_ns: i128,
}

struct Waiting {
    due: Instant,
    /// How long it waited for its last try.
    waited: Option<Duration>,
}

impl Digests {
    /// Asks for a file to be hashed.
    pub fn ask(&self, path: RelPath) {
        let waiting = Waiting { due: Instant::now(), waited: None };
        lock(&self.state).waiting.entry(path).or_insert(waiting);
        self.wake.notify_one();
    }

    /// The digest of a file, if it was hashed as it is.
    pub fn take(&self, path: &RelPath, stat: &Stat) -> Option<Digest> {
        lock(&self.state).done.remove(path).filter(|digest| digest.stat == *stat)
    }

    /// Files that are being hashed or will be.
    pub fn paths(&self) -> Vec<RelPath> {
        lock(&self.state).waiting.keys().cloned().collect()
    }

    pub fn is_idle(&self) -> bool {
        lock(&self.state).waiting.is_empty()
    }

    /// Waits until none of these is to be hashed any more, or it changes all the time.
    pub async fn settled(&self, paths: &[RelPath]) {
        let mut moved = self.moved.subscribe();
        loop {
            moved.borrow_and_update();
            let busy = {
                let state = lock(&self.state);
                let fresh = |path| state.waiting.get(path).is_some_and(|it| it.waited.is_none());
                paths.iter().any(fresh)
            };
            if !busy || moved.changed().await.is_err() {
                return;
            }
        }
    }

    fn due(&self) -> Option<(RelPath, Instant)> {
        let state = lock(&self.state);
        let first = state.waiting.iter().min_by_key(|(_, waiting)| waiting.due);
        first.map(|(path, waiting)| (path.clone(), waiting.due))
    }

    fn finish(&self, path: &RelPath, digest: Option<Digest>) {
        let mut state = lock(&self.state);
        state.waiting.remove(path);
        if let Some(digest) = digest {
            state.done.insert(path.clone(), digest);
            if state.done.len() > DONE_MAX {
                state.done.pop_first();
            }
        }
        drop(state);
        self.moved.send_modify(|count| *count += 1);
    }

    fn again(&self, path: &RelPath) {
        if let Some(waiting) = lock(&self.state).waiting.get_mut(path) {
            let wait = waiting.waited.map_or(AGAIN_MIN, |waited| (waited * 2).min(AGAIN_MAX));
            *waiting = Waiting { due: Instant::now() + wait, waited: Some(wait) };
        }
        self.moved.send_modify(|count| *count += 1);
    }
}

/// Hashes what is asked for, for ever.
pub async fn run<E: Env>(share: Arc<Share<E>>) {
    loop {
        let next = share.digests.due();
        let due = next.as_ref().map(|(_, due)| *due);
        tokio::select! {
            biased;
            () = sleep_until_some(due) => {}
            () = share.digests.wake.notified() => continue,
        }
        let Some((path, _)) = next else { continue };
        match digest(&share, &path).await {
            Ok(Outcome::Done(digest)) => {
                share.digests.finish(&path, Some(digest));
                share.hints.add(path, Urgency::Finished);
            }
            Ok(Outcome::Torn) => {
                share.env.probe(Point::TornRead);
                share.digests.again(&path);
            }
            // Gone, or being written: the look finds out which.
            Ok(Outcome::Moot) => {
                share.digests.finish(&path, None);
                share.hints.add(path, Urgency::Finished);
            }
            Err(error) => {
                share.digests.finish(&path, None);
                share.board.problem(&path, &error, share.now_ms());
            }
        }
    }
}

/// Waits until a moment, or for ever.
pub async fn sleep_until_some(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

enum Outcome {
    Done(Digest),
    Torn,
    Moot,
}

async fn digest<E: Env>(share: &Arc<Share<E>>, path: &RelPath) -> io::Result<Outcome> {
    let (worker, target) = (share.clone(), path.clone());
    let looked_ns = share.env.wall_ns();
    let opened = share.env.blocking(move || -> io::Result<_> {
        let mut dirs = Dirs::new(&worker.vfs);
        let parent = dirs.parent(&target)?;
        let file = worker.vfs.open_file(&parent, target.name())?;
        let busy = worker.vfs.has_writer(&file)? == Some(true);
        let stat = worker.vfs.stat_file(&file)?;
        Ok((!busy).then(|| (Arc::new(file), stat)))
    });
    let (file, before) = match opened.await {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(Outcome::Moot),
        Err(error) if is_absent(&error) => return Ok(Outcome::Moot),
        Err(error) => return Err(error),
    };
    let sizes = ChunkSizes::of(before.size);
    let cutting = Cutting::new(share.vfs.clone(), file.clone(), sizes);
    let (hash, recipe) = cutting.finish(&share.env).await?;
    let bytes = recipe.bytes();
    let worker = share.clone();
    let settled = share.env.blocking(move || -> io::Result<_> {
        if worker.durable() {
            // Here, where it keeps nobody waiting.
            worker.vfs.sync_data(&file)?;
        }
        Ok((worker.vfs.stat_file(&file)?, worker.vfs.has_writer(&file)? == Some(true)))
    });
    let (after, busy) = settled.await?;
    if after != before || bytes != before.size {
        return Ok(Outcome::Torn);
    }
    if busy {
        return Ok(Outcome::Moot);
    }
    share.recipes.insert(hash, Arc::new(recipe));
    Ok(Outcome::Done(Digest { hash, stat: after, looked_ns }))
}
