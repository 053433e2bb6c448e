//! The simulated arm: one machine's disk and watcher, without a daemon or a network.

use std::io;
use std::sync::{Arc, Mutex};

use chainsync_core::RelPath;
use chainsync_env::{Vfs as _, Watch as _, WatchEvent, WatchSink};
use chainsync_sim::fs::{Disk, DiskOptions, OthersFile, SharedDisk, SimFs};
use chainsync_sim::shared::{Shared, lock};
use chainsync_sim::trace::Trace;
use chainsync_sim::watch::{SimWatch, deliver};

use crate::MARKS;
use crate::arm::World;

const ROOT: &[u8] = b"/srv/root";
const AWAY: &[u8] = b"/srv/away";
/// Beyond every reader's delay.
const LATER_NS: u64 = 1_000_000_000_000;

pub struct Simulated {
    vfs: SimFs,
    watch: SimWatch,
    disk: SharedDisk,
    shared: Arc<Shared>,
    events: Arc<Mutex<Vec<WatchEvent>>>,
    away: bool,
}

impl Simulated {
    pub fn new(options: DiskOptions) -> Self {
        let shared = Shared::new(1, Trace::new(None));
        let mut disk = Disk::new(Arc::clone(&shared), "apollo", 0, options);
        disk.install_dir(ROOT, 0o700).unwrap();
        let process = disk.new_process();
        let disk = disk.shared();
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let sink: WatchSink = Arc::new(move |event| lock(&sink).push(event));
        let vfs = SimFs::open(&disk, ROOT, process).unwrap();
        vfs.make_dir(&vfs.open_dir(None).unwrap(), MARKS.as_bytes(), 0o700).unwrap();
        let watch = SimWatch::new(&disk, ROOT, process, sink).unwrap();
        watch.add(Some(&RelPath::new(MARKS).unwrap())).unwrap();
        Self { vfs, watch, disk, shared, events, away: false }
    }
}

impl World for Simulated {
    type Vfs = SimFs;
    type Watch = SimWatch;
    type Writer = OthersFile;

    fn vfs(&self) -> &SimFs {
        &self.vfs
    }

    fn watch(&self) -> &SimWatch {
        &self.watch
    }

    fn read_events(&mut self) -> Vec<WatchEvent> {
        self.shared.set_step_ns(self.shared.step_ns() + LATER_NS);
        deliver(&self.disk);
        std::mem::take(&mut *lock(&self.events))
    }

    fn open_writer(&self, path: &RelPath, truncate: bool) -> io::Result<OthersFile> {
        self.vfs.others_open(path, truncate)
    }

    fn write(&self, writer: &OthersFile, data: &[u8], offset: u64) -> io::Result<()> {
        writer.write(data, offset)
    }

    fn truncate(&self, writer: &OthersFile, length: u64) -> io::Result<()> {
        writer.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn link(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.vfs.others_link(from, to)
    }

    fn move_root(&mut self) -> io::Result<()> {
        let (from, to) = if self.away { (AWAY, ROOT) } else { (ROOT, AWAY) };
        self.away = !self.away;
        lock(&self.disk).others_rename(from, to)
    }
}
