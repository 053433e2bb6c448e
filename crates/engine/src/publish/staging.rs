//! What is to be published, complete in staging before an intent names it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::{ContentHash, Kind, RelPath};
use chainsync_env::{Env, Point, RenameMode, Vfs};

use super::{Job, Outcome, Unpublished};
use crate::disk::{OWN_FILE_MODE, STAGING, is_absent, is_disk_trouble, own_path};
use crate::index::{Intent, Rows};
use crate::large::partial::partial_name;
use crate::share::{Share, ShareError};

impl<E: Env> Job<'_, E> {
    /// The name in staging of what is to be published, made now if there is none. Whether one that the
    /// intent has is still there shows when it is used ([`is_lost`](Self::is_lost)).
    pub(super) fn staged(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
    ) -> Result<Result<String, Outcome>, ShareError> {
        let share = self.share;
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        if let Some(name) = intent.staged.clone() {
            return Ok(Ok(name));
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
        self.name_in_intent(path, intent, Some(name.clone()))?;
        Ok(Ok(name))
    }

    /// Whether what an intent names is not in staging any more: somebody emptied it, or it was lost. The
    /// name goes then, because nobody fetches what is said to be here.
    pub(super) fn is_lost(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
    ) -> Result<bool, ShareError> {
        let Some(name) = &intent.staged else { return Ok(false) };
        let staging = self.dirs.staging().map_err(ShareError::disk("opening staging"))?;
        match self.share.vfs.stat(&staging, name.as_bytes()) {
            Ok(_) => Ok(false),
            Err(error) if is_absent(&error) => {
                self.name_in_intent(path, intent, None)?;
                Ok(true)
            }
            Err(error) => Err(ShareError::disk("looking into staging")(error)),
        }
    }

    /// Puts a staging name into the intent before it is used.
    pub(super) fn reserve(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
    ) -> Result<String, ShareError> {
        let name = self.share.staging_name();
        self.name_in_intent(path, intent, Some(name.clone()))?;
        Ok(name)
    }

    /// Whoever tries again, in this round or the next, has to find the name.
    fn name_in_intent(
        &mut self,
        path: &RelPath,
        intent: &mut Intent,
        name: Option<String>,
    ) -> Result<(), ShareError> {
        intent.staged = name;
        let mut writer = self.share.index.begin()?;
        writer.put_intent(path, intent.clone());
        writer.commit(self.share.env.random_u64(), true)?;
        self.reader = self.share.index.read()?;
        Ok(())
    }
}

impl<E: Env> Share<E> {
    /// Makes a file or symlink in staging, complete with its metadata. Not durable yet.
    pub fn stage(
        &self,
        staging: &<E::Vfs as Vfs>::Dir,
        name: &str,
        kind: &Kind,
        content: Option<&Bytes>,
    ) -> io::Result<Option<<E::Vfs as Vfs>::File>> {
        match kind {
            Kind::File { mode, mtime_ns, owner, .. } => {
                // A later owner's file is not for others before it is theirs, and chown(2) takes away
                // the bits above.
                let at_once = owner.is_none() && *mode <= 0o777;
                let made_with = if at_once { *mode } else { OWN_FILE_MODE };
                let file = self.vfs.create_file(staging, name.as_bytes(), made_with)?;
                if let Some(content) = content {
                    self.vfs.write_at(&file, content, 0)?;
                }
                match at_once {
                    true => self.vfs.set_file_mtime(&file, *mtime_ns)?,
                    false => self.dress(&file, kind)?,
                }
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
        writer.put_intent(path, Intent { staged: Some(name), ..intent });
        writer.commit(self.env.random_u64(), true)?;
        self.spares.note(content.0, path.clone());
        self.publish(vec![path.clone()])
    }
}
