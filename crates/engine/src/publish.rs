//! From an intent to the disk: bring a name from what is published there to what should be.
//!
//! Everything here runs with the gate held, and every effect is in the index as an intent before it
//! happens. An effect is one atomic call on the final name that cannot destroy an edit: a new name
//! is taken with `RENAME_NOREPLACE`, an existing one is exchanged, and what comes out is held
//! against what was published before it is thrown away.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::decide::{Effect, Seen, displaced_as_published, effect, made_ms, see};
use chainsync_core::hints::Urgency;
use chainsync_core::projection::{blocks, implied_dir, is_shadowed};
use chainsync_core::{
    ContentHash, ContentHasher, FileType, Identity, Kind, Published, Record, RelPath, Stat,
};
use chainsync_env::{Env, Point, RenameMode, Vfs};

use crate::change::{Aftermath, Change, Made, Place};
use crate::disk::{
    Dirs, Reading, STAGING, file_kind, has_owner, is_absent, is_disk_trouble, own_path, read_file,
    shows,
};
use crate::index::{Held, Intent, Reader, Rows, Writer};
use crate::ingest::Occasion;
use crate::large::partial::{hash_range, partial_name};
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

/// What a swap or a take brought out into staging.
struct Displaced {
    name: String,
    was: Published,
    fate: Fate,
}

enum Fate {
    /// What had been published, and nobody can change it any more.
    Discard,
    /// The same, but its version lost a conflict.
    Archive(ContentHash, Option<Bytes>),
    /// Somebody still has it open for writing.
    Hold,
    /// Somebody had changed it.
    Change { kind: Kind, content: Option<Bytes>, made_ms: u64 },
}

/// What one job could not do.
#[derive(Debug, Default)]
pub struct Unpublished {
    /// Contents that have to be asked for.
    pub missing: Vec<(RelPath, ContentHash, u64)>,
}

struct Job<'a, E: Env> {
    share: &'a Share<E>,
    dirs: Dirs<'a, E::Vfs>,
    reader: Reader,
    files: Vec<<E::Vfs as Vfs>::File>,
    touched: BTreeMap<Option<RelPath>, Arc<<E::Vfs as Vfs>::Dir>>,
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
        };
        let mut done: BTreeMap<RelPath, (Intent, Outcome)> = BTreeMap::new();
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

    /// What should be on disk at a path, given everything that is known.
    pub fn desired(
        &self,
        rows: &impl Rows,
        path: &RelPath,
        record: &Record,
    ) -> Result<Kind, ShareError> {
        if !record.kind.is_live() {
            return Ok(record.kind.clone());
        }
        let mut above = Vec::new();
        for ancestor in path.ancestors() {
            if let Some(record) = rows.record(&ancestor)? {
                above.push((record.kind, record.version.stamp));
            }
        }
        // Nothing above that could shadow it, and it shadows nothing: the usual directory.
        let plain = record.kind.is_dir() && above.iter().all(|(kind, _)| !blocks(kind));
        let below = if plain { None } else { rows.greatest_live_below(path)? };
        let above = above.iter().map(|(kind, stamp)| (kind, stamp));
        let shadowed = is_shadowed(&record.kind, &record.version.stamp, above, below.as_ref());
        Ok(if shadowed { record.kind.tombstone() } else { record.kind.clone() })
    }
}

impl<E: Env> Job<'_, E> {
    /// Live paths top down, then deletions bottom up. Returns who has to wait.
    fn one_round(
        &mut self,
        paths: &[RelPath],
        done: &mut BTreeMap<RelPath, (Intent, Outcome)>,
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
            let outcome = match self.bring(&path, &intent) {
                Ok(outcome) => outcome,
                Err(ShareError::Disk { doing, source }) if !is_disk_trouble(&source) => {
                    Outcome::Problem(format!("{doing}: {source}"))
                }
                Err(error) => return Err(error),
            };
            if matches!(outcome, Outcome::Wait(_)) {
                waiting.push(path.clone());
            }
            done.insert(path, (intent, outcome));
        }
        Ok(waiting)
    }

    /// Brings one name in line.
    fn bring(&mut self, path: &RelPath, intent: &Intent) -> Result<Outcome, ShareError> {
        let share = self.share;
        let Some(mut record) = self.reader.record(path)? else { return Ok(Outcome::Moot) };
        let mut published = record.published();
        for _ in 0..ATTEMPTS_MAX {
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
            let stat = self.dirs.stat(path).map_err(ShareError::disk("looking at a path"))?;
            let agrees = match see(published.as_ref(), stat.as_ref(), share.device) {
                Seen::Unsupported(what) => return Ok(Outcome::Problem(what.to_string())),
                Seen::AsPublished => true,
                Seen::Examine => self.examine(path, &mut published)?,
                Seen::Changed => {
                    let free = published.as_ref().is_none_or(|published| !published.kind.is_live());
                    if let (Some(stat), true) = (&stat, desired.is_dir() && free)
                        && stat.file_type == FileType::Dir
                    {
                        // An implied directory, or somebody else's mkdir: it is what is wanted.
                        return self.adopt(path, desired);
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
            match self.step(path, intent, &desired, &mut published)? {
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
        intent: &Intent,
        desired: &Kind,
        published: &mut Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let kind = published.as_ref().map(|published| &published.kind);
        match effect(kind, desired) {
            Effect::Nothing => {
                let identity = published.as_ref().and_then(|published| published.identity);
                Ok(Some(Outcome::Done { kind: desired.clone(), identity, displaced: None }))
            }
            Effect::Place => self.place(path, intent, desired),
            Effect::Swap => self.swap(path, intent, desired, published),
            Effect::Metadata => self.set_metadata(path, desired),
            Effect::Take => self.take(path, intent, desired, published),
            Effect::RemoveDir => self.remove_dir(path, desired, published),
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

    /// A free name is taken.
    fn place(
        &mut self,
        path: &RelPath,
        intent: &Intent,
        desired: &Kind,
    ) -> Result<Option<Outcome>, ShareError> {
        self.imply_parents(path)?;
        let share = self.share;
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        if let Kind::Dir { mode, owner } = desired {
            match share.vfs.make_dir(&parent, path.name(), *mode) {
                Ok(()) => {}
                Err(error) if is_exists(&error) => {
                    share.env.probe(Point::NameTaken);
                    return Ok(None);
                }
                Err(error) => return Err(ShareError::disk("making a directory")(error)),
            }
            if let Some(owner) = owner {
                let dir = self.dirs.dir(Some(path)).map_err(ShareError::disk("opening"))?;
                share
                    .vfs
                    .set_dir_owner(&dir, owner.uid, owner.gid)
                    .map_err(ShareError::disk("setting the owner"))?;
            }
        } else {
            let name = match self.staged(path, intent)? {
                Ok(name) => name,
                Err(outcome) => return Ok(Some(outcome)),
            };
            let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
            let renamed = share.vfs.rename(
                &staging,
                name.as_bytes(),
                &parent,
                path.name(),
                RenameMode::NoReplace,
            );
            match renamed {
                Ok(()) => {}
                Err(error) if is_exists(&error) => {
                    share.env.probe(Point::NameTaken);
                    return Ok(None);
                }
                Err(error) => return Err(ShareError::disk("publishing")(error)),
            }
        }
        self.placed(path, desired, parent).map(Some)
    }

    /// Notes what is at the name now.
    fn placed(
        &mut self,
        path: &RelPath,
        kind: &Kind,
        parent: Arc<<E::Vfs as Vfs>::Dir>,
    ) -> Result<Outcome, ShareError> {
        let looked = self.share.env.wall_ns();
        let stat = self.share.vfs.stat(&parent, path.name());
        self.touched.insert(path.parent(), parent);
        let identity = match stat {
            Ok(stat) => {
                let identity = Identity::of(&stat, looked, self.share.vfs.ctime_tick_ns());
                // Somebody may have been quick: then an equal identity is no proof of anything.
                Some(Identity { settled: identity.settled && looks_like(kind, &stat), ..identity })
            }
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(ShareError::disk("looking at a path")(error)),
        };
        Ok(Outcome::Done { kind: kind.clone(), identity, displaced: None })
    }

    /// A published file or symlink changes places with the staged one.
    fn swap(
        &mut self,
        path: &RelPath,
        intent: &Intent,
        desired: &Kind,
        published: &Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let share = self.share;
        let Some(was) = published.clone() else { return Ok(None) };
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let name = match self.staged(path, intent)? {
            Ok(name) => name,
            Err(outcome) => return Ok(Some(outcome)),
        };
        let exchange = RenameMode::Exchange;
        match share.vfs.rename(&staging, name.as_bytes(), &parent, path.name(), exchange) {
            Ok(()) => {}
            // The name went away: look again.
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(ShareError::disk("publishing")(error)),
        }
        if self.is_staged_dir(&name)? && !was.kind.is_dir() && !desired.is_dir() {
            // Somebody was quick and made a directory there: back it goes, and is looked at.
            let back = share.vfs.rename(&staging, name.as_bytes(), &parent, path.name(), exchange);
            back.map_err(ShareError::disk("publishing"))?;
            return Ok(None);
        }
        self.dirs.forget(path);
        let mut outcome = self.placed(path, desired, parent)?;
        if let Outcome::Done { displaced, .. } = &mut outcome {
            *displaced = Some(Box::new(self.judge(name, was, intent)?));
        }
        Ok(Some(outcome))
    }

    /// A published file or symlink moves out.
    fn take(
        &mut self,
        path: &RelPath,
        intent: &Intent,
        desired: &Kind,
        published: &Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let share = self.share;
        let Some(was) = published.clone() else { return Ok(None) };
        let name = match &intent.staged {
            Some(name) if !intent.kind.is_live() => name.clone(),
            _ => self.reserve(path, intent)?,
        };
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let mode = RenameMode::NoReplace;
        match share.vfs.rename(&parent, path.name(), &staging, name.as_bytes(), mode) {
            Ok(()) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(ShareError::disk("deleting")(error)),
        }
        if self.is_staged_dir(&name)? {
            let back = share.vfs.rename(&staging, name.as_bytes(), &parent, path.name(), mode);
            back.map_err(ShareError::disk("deleting"))?;
            return Ok(None);
        }
        assert!(!desired.is_live(), "what is replaced is swapped, not taken");
        self.touched.insert(path.parent(), parent);
        let displaced = Some(Box::new(self.judge(name, was, intent)?));
        Ok(Some(Outcome::Done { kind: desired.clone(), identity: None, displaced }))
    }

    fn remove_dir(
        &mut self,
        path: &RelPath,
        desired: &Kind,
        published: &mut Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let share = self.share;
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        match share.vfs.remove_dir(&parent, path.name()) {
            Ok(()) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) if is_not_empty(&error) => {
                let implied = !desired.is_live()
                    && self.reader.greatest_live_below(path)?.is_some_and(|_| true);
                if implied {
                    // It stays as long as something below it is live, and is nobody's entry.
                    let kind = desired.clone();
                    return Ok(Some(Outcome::Done { kind, identity: None, displaced: None }));
                }
                // What is in there was not looked at yet, or has to go first.
                share.hint_children(&mut self.dirs, Some(path))?;
                return Ok(Some(Outcome::Wait("the directory is not empty".to_owned())));
            }
            Err(error) => return Err(ShareError::disk("removing a directory")(error)),
        }
        self.dirs.forget(path);
        self.touched.insert(path.parent(), parent);
        if desired.is_live() {
            *published = None;
            return Ok(None);
        }
        Ok(Some(Outcome::Done { kind: desired.clone(), identity: None, displaced: None }))
    }

    /// Mode, mtime and owner of a file or directory whose content stays.
    fn set_metadata(
        &mut self,
        path: &RelPath,
        desired: &Kind,
    ) -> Result<Option<Outcome>, ShareError> {
        let vfs = &self.share.vfs;
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let doing = ShareError::disk("setting metadata");
        let result: io::Result<bool> = (|| match desired {
            Kind::Dir { mode, owner } => {
                let dir = vfs.open_dir(Some(path))?;
                if let Some(owner) = owner {
                    vfs.set_dir_owner(&dir, owner.uid, owner.gid)?;
                }
                vfs.set_dir_mode(&dir, *mode)?;
                Ok(true)
            }
            Kind::File { size, hash, mode, mtime_ns, owner } => {
                let file = vfs.open_file(&parent, path.name())?;
                if let Some(owner) = owner {
                    vfs.set_file_owner(&file, owner.uid, owner.gid)?;
                }
                vfs.set_file_mode(&file, *mode)?;
                vfs.set_file_mtime(&file, *mtime_ns)?;
                // Our mtime may have covered up somebody's write: the content tells.
                let mut hasher = ContentHasher::default();
                let length = hash_range(vfs, &file, &mut hasher, 0, u64::MAX)?;
                let same = length == *size && hasher.finish() == *hash;
                self.files.push(file);
                Ok(same)
            }
            _ => Ok(false),
        })();
        match result {
            Ok(true) => self.placed(path, desired, parent).map(Some),
            Ok(false) => {
                // Whoever writes there will be looked at like any other change.
                self.share.hints.add(path.clone(), Urgency::Finished);
                Ok(Some(Outcome::Wait("being changed here".to_owned())))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(doing(error)),
        }
    }

    /// The name in staging of what is to be published, made now if it is not there.
    fn staged(
        &mut self,
        path: &RelPath,
        intent: &Intent,
    ) -> Result<Result<String, Outcome>, ShareError> {
        let share = self.share;
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        if let Some(name) = &intent.staged {
            match share.vfs.stat(&staging, name.as_bytes()) {
                Ok(_) => return Ok(Ok(name.clone())),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(ShareError::disk("looking into staging")(error)),
            }
        }
        let content = match intent.kind.content() {
            None => None,
            Some((hash, size)) if size > INLINE_BYTES_MAX => {
                return Ok(Err(Outcome::Missing(hash, size)));
            }
            Some((hash, size)) => {
                let record = self.reader.record(path)?;
                match share.find_content(path, &hash, record.as_ref(), &self.reader)? {
                    Some(content) => Some(content),
                    None => {
                        share.env.probe(Point::ContentMissing);
                        return Ok(Err(Outcome::Missing(hash, size)));
                    }
                }
            }
        };
        // Complete and durable before the intent names it: what an intent names is never partial.
        let name = share.staging_name();
        let staged = share.stage(&staging, &name, &intent.kind, content.as_ref());
        let synced = staged.and_then(|file| {
            let files: Vec<_> = file.into_iter().collect();
            share.sync(&files, &[staging])
        });
        if let Err(error) = synced {
            // Best effort: the next start removes what nothing refers to.
            let _ = share.discard([name]);
            return Err(ShareError::disk("staging")(error));
        }
        self.name_in_intent(path, intent, &name)?;
        Ok(Ok(name))
    }

    /// Puts a staging name into the intent before it is used.
    fn reserve(&mut self, path: &RelPath, intent: &Intent) -> Result<String, ShareError> {
        let name = self.share.staging_name();
        self.name_in_intent(path, intent, &name)?;
        Ok(name)
    }

    fn name_in_intent(
        &self,
        path: &RelPath,
        intent: &Intent,
        name: &str,
    ) -> Result<(), ShareError> {
        let mut writer = self.share.index.begin()?;
        writer.put_intent(path, &Intent { staged: Some(name.to_owned()), ..intent.clone() })?;
        writer.commit(self.share.env.random_u64(), true)?;
        Ok(())
    }

    /// Makes the directories above a path exist (PROTOCOL B5).
    fn imply_parents(&mut self, path: &RelPath) -> Result<(), ShareError> {
        if self.dirs.parent(path).is_ok() {
            return Ok(());
        }
        for ancestor in path.ancestors() {
            let known = self.reader.record(&ancestor)?;
            let Kind::Dir { mode, .. } = implied_dir(known.as_ref().map(|record| &record.kind))
            else {
                continue;
            };
            let parent =
                self.dirs.parent(&ancestor).map_err(ShareError::disk("opening a directory"))?;
            match self.share.vfs.make_dir(&parent, ancestor.name(), mode) {
                Ok(()) => {
                    self.touched.insert(ancestor.parent(), parent);
                }
                Err(error) if is_exists(&error) => {}
                Err(error) => return Err(ShareError::disk("making a directory")(error)),
            }
        }
        Ok(())
    }

    fn is_staged_dir(&mut self, name: &str) -> Result<bool, ShareError> {
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let stat = self.share.vfs.stat(&staging, name.as_bytes());
        let stat = stat.map_err(ShareError::disk("looking into staging"))?;
        Ok(stat.file_type == FileType::Dir)
    }

    /// What is to become of what came out.
    fn judge(
        &mut self,
        name: String,
        was: Published,
        intent: &Intent,
    ) -> Result<Displaced, ShareError> {
        let fate =
            self.fate(&name, &was, intent).map_err(ShareError::disk("judging a displaced file"))?;
        Ok(Displaced { name, was, fate })
    }

    fn fate(&mut self, name: &str, was: &Published, intent: &Intent) -> io::Result<Fate> {
        let vfs = &self.share.vfs;
        let staging = self.dirs.staging()?;
        let stat = vfs.stat(&staging, name.as_bytes())?;
        let made_ms = made_ms(&stat, self.share.now_ms());
        if stat.file_type == FileType::Symlink {
            let kind = Kind::Symlink { target: vfs.read_link(&staging, name.as_bytes())? };
            return Ok(if kind == was.kind {
                Fate::Discard
            } else {
                Fate::Change { kind, content: None, made_ms }
            });
        }
        let lost = was.version.concurrent(&intent.version)
            && was.kind.content().is_some()
            && was.kind.content() != intent.kind.content();
        let file = vfs.open_file(&staging, name.as_bytes())?;
        if vfs.has_writer(&file)? == Some(true) {
            return Ok(Fate::Hold);
        }
        if !lost && displaced_as_published(was.identity.as_ref(), &stat) {
            return Ok(Fate::Discard);
        }
        let (hash, bytes, stat) = match read_file(vfs, &staging, name.as_bytes())? {
            Reading::Content { hash, bytes, stat, .. } => (hash, bytes, stat),
            _ => return Ok(Fate::Hold),
        };
        let same = was.kind.content() == Some((hash, stat.size))
            || (stat.size == 0 && matches!(was.kind, Kind::File { size: 0, .. }));
        Ok(match (same, lost) {
            (true, false) => Fate::Discard,
            (true, true) => Fate::Archive(hash, bytes),
            (false, _) => {
                self.share.env.probe(Point::DisplacedChange);
                let kind = file_kind(&stat, hash, has_owner(&was.kind));
                Fate::Change { kind, content: bytes, made_ms }
            }
        })
    }

    fn commit(self, done: BTreeMap<RelPath, (Intent, Outcome)>) -> Result<Unpublished, ShareError> {
        let Job { share, files, touched, .. } = self;
        let mut left = Unpublished::default();
        if done.is_empty() {
            return Ok(left);
        }
        let dirs: Vec<_> = touched.into_values().collect();
        share.sync(&files, &dirs).map_err(ShareError::disk("making a publication durable"))?;
        share.env.probe(Point::Published);
        let mut writer = share.index.begin()?;
        let mut after = Aftermath::default();
        let mut durable = false;
        for (path, (intent, outcome)) in done {
            match outcome {
                Outcome::Done { kind, identity, displaced } => {
                    share.board.solved(&path);
                    if !kind.is_live() {
                        after.gone.push(path.clone());
                    }
                    record_published(
                        &mut writer,
                        &path,
                        &intent,
                        kind,
                        identity,
                        &mut after,
                        &displaced,
                    )?;
                    if let Some(displaced) = displaced {
                        durable |= share.settle(&mut writer, &path, *displaced, &mut after)?;
                    }
                }
                Outcome::Moot => share.board.solved(&path),
                Outcome::LeftAlone => {
                    share.board.solved(&path);
                    after.garbage.extend(writer.remove_intent(&path)?.and_then(|old| old.staged));
                }
                Outcome::Missing(hash, size) => left.missing.push((path, hash, size)),
                Outcome::Wait(reason) => share.board.waiting(&path, reason, share.now_ms()),
                Outcome::Problem(reason) => share.board.problem(&path, &reason, share.now_ms()),
            }
        }
        // Not durable without need: after a crash the intents are still there, and are found done.
        writer.commit(share.env.random_u64(), durable)?;
        share.board.touch();
        share.finish(after)?;
        Ok(left)
    }
}

fn record_published(
    writer: &mut Writer,
    path: &RelPath,
    intent: &Intent,
    kind: Kind,
    identity: Option<Identity>,
    after: &mut Aftermath,
    displaced: &Option<Box<Displaced>>,
) -> Result<(), ShareError> {
    let Some(mut record) = writer.record(path)? else { return Ok(()) };
    record.publish(Published { kind, version: intent.version.clone(), identity });
    writer.put_record(path, &record)?;
    let current = writer.intent(path)?;
    if current.as_ref().is_some_and(|current| current.version.dot == intent.version.dot) {
        writer.remove_intent(path)?;
        let out = displaced.as_ref().map(|displaced| &displaced.name);
        // A staged content that was not needed, because only metadata changed.
        if let Some(name) = current.and_then(|current| current.staged)
            && out != Some(&name)
            && intent.kind.is_live()
        {
            after.garbage.push(name);
        }
    }
    Ok(())
}

impl<E: Env> Share<E> {
    /// Decides about what came out; says whether that has to be durable at once.
    fn settle(
        &self,
        writer: &mut Writer,
        path: &RelPath,
        displaced: Displaced,
        after: &mut Aftermath,
    ) -> Result<bool, ShareError> {
        let Displaced { name, was, fate } = displaced;
        match fate {
            Fate::Discard => match was.kind.content() {
                Some((hash, size)) if size > INLINE_BYTES_MAX => after.spare.push((name, hash)),
                _ => after.garbage.push(name),
            },
            Fate::Archive(hash, content) => {
                match content {
                    Some(content) => self.to_archive(&hash, &content)?,
                    None => self.staged_to_archive(&hash, &name)?,
                }
                after.garbage.push(name);
            }
            Fate::Hold => {
                writer.put_held(&name, &Held { path: path.clone(), was })?;
                return Ok(true);
            }
            Fate::Change { kind, content, made_ms } => {
                let place = Place::Staged { name, base: was };
                let change =
                    Change { path: path.clone(), kind, made: Made::At(made_ms), content, place };
                self.record_change(writer, change, self.author(), after)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks at displaced files that somebody had open: once nobody has, each is thrown away or is a
    /// change. The caller holds the gate.
    pub fn release_held(&self) -> Result<(), ShareError> {
        let held = self.index.read()?.held()?;
        if held.is_empty() {
            return Ok(());
        }
        let mut dirs = Dirs::new(&self.vfs);
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let mut after = Aftermath::default();
        let mut writer = self.index.begin()?;
        for (name, Held { path, was }) in held {
            let read = read_file(&self.vfs, &staging, name.as_bytes());
            match read.map_err(ShareError::disk("reading a displaced file"))? {
                Reading::Writing | Reading::Torn => continue,
                Reading::Gone => {}
                Reading::Content { hash, bytes, stat, .. } => {
                    let kind = file_kind(&stat, hash, has_owner(&was.kind));
                    let unchanged = kind.content() == was.kind.content();
                    let lost = writer.record(&path)?.is_some_and(|record| {
                        record.version.concurrent(&was.version)
                            && record.kind.content() != was.kind.content()
                    });
                    let fate = match (unchanged, lost) {
                        (true, false) => Fate::Discard,
                        (true, true) => Fate::Archive(hash, bytes),
                        (false, _) => {
                            let made_ms = made_ms(&stat, self.now_ms());
                            Fate::Change { kind, content: bytes, made_ms }
                        }
                    };
                    let displaced = Displaced { name: name.clone(), was, fate };
                    self.settle(&mut writer, &path, displaced, &mut after)?;
                }
            }
            writer.remove_held(&name)?;
        }
        writer.commit(self.env.random_u64(), true)?;
        self.finish(after)
    }

    /// Makes a file or symlink in staging, complete with its metadata. Not durable yet.
    pub fn stage(
        &self,
        staging: &<E::Vfs as Vfs>::Dir,
        name: &str,
        kind: &Kind,
        content: Option<&Bytes>,
    ) -> io::Result<Option<<E::Vfs as Vfs>::File>> {
        match kind {
            Kind::File { .. } => {
                let file = self.vfs.create_file(staging, name.as_bytes())?;
                if let Some(content) = content {
                    self.vfs.write_at(&file, content, 0)?;
                }
                self.dress(&file, kind)?;
                Ok(Some(file))
            }
            Kind::Symlink { target } => {
                self.vfs.make_symlink(staging, name.as_bytes(), target)?;
                Ok(None)
            }
            // Only to be exchanged for a file: a free name is taken by mkdir itself.
            Kind::Dir { mode, .. } => {
                self.vfs.make_dir(staging, name.as_bytes(), *mode)?;
                Ok(None)
            }
            Kind::Tombstone { .. } => Ok(None),
        }
    }
}

impl<E: Env> Share<E> {
    /// Owner, mode and mtime of a staged file. In this order: chown(2) takes away mode bits.
    fn dress(&self, file: &<E::Vfs as Vfs>::File, kind: &Kind) -> io::Result<()> {
        let Kind::File { mode, mtime_ns, owner, .. } = kind else { return Ok(()) };
        if let Some(owner) = owner {
            self.vfs.set_file_owner(file, owner.uid, owner.gid)?;
        }
        self.vfs.set_file_mode(file, *mode)?;
        self.vfs.set_file_mtime(file, *mtime_ns)
    }

    /// A content that was fetched is published, if it is still wanted at the path. The caller holds
    /// the gate.
    pub fn adopt_content(
        &self,
        path: &RelPath,
        content: (ContentHash, u64),
    ) -> Result<Unpublished, ShareError> {
        let partial = partial_name(&content.0);
        let intent = self.index.read()?.intent(path)?;
        let wanted = intent
            .filter(|intent| intent.kind.content() == Some(content) && intent.staged.is_none());
        let Some(intent) = wanted else {
            self.discard([partial]).map_err(ShareError::disk("removing a staged file"))?;
            return Ok(Unpublished::default());
        };
        let name = self.staging_name();
        let dressed = (|| {
            let staging = self.vfs.open_dir(Some(&own_path(STAGING)))?;
            let file = self.vfs.open_own_file(&staging, partial.as_bytes())?;
            self.dress(&file, &intent.kind)?;
            // A name of its own: what comes out when it is published must not be taken for a
            // content under way.
            let mode = RenameMode::NoReplace;
            self.vfs.rename(&staging, partial.as_bytes(), &staging, name.as_bytes(), mode)?;
            self.sync(&[file], &[Arc::new(staging)])
        })();
        match dressed {
            Ok(()) => {}
            Err(error) if is_disk_trouble(&error) => {
                return Err(ShareError::disk("staging")(error));
            }
            Err(error) => {
                self.board.problem(path, &error, self.now_ms());
                return Ok(Unpublished::default());
            }
        }
        let mut writer = self.index.begin()?;
        writer.put_intent(path, &Intent { staged: Some(name), ..intent })?;
        writer.commit(self.env.random_u64(), true)?;
        self.spares.note(content.0, path.clone());
        self.publish(vec![path.clone()])
    }
}

/// Whether a stat shows what a kind says, as far as it can.
fn looks_like(kind: &Kind, stat: &Stat) -> bool {
    match kind {
        Kind::File { size, mtime_ns, .. } => {
            stat.file_type == FileType::File && stat.size == *size && stat.mtime_ns == *mtime_ns
        }
        Kind::Dir { .. } => stat.file_type == FileType::Dir,
        Kind::Symlink { .. } => stat.file_type == FileType::Symlink,
        Kind::Tombstone { .. } => false,
    }
}

fn is_exists(error: &io::Error) -> bool {
    const EEXIST: i32 = 17;
    error.raw_os_error() == Some(EEXIST)
}

fn is_not_empty(error: &io::Error) -> bool {
    const ENOTEMPTY: i32 = 39;
    error.raw_os_error() == Some(ENOTEMPTY)
}
