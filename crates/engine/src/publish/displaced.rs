//! What an effect brought out: thrown away only if it is what had been published, and nobody can
//! change it any more.

use std::io;

use bytes::Bytes;
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::decide::{displaced_as_published, made_ms};
use chainsync_core::{ContentHash, FileType, Kind, Published, RelPath};
use chainsync_env::{Env, Point, Vfs};

use super::Job;
use crate::change::{Aftermath, Change, Made, Place};
use crate::disk::{Dirs, Reading, file_kind, has_owner, is_disk_trouble, read_file};
use crate::index::{Held, Intent, Rows, Writer};
use crate::share::{Share, ShareError};

/// What a swap or a take brought out into staging.
pub(super) struct Displaced {
    pub(super) name: String,
    was: Published,
    fate: Fate,
}

enum Fate {
    /// What had been published, and nobody can change it any more.
    Discard,
    /// The same, but its version lost a conflict, is hidden by what is above or below it, or was dropped
    /// by a full pass.
    Archive(ContentHash, Option<Bytes>),
    /// Somebody still has it open for writing, or it cannot be read.
    Hold,
    /// Somebody had changed it.
    Change { kind: Kind, content: Option<Bytes>, made_ms: u64 },
}

impl<E: Env> Job<'_, E> {
    /// What is to become of what came out. `hidden`: it was taken away although it is not deleted,
    /// because no disk can hold it beside what is above or below it.
    pub(super) fn judge(
        &mut self,
        name: String,
        was: Published,
        intent: &Intent,
        hidden: bool,
    ) -> Result<Displaced, ShareError> {
        let fate = match self.fate(&name, &was, intent, hidden) {
            // It is out, and kept until it can be read.
            Err(error)
                if !is_disk_trouble(&error) && error.kind() != io::ErrorKind::IsADirectory =>
            {
                Fate::Hold
            }
            fate => fate.map_err(ShareError::disk("judging a displaced file"))?,
        };
        Ok(Displaced { name, was, fate })
    }

    fn fate(
        &mut self,
        name: &str,
        was: &Published,
        intent: &Intent,
        hidden: bool,
    ) -> io::Result<Fate> {
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
        let replaced =
            was.version.concurrent(&intent.version) && was.kind.content() != intent.kind.content();
        let kept = hidden || replaced || is_dropped(was, intent);
        let lost = was.kind.content().is_some() && kept;
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
}

/// Whether a deletion is the end of the very version that was there: a full pass dropped it, and nobody
/// here has been asked.
pub fn is_dropped(was: &Published, intent: &Intent) -> bool {
    was.version.dot == intent.version.dot && !intent.kind.is_live()
}

impl<E: Env> Share<E> {
    /// Decides about what came out; says whether that has to be durable at once.
    pub(super) fn settle(
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
            let read = match read_file(&self.vfs, &staging, name.as_bytes()) {
                Err(error) if !is_disk_trouble(&error) => continue,
                read => read.map_err(ShareError::disk("reading a displaced file"))?,
            };
            match read {
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
}
