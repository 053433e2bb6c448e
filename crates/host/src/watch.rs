//! Watches single directories with inotify, through notify 9.
//!
//! notify keeps its watches in a map by path, and that map has traps when directories come and go
//! faster than events are read (measured on 9.0.0-rc.7, read in its `inotify.rs`):
//! - `watch()` of a path it knows returns `Ok` and does nothing, though another directory may be
//!   there by now;
//! - an event of a parent (`a` was renamed, deleted) ends whatever watch has the path `a`, though
//!   that may be a newer watch of a newer directory;
//! - ending a watch searches the whole map: 15 ms with 20,000 directories, for each directory that
//!   is deleted, on the thread that reads the events. So a deleted one is not ended a second time.
//!
//! So each watch gets a spelling of its path (`names`) that no other event or watch of that path
//! has: neighbouring levels differ, and so do successive watches of one path. A new watch is made
//! before the old one ends, so that a directory that stayed is watched without a gap. A table
//! (`table`) knows when a watch is still good and nothing needs doing.
//!
//! Paths are resolved beneath the root that was open at the start, through `/proc/self/fd`.
//!
//! Not noticed here, because inotify does not say it: an ancestor of the root's parent is renamed,
//! something is mounted over the root, a network file system is changed by others. The engine checks
//! the root by itself and sweeps.

mod names;
mod table;
mod translate;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chainsync_core::RelPath;
use chainsync_env::{Added, Watch, WatchError, WatchEvent, WatchSink};
use notify::event::EventKindMask;
use notify::{Config, ErrorKind, INotifyWatcher, RecursiveMode, WatchPathConfig, Watcher};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use names::{Names, Place};
use table::{Identity, Table};

/// What is asked of the kernel. Without `MODIFY_NAME` notify drops renames, and `ACCESS_CLOSE` is
/// the close of a writer; there is no event for a read, nor for each write.
const EVENTS: EventKindMask = EventKindMask::CREATE
    .union(EventKindMask::REMOVE)
    .union(EventKindMask::MODIFY_NAME)
    .union(EventKindMask::MODIFY_META)
    .union(EventKindMask::ACCESS_CLOSE);

/// Of the root's parent only what may mean the root.
const PARENT_EVENTS: EventKindMask = EventKindMask::REMOVE.union(EventKindMask::MODIFY_NAME);

/// The watches below one root.
#[derive(Debug)]
pub struct HostWatch {
    root: OwnedFd,
    names: Arc<Names>,
    // notify's thread takes it too: never held while calling notify, which waits for that thread.
    table: Arc<Mutex<Table>>,
    // Held for a whole change, so that changes come one after the other.
    watcher: Mutex<INotifyWatcher>,
    // Ends its thread when dropped. None if the parent cannot be watched.
    _parent: Option<INotifyWatcher>,
}

impl HostWatch {
    /// Watches nothing yet but the root's name in its parent.
    pub fn new(root: &Path, sink: WatchSink) -> Result<Self, WatchError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(root, flags, Mode::empty()).map_err(open_error)?;
        let names = Arc::new(Names::new(descriptor.as_raw_fd()));
        if std::fs::metadata(names.key(None, 0)).is_err() {
            return Err(WatchError::Io(io::Error::other("watching needs /proc to be mounted")));
        }
        let table = Arc::new(Mutex::new(Table::default()));
        let watcher = {
            let (names, table, sink) = (Arc::clone(&names), Arc::clone(&table), Arc::clone(&sink));
            let handle = move |event| handle(event, &names, &table, &sink);
            INotifyWatcher::new(handle, config(EVENTS)).map_err(new_error)?
        };
        let parent = match watch_parent(root, sink) {
            Ok(parent) => parent,
            Err(error @ WatchError::Limit) => return Err(error),
            Err(error) => {
                let root = root.display();
                tracing::warn!(%root, %error, "the parent of the root cannot be watched: its removal is noticed late");
                None
            }
        };
        Ok(Self { root: descriptor, names, table, watcher: Mutex::new(watcher), _parent: parent })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// The directory at `path` now, which nothing but the path itself can lead to.
    fn identity(&self, path: Option<&RelPath>) -> Result<Identity, WatchError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let bytes = path.map_or(b".".as_slice(), RelPath::as_bytes);
        let directory = crate::vfs::open_beneath(self.root.as_fd(), bytes, flags);
        let directory = directory.map_err(io_error)?;
        let mask = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(&directory, c"", AtFlags::EMPTY_PATH, mask);
        let stat = stat.map_err(open_error)?;
        Ok(Identity {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        })
    }
}

impl Watch for HostWatch {
    fn add(&self, path: Option<&RelPath>) -> Result<Added, WatchError> {
        let mut watcher = lock(&self.watcher);
        let identity = self.identity(path)?;
        // Before the watch itself: what is heard of this path from now on may be about a newer
        // directory, and then the next call must look again.
        let Some(change) = self.table().begin(path, identity) else {
            return Ok(Added::Known);
        };
        // The root's name is a link of /proc; anything else must be the directory itself.
        let config = WatchPathConfig::new(RecursiveMode::NonRecursive)
            .with_dereference_symlinks(path.is_none());
        if let Err(error) = watcher.watch_with(&self.names.key(path, change.new), config) {
            self.table().undo(path, &change);
            return Err(notify_error(error));
        }
        if let Some(old) = change.old {
            // Fails if notify knows already that the directory is gone.
            let _ = watcher.unwatch(&self.names.key(path, old));
        }
        Ok(Added::New)
    }

    fn remove(&self, path: &RelPath) {
        let mut watcher = lock(&self.watcher);
        let removed = self.table().remove(path);
        for (path, spelling) in removed {
            // Fails if notify knows already that the directory is gone.
            let _ = watcher.unwatch(&self.names.key(Some(&path), spelling));
        }
    }

    /// Directories that were added and not removed; of those that are gone notify keeps no watch.
    fn len(&self) -> usize {
        self.table().len()
    }
}

/// On notify's thread, which also empties the kernel's queue: nothing here may wait.
fn handle(
    event: notify::Result<notify::Event>,
    names: &Names,
    table: &Mutex<Table>,
    sink: &WatchSink,
) {
    let event = match event {
        Ok(event) => event,
        Err(error) => return sink(WatchEvent::Failed(error.to_string())),
    };
    if translate::moves_a_name(&event)
        && let Some(key) = event.paths.first()
        && let Some(Place::Below(path)) = names.place(key)
    {
        let mut table = lock(table);
        table.doubt(&path);
        if event.kind.is_remove() {
            table.end(&path, names, key);
        }
    }
    if let Some(event) = translate::translate(&event, names) {
        sink(event);
    }
}

/// Deleting a directory that is open (ours is) raises no event of its own until it is closed; its
/// parent tells at once. `None` if there is no parent.
fn watch_parent(root: &Path, sink: WatchSink) -> Result<Option<INotifyWatcher>, WatchError> {
    let root = std::fs::canonicalize(root).map_err(io_error)?;
    let Some(parent) = root.parent().map(Path::to_owned) else {
        return Ok(None);
    };
    let watched = parent.clone();
    let handle = move |event: notify::Result<notify::Event>| match event {
        Ok(event) => {
            if let Some(event) = translate::translate_parent(&event, &watched, &root) {
                sink(event);
            }
        }
        Err(error) => sink(WatchEvent::Failed(error.to_string())),
    };
    let mut watcher = INotifyWatcher::new(handle, config(PARENT_EVENTS)).map_err(new_error)?;
    watcher.watch(&parent, RecursiveMode::NonRecursive).map_err(notify_error)?;
    Ok(Some(watcher))
}

fn config(events: EventKindMask) -> Config {
    Config::default().with_event_kinds(events).with_follow_symlinks(false)
}

/// Whoever panicked under one of these locks left a map that is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_error(error: notify::Error) -> WatchError {
    match &error.kind {
        // `max_user_instances`.
        ErrorKind::Io(io) if io.raw_os_error() == Some(libc::EMFILE) => WatchError::Limit,
        _ => notify_error(error),
    }
}

fn notify_error(error: notify::Error) -> WatchError {
    match error.kind {
        ErrorKind::MaxFilesWatch => WatchError::Limit,
        ErrorKind::PathNotFound => WatchError::Gone,
        ErrorKind::Io(error) => io_error(error),
        _ => WatchError::Io(io::Error::other(error)),
    }
}

fn open_error(errno: Errno) -> WatchError {
    io_error(errno.into())
}

fn io_error(error: io::Error) -> WatchError {
    match error.raw_os_error() {
        // Nothing, or something else, is there or on the way.
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => WatchError::Gone,
        Some(libc::ENOSPC) => WatchError::Limit,
        _ => WatchError::Io(error),
    }
}
