//! Watching directories, and listing what is in them.
//!
//! Where no watch is to be had the directory is remembered on the board, and tried again; a sweep finds
//! what was missed meanwhile. Nothing here looks at files.

use chainsync_core::RelPath;
use chainsync_core::decide::Unsupported;
use chainsync_core::hints::Urgency;
use chainsync_env::{Added, Env, Vfs, Watch, WatchError};

use crate::disk::{Dirs, is_absent, is_exhausted, is_mount, is_own};
use crate::link::receive::Chain;
use crate::share::{Share, ShareError};

/// The names in a directory.
#[derive(Debug, Default)]
pub struct Listed {
    pub names: Vec<RelPath>,
    /// Some could not be listed: the directory has a problem.
    pub troubled: bool,
}

impl<E: Env> Share<E> {
    /// Adds a watch; `None` if the directory is not watched, which the board knows then.
    pub fn watch_dir(&self, path: Option<&RelPath>) -> Option<Added> {
        match self.watch.add(path) {
            Ok(added) => {
                self.board.watched(path);
                Some(added)
            }
            // Its own hint comes.
            Err(WatchError::Gone) => {
                self.board.watched(path);
                None
            }
            Err(WatchError::Io(error)) if is_mount(&error) => {
                if let Some(path) = path {
                    self.board.problem(path, &Unsupported::Mount, self.now_ms());
                }
                None
            }
            Err(error) => {
                self.board.unwatched(path, &Chain(&error), self.now_ms());
                None
            }
        }
    }

    pub fn unwatch(&self, path: &RelPath) {
        self.watch.remove(path);
        self.board.forget_unwatched(path);
    }

    /// Tries again to watch what could not be watched, and looks at it if that goes well. Says
    /// whether more was not watched than could be remembered: only a sweep finds that.
    pub fn retry_watches(&self) -> bool {
        let (unwatched, more) = self.board.unwatched_dirs();
        for dir in unwatched {
            if self.watch_dir(Some(&dir)).is_none() && self.board.is_unwatched(&dir) {
                // The others would fail as well.
                return false;
            }
            self.hints.add(dir.clone(), Urgency::Finished);
            // Not watched until now: whatever is in there may have changed, or be gone.
            let mut dirs = Dirs::new(&self.vfs);
            let hinted = self.hint_known_children(&dir);
            if hinted.and_then(|()| self.hint_children(&mut dirs, Some(&dir))).is_err() {
                self.hints.add_everything();
            }
        }
        if more {
            self.board.unwatched_swept();
        }
        more
    }

    /// Lists a directory. A name of which no path can be made is a problem of the directory.
    pub fn list_names(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        path: Option<&RelPath>,
    ) -> Result<Listed, ShareError> {
        let mut listed = Listed::default();
        let trouble = |error: &dyn std::fmt::Display| {
            if let Some(path) = path {
                self.board.problem(path, error, self.now_ms());
            }
        };
        let entries = match dirs.dir(path).and_then(|dir| self.vfs.list(&dir)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(listed),
            Err(error) if path.is_none() || is_exhausted(&error) => {
                return Err(ShareError::disk("listing a directory")(error));
            }
            Err(error) => {
                trouble(&error);
                return Ok(Listed { troubled: true, ..listed });
            }
        };
        for entry in entries {
            match RelPath::child(path, &entry.name) {
                Ok(child) if is_own(&child) => {}
                Ok(child) => listed.names.push(child),
                Err(error) => {
                    trouble(&format!("a name in it cannot be replicated: {error}"));
                    listed.troubled = true;
                }
            }
        }
        Ok(listed)
    }

    /// Names of a directory that the index has, and the disk may have no longer.
    fn hint_known_children(&self, dir: &RelPath) -> Result<(), ShareError> {
        for child in self.index.read()?.published_in(Some(dir))? {
            self.hints.add_found(child, Urgency::Started);
        }
        Ok(())
    }

    /// Hints at every name in a directory.
    pub fn hint_children(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        path: Option<&RelPath>,
    ) -> Result<(), ShareError> {
        for name in self.list_names(dirs, path)?.names {
            self.hints.add_found(name, Urgency::Started);
        }
        Ok(())
    }
}
