//! Looking at the whole tree, directory by directory.
//!
//! At full speed ([`sweep`]) when it is known that something was missed: at the start, after an
//! overflow, when the root is back. And at a low rate, now and then, as the last net ([`Net`]): for
//! what no watcher tells, such as a write through a hard link outside the share, or what happens in a
//! directory that could not be watched. The net takes one slice at a time between live changes,
//! holds the gate for that slice only, and keeps in memory one directory's names and the directories
//! that are still to be seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::RelPath;
use chainsync_core::hints::Urgency;
use chainsync_env::{Env, Vfs};
use tokio::time::Instant;

use crate::disk::{COOKIES, Dirs, is_exhausted, is_mount, own_path};
use crate::ingest::{LOOK_PATHS_MAX, Looked, Occasion};
use crate::share::{Share, ShareError};
use crate::tasks::Later;
use crate::watching::Listed;

/// Between two slices of the net: a tree of a million files in a thousand directories takes a
/// minute and a fifth of a processor, one of 100,000 directories takes half an hour.
const NET_PAUSE: Duration = Duration::from_millis(20);

/// Looks at the whole tree.
pub async fn sweep<E: Env>(share: &Arc<Share<E>>, later: &mut Later) -> Result<(), ShareError> {
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
        let found = share.env.blocking(move || worker.sweep_dir(dir.as_ref())).await?;
        missing.extend(found.missing);
        let mut names = found.names;
        while !names.is_empty() {
            let looked = look_slice(share, slice(&mut names), Occasion::Sweep, later).await?;
            open.extend(looked.dirs.into_iter().map(Some));
        }
    }
    share.guard_deletes(&missing)?;
    while !missing.is_empty() {
        look_slice(share, slice(&mut missing), Occasion::Sweep, later).await?;
    }
    if !*share.ready.borrow() {
        // Nothing is offered before the large files are known too.
        let mut large = share.digests.paths();
        share.digests.settled(&large).await;
        while !large.is_empty() {
            look_slice(share, slice(&mut large), Occasion::Sweep, later).await?;
        }
    }
    note_swept(share).await
}

async fn note_swept<E: Env>(share: &Arc<Share<E>>) -> Result<(), ShareError> {
    let _gate = share.gate.lock().await;
    let worker = share.clone();
    share.env.blocking(move || worker.note_swept()).await
}

/// The first names of a list.
fn slice(names: &mut Vec<RelPath>) -> Vec<(RelPath, Urgency)> {
    let rest = names.split_off(names.len().min(LOOK_PATHS_MAX));
    let slice = std::mem::replace(names, rest);
    slice.into_iter().map(|name| (name, Urgency::Started)).collect()
}

/// Looks at some paths, with the gate.
pub async fn look_slice<E: Env>(
    share: &Arc<Share<E>>,
    paths: Vec<(RelPath, Urgency)>,
    occasion: Occasion,
    later: &mut Later,
) -> Result<Looked, ShareError> {
    if share.board.halted().is_some() {
        return Err(ShareError::Halted);
    }
    let _gate = share.gate.lock().await;
    let worker = share.clone();
    let mut looked = share.env.blocking(move || worker.look(paths, occasion)).await?;
    for (path, stat) in looked.later.drain(..) {
        later.add(path, stat);
    }
    Ok(looked)
}

/// The sweep at a low rate.
pub struct Net {
    every: Duration,
    /// When the next slice, or the next sweep, is due; `None` if it is switched off.
    due: Option<Instant>,
    open: Vec<Option<RelPath>>,
    names: Vec<RelPath>,
    missing: Vec<RelPath>,
}

/// What is in a directory, and what only the index has there.
#[derive(Default)]
struct Swept {
    names: Vec<RelPath>,
    missing: Vec<RelPath>,
}

impl Net {
    /// The members of a ring begin one after the other: the first an nth of the interval from now.
    pub fn new<E: Env>(share: &Share<E>) -> Self {
        let settings = share.settings();
        let (every, nodes) = (settings.sweep_interval, settings.ring.nodes());
        let place = nodes.iter().position(|node| *node == share.me).unwrap_or(0);
        let fraction = (place + 1) as f64 / nodes.len() as f64;
        let due = (!every.is_zero()).then(|| Instant::now() + every.mul_f64(fraction));
        Self { every, due, open: Vec::new(), names: Vec::new(), missing: Vec::new() }
    }

    /// Begins anew if a reload changed the interval.
    pub fn heed<E: Env>(&mut self, share: &Share<E>) {
        if share.settings().sweep_interval != self.every {
            *self = Self::new(share);
        }
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// One slice: lists a directory, or looks at some of its names.
    pub async fn step<E: Env>(
        &mut self,
        share: &Arc<Share<E>>,
        later: &mut Later,
    ) -> Result<(), ShareError> {
        self.due = Some(Instant::now() + NET_PAUSE);
        let stepped = self.slice(share, later).await;
        if stepped.is_err() {
            // Whatever is wrong is looked at at full speed once it is over.
            self.open.clear();
            self.names.clear();
            self.missing.clear();
            self.due = Some(Instant::now() + self.every);
        }
        stepped
    }

    async fn slice<E: Env>(
        &mut self,
        share: &Arc<Share<E>>,
        later: &mut Later,
    ) -> Result<(), ShareError> {
        if !self.names.is_empty() {
            let looked = look_slice(share, slice(&mut self.names), Occasion::Sweep, later).await?;
            self.open.extend(looked.dirs.into_iter().map(Some));
        } else if let Some(dir) = self.open.pop() {
            let worker = share.clone();
            let found = share.env.blocking(move || worker.sweep_dir(dir.as_ref())).await?;
            self.names = found.names;
            self.missing.extend(found.missing);
        } else {
            self.open.push(None);
            share.board.count(|counters| counters.sweeps += 1);
        }
        if self.names.is_empty() && self.open.is_empty() {
            share.guard_deletes(&self.missing)?;
            self.names = std::mem::take(&mut self.missing);
        }
        if self.names.is_empty() && self.open.is_empty() {
            note_swept(share).await?;
            self.due = Some(Instant::now() + self.every);
        }
        Ok(())
    }
}

impl<E: Env> Share<E> {
    /// Watches a directory, then lists it.
    fn sweep_dir(&self, dir: Option<&RelPath>) -> Result<Swept, ShareError> {
        let mut dirs = Dirs::new(&self.vfs);
        match dirs.dir(dir) {
            Ok(_) => {}
            Err(error) if crate::disk::is_absent(&error) => return Ok(Swept::default()),
            Err(error) if dir.is_none() || is_exhausted(&error) => {
                return Err(ShareError::disk("opening a directory")(error));
            }
            Err(error) => {
                if let Some(dir) = dir {
                    let mount =
                        is_mount(&error).then_some(chainsync_core::decide::Unsupported::Mount);
                    match mount {
                        Some(mount) => self.board.problem(dir, &mount, self.now_ms()),
                        None => self.board.problem(dir, &error, self.now_ms()),
                    }
                }
                return Ok(Swept::default());
            }
        }
        self.watch_dir(dir);
        let Listed { names, troubled } = self.list_names(&mut dirs, dir)?;
        if let (Some(dir), false) = (dir, troubled) {
            self.board.solved(dir);
        }
        let names: BTreeSet<RelPath> = names.into_iter().collect();
        let missing = self.index.read()?.missing_in(dir, &names)?;
        Ok(Swept { names: names.into_iter().collect(), missing })
    }

    /// The watch through which `flush` hears that all earlier events have been delivered. Where none is
    /// to be had that is a problem like that of any directory: the tree is looked at all the same.
    fn watch_cookies(&self) -> Result<(), ShareError> {
        let cookies = own_path(COOKIES);
        self.vfs
            .open_dir(Some(&cookies))
            .map_err(ShareError::disk("opening .chainsync/cookies"))?;
        self.watch_dir(Some(&cookies));
        Ok(())
    }

    fn note_swept(&self) -> Result<(), ShareError> {
        let mut writer = self.index.begin()?;
        writer.state.imported = true;
        writer.state.watching_ms = self.now_ms();
        writer.commit(self.env.random_u64(), true)?;
        Ok(())
    }
}
