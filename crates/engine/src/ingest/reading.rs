//! What is at a path: of a directory its mode, of a symlink its target, of a file its content, with
//! everything made note of that has to be durable before the index says so.

use std::io;

use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::decide::made_ms;
use chainsync_core::entry::SYMLINK_TARGET_BYTES_MAX;
use chainsync_core::hints::Urgency;
use chainsync_core::projection::implied_dir;
use chainsync_core::recipe::FILE_BYTES_MAX;
use chainsync_core::{Dot, FileType, Identity, Kind, Published, RelPath, Stat};
use chainsync_env::{Env, Point, Vfs};

use super::{Finding, Job, Occasion, Seen};
use crate::change::Made;
use crate::disk::{Reading, dir_kind, file_kind, is_absent, is_exhausted, read_file};
use crate::index::Rows;
use crate::share::{SYNC_SINGLY_MAX, ShareError, lock};

/// Why a file is too large.
struct TooLarge(u64);

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the file has {} bytes: at most {FILE_BYTES_MAX} are carried", self.0)
    }
}

/// Why a file that is larger than its share allows is a problem.
struct OverLimit {
    size: u64,
    max: u64,
}

impl std::fmt::Display for OverLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size, max } = self;
        write!(f, "the file has {size} bytes, more than `max_file_size` allows here ({max})")
    }
}

impl<E: Env> Job<'_, E> {
    /// Something is at the path that is not, or may not be, what was published.
    pub(super) fn read(
        &mut self,
        path: &RelPath,
        urgency: Urgency,
        stat: &Stat,
        published: Option<Published>,
    ) -> Result<(), ShareError> {
        let max = self.share.settings().limits.max_file_size.unwrap_or(u64::MAX);
        let read = match stat.file_type {
            FileType::Dir => self.read_dir(path, stat, published.as_ref()),
            FileType::Symlink => self.read_symlink(path, stat),
            _ if stat.size > max => {
                self.problem(path, &OverLimit { size: stat.size, max });
                return Ok(());
            }
            _ if stat.size > INLINE_BYTES_MAX => self.read_large(path, urgency),
            _ => self.read_content(path, urgency),
        };
        let (kind, content, stat, looked_ns) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            // It went away while we looked: its own hint comes.
            Err(error) if is_absent(&error) => {
                self.share.hints.add(path.clone(), Urgency::Finished);
                return Ok(());
            }
            Err(error) if is_exhausted(&error) => {
                return Err(ShareError::disk("reading a path")(error));
            }
            Err(error) => {
                self.problem(path, &error);
                return Ok(());
            }
        };
        let identity = Identity::of(&stat, looked_ns, self.share.vfs.ctime_tick_ns());
        if published.as_ref().is_some_and(|published| published.kind == kind) {
            self.findings.insert(path.clone(), (published, Finding::Refresh(identity)));
            return Ok(());
        }
        let importing = !self.reader.state().imported && published.is_none();
        let made = if importing {
            Made::Import(stat)
        } else {
            Made::At(made_ms(&stat, self.share.now_ms()))
        };
        let change = Finding::Change { kind, made, content, identity: Some(identity) };
        self.findings.insert(path.clone(), (published, change));
        if stat.file_type == FileType::File && self.occasion != Occasion::Sweep {
            // A write through one name raises no event for the others.
            let others = lock(&self.share.links).others(path, &stat);
            if others.incomplete {
                self.looked.search.insert(stat.inode);
            }
            let others = others.names.into_iter().map(|name| (name, Urgency::Finished));
            self.looked.follow.extend(others);
        }
        Ok(())
    }

    fn read_dir(
        &mut self,
        path: &RelPath,
        stat: &Stat,
        published: Option<&Published>,
    ) -> io::Result<Option<Seen>> {
        let is_new = published.is_none_or(|published| !published.kind.is_live());
        if is_new && self.is_implied(path, stat) {
            self.share.note_implied(path, stat);
            return Ok(None);
        }
        // Its mode is durable with it itself, its name with its parent. One that cannot be opened is a
        // problem, like a file that cannot be read: under such a mode no other node could open its own
        // either, not even to give it a better one.
        let dir = self.dirs.dir(Some(path))?;
        self.touched.insert(Some(path.clone()), dir);
        self.touch_parent(path)?;
        Ok(Some((dir_kind(stat, self.share.config.owner), None, *stat, self.looked_ns)))
    }

    /// Whether a directory is only there because something below it is (PROTOCOL B5), and so is no
    /// change of anybody's.
    fn is_implied(&self, path: &RelPath, stat: &Stat) -> bool {
        if self.occasion != Occasion::Sweep {
            // Those that are implied are noted: any other was made by somebody, over a deleted one,
            // and one with another mode is wanted by somebody as it is now.
            return self.share.is_noted_implied(path, stat);
        }
        let mine = self.share.authors();
        let foreign = |dot: &Dot| !mine.contains(&dot.replica);
        let record = self.reader.record(path).ok().flatten();
        let Kind::Dir { mode, .. } = implied_dir(record.as_ref().map(|record| &record.kind)) else {
            return false;
        };
        if stat.mode != mode && self.reader.intent(path).is_ok_and(|intent| intent.is_none()) {
            // As above; what is about to be published sets the mode by itself.
            return false;
        }
        let deleted = record.is_some();
        let mut implied = false;
        let below = self.reader.below(path, &mut |record| {
            if let Some(published) = record.published() {
                implied |= published.kind.is_live() && (deleted || foreign(&published.version.dot));
            }
            false
        });
        below.is_ok() && implied
    }

    fn read_symlink(&mut self, path: &RelPath, stat: &Stat) -> io::Result<Option<Seen>> {
        let parent = self.dirs.parent(path)?;
        let target = self.share.vfs.read_link(&parent, path.name())?;
        if target.len() > SYMLINK_TARGET_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.touch_parent(path)?;
        Ok(Some((Kind::Symlink { target }, None, *stat, self.looked_ns)))
    }

    /// The directory of a name is made durable, and those above it whose names may not be yet: of
    /// directories that were made a moment ago, or took the place of others.
    pub(super) fn touch_parent(&mut self, path: &RelPath) -> io::Result<()> {
        let mut name = path.clone();
        while !self.touched.contains_key(&name.parent()) {
            self.touched.insert(name.parent(), self.dirs.parent(&name)?);
            let Some(dir) = name.parent() else { break };
            let record = self.reader.record(&dir).map_err(io::Error::other)?;
            let published = record.and_then(|record| record.published());
            let known = published.and_then(|published| published.identity);
            let stat = self.dirs.stat(&dir)?;
            if known.is_some_and(|known| stat.is_some_and(|stat| stat.inode == known.inode)) {
                break;
            }
            name = dir;
        }
        Ok(())
    }

    /// A large file is hashed elsewhere, and recorded when its digest is there.
    fn read_large(&mut self, path: &RelPath, urgency: Urgency) -> io::Result<Option<Seen>> {
        let share = self.share;
        let parent = self.dirs.parent(path)?;
        let file = share.vfs.open_file(&parent, path.name())?;
        let stat = share.vfs.stat_file(&file)?;
        if stat.size > FILE_BYTES_MAX {
            self.problem(path, &TooLarge(stat.size));
            return Ok(None);
        }
        match share.vfs.has_writer(&file)? {
            Some(true) => {
                share.env.probe(Point::StillWriting);
                self.looked.later.push((path.clone(), None));
                return Ok(None);
            }
            None if urgency == Urgency::Started && !share.board.second_look(path, &stat) => {
                self.looked.later.push((path.clone(), Some(stat)));
                return Ok(None);
            }
            _ => {}
        }
        let Some(digest) = share.digests.take(path, &stat) else {
            share.digests.ask(path.clone());
            return Ok(None);
        };
        // Durable since it was hashed; a file that was not changed since is synced in no time.
        if self.files.len() <= SYNC_SINGLY_MAX {
            self.files.push(file);
        }
        self.touch_parent(path)?;
        share.spares.note(digest.hash, path.clone());
        let kind = file_kind(&stat, digest.hash, share.config.owner);
        Ok(Some((kind, None, stat, digest.looked_ns)))
    }

    fn read_content(&mut self, path: &RelPath, urgency: Urgency) -> io::Result<Option<Seen>> {
        let share = self.share;
        let parent = self.dirs.parent(path)?;
        match read_file(&share.vfs, &parent, path.name())? {
            Reading::Content { hash, bytes, stat, file } => {
                if urgency == Urgency::Started && share.vfs.has_writer(&file)?.is_none() {
                    // Nobody can tell whether it is finished: two looks have to agree.
                    if !share.board.second_look(path, &stat) {
                        self.looked.later.push((path.clone(), Some(stat)));
                        return Ok(None);
                    }
                }
                // More than this are made durable all together: no need to keep them open.
                if self.files.len() <= SYNC_SINGLY_MAX {
                    self.files.push(file);
                }
                self.touch_parent(path)?;
                let kind = file_kind(&stat, hash, share.config.owner);
                Ok(Some((kind, bytes, stat, self.looked_ns)))
            }
            Reading::Writing => {
                share.env.probe(Point::StillWriting);
                self.looked.later.push((path.clone(), None));
                Ok(None)
            }
            Reading::Torn => {
                share.env.probe(Point::TornRead);
                self.looked.later.push((path.clone(), None));
                Ok(None)
            }
            Reading::Gone => {
                share.hints.add(path.clone(), Urgency::Finished);
                Ok(None)
            }
        }
    }
}
