//! The effects: one atomic call on a final name each, which cannot destroy an edit.

use std::io;
use std::sync::Arc;

use chainsync_core::hints::Urgency;
use chainsync_core::projection::implied_dir;
use chainsync_core::{ContentHasher, FileType, Identity, Kind, Published, RelPath, Stat};
use chainsync_env::{Env, Point, RenameMode, Vfs};

use super::{Job, Outcome};
use crate::disk::{dir_kind, has_owner, is_absent};
use crate::index::{Intent, Rows};
use crate::large::partial::hash_range;
use crate::share::ShareError;

impl<E: Env> Job<'_, E> {
    /// A free name is taken.
    pub(super) fn place(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
        desired: &Kind,
    ) -> Result<Option<Outcome>, ShareError> {
        self.imply_parents(path)?;
        let share = self.share;
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let mut used = None;
        if let Kind::Dir { mode, owner } = desired {
            match share.vfs.make_dir(&parent, path.name(), *mode) {
                Ok(()) => self.effected = true,
                Err(error) if is_exists(&error) => {
                    share.env.probe(Point::NameTaken);
                    return Ok(None);
                }
                Err(error) => return Err(ShareError::disk("making a directory")(error)),
            }
            let dir = self.dirs.dir(Some(path)).map_err(ShareError::disk("opening"))?;
            // Its mode is durable with it itself, its name with its parent.
            self.touched.insert(Some(path.clone()), dir.clone());
            if let Some(owner) = owner {
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
                Ok(()) => self.effected = true,
                Err(error) if is_exists(&error) => {
                    share.env.probe(Point::NameTaken);
                    return Ok(None);
                }
                Err(error) if is_absent(&error) && self.is_lost(path, intent)? => return Ok(None),
                Err(error) => return Err(ShareError::disk("publishing")(error)),
            }
            used = Some(name);
        }
        self.placed(path, desired, parent, used).map(Some)
    }

    /// Notes what is at the name now. `used`: what it was called in staging.
    pub(super) fn placed(
        &mut self,
        path: &RelPath,
        kind: &Kind,
        parent: Arc<<E::Vfs as Vfs>::Dir>,
        used: Option<String>,
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
        Ok(Outcome::Done { kind: kind.clone(), identity, displaced: None, used })
    }

    /// A published file or symlink changes places with the staged one.
    pub(super) fn swap(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
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
            Ok(()) => self.effected = true,
            // One of the names went away: look again.
            Err(error) if is_absent(&error) => {
                self.is_lost(path, intent)?;
                return Ok(None);
            }
            Err(error) => return Err(ShareError::disk("publishing")(error)),
        }
        if self.is_staged_dir(&name)? && !was.kind.is_dir() && !desired.is_dir() {
            // Somebody was quick and made a directory there: back it goes, and is looked at.
            let back = share.vfs.rename(&staging, name.as_bytes(), &parent, path.name(), exchange);
            back.map_err(ShareError::disk("publishing"))?;
            return Ok(None);
        }
        self.dirs.forget(path);
        let mut outcome = self.placed(path, desired, parent, Some(name.clone()))?;
        if let Outcome::Done { displaced, .. } = &mut outcome {
            *displaced = Some(Box::new(self.judge(name, was, intent, false)?));
        }
        Ok(Some(outcome))
    }

    /// A published file or symlink moves out.
    pub(super) fn take(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
        desired: &Kind,
        published: &Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let share = self.share;
        let Some(was) = published.clone() else { return Ok(None) };
        let name = match &intent.staged {
            Some(name) if !intent.kind.is_live() => name.clone(),
            staged => {
                // A newer content, which is hidden as well.
                let hidden = staged.clone();
                let name = self.reserve(path, intent)?;
                let gone = self.share.discard(hidden);
                gone.map_err(ShareError::disk("removing a staged file"))?;
                name
            }
        };
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let mode = RenameMode::NoReplace;
        match share.vfs.rename(&parent, path.name(), &staging, name.as_bytes(), mode) {
            Ok(()) => self.effected = true,
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
        let hidden = intent.kind.is_live();
        let used = Some(name.clone());
        let displaced = Some(Box::new(self.judge(name, was, intent, hidden)?));
        Ok(Some(Outcome::Done { kind: desired.clone(), identity: None, displaced, used }))
    }

    pub(super) fn remove_dir(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
        desired: &Kind,
        published: &mut Option<Published>,
    ) -> Result<Option<Outcome>, ShareError> {
        let share = self.share;
        if desired.is_live() {
            // Before the name is free: one that is gone and not taken again is a deletion to whoever
            // looks at it.
            self.is_lost(path, intent)?;
            if let Err(outcome) = self.staged(path, intent)? {
                return Ok(Some(outcome));
            }
        }
        if !self.try_remove_dir(path)? {
            if !desired.is_live() && share.is_needed_below(&self.reader, path)? {
                return self.keep_implied(path, intent, desired).map(Some);
            }
            if let Some(left) = self.only_holds_unreplicated(path)? {
                return Ok(Some(Outcome::Problem(left)));
            }
            // What is in there was not looked at yet, or has to go first.
            share.hint_children(&mut self.dirs, Some(path))?;
            return Ok(Some(not_empty()));
        }
        if desired.is_live() {
            *published = None;
            return Ok(None);
        }
        Ok(Some(Outcome::gone(desired)))
    }

    /// A directory that was only there for what was below it makes room. `None`: look again.
    pub(super) fn remove_implied(&mut self, path: &RelPath) -> Result<Option<Outcome>, ShareError> {
        Ok(if self.try_remove_dir(path)? { None } else { Some(not_empty()) })
    }

    /// Removes a directory; false if it is not empty.
    fn try_remove_dir(&mut self, path: &RelPath) -> Result<bool, ShareError> {
        let parent = self.dirs.parent(path).map_err(ShareError::disk("opening a directory"))?;
        match self.share.vfs.remove_dir(&parent, path.name()) {
            Ok(()) => self.effected = true,
            Err(error) if is_absent(&error) => {}
            Err(error) if is_not_empty(&error) => return Ok(false),
            Err(error) => return Err(ShareError::disk("removing a directory")(error)),
        }
        self.dirs.forget(path);
        self.touched.insert(path.parent(), parent);
        Ok(true)
    }

    /// If all that keeps a directory from being removed is what is never replicated: words that say
    /// so. It stays, for somebody put that there and nobody else has it.
    pub(super) fn only_holds_unreplicated(
        &mut self,
        path: &RelPath,
    ) -> Result<Option<String>, ShareError> {
        let share = self.share;
        let names = share.list_names(&mut self.dirs, Some(path))?.names;
        for name in &names {
            let stat = self.dirs.stat(name).map_err(ShareError::disk("looking at a path"))?;
            let Some(stat) = stat else { return Ok(None) };
            let ordinary =
                matches!(stat.file_type, FileType::File | FileType::Dir | FileType::Symlink);
            let excluded = share.is_excluded(name, stat.file_type == FileType::Dir);
            if ordinary && !excluded && stat.device == share.device {
                return Ok(None);
            }
        }
        Ok(names.first().map(|first| {
            format!(
                "deleted on another node, but it still holds `{first}`, which is not replicated: remove that, or make the directory again"
            )
        }))
    }

    /// Mode, mtime and owner of a file or directory whose content stays.
    pub(super) fn set_metadata(
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
                self.touched.insert(Some(path.clone()), Arc::new(dir));
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
            Ok(true) => self.placed(path, desired, parent, None).map(Some),
            Ok(false) => {
                // Whoever writes there will be looked at like any other change.
                self.share.hints.add(path.clone(), Urgency::Finished);
                Ok(Some(Outcome::Wait("being changed here".to_owned())))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(doing(error)),
        }
    }

    /// A directory that is deleted, or a file is in its place, stays as long as something below it is on
    /// disk: nobody's entry, and the same on all nodes.
    pub(super) fn keep_implied(
        &mut self,
        path: &RelPath,
        intent: &Intent,
        desired: &Kind,
    ) -> Result<Outcome, ShareError> {
        let implied = implied_dir(Some(&intent.kind));
        let looking = || ShareError::disk("looking");
        let stat = self.dirs.stat(path).map_err(looking())?;
        if stat.is_some_and(|stat| dir_kind(&stat, has_owner(&implied)) != implied) {
            self.set_metadata(path, &implied)?;
        }
        if let Some(stat) = self.dirs.stat(path).map_err(looking())? {
            self.share.note_implied(path, &stat);
        }
        Ok(Outcome::gone(desired))
    }

    /// Makes the directories above a path exist (PROTOCOL B5).
    pub(super) fn imply_parents(&mut self, path: &RelPath) -> Result<(), ShareError> {
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
            match self.make_implied_dir(&parent, ancestor.name(), mode) {
                Ok(()) => {
                    let stat = self.dirs.stat(&ancestor).map_err(ShareError::disk("looking"))?;
                    if let Some(stat) = stat {
                        self.share.note_implied(&ancestor, &stat);
                    }
                    let dir =
                        self.dirs.dir(Some(&ancestor)).map_err(ShareError::disk("opening"))?;
                    self.touched.insert(Some(ancestor.clone()), dir);
                    self.touched.insert(ancestor.parent(), parent);
                }
                Err(error) if is_exists(&error) => {}
                Err(error) => return Err(ShareError::disk("making a directory")(error)),
            }
        }
        Ok(())
    }

    /// Made in staging and given its name with its mode: no intent tells of it, and one with the mode
    /// that mkdir gives would be somebody's after a crash.
    fn make_implied_dir(
        &mut self,
        parent: &<E::Vfs as Vfs>::Dir,
        name: &[u8],
        mode: u32,
    ) -> io::Result<()> {
        let (vfs, staged) = (&self.share.vfs, self.share.staging_name());
        let staging = self.dirs.staging()?;
        vfs.make_dir(&staging, staged.as_bytes(), mode)?;
        let named = vfs.rename(&staging, staged.as_bytes(), parent, name, RenameMode::NoReplace);
        if named.is_err() {
            // Left there if this fails, too: the next start removes it.
            let _ = vfs.remove_dir(&staging, staged.as_bytes());
        }
        named
    }

    pub(super) fn is_staged_dir(&mut self, name: &str) -> Result<bool, ShareError> {
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let stat = self.share.vfs.stat(&staging, name.as_bytes());
        let stat = stat.map_err(ShareError::disk("looking into staging"))?;
        Ok(stat.file_type == FileType::Dir)
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

fn not_empty() -> Outcome {
    Outcome::Wait("the directory is not empty".to_owned())
}

pub(super) fn is_exists(error: &io::Error) -> bool {
    const EEXIST: i32 = 17;
    error.raw_os_error() == Some(EEXIST)
}

fn is_not_empty(error: &io::Error) -> bool {
    const ENOTEMPTY: i32 = 39;
    error.raw_os_error() == Some(ENOTEMPTY)
}
