//! Large contents that this node has under another name, or had a moment ago.
//!
//! A renamed file is a deletion and, some time later, a new file with the same content; a copy or a
//! hard link is a second one. So a large file that was displaced stays in staging for a minute, and
//! it is remembered where a content is shown.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use chainsync_core::{ContentHash, RelPath};
use chainsync_env::{Env, RenameMode, Vfs};
use tokio::time::Instant;

use super::partial::partial_name;
use crate::disk::{STAGING, is_absent, own_path};
use crate::share::{Share, lock};

/// How long a displaced file is kept: a directory of large files is moved, hashed and announced in
/// less, and its space is not missed for long.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Displaced files that are kept.
const SPARES_MAX: usize = 64;
/// Contents of which it is remembered where they are.
const SHOWN_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Spares(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    kept: VecDeque<(ContentHash, Instant)>,
    shown: BTreeMap<ContentHash, RelPath>,
}

impl Spares {
    /// Remembers that a content is shown at a path.
    pub fn note(&self, hash: ContentHash, path: RelPath) {
        let mut state = lock(&self.0);
        state.shown.insert(hash, path);
        if state.shown.len() > SHOWN_MAX {
            state.shown.pop_first();
        }
    }

    /// Where a content was shown last; it may be gone from there.
    pub fn shown(&self, hash: &ContentHash) -> Option<RelPath> {
        lock(&self.0).shown.get(hash).cloned()
    }

    fn keep(&self, hash: ContentHash) {
        let mut state = lock(&self.0);
        state.kept.retain(|(kept, _)| *kept != hash);
        state.kept.push_back((hash, Instant::now()));
    }

    fn take(&self, hash: &ContentHash) -> bool {
        let mut state = lock(&self.0);
        let before = state.kept.len();
        state.kept.retain(|(kept, _)| kept != hash);
        state.kept.len() < before
    }

    /// Those that were kept long enough, or are too many.
    fn expired(&self) -> Vec<ContentHash> {
        let mut state = lock(&self.0);
        let now = Instant::now();
        let old = state.kept.iter().take_while(|(_, since)| *since + KEPT_FOR <= now).count();
        let count = old.max(state.kept.len().saturating_sub(SPARES_MAX));
        state.kept.drain(..count).map(|(hash, _)| hash).collect()
    }
}

pub const PREFIX: &str = "spare-";

fn spare_name(hash: &ContentHash) -> String {
    format!("{PREFIX}{hash}")
}

impl<E: Env> Share<E> {
    /// Keeps a displaced content for a while, instead of removing it.
    pub fn keep_spare(&self, name: &str, hash: ContentHash) -> io::Result<()> {
        let staging = self.vfs.open_dir(Some(&own_path(STAGING)))?;
        let spare = spare_name(&hash);
        let replace = RenameMode::Replace;
        match self.vfs.rename(&staging, name.as_bytes(), &staging, spare.as_bytes(), replace) {
            Ok(()) => self.spares.keep(hash),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        self.remove_spares()
    }

    /// Begins a content under way with a displaced one, if that is kept.
    pub fn use_spare(&self, hash: &ContentHash) -> io::Result<()> {
        if !self.spares.take(hash) {
            return Ok(());
        }
        let staging = self.vfs.open_dir(Some(&own_path(STAGING)))?;
        let (spare, partial) = (spare_name(hash), partial_name(hash));
        let mode = RenameMode::NoReplace;
        match self.vfs.rename(&staging, spare.as_bytes(), &staging, partial.as_bytes(), mode) {
            // An earlier try is there already, and goes on.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.discard([spare]),
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    pub fn remove_spares(&self) -> io::Result<()> {
        self.discard(self.spares.expired().iter().map(spare_name))
    }
}
