//! From an intent to the disk: bring a name from what is published there to what should be.
//!
//! Everything here runs with the gate held, and every effect is in the index as an intent before it
//! happens. An effect is one atomic call on the final name that cannot destroy an edit: a new name
//! is taken with `RENAME_NOREPLACE`, an existing one is exchanged, and what comes out is held
//! against what was published before it is thrown away.

mod displaced;
mod effects;
mod staging;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chainsync_core::decide::{Effect, Seen, Unsupported, effect, see};
use chainsync_core::hints::Urgency;
use chainsync_core::projection::blocks;
use chainsync_core::{ContentHash, FileType, Identity, Kind, Published, RelPath};
use chainsync_env::{Env, Point, Vfs};

use displaced::Displaced;
pub use displaced::is_dropped;

use crate::change::Aftermath;
use crate::disk::{Dirs, is_absent, is_disk_trouble, is_mount, shows};
use crate::index::{Intent, Reader, Rows, Writer};
use crate::ingest::Occasion;
use crate::large::queue::Wanted;
use crate::share::{Share, ShareError};

/// Paths brought in line in one job.
pub const PUBLISH_PATHS_MAX: usize = 1024;
/// How often one path is tried when the disk changes under our hands, before it waits its turn.
const ATTEMPTS_MAX: usize = 4;
/// Directories replaced by files wait for what is in them: so often the list is gone through.
const ROUNDS_MAX: usize = 3;

/// What became of a path.
enum Outcome {
    /// The disk shows what the intent wants; `None` where nothing is to be.
    Done {
        kind: Kind,
        identity: Option<Identity>,
        displaced: Option<Box<Displaced>>,
        /// The name in staging under which it was, or under which the displaced file is now.
        used: Option<String>,
    },
    /// Not now: what is in a directory has to go first, or the content is not here.
    Wait(String),
    Missing(ContentHash, u64),
    Problem(String),
    /// Nothing to do any more.
    Moot,
    /// The path is excluded here: what is at the name stays, and stays what was published there.
    LeftAlone,
}

impl Outcome {
    /// Nothing is at the name, or nothing that is an entry's.
    fn gone(kind: &Kind) -> Self {
        Self::Done { kind: kind.clone(), identity: None, displaced: None, used: None }
    }
}

/// Boxed, so that the map does not move them about.
type Brought = BTreeMap<RelPath, Box<(Intent, Outcome)>>;

/// What one job could not do.
#[derive(Debug, Default)]
pub struct Unpublished {
    /// Contents that have to be asked for.
    pub missing: Vec<Wanted>,
}

struct Job<'a, E: Env> {
    share: &'a Share<E>,
    dirs: Dirs<'a, E::Vfs>,
    reader: Reader,
    files: Vec<<E::Vfs as Vfs>::File>,
    touched: BTreeMap<Option<RelPath>, Arc<<E::Vfs as Vfs>::Dir>>,
    /// Something has happened at the name at hand that only a look at the disk can tell.
    effected: bool,
    /// A change was looked for on the way: other names may have to show something else now.
    looked: bool,
}

impl<E: Env> Share<E> {
    /// Carries out the intents of these paths. The caller holds the gate.
    pub fn publish(&self, mut paths: Vec<RelPath>) -> Result<Unpublished, ShareError> {
        self.settle_doubts()?;
        // Set until everything that happens on disk below is in the index.
        self.doubtful.store(true, Ordering::Relaxed);
        paths.sort();
        paths.dedup();
        let mut job = Job {
            share: self,
            dirs: Dirs::new(&self.vfs),
            reader: self.index.read()?,
            files: Vec::new(),
            touched: BTreeMap::new(),
            effected: false,
            looked: false,
        };
        let mut done: Brought = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let waiting = job.one_round(&paths, &mut done)?;
            if waiting.is_empty() || waiting.len() == paths.len() {
                break;
            }
            paths = waiting;
        }
        let left = job.commit(done)?;
        self.doubtful.store(false, Ordering::Relaxed);
        Ok(left)
    }
}

impl<E: Env> Job<'_, E> {
    /// Live paths top down, then deletions bottom up. Returns who has to wait.
    fn one_round(
        &mut self,
        paths: &[RelPath],
        done: &mut Brought,
    ) -> Result<Vec<RelPath>, ShareError> {
        let mut live = Vec::new();
        let mut dead = Vec::new();
        for path in paths {
            match self.reader.intent(path)? {
                Some(intent) if intent.kind.is_live() => live.push((path.clone(), intent)),
                Some(intent) => dead.push((path.clone(), intent)),
                None => {}
            }
        }
        let mut waiting = Vec::new();
        for (path, intent) in live.into_iter().chain(dead.into_iter().rev()) {
            self.effected = false;
            let outcome = match self.bring(&path, &intent) {
                Ok(outcome) => outcome,
                Err(ShareError::Disk { source, .. }) if is_mount(&source) => {
                    Outcome::Problem(Unsupported::Mount.to_string())
                }
                Err(ShareError::Disk { source, .. }) if is_absent(&source) && !self.effected => {
                    Outcome::Wait("something else is in the place of a directory above".to_owned())
                }
                Err(ShareError::Disk { doing, source })
                    if !is_disk_trouble(&source) && !self.effected =>
                {
                    Outcome::Problem(format!("{doing}: {source}"))
                }
                Err(error) => return Err(error),
            };
            if matches!(outcome, Outcome::Wait(_)) {
                waiting.push(path.clone());
            }
            done.insert(path, Box::new((intent, outcome)));
        }
        Ok(waiting)
    }

    /// Brings one name in line.
    fn bring(&mut self, path: &RelPath, intent: &Intent) -> Result<Outcome, ShareError> {
        let share = self.share;
        let Some(mut record) = self.reader.record(path)? else { return Ok(Outcome::Moot) };
        let mut published = record.published();
        let mut intent = intent.clone();
        for attempt in 0..ATTEMPTS_MAX {
            if record.version.dot != intent.version.dot {
                // A change of our own won meanwhile; its record is complete.
                return Ok(Outcome::Moot);
            }
            let desired = share.desired(&self.reader, path, &record)?;
            // A rule for directories holds for one that is to go, too.
            let was_dir = published.as_ref().is_some_and(|published| published.kind.is_dir());
            let excluded = share.is_excluded(path, desired.is_dir() || was_dir);
            if excluded && !desired.is_live() {
                // Nothing excluded is deleted on a peer's word.
                return Ok(Outcome::LeftAlone);
            }
            let free = published.as_ref().is_none_or(|published| !published.kind.is_live());
            // The call itself finds out whether the name is free.
            if attempt == 0
                && free
                && blocks(&desired)
                && let Some(outcome) = self.step(path, &mut intent, &desired, &mut published)?
            {
                return Ok(outcome);
            }
            let stat = self.dirs.stat(path).map_err(ShareError::disk("looking at a path"))?;
            let agrees = match see(published.as_ref(), stat.as_ref(), share.device) {
                Seen::Unsupported(what) => return Ok(Outcome::Problem(what.to_string())),
                Seen::AsPublished => true,
                Seen::Examine => self.examine(path, &mut published)?,
                Seen::Changed => {
                    if let (Some(stat), true) = (&stat, desired.is_dir() && free)
                        && stat.file_type == FileType::Dir
                    {
                        // An implied directory, or somebody else's mkdir: it is what is wanted.
                        return self.adopt(path, desired);
                    }
                    if let (Some(stat), true) = (&stat, blocks(&desired) && free)
                        && share.is_noted_implied(path, stat)
                        && !share.is_needed_below(&self.reader, path)?
                    {
                        match self.remove_implied(path)? {
                            Some(outcome) => return Ok(outcome),
                            None => continue,
                        }
                    }
                    if let (Some(stat), true) = (&stat, !desired.is_live() && free)
                        && stat.file_type == FileType::Dir
                    {
                        if share.is_needed_below(&self.reader, path)? {
                            return self.keep_implied(path, &intent, &desired);
                        }
                        if share.is_noted_implied(path, stat) {
                            // It goes with the last of what is below it.
                            return Ok(Outcome::gone(&desired));
                        }
                    }
                    false
                }
            };
            if !agrees && excluded {
                // Nobody looks at what is there: it is this node's own affair.
                return Ok(Outcome::LeftAlone);
            }
            if !agrees {
                // A change that nobody looked at yet. It is recorded first, and may win.
                share.look(vec![(path.clone(), Urgency::Finished)], Occasion::Publishing)?;
                self.reader = share.index.read()?;
                self.looked = true;
                self.dirs.forget(path);
                match self.reader.record(path)? {
                    Some(now) if now.published() != published => {
                        published = now.published();
                        record = now;
                        continue;
                    }
                    // Still being written: it will be looked at again when it is done.
                    _ => return Ok(Outcome::Wait("being changed here".to_owned())),
                }
            }
            match self.step(path, &mut intent, &desired, &mut published)? {
                Some(outcome) => return Ok(outcome),
                None => continue,
            }
        }
        Ok(Outcome::Wait("being changed here".to_owned()))
    }

    /// One effect. `None`: look again.
    fn step(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
        desired: &Kind,
        published: &mut Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let kind = published.as_ref().map(|published| &published.kind);
        match effect(kind, desired) {
            Effect::Nothing => {
                let identity = published.as_ref().and_then(|published| published.identity);
                let kind = desired.clone();
                Ok(Some(Outcome::Done { kind, identity, displaced: None, used: None }))
            }
            Effect::Place => self.place(path, intent, desired),
            Effect::Swap => self.swap(path, intent, desired, published),
            Effect::Metadata => self.set_metadata(path, desired),
            Effect::Take => self.take(path, intent, desired, published),
            Effect::RemoveDir => self.remove_dir(path, intent, desired, published),
        }
    }

    /// Whether the disk shows what is published, judged by content; notes the new identity.
    fn examine(
        &mut self,
        path: &RelPath,
        published: &mut Option<Published>,
    ) -> Result<bool, ShareError> {
        let Some(published) = published else { return Ok(false) };
        let looked = self.share.env.wall_ns();
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let found = shows(&self.share.vfs, &parent, path.name(), &published.kind, looked)
            .map_err(ShareError::disk("reading a path"))?;
        if let Some(identity) = found {
            published.identity = Some(identity);
        }
        Ok(found.is_some())
    }

    fn adopt(&mut self, path: &RelPath, desired: Kind) -> Result<Outcome, ShareError> {
        let done = self.set_metadata(path, &desired)?;
        Ok(done.unwrap_or(Outcome::Wait("being changed here".to_owned())))
    }

    fn commit(self, done: Brought) -> Result<Unpublished, ShareError> {
        let Job { share, files, touched, looked, .. } = self;
        let mut left = Unpublished::default();
        if done.is_empty() {
            return Ok(left);
        }
        let dirs: Vec<_> = touched.into_values().collect();
        share
            .sync_names(done.len(), &files, &dirs)
            .map_err(ShareError::disk("making a publication durable"))?;
        share.env.probe(Point::Published);
        let mut writer = share.index.begin()?;
        let mut after = Aftermath::default();
        let (mut durable, mut made_dir) = (false, false);
        for (path, brought) in done {
            let (intent, outcome) = *brought;
            match outcome {
                Outcome::Done { kind, identity, displaced, used } => {
                    share.board.solved(&path);
                    made_dir |= kind.is_dir();
                    if !kind.is_live() {
                        after.gone.push(path.clone());
                    }
                    let due = looked
                        && match writer.record(&path)? {
                            Some(known) => share.desired(&writer, &path, &known)? != kind,
                            None => false,
                        };
                    if due {
                        after.publish.push(path.clone());
                    }
                    let now = Published { kind, version: intent.version.clone(), identity };
                    record_published(&mut writer, &path, &intent, now, (used, due), &mut after)?;
                    if let Some(displaced) = displaced {
                        durable |= share.settle(&mut writer, &path, *displaced, &mut after)?;
                    }
                }
                Outcome::Moot => share.board.solved(&path),
                Outcome::LeftAlone => {
                    share.board.solved(&path);
                    after.garbage.extend(writer.remove_intent(&path)?.and_then(|old| old.staged));
                }
                Outcome::Missing(hash, size) => left.missing.push(Wanted { path, hash, size }),
                Outcome::Wait(reason) => share.board.waiting(&path, reason, share.now_ms()),
                Outcome::Problem(reason) => share.board.problem(&path, &reason, share.now_ms()),
            }
        }
        // Not durable without need: after a crash the intents are still there, and are found done.
        writer.commit(share.env.random_u64(), durable)?;
        share.board.touch();
        if !after.gone.is_empty() || made_dir {
            // A directory may have been waiting for what is gone, and what is below it for a directory.
            share.publish_later(share.board.waiting_paths());
        }
        share.finish(after)?;
        Ok(left)
    }
}

/// `used`: the name in staging that was needed. `due`: something else is to be published by now.
fn record_published(
    writer: &mut Writer,
    path: &RelPath,
    intent: &Intent,
    now: Published,
    (used, due): (Option<String>, bool),
    after: &mut Aftermath,
) -> Result<(), ShareError> {
    let Some(mut record) = writer.record(path)? else { return Ok(()) };
    record.publish(now);
    writer.put_record(path, record);
    let Some(current) = writer.remove_intent(path)? else { return Ok(()) };
    if current.version.dot != intent.version.dot {
        writer.put_intent(path, current);
    } else if due {
        let staged = current.staged.clone().filter(|name| used.as_ref() != Some(name));
        writer.put_intent(path, Intent { staged, ..current });
    } else if let Some(name) = current.staged
        && used.as_ref() != Some(&name)
        && intent.kind.is_live()
    {
        // A staged content that was not needed, because only metadata changed.
        after.garbage.push(name);
    }
    Ok(())
}
