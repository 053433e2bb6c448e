//! From a hint to a change: look, read, make durable, record.
//!
//! Everything here runs with the gate held. What a hint says is never believed: the disk is compared
//! with what is published, and a path where both agree (an own write among them) ends here.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chainsync_core::decide::{Action, Unsupported, decide};
use chainsync_core::hints::Urgency;
use chainsync_core::path::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX};
use chainsync_core::{FileType, Identity, Kind, Published, Record, RelPath, Stat};
use chainsync_env::{Added, Env, Vfs};

use crate::change::{Aftermath, Change, Made, Place};
use crate::disk::{Dirs, is_absent, is_exhausted, is_mount, is_own};
use crate::index::{Reader, Rows};
use crate::share::{Share, ShareError, lock};
use crate::watching::Listed;

/// Paths looked at in one job: bounds how long the gate is held.
pub const LOOK_PATHS_MAX: usize = 512;

/// How paths came to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A watcher said so: what is gone went just now.
    Live,
    /// Publishing found something unexpected at a name.
    Publishing,
    /// A sweep: what is gone went some time after the daemon was last watching.
    Sweep,
}

/// What one job leaves to do.
#[derive(Debug, Default)]
pub struct Looked {
    /// Still being written, or not sure to be finished: look again later. The stat is what was seen.
    pub later: Vec<(RelPath, Option<Stat>)>,
    /// In a sweep: directories, to be swept next.
    pub dirs: Vec<RelPath>,
    /// What else has to be looked at because of what was found: names in a directory that is new,
    /// other names of a file.
    pub follow: Vec<(RelPath, Urgency)>,
    /// Inodes that changed and have names that are not known.
    pub search: BTreeSet<u64>,
    pub changes: usize,
}

/// What a look at one path found.
enum Finding {
    Change {
        kind: Kind,
        made: Made,
        content: Option<Bytes>,
        identity: Option<Identity>,
    },
    /// The content is as published, the inode is another or was touched.
    Refresh(Identity),
}

/// What is at a path: its kind, its content if it is small, its stat, and the wall clock before it
/// was looked at.
type Seen = (Kind, Option<Bytes>, Stat, i128);

/// What was found where a path should be.
enum Found {
    At(Option<Stat>),
    /// A directory above it is gone, or is something else now.
    GoneWith(RelPath, Option<Stat>),
    /// One was gone, and is there again.
    Unclear,
}

struct Job<'a, E: Env> {
    share: &'a Share<E>,
    occasion: Occasion,
    dirs: Dirs<'a, E::Vfs>,
    reader: Reader,
    /// In path order, so that a directory comes before what it holds.
    findings: BTreeMap<RelPath, (Option<Published>, Finding)>,
    files: Vec<<E::Vfs as Vfs>::File>,
    touched: BTreeMap<Option<RelPath>, Arc<<E::Vfs as Vfs>::Dir>>,
    looked: Looked,
    /// Whether a directory was met that is not the one that was published at its name.
    another_dir: bool,
    /// The wall clock before the first stat.
    looked_ns: i128,
    /// Whether the path at hand has a problem.
    troubled: bool,
}

impl<E: Env> Share<E> {
    /// Looks at paths and records what changed. The caller holds the gate.
    pub fn look(
        &self,
        paths: Vec<(RelPath, Urgency)>,
        occasion: Occasion,
    ) -> Result<Looked, ShareError> {
        if occasion != Occasion::Publishing {
            self.settle_doubts()?;
        }
        let mut job = Job {
            share: self,
            occasion,
            dirs: Dirs::new(&self.vfs),
            reader: self.index.read()?,
            findings: BTreeMap::new(),
            files: Vec::new(),
            touched: BTreeMap::new(),
            looked: Looked::default(),
            another_dir: false,
            looked_ns: self.env.wall_ns(),
            troubled: false,
        };
        let stats = job.stat_all(paths)?;
        // What is gone first: a renamed directory loses its old watches before it gets new ones.
        let (gone, there): (Vec<_>, Vec<_>) = stats.into_iter().partition(|seen| seen.2.is_none());
        for (path, urgency, stat) in gone.into_iter().chain(there) {
            job.look_at(&path, urgency, stat)?;
        }
        let mut looked = job.commit()?;
        if occasion == Occasion::Publishing {
            // Nobody waits for these there.
            for (path, urgency) in looked.follow.drain(..) {
                self.hints.add(path, urgency);
            }
        }
        Ok(looked)
    }
}

impl<E: Env> Job<'_, E> {
    /// What is at the paths, and in the place of a directory with which one of them went: it may come
    /// back with that, and nobody would tell of it then.
    fn stat_all(
        &mut self,
        paths: Vec<(RelPath, Urgency)>,
    ) -> Result<Vec<(RelPath, Urgency, Option<Stat>)>, ShareError> {
        let mut stats = Vec::with_capacity(paths.len());
        let mut above = BTreeMap::new();
        for (path, urgency) in paths {
            if is_own(&path) {
                continue;
            }
            match self.stat(&path) {
                Ok(Found::At(stat)) => stats.push((path, urgency, stat)),
                Ok(Found::GoneWith(dir, stat)) => {
                    stats.push((path, urgency, None));
                    if self.occasion == Occasion::Publishing {
                        // What is in its place now may be of this very publication: later.
                        self.share.unwatch(&dir);
                        self.share.hints.add(dir, Urgency::Finished);
                    } else {
                        above.insert(dir, (urgency, stat));
                    }
                }
                // All of them are there again.
                Ok(Found::Unclear) => self.share.hints.add(path, urgency),
                Err(error) if is_exhausted(&error) => {
                    return Err(ShareError::disk("looking at a path")(error));
                }
                Err(error) if is_mount(&error) => self.problem(&path, &Unsupported::Mount),
                Err(error) => self.problem(&path, &error),
            }
        }
        stats.extend(above.into_iter().map(|(dir, (urgency, stat))| (dir, urgency, stat)));
        Ok(stats)
    }

    fn stat(&mut self, path: &RelPath) -> io::Result<Found> {
        let parent = match self.dirs.parent(path) {
            Ok(parent) => parent,
            Err(error) if is_absent(&error) => {
                for dir in path.ancestors() {
                    let stat = self.dirs.stat(&dir)?;
                    if stat.is_none_or(|stat| stat.file_type != FileType::Dir) {
                        return Ok(Found::GoneWith(dir, stat));
                    }
                }
                return Ok(Found::Unclear);
            }
            Err(error) => return Err(error),
        };
        match self.share.vfs.stat(&parent, path.name()) {
            Ok(stat) => Ok(Found::At(Some(stat))),
            Err(error) if is_absent(&error) => Ok(Found::At(None)),
            Err(error) => Err(error),
        }
    }

    fn look_at(
        &mut self,
        path: &RelPath,
        urgency: Urgency,
        stat: Option<Stat>,
    ) -> Result<(), ShareError> {
        self.troubled = false;
        let is_dir = stat.is_some_and(|stat| stat.file_type == FileType::Dir);
        let record = self.reader.record(path)?;
        let published = record.as_ref().and_then(Record::published);
        let was_dir = published.as_ref().is_some_and(|published| published.kind.is_dir());
        let was_live = published.as_ref().is_some_and(|published| published.kind.is_live());
        // A rule for directories holds for one that is gone, too.
        if self.share.is_excluded(path, is_dir || (stat.is_none() && was_dir)) {
            return Ok(());
        }
        let file = stat.filter(|stat| stat.file_type == FileType::File);
        self.note_links(path, file.as_ref(), published.as_ref());
        // A directory without an entry of its own, there for what is below it, may have gone, too.
        if !is_dir && (was_dir || !was_live) {
            self.find_deleted_below(path)?;
        }
        match decide(record.as_ref(), stat.as_ref(), None, self.share.device) {
            Action::Problem(what) => {
                self.problem(path, &what);
                return Ok(());
            }
            Action::Nothing => {
                self.share.board.count(|counters| counters.hints_without_change += 1);
                if let (Some(stat), Some(published)) = (stat.filter(|_| is_dir), published) {
                    self.see_another_dir(path, &stat, published)?;
                }
            }
            _ => match stat {
                None => self.find_deleted(path, published),
                Some(stat) => self.read(path, urgency, &stat, published)?,
            },
        }
        match (is_dir, self.occasion) {
            // Its problems may be those of names in it: the sweep will see.
            (true, Occasion::Sweep) => {
                self.looked.dirs.push(path.clone());
                return Ok(());
            }
            (true, _) => self.ensure_watched(path)?,
            (false, _) => {
                lock(&self.share.implied).remove(path);
                self.share.unwatch(path);
            }
        }
        if !self.troubled {
            self.share.board.solved(path);
        }
        Ok(())
    }

    /// Notes that a path is, or is not any more, a name of a file with several. What left a name may have
    /// been written through it before.
    fn note_links(&mut self, path: &RelPath, file: Option<&Stat>, published: Option<&Published>) {
        let mut links = lock(&self.share.links);
        if self.occasion != Occasion::Sweep {
            let published = published.and_then(|published| published.identity);
            let left = [links.noted(path), published.map(|identity| identity.inode)];
            for inode in left.into_iter().flatten() {
                if file.is_none_or(|stat| stat.inode != inode) {
                    let others = links.names(inode).filter(|name| *name != path);
                    let others = others.map(|name| (name.clone(), Urgency::Finished));
                    self.looked.follow.extend(others);
                }
            }
        }
        links.note(path, file);
    }

    /// Another directory may have taken the place of the one that was published: what is found in it
    /// is not durable before its name is.
    fn see_another_dir(
        &mut self,
        path: &RelPath,
        stat: &Stat,
        published: Published,
    ) -> Result<(), ShareError> {
        if published.identity.is_none_or(|identity| identity.inode == stat.inode) {
            return Ok(());
        }
        self.touch_parent(path).map_err(ShareError::disk("opening a directory"))?;
        self.another_dir = true;
        let identity = Identity::of(stat, self.looked_ns, self.share.vfs.ctime_tick_ns());
        self.findings.insert(path.clone(), (Some(published), Finding::Refresh(identity)));
        Ok(())
    }

    fn problem(&mut self, path: &RelPath, reason: &dyn std::fmt::Display) {
        self.troubled = true;
        self.share.board.problem(path, reason, self.share.now_ms());
    }

    fn find_deleted(&mut self, path: &RelPath, published: Option<Published>) {
        let Some(kind) = published.as_ref().map(|published| published.kind.tombstone()) else {
            return;
        };
        let made = Made::At(match self.occasion {
            Occasion::Live | Occasion::Publishing => self.share.now_ms(),
            // The lower bound (PROTOCOL B4): deletes in doubt lose, and nothing is lost.
            Occasion::Sweep => self.reader.state().watching_ms,
        });
        let change = Finding::Change { kind, made, content: None, identity: None };
        self.findings.insert(path.clone(), (published, change));
    }

    /// A directory that is gone took everything below it along.
    fn find_deleted_below(&mut self, path: &RelPath) -> Result<(), ShareError> {
        let live =
            |record: &Record| record.published().is_some_and(|published| published.kind.is_live());
        for (below, record) in self.reader.below(path, &mut |record| live(record))? {
            // Nobody looks at what is excluded, so nobody saw it go.
            if !self.share.is_excluded(&below, record.kind.is_dir()) {
                self.find_deleted(&below, record.published());
            }
        }
        Ok(())
    }

    /// Watches a directory that is not watched yet, *then* lists it: what was made before the watch
    /// is found by the listing, what is made after it raises a hint.
    fn ensure_watched(&mut self, path: &RelPath) -> Result<(), ShareError> {
        // Where no watch is to be had, whatever is told of the directory has to do.
        let known = self.share.watch_dir(Some(path)) == Some(Added::Known);
        // No event has room for the name of what may be too long here.
        let close = path.as_bytes().len() + 1 + COMPONENT_BYTES_MAX > PATH_BYTES_MAX;
        if known && !close && !self.share.board.has_problem(path) {
            return Ok(());
        }
        self.dirs.forget(path);
        if !known && self.occasion != Occasion::Sweep {
            // New, or another one, maybe with the inode number of the one before: what is found in it
            // is not durable before its name is.
            self.touch_parent(path).map_err(ShareError::disk("opening a directory"))?;
            self.another_dir = true;
        }
        // Another directory may have taken the place of the one that was watched: what was published
        // in that one is to be looked at too, it may be gone with it.
        let published = self.reader.published_in(Some(path))?;
        self.looked.follow.extend(published.into_iter().map(|child| (child, Urgency::Started)));
        let Listed { names, troubled } = self.share.list_names(&mut self.dirs, Some(path))?;
        self.troubled |= troubled;
        self.looked.follow.extend(names.into_iter().map(|name| (name, Urgency::Started)));
        Ok(())
    }

    fn commit(self) -> Result<Looked, ShareError> {
        let Job { share, occasion, findings, files, touched, another_dir, mut looked, .. } = self;
        let deletes = |finding: &Finding| {
            matches!(finding, Finding::Change { kind: Kind::Tombstone { .. }, .. })
        };
        if findings.values().any(|(_, finding)| deletes(finding)) {
            // A root that went away must never look like the deletion of what was in it.
            share.check_root()?;
        }
        let changes = |finding: &Finding| matches!(finding, Finding::Change { .. });
        let any_change = findings.values().any(|(_, finding)| changes(finding));
        if any_change || another_dir {
            // Durable before the index says so (S6).
            let dirs: Vec<_> = touched.into_values().collect();
            share.sync(&files, &dirs).map_err(ShareError::disk("making a change durable"))?;
        }
        if findings.is_empty() {
            return Ok(looked);
        }
        let author = share.author();
        let mut writer = share.index.begin()?;
        let mut after = Aftermath::default();
        // Deletions first and bottom up, then the rest top down.
        let (deleted, rest): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|(_, (_, finding))| deletes(finding));
        for (path, (published, finding)) in deleted.into_iter().rev().chain(rest) {
            match finding {
                Finding::Refresh(identity) => {
                    if let (Some(mut record), Some(published)) = (writer.record(&path)?, published)
                    {
                        record.publish(Published { identity: Some(identity), ..published });
                        writer.put_record(&path, record);
                    }
                }
                Finding::Change { kind, made, content, identity } => {
                    if let (Some((hash, _)), Some(content)) = (kind.content(), &content) {
                        share.keep_content(hash, content.clone());
                    }
                    if occasion == Occasion::Sweep {
                        let was_live = published.is_some_and(|published| published.kind.is_live());
                        share.sweeping.note(was_live, kind.is_live());
                    }
                    let place = Place::Name { identity };
                    let change = Change { path, kind, made, content, place };
                    share.record_change(&mut writer, change, author, &mut after)?;
                    looked.changes += 1;
                }
            }
        }
        writer.commit(share.env.random_u64(), any_change)?;
        share.finish(after)?;
        if looked.changes > 0 {
            // It may be this that they have been waiting for.
            share.publish_later(share.board.waiting_paths());
        }
        Ok(looked)
    }
}
