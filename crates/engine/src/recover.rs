//! Judging what a crash left behind: intents half done, and what lies in staging.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;

use chainsync_core::{ContentHash, FileType, Identity, Kind, Published, Record, RelPath};
use chainsync_env::{Env, Point, Vfs};

use crate::change::{Aftermath, Change, Made, Place};
use crate::disk::{
    Dirs, Reading, file_kind, has_owner, is_absent, is_disk_trouble, read_file, shows,
};
use crate::index::{Held, Intent, Rows};
use crate::large::is_of_large;
use crate::large::partial::partial_name;
use crate::large::queue::Wanted;
use crate::share::{Share, ShareError};

/// What an intent left in staging.
struct Leftover<'a> {
    path: &'a RelPath,
    intent: &'a Intent,
    was: Option<Published>,
    /// It was taken from its name although it is not deleted (`displaced.rs`).
    hidden: bool,
}

impl<E: Env> Share<E> {
    /// Judges every intent that the last run left, and everything that lies in staging. The caller
    /// holds the gate.
    pub fn recover(&self) -> Result<(), ShareError> {
        self.judge_intents(true)
    }

    /// If publishing failed half-way, finds out what it did before anybody looks at the disk: its
    /// effects must not be taken for somebody's changes. The caller holds the gate.
    pub fn settle_doubts(&self) -> Result<(), ShareError> {
        if self.doubtful.load(Ordering::Relaxed) {
            self.judge_intents(false)?;
            self.doubtful.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// `starting`: nothing else uses staging, so that what is left over there can go.
    fn judge_intents(&self, starting: bool) -> Result<(), ShareError> {
        let reader = self.index.read()?;
        let intents = reader.intents()?;
        let held: Vec<String> = reader.held()?.into_iter().map(|(name, _)| name).collect();
        let mut dirs = Dirs::new(&self.vfs);
        let mut writer = self.index.begin()?;
        let mut after = Aftermath::default();
        let mut found_done = false;
        for (path, intent) in &intents {
            let Some(record) = writer.record(path)? else { continue };
            let desired = self.desired(&reader, path, &record)?;
            match self.find_done(&mut dirs, (path, intent), &record, &desired)? {
                None => {
                    self.env.probe(Point::IntentFoundUndone);
                    after.publish.push(path.clone());
                    if !self.holds_new(&mut dirs, intent)? {
                        // It happened, and the name was changed again since: what is in staging
                        // came out, and must not go back in as if it were new.
                        let was = record.published();
                        let unstaged = Intent { staged: None, ..intent.clone() };
                        writer.put_intent(path, unstaged);
                        let left = Leftover { path, intent, was, hidden: false };
                        self.judge_leftover(&mut dirs, &mut writer, left, &mut after)?;
                    }
                }
                Some(identity) => {
                    self.env.probe(Point::IntentFoundDone);
                    found_done = true;
                    let was = record.published();
                    let hidden = intent.kind.is_live() && !desired.is_live();
                    let mut record = record;
                    record.publish(Published {
                        kind: desired,
                        version: intent.version.clone(),
                        identity,
                    });
                    writer.put_record(path, record);
                    writer.remove_intent(path)?;
                    let left = Leftover { path, intent, was, hidden };
                    self.judge_leftover(&mut dirs, &mut writer, left, &mut after)?;
                }
            }
        }
        let removed =
            if starting { self.sweep_staging(&mut dirs, &intents, &held, &after)? } else { 0 };
        if found_done {
            // The run that did it may have died, or its sync failed, before it was durable (S6).
            self.sync_all().map_err(ShareError::disk("making a publication durable"))?;
        }
        writer.commit(self.env.random_u64(), true)?;
        if !intents.is_empty() || removed > 0 {
            tracing::info!(intents = intents.len(), removed, "recovered after an unclean stop");
        }
        self.finish(after)
    }

    /// Whether the disk already shows what an intent wants and the record does not say so yet.
    fn find_done(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        (path, intent): (&RelPath, &Intent),
        record: &Record,
        desired: &Kind,
    ) -> Result<Option<Option<Identity>>, ShareError> {
        let stat = dirs.stat(path).map_err(ShareError::disk("looking at a path"))?;
        if !desired.is_live() {
            let Some(was) = record.published().filter(|was| was.kind.is_live()) else {
                return Ok(None);
            };
            let gone = match stat {
                None => true,
                // Taken away, and a directory made in its place for what is below it.
                Some(stat) => {
                    stat.file_type == FileType::Dir
                        && !was.kind.is_dir()
                        && self.holds_taken(dirs, intent, &was.kind)?
                }
            };
            return Ok(gone.then_some(None));
        }
        if stat.is_none() {
            return Ok(None);
        }
        let looked = self.env.wall_ns();
        let parent = dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let shown = || {
            shows(&self.vfs, &parent, path.name(), desired, looked)
                .map_err(ShareError::disk("reading a path"))
        };
        let mut found = shown()?;
        let is_dir = stat.is_some_and(|stat| stat.file_type == FileType::Dir);
        if found.is_none() && is_dir && !record.is_live_on_disk() && desired.is_dir() {
            // A directory is made, and then it gets its mode and owner: the run may have ended in
            // between, and what it left is nobody's change.
            self.finish_dir(path, desired).map_err(ShareError::disk("finishing a directory"))?;
            found = shown()?;
        }
        Ok(found.map(Some))
    }

    fn finish_dir(&self, path: &RelPath, desired: &Kind) -> io::Result<()> {
        let Kind::Dir { mode, owner } = desired else { return Ok(()) };
        let dir = self.vfs.open_dir(Some(path))?;
        if let Some(owner) = owner {
            self.vfs.set_dir_owner(&dir, owner.uid, owner.gid)?;
        }
        self.vfs.set_dir_mode(&dir, *mode)
    }

    /// Whether what an intent has in staging is what it wants to publish, or nothing.
    fn holds_new(&self, dirs: &mut Dirs<'_, E::Vfs>, intent: &Intent) -> Result<bool, ShareError> {
        Ok(self.staged_shows(dirs, intent, &intent.kind)?.unwrap_or(true))
    }

    /// Whether what an intent has in staging is what it took from its name. Of a file that is hidden the
    /// two may be the same content: then it was not put there to be published.
    fn holds_taken(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        intent: &Intent,
        was: &Kind,
    ) -> Result<bool, ShareError> {
        let new = self.staged_shows(dirs, intent, &intent.kind)?;
        let old = self.staged_shows(dirs, intent, was)?;
        Ok(old == Some(true) || new == Some(false))
    }

    /// Whether what an intent has in staging is of this kind; `None`: it has nothing there.
    fn staged_shows(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        intent: &Intent,
        kind: &Kind,
    ) -> Result<Option<bool>, ShareError> {
        let Some(name) = &intent.staged else { return Ok(None) };
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        match self.vfs.stat(&staging, name.as_bytes()) {
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(ShareError::disk("looking into staging")(error)),
            Ok(_) => {}
        }
        let looked = self.env.wall_ns();
        let found = shows(&self.vfs, &staging, name.as_bytes(), kind, looked);
        Ok(Some(found.map_err(ShareError::disk("reading staging"))?.is_some()))
    }

    /// The effect happened; what it displaced may still be in staging. If it is neither the old nor
    /// the new content, somebody's edit was displaced and is a change to the old (PROTOCOL A6).
    fn judge_leftover(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        writer: &mut crate::index::Writer,
        left: Leftover<'_>,
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        let Leftover { path, intent, was, hidden } = left;
        let Some(name) = &intent.staged else { return Ok(()) };
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let read = read_file(&self.vfs, &staging, name.as_bytes());
        let (hash, bytes, stat) = match read {
            Ok(Reading::Content { hash, bytes, stat, .. }) => (hash, bytes, stat),
            // Nothing that can be opened: gone, or a symlink.
            Ok(Reading::Gone) => {
                return self.judge_symlink(&staging, writer, path, name, was, after);
            }
            Ok(Reading::Writing | Reading::Torn) => {
                // Judged when whoever writes it has closed it.
                if let Some(was) = was {
                    writer.put_held(name, &Held { path: path.clone(), was })?;
                }
                return Ok(());
            }
            // A directory made to be exchanged: nothing in it can have been edited.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Ok(()),
            Err(error) if is_disk_trouble(&error) => {
                return Err(ShareError::disk("reading a displaced file")(error));
            }
            Err(_) => {
                // Judged when it can be read.
                if let Some(was) = was {
                    writer.put_held(name, &Held { path: path.clone(), was })?;
                }
                return Ok(());
            }
        };
        let content = (stat.size > 0).then_some((hash, stat.size));
        let is = |kind: &Kind| matches!(kind, Kind::File { .. }) && kind.content() == content;
        let old = was.as_ref().is_some_and(|was| is(&was.kind));
        let concurrent = was.as_ref().is_some_and(|was| was.version.concurrent(&intent.version));
        let dropped = was.as_ref().is_some_and(|was| crate::publish::is_dropped(was, intent));
        let lost = content.is_some() && (hidden || concurrent || dropped);
        if (is(&intent.kind) && !hidden) || (old && !lost) {
            after.garbage.push(name.clone());
        } else if old {
            match &bytes {
                Some(bytes) => self.to_archive(&hash, bytes)?,
                None => self.staged_to_archive(&hash, name)?,
            }
            after.garbage.push(name.clone());
        } else if let Some(was) = was {
            self.env.probe(Point::IntentFoundOvertaken);
            let kind = file_kind(&stat, hash, has_owner(&was.kind));
            let made = Made::At(chainsync_core::decide::made_ms(&stat, self.now_ms()));
            let place = Place::Staged { name: name.clone(), base: was };
            let change = Change { path: path.clone(), kind, made, content: bytes, place };
            self.record_change(writer, change, self.author(), after)?;
        }
        Ok(())
    }

    /// The same for a symlink that was displaced, if there is one.
    fn judge_symlink(
        &self,
        staging: &<E::Vfs as Vfs>::Dir,
        writer: &mut crate::index::Writer,
        path: &RelPath,
        name: &str,
        was: Option<Published>,
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        let (Ok(target), Some(was)) = (self.vfs.read_link(staging, name.as_bytes()), was) else {
            return Ok(());
        };
        let kind = Kind::Symlink { target };
        if kind == was.kind {
            after.garbage.push(name.to_owned());
            return Ok(());
        }
        let made = Made::At(self.now_ms());
        let place = Place::Staged { name: name.to_owned(), base: was };
        let change = Change { path: path.clone(), kind, made, content: None, place };
        self.record_change(writer, change, self.author(), after)
    }

    /// Removes from staging what no intent refers to: contents whose batch was never recorded.
    fn sweep_staging(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        intents: &[(RelPath, Intent)],
        held: &[String],
        after: &Aftermath,
    ) -> Result<usize, ShareError> {
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let listed = self.vfs.list(&staging).map_err(ShareError::disk("listing staging"))?;
        let mut used: BTreeSet<&[u8]> = intents
            .iter()
            .filter_map(|(_, intent)| intent.staged.as_deref())
            .map(str::as_bytes)
            .collect();
        used.extend(held.iter().map(String::as_bytes));
        used.extend(after.garbage.iter().map(String::as_bytes));
        let unstaged = intents.iter().filter(|(_, intent)| intent.staged.is_none());
        let wanted: BTreeMap<String, (&RelPath, ContentHash, u64)> = unstaged
            .filter_map(|(path, intent)| intent.kind.content().map(|content| (path, content)))
            .map(|(path, (hash, size))| (partial_name(&hash), (path, hash, size)))
            .collect();
        let under_way = |name: &[u8]| std::str::from_utf8(name).ok().and_then(|n| wanted.get(n));
        // An index that is new, in a tree that is not.
        let forgotten = !self.index.state().imported;
        let mut removed = 0;
        for entry in listed {
            if let Some((path, hash, size)) = under_way(&entry.name) {
                // Gone on with; or removed by its pull, if a change overtakes it before that begins.
                self.pulls.want(Wanted { path: (*path).clone(), hash: *hash, size: *size });
                continue;
            }
            if used.contains(entry.name.as_slice()) {
                continue;
            }
            if forgotten {
                self.keep_nameless(&staging, &entry.name)?;
            }
            match self.vfs.unlink(&staging, &entry.name) {
                Ok(()) => removed += 1,
                Err(error) if is_absent(&error) => {}
                Err(_) => {
                    let removal = self.vfs.remove_dir(&staging, &entry.name);
                    removal.map_err(ShareError::disk("emptying staging"))?;
                }
            }
        }
        Ok(removed)
    }

    /// What is in staging when the index is lost came from a peer, or was displaced and is the only copy
    /// of an edit: nobody can tell, and nobody knows its name. Large contents under way are the former.
    fn keep_nameless(&self, staging: &<E::Vfs as Vfs>::Dir, name: &[u8]) -> Result<(), ShareError> {
        if is_of_large(name) {
            return Ok(());
        }
        match read_file(&self.vfs, staging, name) {
            Ok(Reading::Content { hash, bytes, stat, .. }) if stat.size > 0 => {
                match (bytes, std::str::from_utf8(name)) {
                    (Some(bytes), _) => self.to_archive(&hash, &bytes),
                    (None, Ok(name)) => self.staged_to_archive(&hash, name),
                    (None, Err(_)) => Ok(()),
                }
            }
            Err(error) if is_disk_trouble(&error) => {
                Err(ShareError::disk("reading what is left in staging")(error))
            }
            _ => Ok(()),
        }
    }
}
