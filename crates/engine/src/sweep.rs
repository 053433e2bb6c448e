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

use chainsync_core::decide::{Action, decide};
use chainsync_core::hints::Urgency;
use chainsync_core::{FileType, Record, RelPath};
use chainsync_env::{Env, Vfs};
use tokio::time::Instant;

use crate::disk::{COOKIES, Dirs, is_exhausted, is_mount, own_path};
use crate::index::Rows;
use crate::ingest::{LOOK_PATHS_MAX, Looked, Occasion};
use crate::share::{Share, ShareError, lock};
use crate::tasks::Later;
use crate::watching::Listed;

/// Between two slices of the net: a tree of a million files in a thousand directories takes a
/// minute and a fifth of a processor, one of 100,000 directories takes half an hour.
const NET_PAUSE: Duration = Duration::from_millis(20);

/// Directories that one job of a sweep takes.
const SWEEP_DIRS: usize = 16;

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
    while !open.is_empty() {
        // At the same time: with a tree that has not changed this is all there is to do.
        let (one, other) = tokio::join! {
            biased;
            sweep_some(share, last(&mut open)),
            sweep_some(share, last(&mut open)),
        };
        let mut names = Vec::new();
        for found in [one?, other?] {
            missing.extend(found.missing);
            open.extend(found.dirs.into_iter().map(Some));
            names.extend(found.names);
        }
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

/// The directories that were found last, as many as one job takes.
fn last(open: &mut Vec<Option<RelPath>>) -> Vec<Option<RelPath>> {
    open.split_off(open.len().saturating_sub(SWEEP_DIRS))
}

async fn sweep_some<E: Env>(
    share: &Arc<Share<E>>,
    dirs: Vec<Option<RelPath>>,
) -> Result<Swept, ShareError> {
    let worker = share.clone();
    let job = move || {
        let mut swept = Swept::default();
        dirs.iter().try_for_each(|dir| worker.sweep_dir(dir.as_ref(), &mut swept))?;
        Ok(swept)
    };
    share.env.blocking(job).await
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

/// What is in directories, and what only the index has there.
#[derive(Default)]
struct Swept {
    /// To be looked at.
    names: Vec<RelPath>,
    /// Directories that are as they were published: what is in them is to be swept.
    dirs: Vec<RelPath>,
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
            let found = sweep_some(share, vec![dir]).await?;
            self.names = found.names;
            self.open.extend(found.dirs.into_iter().map(Some));
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
    /// Watches a directory, lists it, and compares it with the index.
    fn sweep_dir(&self, dir: Option<&RelPath>, swept: &mut Swept) -> Result<(), ShareError> {
        let mut dirs = Dirs::new(&self.vfs);
        match dirs.dir(dir) {
            Ok(_) => {}
            Err(error) if crate::disk::is_absent(&error) => return Ok(()),
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
                return Ok(());
            }
        }
        self.watch_dir(dir);
        let Listed { names, troubled } = self.list_names(&mut dirs, dir)?;
        if let (Some(dir), false) = (dir, troubled) {
            self.board.solved(dir);
        }
        self.sift(dir, names, &mut dirs, swept)
    }

    /// A name that shows what is published there is done with; the rest has to be looked at. Without
    /// the gate: whoever changes the tree meanwhile makes the two differ, and then it is looked at.
    fn sift(
        &self,
        dir: Option<&RelPath>,
        mut names: Vec<RelPath>,
        dirs: &mut Dirs<'_, E::Vfs>,
        swept: &mut Swept,
    ) -> Result<(), ShareError> {
        // In one directory that is the order of the index.
        names.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        let reader = self.index.read()?;
        let mut missing = BTreeSet::new();
        let mut known = reader.children(dir)?.into_iter().peekable();
        for name in &names {
            while let Some((path, record)) =
                known.next_if(|(path, _)| path.as_bytes() < name.as_bytes())
            {
                missing.extend(record.is_live_on_disk().then_some(path));
            }
            let record = known.next_if(|(path, _)| path == name).map(|(_, record)| record);
            match self.unchanged(dirs, name, record.as_ref()) {
                Some(FileType::Dir) => swept.dirs.push(name.clone()),
                Some(_) => {}
                None => swept.names.push(name.clone()),
            }
        }
        missing.extend(known.filter(|(_, record)| record.is_live_on_disk()).map(|(path, _)| path));
        let listed = |path: &RelPath| {
            let found = names.binary_search_by(|name| name.as_bytes().cmp(path.as_bytes()));
            found.is_ok() || missing.contains(path)
        };
        let implied = reader.implied_in(dir, &listed)?;
        swept.missing.extend(missing);
        swept.missing.extend(implied);
        Ok(())
    }

    /// What is at a name, if it is what is published there and nothing else is to be said about it.
    fn unchanged(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        path: &RelPath,
        record: Option<&Record>,
    ) -> Option<FileType> {
        let stat = dirs.stat(path).ok()??;
        if decide(record, Some(&stat), None, self.device) != Action::Nothing {
            return None;
        }
        let concerned = match stat.file_type {
            FileType::Dir => {
                let identity = record?.published()?.identity;
                identity.is_some_and(|identity| identity.inode != stat.inode)
            }
            _ => self.board.has_problem(path) || lock(&self.links).concern(path, &stat),
        };
        (!concerned).then_some(stat.file_type)
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
