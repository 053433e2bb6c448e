//! The tasks of a share that are not links: looking at what changed, and keeping house.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chainsync_core::gossip::{Row, RowId};
use chainsync_core::hints::{Taken, Urgency};
use chainsync_core::{RelPath, Stat};
use chainsync_env::{Env, Vfs};
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::View;
use crate::disk::{COOKIES, Dirs, is_own, own_path};
use crate::index::Rows;
use crate::ingest::{LOOK_PATHS_MAX, Looked, Occasion};
use crate::large::digest::sleep_until_some;
use crate::link::receive::Chain;
use crate::publish::PUBLISH_PATHS_MAX;
use crate::share::{Share, ShareError, lock};

/// A file that is being written, or changed while it was read, is looked at again after this, then
/// after twice as long, and so on: its writer's close raises a hint of its own.
const LATER_MIN: Duration = Duration::from_millis(100);
const LATER_MAX: Duration = Duration::from_secs(30);
/// Between tries of what could not be published.
const RETRY: Duration = Duration::from_secs(5);
/// After trouble with the disk or the index.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
/// Between rows of this node: what changes meanwhile goes into the next.
const ROW_PAUSE: Duration = Duration::from_millis(20);
/// How often it is noted that the daemon was watching: bounds how old a deletion found by a sweep
/// may be made to look.
const WATCHING_NOTE: Duration = Duration::from_secs(60);

/// Starts a share up, then looks at hints for ever.
pub async fn ingest<E: Env>(share: Arc<Share<E>>) {
    share.until_moving().await;
    start(&share).await;
    let mut later = Later::default();
    loop {
        let due = later.due();
        tokio::select! {
            biased;
            () = share.hints.wake.notified() => {}
            () = sleep_until_some(due) => {
                for path in later.take_due() {
                    share.hints.add(path, Urgency::Finished);
                }
            }
        }
        if share.hints.root_gone.load(Ordering::Relaxed) && share.board.halted().is_none() {
            share.board.halt(
                "the root was deleted, renamed or unmounted: put it back, then `chainsync resume`",
            );
        }
        if share.board.halted().is_some() {
            sleep(TROUBLE_PAUSE).await;
            continue;
        }
        share.set_looking(true);
        let result = look_round(&share, &mut later).await;
        if let Err(ShareError::Halted) = result {
            share.hints.add_everything();
        } else if let Err(error) = result {
            tracing::error!(share = %share.config.name, error = %Chain(&error), "looking failed: again soon");
            sleep(TROUBLE_PAUSE).await;
            share.hints.add_everything();
        } else {
            share.generations.send_modify(|done| *done += 1);
        }
        share.set_looking(false);
    }
}

/// One generation: what is there, and whatever is found in it, is all looked at before anything
/// newer.
async fn look_round<E: Env>(share: &Arc<Share<E>>, later: &mut Later) -> Result<(), ShareError> {
    let mut taken = share.hints.take();
    loop {
        match taken {
            Taken::Everything => sweep(share, later).await?,
            Taken::Paths(paths) => drop(look_all(share, paths, Occasion::Live, later).await?),
        }
        taken = share.hints.take_found();
        if taken == Taken::Paths(Vec::new()) {
            return Ok(());
        }
    }
}

/// Until this is done, no link is made: a node offers no knowledge before its index is true.
async fn start<E: Env>(share: &Arc<Share<E>>) {
    let mut later = Later::default();
    loop {
        share.until_moving().await;
        let recovered = {
            let _gate = share.gate.lock().await;
            let worker = share.clone();
            share.env.blocking(move || worker.recover().and_then(|()| worker.retrack())).await
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
    tracing::info!(share = %share.config.name, entries = share.index.state().entries, "share ready");
}

/// Looks at the whole tree, directory by directory.
async fn sweep<E: Env>(share: &Arc<Share<E>>, later: &mut Later) -> Result<(), ShareError> {
    share.board.set_sweeping(true);
    share.board.count(|counters| counters.sweeps += 1);
    let swept = sweep_tree(share, later).await;
    share.board.set_sweeping(false);
    if swept.is_ok() {
        share.sweeping.end();
    }
    swept
}

async fn sweep_tree<E: Env>(share: &Arc<Share<E>>, later: &mut Later) -> Result<(), ShareError> {
    share.watch_cookies()?;
    let mut open = vec![None];
    // Recorded last, once it is known that they are not too many to be true.
    let mut missing = Vec::new();
    while let Some(dir) = open.pop() {
        let worker = share.clone();
        let (names, gone) = share.env.blocking(move || worker.sweep_dir(dir.as_ref())).await?;
        let names = names.into_iter().map(|name| (name, Urgency::Started)).collect();
        let dirs = look_all(share, names, Occasion::Sweep, later).await?;
        open.extend(dirs.into_iter().map(Some));
        missing.extend(gone);
    }
    share.guard_deletes(&missing)?;
    let missing = missing.into_iter().map(|path| (path, Urgency::Started)).collect();
    look_all(share, missing, Occasion::Sweep, later).await?;
    if !*share.ready.borrow() {
        // Nothing is offered before the large files are known too.
        let large = share.digests.paths();
        share.digests.settled(&large).await;
        let large = large.into_iter().map(|path| (path, Urgency::Finished)).collect();
        look_all(share, large, Occasion::Sweep, later).await?;
    }
    let _gate = share.gate.lock().await;
    let worker = share.clone();
    share.env.blocking(move || worker.note_swept()).await
}

/// Looks at many paths in slices; returns the directories among them, if it is a sweep.
async fn look_all<E: Env>(
    share: &Arc<Share<E>>,
    mut paths: Vec<(RelPath, Urgency)>,
    occasion: Occasion,
    later: &mut Later,
) -> Result<Vec<RelPath>, ShareError> {
    let mut dirs = Vec::new();
    // From the front, in slices.
    paths.reverse();
    while !paths.is_empty() {
        if share.board.halted().is_some() {
            return Err(ShareError::Halted);
        }
        let slice = paths.split_off(paths.len().saturating_sub(LOOK_PATHS_MAX));
        let slice = slice.into_iter().rev().collect();
        let _gate = share.gate.lock().await;
        let worker = share.clone();
        let looked = share.env.blocking(move || worker.look(slice, occasion)).await?;
        let Looked { later: again, dirs: found, .. } = looked;
        dirs.extend(found);
        for (path, stat) in again {
            later.add(path, stat);
        }
    }
    Ok(dirs)
}

/// Paths to look at again, and when. As many as there are files open for writing.
#[derive(Default)]
struct Later {
    paths: BTreeMap<RelPath, (Instant, Duration)>,
    /// How long those had waited that were handed out last: whoever comes back waits longer.
    waited: BTreeMap<RelPath, Duration>,
}

impl Later {
    fn add(&mut self, path: RelPath, seen: Option<Stat>) {
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
    loop {
        tokio::select! {
            biased;
            () = share.pending_wake.notified() => {
                let paths = std::mem::take(&mut lock(&share.pending).now);
                publish_some(&share, paths).await;
            }
            _ = sleep_until(retry) => {
                retry = Instant::now() + RETRY;
                let paths = share.index.pending_paths();
                publish_some(&share, paths).await;
                let worker = share.clone();
                if let Err(error) = share.env.blocking(move || worker.remove_spares()).await {
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
            _ = touched.changed() => {
                share.confirm_author();
                share.board.write_row(false, |view| share.row(view));
                share.board.update_states(share.now_ms());
                sleep(ROW_PAUSE).await;
            }
        }
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
    /// Watches a directory, then lists it: its names, and those that only the index has there.
    fn sweep_dir(&self, dir: Option<&RelPath>) -> Result<(Vec<RelPath>, Vec<RelPath>), ShareError> {
        let mut dirs = Dirs::new(&self.vfs);
        let opened = match dirs.dir(dir) {
            Ok(opened) => opened,
            Err(error) if crate::disk::is_absent(&error) => return Ok((Vec::new(), Vec::new())),
            Err(error) => {
                if let Some(dir) = dir {
                    self.board.problem(dir, &error, self.now_ms());
                    return Ok((Vec::new(), Vec::new()));
                }
                return Err(ShareError::disk("opening the root")(error));
            }
        };
        let stat =
            self.vfs.stat_dir(&opened).map_err(ShareError::disk("looking at a directory"))?;
        self.watch_dir(dir, stat.inode);
        let listed = self.vfs.list(&opened).map_err(ShareError::disk("listing a directory"))?;
        let mut names: std::collections::BTreeSet<RelPath> = std::collections::BTreeSet::new();
        for entry in listed {
            match RelPath::child(dir, &entry.name) {
                Ok(path) if is_own(&path) => {}
                Ok(path) => {
                    names.insert(path);
                }
                Err(error) => {
                    if let Some(dir) = dir {
                        self.board.problem(dir, &error, self.now_ms());
                    }
                }
            }
        }
        let mut missing = Vec::new();
        for (path, record) in self.index.read()?.children(dir)? {
            if record.is_live_on_disk() && !names.contains(&path) {
                missing.push(path);
            }
        }
        Ok((names.into_iter().collect(), missing))
    }

    /// The watch through which `flush` hears that all earlier events have been delivered.
    fn watch_cookies(&self) -> Result<(), ShareError> {
        let cookies = own_path(COOKIES);
        let opened = self.vfs.open_dir(Some(&cookies)).and_then(|dir| self.vfs.stat_dir(&dir));
        let stat = opened.map_err(ShareError::disk("opening .chainsync/cookies"))?;
        if self.watch_dir(Some(&cookies), stat.inode).is_some() {
            Ok(())
        } else {
            let error = std::io::Error::other("no watch is to be had");
            Err(ShareError::disk("watching .chainsync/cookies")(error))
        }
    }

    fn note_swept(&self) -> Result<(), ShareError> {
        let mut writer = self.index.begin()?;
        writer.state.imported = true;
        writer.state.watching_ms = self.now_ms();
        writer.commit(self.env.random_u64(), true)?;
        Ok(())
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
                || !self.digests.is_idle(),
            passing: view.passing,
            halted: view.halted.clone(),
            successor: view.link.as_ref().map(|link| link.to.clone()),
            heard: BTreeMap::new(),
            knowledge: state.knowledge,
        }
    }

    /// Goes on with the replica id of the last run, once every member has said in this run that it
    /// knows exactly as much of it as this node does (PROTOCOL A2).
    fn confirm_author(&self) {
        if lock(&self.authorship).confirmed {
            return;
        }
        let Some(author) = self.index.state().author else { return };
        let Some(mine) = self.board.my_row() else { return };
        let first = RowId { run: mine.id.run, number: 1 };
        let rows = self.board.rows();
        let confirmed = self.ring().nodes().iter().filter(|node| **node != self.me).all(|node| {
            rows.get(node).is_some_and(|row| {
                let recorded = row.knowledge.recorded(author.replica);
                row.is_after(&self.me, first)
                    && recorded.is_some_and(|recorded| {
                        recorded.counter == author.counter && recorded.tag == author.tag
                    })
            })
        });
        if confirmed {
            tracing::debug!(replica = %author.replica, "replica id confirmed by all members");
            lock(&self.authorship).confirmed = true;
        }
    }
}
