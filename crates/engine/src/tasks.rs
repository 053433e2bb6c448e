//! The tasks of a share that are not links: looking at what changed, and keeping house.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chainsync_core::gossip::{Row, RowId};
use chainsync_core::hints::{Taken, Urgency};
use chainsync_core::{RelPath, Stat};
use chainsync_env::{Env, Point};
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::{Cause, View};
use crate::expire::expire;
use crate::ingest::{LOOK_PATHS_MAX, Occasion};
use crate::large::digest::sleep_until_some;
use crate::link::receive::Chain;
use crate::policy;
use crate::publish::PUBLISH_PATHS_MAX;
use crate::share::{Share, ShareError, lock};
use crate::sweep::{Net, look_slice, sweep};

/// A file that is being written, or changed while it was read, is looked at again after this, then
/// after twice as long, and so on: its writer's close raises a hint of its own.
const LATER_MIN: Duration = Duration::from_millis(100);
const LATER_MAX: Duration = Duration::from_secs(30);
/// Between tries of what could not be published.
const RETRY: Duration = Duration::from_secs(5);
/// After trouble with the disk or the index.
pub const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at a busy tree; at one that was quiet, it is looked at once. A storm costs fewer
/// commits and batches for it, and a name that is renamed within the time is never carried.
const LOOK_PACE: Duration = Duration::from_millis(10);
/// How often the root's path is looked at: what no watcher tells (something is mounted over it) is
/// noticed after this.
const ROOT_CHECK: Duration = Duration::from_secs(5);
/// Between rows of this node: what changes meanwhile goes into the next.
const ROW_PAUSE: Duration = Duration::from_millis(20);
/// How often it is noted that the daemon was watching: bounds how old a deletion found by a sweep
/// may be made to look.
const WATCHING_NOTE: Duration = Duration::from_secs(60);

/// Between looks at the archive's limits, which are not exact.
const EXPIRY: Duration = Duration::from_secs(3600);
/// A daemon that is restarted every day cleans up, too.
const EXPIRY_FIRST: Duration = Duration::from_secs(60);

/// Starts a share up, then looks at hints for ever.
pub async fn ingest<E: Env>(share: Arc<Share<E>>) {
    start(&share).await;
    let mut later = Later::default();
    let mut net = Net::new(&share);
    let mut check = Instant::now() + ROOT_CHECK;
    let mut paced = Instant::now();
    loop {
        wait_until_moving(&share).await;
        let due = later.due();
        let result = tokio::select! {
            biased;
            () = share.hints.wake.notified() => {
                if share.hints.root_gone.swap(false, Ordering::Relaxed) {
                    check_root(&share).await.map(|()| true)
                } else {
                    Ok(true)
                }
            }
            () = sleep_until_some(due) => {
                for path in later.take_due() {
                    share.hints.add(path, Urgency::Finished);
                }
                Ok(true)
            }
            () = sleep_until(check) => {
                check = Instant::now() + ROOT_CHECK;
                net.heed(&share);
                check_root(&share).await.map(|()| false)
            }
            () = sleep_until_some(net.due()) => {
                net.step(&share, &mut later).await.map(|()| false)
            }
        };
        let result = match result {
            // Asked for by a flush even if there is nothing to look at.
            Ok(true) => {
                sleep_until(paced).await;
                paced = Instant::now() + LOOK_PACE;
                one_generation(&share, &mut later).await
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(ShareError::Root(trouble)) => {
                share.board.halt(&trouble.to_string());
                // Whatever was to be looked at.
                share.hints.add_everything();
            }
            Err(ShareError::Halted) => share.hints.add_everything(),
            Err(error) => {
                tracing::error!(share = %share.config.name, error = %Chain(&error), "looking failed: again soon");
                sleep(TROUBLE_PAUSE).await;
                share.hints.add_everything();
            }
        }
    }
}

/// What was there is all looked at, and what that leads to, before anybody is told so.
async fn one_generation<E: Env>(
    share: &Arc<Share<E>>,
    later: &mut Later,
) -> Result<(), ShareError> {
    share.set_looking(true);
    let result = look_round(share, later).await;
    if result.is_ok() {
        share.generations.send_modify(|done| *done += 1);
    }
    share.set_looking(false);
    result
}

async fn look_round<E: Env>(share: &Arc<Share<E>>, later: &mut Later) -> Result<(), ShareError> {
    let mut taken = share.hints.take();
    loop {
        match taken {
            Taken::Everything => sweep(share, later).await?,
            Taken::Paths(paths) => follow_all(share, paths, later).await?,
        }
        taken = share.hints.take_found();
        if taken == Taken::Paths(Vec::new()) {
            return Ok(());
        }
    }
}

async fn check_root<E: Env>(share: &Arc<Share<E>>) -> Result<(), ShareError> {
    let worker = share.clone();
    share.env.blocking(move || worker.check_root()).await
}

/// Until the share is neither paused nor halted. A halt for the root's sake ends by itself, when the
/// root is back and watched; then everything is looked at.
async fn wait_until_moving<E: Env>(share: &Arc<Share<E>>) {
    while share.board.halted().is_some() {
        if share.board.halt_held().is_none_or(|halt| halt.cause != Cause::Root) {
            share.until_moving().await;
            continue;
        }
        sleep(TROUBLE_PAUSE).await;
        match check_root(share).await {
            Ok(()) => {}
            Err(ShareError::Root(trouble)) => {
                share.board.halt(&trouble.to_string());
                continue;
            }
            Err(_) => continue,
        }
        let worker = share.clone();
        if share.env.blocking(move || worker.watch_dir(None)).await.is_some() {
            share.board.root_is_back();
            share.hints.add_everything();
        }
    }
}

/// Looks at hints, and at what they lead to: what is in a directory that is new, the other names of a
/// file. Newer hints are not kept waiting by a release of 50,000 files that was moved in.
async fn follow_all<E: Env>(
    share: &Arc<Share<E>>,
    paths: Vec<(RelPath, Urgency)>,
    later: &mut Later,
) -> Result<(), ShareError> {
    let mut open = VecDeque::from(paths);
    while !open.is_empty() {
        let slice = open.drain(..open.len().min(LOOK_PATHS_MAX)).collect();
        open.extend(look_live(share, slice, later).await?);
        if open.is_empty() {
            continue;
        }
        match share.hints.take_newest(LOOK_PATHS_MAX) {
            Taken::Everything => share.hints.add_everything(),
            Taken::Paths(paths) => open.extend(look_live(share, paths, later).await?),
        }
    }
    Ok(())
}

/// Returns what is to be looked at next because of what was found.
async fn look_live<E: Env>(
    share: &Arc<Share<E>>,
    slice: Vec<(RelPath, Urgency)>,
    later: &mut Later,
) -> Result<Vec<(RelPath, Urgency)>, ShareError> {
    let looked = look_slice(share, slice, Occasion::Live, later).await?;
    let mut follow = looked.follow;
    if !looked.search.is_empty() {
        let worker = share.clone();
        let names = share.env.blocking(move || worker.names_of(&looked.search)).await?;
        follow.extend(names.into_iter().map(|name| (name, Urgency::Finished)));
    }
    Ok(follow)
}

/// Until this is done, no link is made: a node offers no knowledge before its index is true.
async fn start<E: Env>(share: &Arc<Share<E>>) {
    let mut later = Later::default();
    loop {
        wait_until_moving(share).await;
        let recovered = {
            let _gate = share.gate.lock().await;
            let worker = share.clone();
            let job = move || {
                let ready = worker.recover().and_then(|()| worker.retrack());
                ready.and_then(|()| worker.begin_policy())
            };
            share.env.blocking(job).await
        };
        let result = match recovered {
            Ok(()) => sweep(share, &mut later).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => break,
            Err(ShareError::Halted) => {}
            Err(error) => {
                tracing::error!(share = %share.config.name, error = %Chain(&error), "cannot start yet");
                share.board.note_trouble(Some(Chain(&error).to_string()));
                sleep(TROUBLE_PAUSE).await;
            }
        }
    }
    share.board.note_trouble(None);
    for path in later.paths.into_keys() {
        share.hints.add(path, Urgency::Finished);
    }
    share.board.write_row(true, |view| share.row(view));
    share.ready.send_replace(true);
    share.env.probe(Point::FirstLook);
    tracing::info!(share = %share.config.name, entries = share.index.state().entries, "share ready");
}

/// Paths to look at again, and when. As many as there are files open for writing.
#[derive(Default)]
pub struct Later {
    paths: BTreeMap<RelPath, (Instant, Duration)>,
    /// How long those had waited that were handed out last: whoever comes back waits longer.
    waited: BTreeMap<RelPath, Duration>,
}

impl Later {
    pub fn add(&mut self, path: RelPath, seen: Option<Stat>) {
        // Where nobody can tell whether a file is finished, two looks a second apart have to agree.
        let least = if seen.is_some() { Duration::from_secs(1) } else { LATER_MIN };
        let wait = self.waited.remove(&path).map_or(least, |waited| (waited * 2).min(LATER_MAX));
        self.paths.insert(path, (Instant::now() + wait, wait));
    }

    fn due(&self) -> Option<Instant> {
        self.paths.values().map(|(due, _)| *due).min()
    }

    fn take_due(&mut self) -> Vec<RelPath> {
        let now = Instant::now();
        let due = self.paths.extract_if(.., |_, (due, _)| *due <= now);
        self.waited = due.map(|(path, (_, wait))| (path, wait)).collect();
        self.waited.keys().cloned().collect()
    }
}

/// Publishes what waits, writes rows, notes the time.
pub async fn keep<E: Env>(share: Arc<Share<E>>) {
    let mut ready = share.ready.subscribe();
    // The sender lives as long as the share does.
    let _ = ready.wait_for(|ready| *ready).await;
    let mut touched = share.board.touched.subscribe();
    touched.mark_changed();
    let mut retry = Instant::now() + RETRY;
    let mut note = Instant::now() + WATCHING_NOTE;
    let mut expiry = Instant::now() + EXPIRY_FIRST;
    loop {
        tokio::select! {
            biased;
            () = share.pending_wake.notified() => {
                let paths = std::mem::take(&mut lock(&share.pending).now);
                publish_some(&share, paths).await;
            }
            _ = sleep_until(retry) => {
                retry = Instant::now() + RETRY;
                let worker = share.clone();
                if share.env.blocking(move || worker.retry_watches()).await {
                    share.hints.add_everything();
                }
                let paths = share.index.pending_paths();
                publish_some(&share, paths).await;
                heed_conflicts(&share).await;
                let worker = share.clone();
                let removed = share.env.blocking(move || {
                    worker.remove_spares().and(worker.discard_again())
                });
                if let Err(error) = removed.await {
                    tracing::warn!(%error, "a displaced file was not removed: again soon");
                }
            }
            _ = sleep_until(note) => {
                note = Instant::now() + WATCHING_NOTE;
                for path in share.board.problem_paths() {
                    share.hints.add(path, Urgency::Finished);
                }
                let worker = share.clone();
                let _gate = share.gate.lock().await;
                if let Err(error) = share.env.blocking(move || worker.note_watching()).await {
                    tracing::error!(error = %Chain(&error), "the index is in trouble");
                }
            }
            _ = sleep_until(expiry) => {
                expiry = Instant::now() + EXPIRY;
                if let Err(error) = expire(&share).await {
                    tracing::error!(error = %Chain(&error), "the archive is not cleaned up: again in an hour");
                }
            }
            _ = touched.changed() => {
                heed_conflicts(&share).await;
                share.confirm_author();
                share.board.write_row(false, |view| share.row(view));
                share.board.update_states(share.now_ms());
                sleep(ROW_PAUSE).await;
            }
        }
    }
}

async fn heed_conflicts<E: Env>(share: &Arc<Share<E>>) {
    if let Err(error) = policy::heed(share).await {
        tracing::error!(error = %Chain(&error), "what lost waits for the share's policy: again soon");
    }
}

async fn publish_some<E: Env>(share: &Arc<Share<E>>, mut paths: Vec<RelPath>) {
    if share.board.halted().is_some() {
        return;
    }
    paths.sort();
    paths.dedup();
    for slice in paths.chunks(PUBLISH_PATHS_MAX) {
        let slice = slice.to_vec();
        let _gate = share.gate.lock().await;
        let worker = share.clone();
        match share.env.blocking(move || worker.publish(slice)).await {
            Ok(left) => share.ask_for(left.missing),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "publishing failed: again soon");
                return;
            }
        }
    }
    let _gate = share.gate.lock().await;
    let worker = share.clone();
    if let Err(error) = share.env.blocking(move || worker.release_held()).await {
        tracing::error!(error = %Chain(&error), "displaced files: again soon");
    }
    // Whether any are left is in the row.
    share.board.touch();
}

impl<E: Env> Share<E> {
    /// The names at which these files are published.
    fn names_of(&self, inodes: &BTreeSet<u64>) -> Result<Vec<RelPath>, ShareError> {
        Ok(self.index.read()?.with_inodes(inodes)?)
    }

    pub fn note_watching(&self) -> Result<(), ShareError> {
        if !self.hints.is_empty() || self.is_looking() {
            return Ok(());
        }
        let mut writer = self.index.begin()?;
        writer.state.watching_ms = self.now_ms();
        writer.commit(self.env.random_u64(), true)?;
        Ok(())
    }

    pub fn set_looking(&self, looking: bool) {
        self.looking.store(looking, Ordering::Relaxed);
        if !looking {
            self.board.touch();
        }
    }

    pub fn is_looking(&self) -> bool {
        self.looking.load(Ordering::Relaxed)
    }

    /// What this node says of itself now.
    pub fn row(&self, view: &View) -> Row {
        let state = self.index.state();
        Row {
            id: RowId::default(),
            revision: 0,
            authors: self.authors(),
            applied: self.index.applied(),
            pending: self.index.pending() as u64,
            problems: view.problems.len() as u64,
            conflicts: state.conflicts,
            unread: view.sweeping
                || self.is_looking()
                || !self.hints.is_empty()
                || self.has_held()
                || self.has_unheeded()
                || !self.digests.is_idle(),
            passing: view.passing,
            halted: view.halted.clone(),
            successor: view.link.as_ref().map(|link| link.to.clone()),
            heard: BTreeMap::new(),
            knowledge: state.knowledge,
        }
    }

    /// What every other member, dead or alive, has said of itself since this run began; `None` if one
    /// of them has not said anything yet.
    pub fn rows_of_this_run(&self) -> Option<Vec<Row>> {
        let mine = self.board.my_row()?;
        let first = RowId { run: mine.id.run, number: 1 };
        let rows = self.board.rows();
        let ring = self.ring();
        let others = ring.nodes().iter().filter(|node| **node != self.me);
        let heard = |node| rows.get(node).filter(|row| row.is_after(&self.me, first)).cloned();
        others.map(heard).collect()
    }

    /// Goes on with the replica id of the last run, once every member has said in this run that it
    /// knows exactly as much of it as this node does (PROTOCOL A2).
    fn confirm_author(&self) {
        if lock(&self.authorship).confirmed {
            return;
        }
        let Some(author) = self.index.state().author else { return };
        let Some(rows) = self.rows_of_this_run() else { return };
        let confirmed = rows.iter().all(|row| {
            let recorded = row.knowledge.recorded(author.replica);
            recorded.is_some_and(|recorded| {
                recorded.counter == author.counter && recorded.tag == author.tag
            })
        });
        if confirmed {
            tracing::debug!(replica = %author.replica, "replica id confirmed by all members");
            lock(&self.authorship).confirmed = true;
        }
    }
}
