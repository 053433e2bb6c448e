//! `conflicts`: what lost, whether it is still to be had, and how to have it back.
//!
//! Whether a content is in the archive is looked up when somebody asks, never remembered: an operator
//! may have cleaned up there. A restored content is a change of this node like any other, and what
//! it replaces goes into the archive in its turn.

use std::io;
use std::sync::Arc;

use chainsync_core::hints::Urgency;
use chainsync_core::{ContentHasher, FileType, Kind, RelPath, Stat, Version};
use chainsync_env::{Env, RenameMode, Vfs};

use crate::answers::{ConflictList, ConflictShown, ConflictSide, RestoreReport};
use crate::disk::{Dirs, Reading, is_own, read_file};
use crate::index::{Conflict, ConflictNote};
use crate::ingest::Occasion;
use crate::share::{Share, ShareError};
use crate::verify::shows;

/// Read and written at a time.
const COPY_BYTES: usize = 256 << 10;
/// Conflicts listed, the newest first.
const CONFLICTS_SHOWN_MAX: usize = 1000;

/// Which conflict is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Id(u64),
    /// The newest one at this path.
    Path(RelPath),
}

impl<E: Env> Share<E> {
    /// All conflicts, or the ones that are meant.
    pub fn conflicts(&self, which: Option<&Which>) -> Result<ConflictList, ShareError> {
        let reader = self.index.read()?;
        let found = match which {
            Some(Which::Id(id)) => reader
                .conflict(*id)?
                .map(|(conflict, note)| (*id, conflict, note))
                .into_iter()
                .collect(),
            Some(Which::Path(path)) => {
                reader.conflicts(CONFLICTS_SHOWN_MAX, &mut |conflict| conflict.path == *path)?
            }
            None => reader.conflicts(CONFLICTS_SHOWN_MAX, &mut |_| true)?,
        };
        let shown = found.into_iter().map(|(id, conflict, note)| self.shown_as(id, conflict, note));
        Ok(ConflictList {
            share: self.config.name.to_string(),
            total: reader.state().conflicts,
            conflicts: shown.collect::<Result<_, _>>()?,
        })
    }

    fn shown_as(
        &self,
        id: u64,
        conflict: Conflict,
        note: ConflictNote,
    ) -> Result<ConflictShown, ShareError> {
        let side = |version: &Version, node: Option<chainsync_core::NodeName>| ConflictSide {
            node: node
                .or_else(|| self.board.author(version.dot.replica))
                .map(|node| node.to_string()),
            replica: version.dot.replica.to_string(),
            made_ms: version.stamp.wall_ms,
        };
        let (restorable, content) = match (&conflict.kind, conflict.kind.content()) {
            (Kind::Symlink { .. }, _) => (true, "in the conflict log itself".to_owned()),
            (_, Some((hash, _))) => {
                let held =
                    self.archive.has(&hash).map_err(ShareError::disk("reading the archive"))?;
                if held {
                    (true, format!("in the archive of this node as {hash}"))
                } else {
                    let why = "not in the archive of this node: it never was here, or was removed. \
                        Ask `chainsync conflicts` on the other nodes";
                    (false, why.to_owned())
                }
            }
            _ => (false, "it has none".to_owned()),
        };
        Ok(ConflictShown {
            id,
            path: conflict.path.to_string(),
            noticed_ms: conflict.noticed_ms,
            loser: side(&conflict.version, note.loser),
            winner: side(&conflict.winner, note.winner),
            shows: shows(&Some(conflict.kind)),
            restorable,
            content,
        })
    }

    /// Puts the loser of a conflict back, at its name or another. The caller holds the gate.
    pub fn restore(
        &self,
        which: &Which,
        to: Option<&RelPath>,
    ) -> Result<Option<RestoreReport>, ShareError> {
        let reader = self.index.read()?;
        let found = match which {
            Which::Id(id) => reader.conflict(*id)?.map(|(conflict, _)| (*id, conflict)),
            Which::Path(path) => {
                let mut all = reader.conflicts(1, &mut |conflict| conflict.path == *path)?;
                all.pop().map(|(id, conflict, _)| (id, conflict))
            }
        };
        let Some((id, conflict)) = found else { return Ok(None) };
        let share = self.config.name.to_string();
        let mut report = RestoreReport { share, id, path: None, refused: None, replaced: false };
        let target = to.unwrap_or(&conflict.path);
        match self.put_back(&conflict.kind, target, to.is_some())? {
            Ok(replaced) => {
                report.replaced = replaced;
                report.path = Some(target.to_string());
            }
            Err(reason) => report.refused = Some(reason),
        }
        Ok(Some(report))
    }

    /// Whether something was replaced, or why nothing was done.
    fn put_back(
        &self,
        kind: &Kind,
        target: &RelPath,
        elsewhere: bool,
    ) -> Result<Result<bool, String>, ShareError> {
        let refuse = |reason: String| Ok(Err(reason));
        if let Some(reason) = self.board.halted() {
            return refuse(format!("the share does not move: {reason}"));
        }
        if is_own(target) || self.is_excluded(target, false) {
            return refuse(format!("{target} is not replicated: choose another name with --to"));
        }
        let kept = match kind.content() {
            None if matches!(kind, Kind::Symlink { .. }) => None,
            None => return refuse("the version that lost has no content".to_owned()),
            Some((hash, _)) => {
                let held = self.archive.open(&hash);
                let Some(held) = held.map_err(ShareError::disk("reading the archive"))? else {
                    let reason = format!("its content {hash} is not in the archive of this node");
                    return refuse(reason);
                };
                Some(held.0)
            }
        };
        // What was done there and not looked at yet is a change of its own.
        self.look(vec![(target.clone(), Urgency::Finished)], Occasion::Live)?;
        let mut dirs = Dirs::new(&self.vfs);
        let Ok(parent) = dirs.parent(target) else {
            return refuse(format!(
                "the directory of {target} is not there: make it, or choose another name with --to"
            ));
        };
        let there = dirs.stat(target).map_err(ShareError::disk("looking at a path"))?;
        if elsewhere && there.is_some() {
            return refuse(format!("{target} exists already: choose another name with --to"));
        }
        if there.is_some_and(|stat| stat.file_type != FileType::File) {
            return refuse(format!("{target} is no file any more: choose another name with --to"));
        }
        // Reversible: what is there now goes where the loser came from.
        let was = match there {
            None => None,
            Some(_) => match self.archive_present(&parent, target)? {
                Some(stat) => Some(stat),
                None => return refuse(format!("{target} is being written just now: try again")),
            },
        };
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let name = self.staging_name();
        let staged = self.stage_kept(&staging, &name, kind, kept.as_ref());
        let done = staged.and_then(|()| {
            self.take_name((&staging, &name), (&parent, target.name()), was.as_ref())
        });
        // After an exchange this is what was replaced, which is in the archive.
        self.discard([name]).map_err(ShareError::disk("removing a staged file"))?;
        match done {
            Ok(true) => {}
            Ok(false) => return refuse(format!("{target} was changed just now: try again")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return refuse("its content in the archive of this node is damaged".to_owned());
            }
            Err(error) => return Err(ShareError::disk("putting it back")(error)),
        }
        self.look(vec![(target.clone(), Urgency::Finished)], Occasion::Live)?;
        Ok(Ok(was.is_some()))
    }

    /// Keeps what is at a name now; nothing if it does not hold still.
    fn archive_present(&self, parent: &Dir<E>, at: &RelPath) -> Result<Option<Stat>, ShareError> {
        let read = read_file(&self.vfs, parent, at.name());
        match read.map_err(ShareError::disk("reading what is there"))? {
            Reading::Content { hash, bytes: Some(bytes), stat, .. } => {
                self.to_archive(&hash, &bytes)?;
                Ok(Some(stat))
            }
            Reading::Content { hash, bytes: None, stat, file } => {
                let put = self.archive.put_file(&hash, &self.vfs, &file);
                let put = put.map_err(ShareError::disk("writing to the archive"))?;
                Ok(put.then_some(stat))
            }
            _ => Ok(None),
        }
    }

    /// Gives a staged file its name. Says no, and leaves everything as it was, if what comes out is not
    /// what was kept.
    fn take_name(
        &self,
        (staging, staged): (&Dir<E>, &str),
        (parent, name): (&Dir<E>, &[u8]),
        was: Option<&Stat>,
    ) -> io::Result<bool> {
        let mode = if was.is_some() { RenameMode::Exchange } else { RenameMode::NoReplace };
        let exchange = || self.vfs.rename(staging, staged.as_bytes(), parent, name, mode);
        exchange()?;
        let Some(was) = was else { return Ok(true) };
        let out = self.vfs.open_file(staging, staged.as_bytes());
        let same = out.and_then(|file| {
            let stat = self.vfs.stat_file(&file)?;
            let same =
                (stat.inode, stat.size, stat.mtime_ns) == (was.inode, was.size, was.mtime_ns);
            Ok(same && self.vfs.has_writer(&file)? != Some(true))
        });
        if same.as_ref().is_ok_and(|same| *same) {
            return Ok(true);
        }
        exchange()?;
        same
    }

    /// Puts what lost into staging, with its content from the archive. Durable when this returns; an
    /// error of the kind `InvalidData` says that the archive holds something else.
    pub fn stage_kept(
        &self,
        staging: &Arc<Dir<E>>,
        name: &str,
        kind: &Kind,
        kept: Option<&File<E>>,
    ) -> io::Result<()> {
        let file = self.stage(staging, name, kind, None)?;
        if let (Some(kept), Some(file)) = (kept, &file) {
            self.copy_kept(kept, file, kind)?;
        }
        let files: Vec<_> = file.into_iter().collect();
        self.sync(&files, std::slice::from_ref(staging))
    }

    /// Copies a content out of the archive, piece by piece, and makes sure that it is the right one.
    fn copy_kept(&self, kept: &File<E>, to: &File<E>, kind: &Kind) -> io::Result<()> {
        let Kind::File { hash, mtime_ns, .. } = kind else { return Ok(()) };
        let mut hasher = ContentHasher::default();
        let mut buffer = vec![0; COPY_BYTES];
        let mut offset = 0;
        loop {
            match self.vfs.read_at(kept, &mut buffer, offset)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    self.vfs.write_at(to, &buffer[..read], offset)?;
                    offset += read as u64;
                }
            }
        }
        if hasher.finish() != *hash {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Writing has moved it.
        self.vfs.set_file_mtime(to, *mtime_ns)
    }
}

type Dir<E> = <<E as Env>::Vfs as Vfs>::Dir;
type File<E> = <<E as Env>::Vfs as Vfs>::File;
