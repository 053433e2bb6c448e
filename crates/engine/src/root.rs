//! Whether the root is still the directory that is replicated.
//!
//! The daemon keeps the root open, so that it goes on seeing a directory that was renamed, replaced
//! or unmounted, and writes to where nobody reads. And it must never take a root that went away for
//! the deletion of everything in it. So the root's path is looked at again and again: whenever the
//! watcher says so, before a deletion is recorded, and every few seconds. If it leads elsewhere, or
//! the marker in it is gone, the share is halted, visibly, until it is put back.

use chainsync_env::{Env, Vfs};

use crate::disk::{OWN_DIR, is_absent, is_exhausted, own_path};
use crate::open::read_mark;
use crate::share::{Share, ShareError};

/// What is wrong with the root.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {NEXT}")]
pub struct RootTrouble {
    what: String,
}

const NEXT: &str = "put the directory back, or mount it, and the share goes on by itself; if it was replaced on purpose, stop the daemon and remove the share's index in the state directory to import it afresh";

impl<E: Env> Share<E> {
    /// Makes sure that the root's path leads to the directory that is open, with its marker in it.
    pub fn check_root(&self) -> Result<(), ShareError> {
        let path = self.config.path.display();
        let trouble = |what: String| ShareError::Root(RootTrouble { what });
        let there = match self.env.open_root(&self.config.path) {
            Ok(there) => there,
            Err(error) if is_exhausted(&error) => {
                return Err(ShareError::disk("opening the root")(error));
            }
            Err(error) => return Err(trouble(format!("{path} cannot be opened ({error})"))),
        };
        let identity = |vfs: &E::Vfs| {
            let stat = vfs.open_dir(None).and_then(|root| vfs.stat_dir(&root))?;
            Ok((stat.device, stat.inode))
        };
        let failed = ShareError::disk("looking at the root");
        let (found, open) = match (identity(&there), identity(&self.vfs)) {
            (Ok(found), Ok(open)) => (found, open),
            (Err(error), _) | (_, Err(error)) => return Err(failed(error)),
        };
        if found != open {
            return Err(trouble(format!("{path} is another directory than the one replicated")));
        }
        let marked = match there.open_dir(Some(&own_path(OWN_DIR))) {
            Ok(own) => read_mark(&there, &own).map_err(ShareError::disk("reading the marker"))?,
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(ShareError::disk("opening .chainsync")(error)),
        };
        if marked.is_none() || marked != self.index.state().root_mark {
            let missing =
                format!("the marker {OWN_DIR}/marker in {path} is missing or another one");
            return Err(trouble(missing));
        }
        Ok(())
    }
}
