//! Watches single directories with inotify(7).
//!
//! The kernel has one watch for an inode, and the descriptor of that watch is never used again; a
//! table (`table`) knows at which path a descriptor was added last. A directory is opened beneath
//! the root that was open at the start, and watched through its descriptor in `/proc/self/fd`: no
//! path is too long for that, no symlink is followed, and what is watched is what was opened.
//!
//! Not `notify`: it keeps its watches in a map by path. A path that it knows is not watched again
//! though another directory is there by now, ending a watch searches the whole map (15 ms with
//! 20,000 directories, for each that is deleted, on the thread that reads the events), and a path
//! close to the limit of the kernel cannot be given to it.
//!
//! Invariant: the table is locked from before a watch is made until it is in the table, so that no
//! event is read whose descriptor is not known yet.
//!
//! Not noticed here, because inotify does not say it: an ancestor of the root's parent is renamed,
//! something is mounted over the root, a network file system is changed by others. The engine checks
//! the root by itself and sweeps.

mod table;
mod translate;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chainsync_core::RelPath;
use chainsync_env::{Added, Watch, WatchError, WatchEvent, WatchSink};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use table::Table;
use translate::{Event, translate};

/// What is asked of the kernel: nothing of reads, nothing of single writes; `ATTRIB` is mode, owner
/// and times.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Of the root's parent only what may mean the root.
const PARENT_EVENTS: WatchFlags = WatchFlags::DELETE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Events taken from the kernel at a time: some 2,000 of them.
const READ_BYTES: usize = 64 * 1024;

/// The watches below one root.
#[derive(Debug)]
pub struct HostWatch {
    root: OwnedFd,
    kernel: Arc<Kernel>,
    /// Taken when dropped.
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Kernel {
    inotify: OwnedFd,
    /// Readable once the reader shall end.
    stop: OwnedFd,
    table: Mutex<Table>,
}

impl HostWatch {
    /// Watches nothing yet but the root's name in its parent.
    pub fn new(root: &Path, sink: WatchSink) -> Result<Self, WatchError> {
        let descriptor = rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(watch_error)?;
        if std::fs::metadata(in_proc(&descriptor)).is_err() {
            return Err(WatchError::Io(io::Error::other("watching needs /proc to be mounted")));
        }
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags).map_err(new_error)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(watch_error)?;
        let mut table = Table::default();
        match watch_parent(&inotify, root, &mut table) {
            Ok(()) => {}
            Err(error @ WatchError::Limit) => return Err(error),
            Err(error) => {
                let root = root.display();
                tracing::warn!(%root, %error, "the parent of the root cannot be watched: its removal is noticed late");
            }
        }
        let kernel = Arc::new(Kernel { inotify, stop, table: Mutex::new(table) });
        let read = Arc::clone(&kernel);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        let reader = thread.spawn(move || read.read(&sink)).map_err(WatchError::Io)?;
        Ok(Self { root: descriptor, kernel, reader: Some(reader) })
    }
}

impl Watch for HostWatch {
    fn add(&self, path: Option<&RelPath>) -> Result<Added, WatchError> {
        let bytes = path.map_or(b".".as_slice(), RelPath::as_bytes);
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let opened = crate::vfs::open_beneath(self.root.as_fd(), bytes, flags);
        let mut table = self.kernel.table();
        let watched = opened.map_err(io_error).and_then(|directory| {
            let watch = inotify::add_watch(&self.kernel.inotify, in_proc(&directory), EVENTS);
            watch.map_err(watch_error)
        });
        let (added, ended) = match watched {
            Ok(descriptor) => {
                let (added, ended) = table.add(path, descriptor);
                (Ok(added), ended)
            }
            Err(error) => (Err(error), table.not_added(path)),
        };
        if let Some(ended) = ended {
            self.kernel.end(ended);
        }
        added
    }

    fn remove(&self, path: &RelPath) {
        let mut table = self.kernel.table();
        table.remove(path).into_iter().for_each(|ended| self.kernel.end(ended));
    }

    /// Directories that were added and are not known to be gone.
    fn len(&self) -> usize {
        self.kernel.table().len()
    }
}

impl Drop for HostWatch {
    fn drop(&mut self) {
        // Can only fail if the number is full, and then it is readable as well.
        let _ = rustix::io::write(&self.kernel.stop, &1_u64.to_ne_bytes());
        if let Some(reader) = self.reader.take() {
            // A panic of the sink has been printed by its thread.
            let _ = reader.join();
        }
    }
}

impl Kernel {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Whoever panicked with it left a map that is whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a watch. Fails if the directory is gone, and its watch with it.
    fn end(&self, descriptor: i32) {
        let _ = inotify::remove_watch(&self.inotify, descriptor);
    }

    /// Hands out events until it is told to stop: nothing here may wait but for them.
    fn read(&self, sink: &WatchSink) {
        let mut buffer = vec![MaybeUninit::uninit(); READ_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut pace = Pace { since: Instant::now(), wakes: 0 };
        loop {
            pace.wait();
            let mut ready =
                [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
            match poll(&mut ready, None) {
                Ok(_) if !ready[0].revents().is_empty() => return,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return sink(WatchEvent::Failed(error.to_string())),
            }
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => continue,
                    Err(error) => return sink(WatchEvent::Failed(error.to_string())),
                };
                let event = Event {
                    descriptor: event.wd(),
                    happened: event.events(),
                    name: event.file_name().map(std::ffi::CStr::to_bytes),
                };
                let event = translate(&event, &mut self.table());
                if let Some(event) = event {
                    sink(event);
                }
            }
        }
    }
}

/// Lets events gather while they come thick: to be woken for each of a storm's costs the reader, and
/// the writers that wake it, more than the events do.
struct Pace {
    since: Instant,
    wakes: u32,
}

impl Pace {
    const SPAN: Duration = Duration::from_millis(5);
    /// A few uploads come at once.
    const WAKES_MAX: u32 = 16;
    /// The kernel's queue takes thirty times longer to fill.
    const GATHER: Duration = Duration::from_micros(500);

    fn wait(&mut self) {
        if self.since.elapsed() > Self::SPAN {
            *self = Self { since: Instant::now(), wakes: 0 };
        }
        self.wakes += 1;
        if self.wakes > Self::WAKES_MAX {
            std::thread::sleep(Self::GATHER);
        }
    }
}

/// Deleting a directory that is open (ours is) raises no event of its own until it is closed; its
/// parent tells at once. Nothing to do if there is no parent.
fn watch_parent(inotify: &OwnedFd, root: &Path, table: &mut Table) -> Result<(), WatchError> {
    let root = std::fs::canonicalize(root).map_err(io_error)?;
    if let (Some(parent), Some(name)) = (root.parent(), root.file_name()) {
        let watch = inotify::add_watch(inotify, parent, PARENT_EVENTS);
        table.watch_parent(watch.map_err(watch_error)?, name.as_bytes());
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn in_proc(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn new_error(errno: Errno) -> WatchError {
    // `max_user_instances`.
    if errno == Errno::MFILE { WatchError::Limit } else { watch_error(errno) }
}

fn watch_error(errno: Errno) -> WatchError {
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
