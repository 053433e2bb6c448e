//! One machine's file system: the table of inodes, the clock that stamps them, who may use it.
//!
//! Everything on the machine goes through here, the daemon and the web application alike. Before each
//! system call of the daemon the web application gets its turn ([`Disk::enter`]), so races happen at
//! the grain of system calls although nothing runs in parallel.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use chainsync_core::path::PATH_BYTES_MAX;
use chainsync_core::{RelPath, Stat};

use super::errno::{EINVAL, EIO, ENAMETOOLONG, ENOENT, ENOTDIR, errno, fail};
use super::fall::Fall;
use super::faults::Faults;
use super::inode::{Body, Content, Dir, Durable, Inode, Meta, Name, Slot};
use super::mounts::Mounts;
use crate::gate::Gate;
use crate::rng::Stream;
use crate::shared::{EPOCH_NS, Shared};
use crate::trace::Shown;
use crate::watch::Kernel;
use crate::workload::Jobs;

pub type SharedDisk = Arc<Mutex<Disk>>;

pub(crate) const ROOT: Slot = 0;
/// Linux `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;
/// The device number of the first file system; any constant would do.
pub(crate) const DEVICE: u64 = 0x801;

/// What a system call costs, in nanoseconds: measured on ext4, a warm cache, one core.
const CALL_NS: (u64, u64) = (1_500, 4_000);
/// Syncing one file or directory on an SSD with a write cache.
pub(crate) const SYNC_ONE_NS: (u64, u64) = (80_000, 400_000);
/// syncfs(2): the journal commit.
pub(crate) const SYNC_ALL_NS: (u64, u64) = (400_000, 3_000_000);

/// Who makes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The engine under test.
    Daemon,
    /// The web application.
    Writer,
}

/// How a disk behaves, apart from what is on it.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// 0: every change gets its own ctime. Else the kernel's coarse tick, e.g. 4 ms.
    pub ctime_coarse_ns: i128,
    /// What `Vfs::ctime_tick_ns` reports.
    pub ctime_tick_ns: i128,
    pub capacity_bytes: u64,
    /// What may be on the disk before the daemon, and it alone, is refused more.
    pub quota_bytes: Option<u64>,
    /// `fs.inotify.max_queued_events`.
    pub watch_queue_max: usize,
    /// `fs.inotify.max_user_watches`.
    pub watches_max: usize,
    /// How late the reader of events is: a thread that is woken, on a machine that is busy.
    pub watch_delay_ns: (u64, u64),
    /// What a system call costs.
    pub call_ns: (u64, u64),
    /// A defect of the system, to see that the checkers notice what it leads to.
    pub defect: Option<Defect>,
}

/// What a machine may do wrong (M3): each has to make some scenario fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Every sync says yes and stores names and metadata, but no content beyond 1 KiB:
    /// chainsync's root marker is smaller, and without it the daemon rightly refuses to start.
    ForgetsContents,
    /// Nobody ever seems to be writing, and a file's times stand still.
    HidesWriters,
    /// One watch event in 50 is not reported.
    LosesEvents,
    /// One rename in 50 of the daemon says yes and leaves the target a byte short.
    CutsContents,
    /// After everything else, a byte of a file changes without anybody having written it.
    Rots,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            ctime_coarse_ns: 0,
            ctime_tick_ns: 0,
            capacity_bytes: 100 << 30,
            quota_bytes: None,
            watch_queue_max: 16_384,
            watches_max: 1 << 20,
            watch_delay_ns: (0, 3_000_000),
            call_ns: CALL_NS,
            defect: None,
        }
    }
}

pub struct Disk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: String,
    /// The place of the node in the ring.
    pub(crate) index: usize,
    pub options: DiskOptions,
    pub(crate) inodes: Vec<Option<Inode>>,
    free_slots: Vec<Slot>,
    /// Numbers to be used again, the last freed first: as ext4 does, which is the hard case for
    /// whoever recognises files by number.
    free_numbers: Vec<u64>,
    next_number: u64,
    pub(crate) dirty: Vec<Slot>,
    pub(crate) dirty_dirs: Vec<Slot>,
    /// Places in the logs of the file systems.
    pub(crate) next_token: u64,
    pub(crate) next_handle: u64,
    /// Up to where each file system's log is durable.
    pub(crate) committed: BTreeMap<u64, u64>,
    pub(crate) mounts: Mounts,
    pub(crate) used_bytes: u64,
    /// Counts power cycles: handles of an earlier one are void.
    pub(crate) boot: u64,
    /// The daemon's life; an earlier one gets EIO for everything.
    process: u64,
    clock_ns: u64,
    /// Nanoseconds that the daemon's calls took and that it has not slept yet.
    debt_ns: u64,
    pub clock_skew_ns: i128,
    /// How much faster than true time the clock goes, in millionths, and since when.
    pub(crate) clock_drift: (i64, u64),
    pub(crate) rng: Stream,
    pub(crate) kernel: Kernel,
    pub(crate) jobs: Jobs,
    /// The share's root, absolute.
    pub(crate) share_root: Vec<u8>,
    /// The daemon's system calls.
    pub calls: u64,
    /// Files and directories that the daemon has open.
    pub handles: usize,
    /// Changes that the daemon made inside the share, `.chainsync` excluded.
    pub tree_changes: u64,
    pub(crate) listing_salt: u64,
    /// Whether the daemon may do anything.
    pub gate: Arc<Gate>,
    /// The daemon's calls that changed something.
    pub(crate) operations: Vec<&'static str>,
    /// Before which of them it dies.
    pub(crate) falls: BTreeMap<u64, Fall>,
    pub(crate) faults: Faults,
    /// It died in this tick: the world has to notice.
    pub fallen: Option<Fall>,
}

impl Disk {
    pub fn new(shared: Arc<Shared>, node: &str, index: usize, options: DiskOptions) -> Self {
        let seed = shared.seed;
        let mut rng = Stream::new(seed, "disk", node);
        let listing_salt = rng.draw();
        let kernel = Kernel::new(
            Stream::new(seed, "watch", node),
            options.watch_queue_max,
            options.watch_delay_ns,
        );
        let jobs = Jobs::new(Stream::new(seed, "writers", node));
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime_ns: EPOCH_NS, ctime_ns: EPOCH_NS };
        let mut disk = Self {
            shared,
            node: node.to_owned(),
            index,
            options,
            inodes: Vec::new(),
            free_slots: Vec::new(),
            free_numbers: Vec::new(),
            next_number: 2,
            dirty: Vec::new(),
            dirty_dirs: Vec::new(),
            next_token: 1,
            next_handle: 0,
            committed: BTreeMap::new(),
            mounts: Mounts::default(),
            used_bytes: 0,
            boot: 0,
            process: 0,
            clock_ns: 0,
            debt_ns: 0,
            clock_skew_ns: 0,
            clock_drift: (0, 0),
            rng,
            kernel,
            jobs,
            share_root: Vec::new(),
            calls: 0,
            handles: 0,
            tree_changes: 0,
            listing_salt,
            gate: Arc::default(),
            operations: Vec::new(),
            falls: BTreeMap::new(),
            faults: Faults::new(Stream::new(seed, "disk-faults", node)),
            fallen: None,
        };
        let root = disk.allocate(Body::Dir(Dir::default()), meta);
        disk.inode_mut(root).links = 1;
        disk
    }

    pub fn shared(self) -> SharedDisk {
        Arc::new(Mutex::new(self))
    }

    // Time and turns.

    /// Whether the machine has this defect, and it shows this time.
    pub(crate) fn fails(&mut self, defect: Defect, one_in: u64) -> bool {
        self.options.defect == Some(defect) && self.rng.one_in(one_in)
    }

    /// A system call of the daemon's life `process`: lets the web application go first.
    pub(crate) fn enter(&mut self, process: u64) -> io::Result<()> {
        if process != self.process {
            return fail(EIO);
        }
        self.calls += 1;
        let (low, high) = self.options.call_ns;
        let cost = self.rng.between(low, high);
        self.debt_ns += cost;
        self.advance(cost);
        self.run_writers(self.clock_ns);
        Ok(())
    }

    /// Time that a call takes beyond its entry: the caller sleeps it off, the clock does not jump.
    pub(crate) fn owe(&mut self, (low, high): (u64, u64)) {
        self.debt_ns += self.rng.between(low, high);
    }

    pub(crate) fn take_debt(&mut self) -> u64 {
        std::mem::take(&mut self.debt_ns)
    }

    /// A new life of the daemon; every handle of an earlier one fails from now on.
    pub fn new_process(&mut self) -> u64 {
        self.process += 1;
        self.faults.new_life();
        self.process
    }

    pub(crate) fn is_current(&self, process: u64) -> bool {
        self.process == process
    }

    /// Virtual nanoseconds. Runs ahead of the step while calls are made in it, never behind.
    pub fn now_ns(&mut self) -> u64 {
        self.clock_ns = self.clock_ns.max(self.shared.step_ns());
        self.clock_ns
    }

    pub(crate) fn advance(&mut self, by_ns: u64) {
        self.clock_ns = self.now_ns() + by_ns;
    }

    /// Sets the clock, and how fast it goes from now on.
    pub fn set_clock(&mut self, skew_ns: i128, drift_ppm: i64) {
        self.clock_skew_ns = skew_ns;
        self.clock_drift = (drift_ppm, self.now_ns());
    }

    /// This machine's wall clock.
    pub fn wall_ns(&mut self) -> i128 {
        let now_ns = self.now_ns();
        let (drift_ppm, since_ns) = self.clock_drift;
        let drifted_ns =
            i128::from(now_ns.saturating_sub(since_ns)) * i128::from(drift_ppm) / 1_000_000;
        EPOCH_NS + i128::from(now_ns) + self.clock_skew_ns + drifted_ns
    }

    /// The stamp of a change.
    pub(crate) fn stamp_ns(&mut self) -> i128 {
        let wall = self.wall_ns();
        match self.options.ctime_coarse_ns {
            0 => wall,
            coarse => wall - wall.rem_euclid(coarse),
        }
    }

    pub(crate) fn event(&mut self, kind: &str, detail: std::fmt::Arguments<'_>) {
        let now = self.now_ns();
        self.shared.trace.event(now, &self.node, kind, detail);
    }

    // Inodes.

    pub(crate) fn inode(&self, slot: Slot) -> &Inode {
        self.inodes[slot].as_ref().expect("a slot in use: names, handles and holds keep it")
    }

    pub(crate) fn inode_mut(&mut self, slot: Slot) -> &mut Inode {
        self.inodes[slot].as_mut().expect("a slot in use: names, handles and holds keep it")
    }

    pub(crate) fn allocate(&mut self, body: Body, meta: Meta) -> Slot {
        let number = self.new_number();
        let durable = Durable { meta, content: Content::default() };
        let inode = Inode {
            number,
            device: DEVICE,
            body,
            meta,
            links: 0,
            open: 0,
            writers: 0,
            opened: BTreeMap::new(),
            pins: 0,
            pins_parent: false,
            held: 0,
            home: None,
            durable,
            lost: None,
            dirty: false,
        };
        match self.free_slots.pop() {
            Some(slot) => {
                self.inodes[slot] = Some(inode);
                slot
            }
            None => {
                self.inodes.push(Some(inode));
                self.inodes.len() - 1
            }
        }
    }

    pub(crate) fn new_number(&mut self) -> u64 {
        self.free_numbers.pop().unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number - 1
        })
    }

    /// Frees what nothing leads to any more: first the number and the bytes, then, when nothing
    /// durable needs it, the slot.
    pub(crate) fn release(&mut self, slot: Slot) {
        let inode = self.inode_mut(slot);
        if inode.links > 0 || inode.open > 0 || inode.pins > 0 {
            return;
        }
        if inode.number != 0 {
            let number = std::mem::take(&mut inode.number);
            let bytes = match &inode.body {
                Body::File(content) => content.len() as u64,
                _ => 0,
            };
            let pinned = std::mem::take(&mut inode.pins_parent).then(|| inode.home.clone());
            self.used_bytes -= bytes;
            self.free_numbers.push(number);
            let now = self.now_ns();
            self.kernel.gone(now, slot);
            if let Some((parent, _)) = pinned.flatten() {
                self.unpin(parent);
            }
        }
        // The parent may have gone, and this one with what was pending there.
        if self.inodes[slot].as_ref().is_none_or(|inode| inode.held > 0) {
            return;
        }
        let inode = self.inodes[slot].take();
        self.free_slots.push(slot);
        if let Some(Inode { body: Body::Dir(dir), .. }) = inode {
            // What was durable or pending in a directory that is gone for good goes with it.
            let pending = dir.pending.iter().filter_map(|pending| pending.to);
            for held in dir.durable.values().copied().chain(pending) {
                self.unhold(held);
            }
        }
    }

    pub(crate) fn unhold(&mut self, slot: Slot) {
        self.inode_mut(slot).held -= 1;
        self.release(slot);
    }

    pub(crate) fn reset_numbers(&mut self, free_slots: Vec<Slot>) {
        self.free_slots = free_slots;
        self.free_numbers.clear();
    }

    // Names and paths.

    pub(crate) fn dir(&self, slot: Slot) -> io::Result<&Dir> {
        match &self.inode(slot).body {
            Body::Dir(dir) => Ok(dir),
            _ => fail(ENOTDIR),
        }
    }

    pub(crate) fn dir_mut(&mut self, slot: Slot) -> io::Result<&mut Dir> {
        match &mut self.inode_mut(slot).body {
            Body::Dir(dir) => Ok(dir),
            _ => fail(ENOTDIR),
        }
    }

    pub(crate) fn lookup(&self, dir: Slot, name: &[u8]) -> io::Result<Slot> {
        self.check_alive(dir)?;
        check_name(name)?;
        self.dir(dir)?.names.get(name).copied().ok_or_else(|| errno(ENOENT))
    }

    /// In a directory that has been removed nothing is found, and nothing can be made.
    pub(crate) fn check_alive(&self, dir: Slot) -> io::Result<()> {
        self.dir(dir)?;
        if self.inode(dir).links == 0 { fail(ENOENT) } else { Ok(()) }
    }

    /// The directory at `/`-separated components below `from`, without following symlinks or leaving
    /// the file system.
    pub(crate) fn walk<'a>(
        &self,
        from: Slot,
        components: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<Slot> {
        let mut slot = from;
        for component in components.filter(|component| !component.is_empty()) {
            slot = self.lookup(slot, component)?;
            match self.inode(slot).body {
                Body::Dir(_) => self.stay_within(slot)?,
                Body::Symlink(_) => return fail(super::errno::ELOOP),
                Body::File(_) => return fail(ENOTDIR),
            }
        }
        Ok(slot)
    }

    /// The directory at a path below `root`; `None` is the root itself.
    pub(crate) fn dir_at(&self, root: Slot, path: Option<&RelPath>) -> io::Result<Slot> {
        let Some(path) = path else { return Ok(root) };
        self.check_path(path)?;
        self.walk(root, path.components())
    }

    pub(crate) fn check_path(&self, path: &RelPath) -> io::Result<()> {
        // The kernel counts the NUL at its end too.
        if path.as_bytes().len() < PATH_BYTES_MAX { Ok(()) } else { fail(ENAMETOOLONG) }
    }

    /// The directory at an absolute path, across mounts.
    pub fn resolve(&self, path: &[u8]) -> io::Result<Slot> {
        let components = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        components.into_iter().try_fold(ROOT, |slot, component| {
            let below = self.lookup(slot, component)?;
            if self.is_mount_point(below) {
                return Ok(self.across(below));
            }
            self.walk(slot, std::iter::once(component))
        })
    }

    /// The absolute path of a name; of a directory that has been removed, what it was last.
    pub(crate) fn path_of(&self, dir: Slot, name: &[u8]) -> Vec<u8> {
        let mut components: Vec<&[u8]> = vec![name];
        let mut slot = dir;
        // Bounded by the depth of the tree; a removed directory's parents may be gone.
        while slot != ROOT
            && let Some(Some(inode)) = self.inodes.get(slot)
            && let Some((parent, name)) = &inode.home
        {
            components.push(name);
            slot = *parent;
        }
        let mut path = Vec::with_capacity(64);
        for component in components.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(component);
        }
        path
    }

    /// The path below the share's root, of what users may see: not `.chainsync`.
    pub(crate) fn in_share<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let relative = path.strip_prefix(self.share_root.as_slice())?.strip_prefix(b"/")?;
        let hidden = relative == OWN_DIR
            || relative.strip_prefix(OWN_DIR).is_some_and(|rest| rest.starts_with(b"/"));
        (!hidden && !self.share_root.is_empty()).then_some(relative)
    }

    pub(crate) fn stat(&self, slot: Slot) -> Stat {
        let inode = self.inode(slot);
        let links = match &inode.body {
            Body::Dir(_) if inode.links == 0 => 0,
            Body::Dir(dir) => u64::from(dir.subdirs) + 2,
            _ => u64::from(inode.links),
        };
        Stat {
            file_type: inode.file_type(),
            device: inode.device,
            inode: inode.number,
            links,
            size: inode.size(),
            mode: inode.meta.mode,
            uid: inode.meta.uid,
            gid: inode.meta.gid,
            mtime_ns: inode.meta.mtime_ns,
            ctime_ns: inode.meta.ctime_ns,
        }
    }

    /// Notes a change of the daemon in the trace.
    pub(crate) fn daemon_did(&mut self, actor: Actor, call: &str, path: &[u8]) {
        if actor == Actor::Daemon {
            self.judge_place(call, path);
            if self.in_share(path).is_some() {
                self.tree_changed();
            }
            self.event(call, format_args!("{}", Shown(path)));
        }
    }
}

/// chainsync's own directory in a share.
pub(crate) const OWN_DIR: &[u8] = b".chainsync";

pub(crate) fn check_name(name: &[u8]) -> io::Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return fail(ENAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0)
    {
        return fail(EINVAL);
    }
    Ok(())
}

/// The names of a directory in an order of the file system's own, as with hashed directories.
pub(crate) fn listing_order(salt: u64, names: impl Iterator<Item = Name>) -> Vec<Name> {
    let hash = |name: &Name| {
        // FNV-1a: any mixing does.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let hash = name.iter().fold(salt ^ 0xcbf2_9ce4_8422_2325, mix);
        hash ^ (hash >> 29)
    };
    let mut names: Vec<Name> = names.collect();
    names.sort_by_cached_key(|name| (hash(name), name.clone()));
    names
}
