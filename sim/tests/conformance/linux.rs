//! The arm of Linux: `chainsync-host` in a temporary directory.
//!
//! The watcher's reader has a thread of its own. It stands still inside its sink while operations
//! are performed, so that the kernel's queue fills and merges without a race: a mark, the last thing
//! that happened, stops it, and it goes on when events are asked for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainsync_core::RelPath;
use chainsync_env::{Watch as _, WatchEvent, WatchSink};
use chainsync_host::{HostVfs, HostWatch};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use crate::MARKS;
use crate::arm::World;

/// Longer than an event takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_millis(500);
/// After so many marks in vain, a minute, the reader is given up.
const MARKS_MAX: u64 = 120;

pub struct Linux {
    vfs: HostVfs,
    events: Receiver<WatchEvent>,
    /// Before the watch: once it is dropped the reader stands still no more.
    go_on: Sender<()>,
    watch: HostWatch,
    root: OwnedFd,
    marks: u64,
    away: bool,
    directory: tempfile::TempDir,
}

impl Linux {
    /// A world below a directory that is there.
    pub fn new(below: &Path, ctime_tick_ns: i128) -> Self {
        let directory = tempfile::Builder::new().prefix("conformance").tempdir_in(below).unwrap();
        let root = directory.path().join("root");
        rustix::fs::mkdir(&root, Mode::RWXU).unwrap();
        rustix::fs::mkdir(root.join(MARKS), Mode::RWXU).unwrap();
        let (sender, events) = channel();
        let (go_on, wait) = channel();
        let wait = Mutex::new(wait);
        let sink: WatchSink = Arc::new(move |event| {
            let marked = mark_of(&event).is_some();
            let _ = sender.send(event);
            if marked {
                // An error: the world ends.
                let _ = wait.lock().unwrap().recv();
            }
        });
        let watch = HostWatch::new(&root, sink).unwrap();
        watch.add(Some(&RelPath::new(MARKS).unwrap())).unwrap();
        let vfs = HostVfs::open_with_ctime_tick(&root, ctime_tick_ns).unwrap();
        let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&root, directory_flags, Mode::empty()).unwrap();
        let mut linux = Self { vfs, events, go_on, watch, root, marks: 0, away: false, directory };
        assert_eq!(linux.up_to_mark(), []);
        linux
    }

    fn up_to_mark(&mut self) -> Vec<WatchEvent> {
        self.mark();
        let mut events = Vec::new();
        let last = self.marks + MARKS_MAX;
        while self.marks < last {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => match mark_of(&event) {
                    Some(mark) if mark == self.marks => return events,
                    // An earlier one, late: the reader stands still there.
                    Some(_) => self.go_on.send(()).expect("the reader stands still"),
                    None => events.push(event),
                },
                // A queue that was full has lost it.
                Err(_) => self.mark(),
            }
        }
        panic!("no mark is told of; so far {events:?}");
    }

    /// One event, of a name that there was never before.
    fn mark(&mut self) {
        self.marks += 1;
        let mark = format!("{MARKS}/{}", self.marks);
        rustix::fs::mkdirat(&self.root, mark, Mode::RWXU).unwrap();
    }

    fn at(&self, path: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.root, path.as_bytes(), flags, Mode::empty(), resolve)?)
    }

    fn parent(&self, path: &RelPath) -> io::Result<OwnedFd> {
        match path.parent() {
            Some(parent) => self.at(&parent, OFlags::PATH | OFlags::DIRECTORY),
            None => Ok(self.root.try_clone()?),
        }
    }

    fn root_path(&self) -> (PathBuf, PathBuf) {
        let path = self.directory.path();
        (path.join("root"), path.join("away"))
    }
}

impl World for Linux {
    type Vfs = HostVfs;
    type Watch = HostWatch;
    type Writer = File;

    fn vfs(&self) -> &HostVfs {
        &self.vfs
    }

    fn watch(&self) -> &HostWatch {
        &self.watch
    }

    fn read_events(&mut self) -> Vec<WatchEvent> {
        self.go_on.send(()).expect("the reader stands still");
        self.up_to_mark()
    }

    fn open_writer(&self, path: &RelPath, truncate: bool) -> io::Result<File> {
        let truncate = if truncate { OFlags::TRUNC } else { OFlags::empty() };
        Ok(self.at(path, OFlags::RDWR | truncate)?.into())
    }

    fn write(&self, writer: &File, data: &[u8], offset: u64) -> io::Result<()> {
        writer.write_all_at(data, offset)
    }

    fn truncate(&self, writer: &File, length: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(writer.as_fd(), length)?)
    }

    fn link(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let (from_dir, to_dir) = (self.parent(from)?, self.parent(to)?);
        let (from, to) = (from.name(), to.name());
        Ok(rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty())?)
    }

    fn move_root(&mut self) -> io::Result<()> {
        let (mut from, mut to) = self.root_path();
        if self.away {
            (from, to) = (to, from);
        }
        self.away = !self.away;
        Ok(rustix::fs::rename(from, to)?)
    }
}

fn mark_of(event: &WatchEvent) -> Option<u64> {
    let WatchEvent::Hint(path, _) = event else { return None };
    let number = path.as_bytes().strip_prefix(MARKS.as_bytes())?.strip_prefix(b"/")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}
