//! A watcher: says where to look, never what is there.

use std::io;
use std::sync::Arc;

use chainsync_core::RelPath;
use chainsync_core::hints::Urgency;
use thiserror::Error;

/// What a watcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Something happened at this name in a watched directory: created (`Started`); closed after
    /// writing, renamed here or away, deleted, metadata changed (`Finished`).
    Hint(RelPath, Urgency),
    /// Events were lost: anything may have happened anywhere.
    Overflow,
    /// The root itself was deleted, renamed or unmounted.
    RootGone,
    /// The watcher works no longer.
    Failed(String),
}

/// Takes events, on the watcher's own thread: must return at once.
pub type WatchSink = Arc<dyn Fn(WatchEvent) + Send + Sync>;

/// What adding a watch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// From now on: what was there before is to be listed.
    New,
    /// This very directory is watched at this path already.
    Known,
}

/// Why a directory is not watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// `fs.inotify.max_user_watches` or `max_user_instances` is reached.
    #[error("the system's limit of watches is reached (sysctl fs.inotify.max_user_watches)")]
    Limit,
    /// It is not there (any more).
    #[error("no such directory")]
    Gone,
    #[error("cannot watch")]
    Io(#[source] io::Error),
}

/// Watches single directories; never recursive, because a recursive watch misses what is made in a
/// new directory before its watch exists.
pub trait Watch: Send + Sync + 'static {
    /// Watches the directory that is at `path` now; `None` is the root. When this returns, every
    /// later change in it will be reported: if the watch is new, the caller lists the directory
    /// *afterwards*. Replaces an earlier watch at this path, which may have been of another directory;
    /// ends it as well if this one cannot be had, or that directory would count as known should it
    /// come back, whatever is known of the path by then.
    fn add(&self, path: Option<&RelPath>) -> Result<Added, WatchError>;

    /// Ends the watches of `path` and of everything below it. A directory that was renamed and is
    /// watched at its new path by now stays watched there.
    fn remove(&self, path: &RelPath);

    /// Watched directories.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
