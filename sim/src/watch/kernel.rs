//! The kernel half: inotify(7).
//!
//! Watches are on inodes and have a mask; an event carries the watch and, unless it is about the
//! watched directory itself, a name. The queue is bounded: what finds it full is lost, and one
//! overflow mark at its end says so. An event equal to the last in the queue is merged into it.
//! `IGNORED` is the last event of a watch, whoever ended it.
//!
//! No cookies: what reads the events here and in the host has no use for them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chainsync_core::RelPath;
use chainsync_env::{Added, WatchEvent, WatchSink};

use super::table::Table;
use crate::fs::Slot;
use crate::rng::Stream;

/// How late the reader of an overflowing queue is: long enough for uploads to be missed.
const OVERFLOWS_FOR_NS: u64 = 200_000_000;

/// What the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Created,
    ClosedAfterWriting,
    MovedFrom,
    MovedTo,
    Deleted,
    Attributes,
    DeletedSelf,
    MovedSelf,
    /// There is no watch any more.
    Ignored,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Event {
        descriptor: u64,
        /// `None`: it is about the watched directory itself.
        name: Option<Box<[u8]>>,
        happening: Happening,
        /// Whether what it is about is a directory.
        is_dir: bool,
    },
    Overflow,
}

/// All watchers of one machine.
pub(crate) struct Kernel {
    rng: Stream,
    queue_max: usize,
    delay_ns: (u64, u64),
    instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    next_descriptor: u64,
}

struct Instance {
    sink: WatchSink,
    watches: BTreeMap<Slot, Watched>,
    table: Table,
    queue: VecDeque<Queued>,
    wake_ns: u64,
    /// Overflowed on purpose, and not read since.
    full: bool,
}

#[derive(Clone, Copy)]
struct Watched {
    descriptor: u64,
    mask: Mask,
}

/// What is asked of a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mask {
    /// A directory of the tree: everything that is known here.
    Tree,
    /// The root's parent: only what may mean the root.
    Parent,
}

/// Events for one sink; delivered without any lock held.
pub(crate) struct Delivery {
    pub sink: WatchSink,
    pub events: Vec<WatchEvent>,
}

impl Kernel {
    pub(crate) fn new(rng: Stream, queue_max: usize, delay_ns: (u64, u64)) -> Self {
        Self {
            rng,
            queue_max,
            delay_ns,
            instances: BTreeMap::new(),
            next_instance: 1,
            next_descriptor: 1,
        }
    }

    pub(crate) fn open(&mut self, sink: WatchSink) -> u64 {
        let id = self.next_instance;
        self.next_instance += 1;
        let instance = Instance {
            sink,
            watches: BTreeMap::new(),
            table: Table::default(),
            queue: VecDeque::new(),
            wake_ns: u64::MAX,
            full: false,
        };
        self.instances.insert(id, instance);
        id
    }

    pub(crate) fn close(&mut self, id: u64) {
        self.instances.remove(&id);
    }

    /// A process or the machine died.
    pub(crate) fn power_loss(&mut self) {
        self.instances.clear();
    }

    pub(crate) fn watches(&self, slot: Slot) -> bool {
        self.instances.values().any(|instance| instance.watches.contains_key(&slot))
    }

    pub(crate) fn count(&self) -> usize {
        self.instances.values().map(|instance| instance.watches.len()).sum()
    }

    /// Watches the inode under `path`, wherever it was watched before. `None`: there are as many
    /// watches as there may be, or the instance is gone.
    pub(super) fn add(
        &mut self,
        now_ns: u64,
        id: u64,
        (slot, path): (Slot, Option<&RelPath>),
        watches_max: usize,
    ) -> Option<Added> {
        let Some(descriptor) = self.watch(id, slot, Mask::Tree, watches_max) else {
            self.not_added(now_ns, id, path);
            return None;
        };
        let instance = self.instances.get_mut(&id)?;
        let (added, ended) = instance.table.add(path, descriptor);
        if let Some(ended) = ended {
            self.end(now_ns, id, ended);
        }
        Some(added)
    }

    /// Nothing is watched at `path` any more.
    pub(super) fn not_added(&mut self, now_ns: u64, id: u64, path: Option<&RelPath>) {
        let ended = self.instances.get_mut(&id).and_then(|instance| instance.table.not_added(path));
        if let Some(ended) = ended {
            self.end(now_ns, id, ended);
        }
    }

    /// Watches the directory that holds the root.
    pub(super) fn add_parent(
        &mut self,
        id: u64,
        (slot, root_name): (Slot, &[u8]),
        watches_max: usize,
    ) -> Option<()> {
        let descriptor = self.watch(id, slot, Mask::Parent, watches_max)?;
        self.instances.get_mut(&id)?.table.watch_parent(descriptor, root_name);
        Some(())
    }

    /// Ends the watches of `path` and of everything below it.
    pub(super) fn remove(&mut self, now_ns: u64, id: u64, path: &RelPath) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        for descriptor in instance.table.remove(path) {
            self.end(now_ns, id, descriptor);
        }
    }

    /// Directories that were added and that are not known to be gone.
    pub(super) fn len(&self, id: u64) -> usize {
        self.instances.get(&id).map_or(0, |instance| instance.table.len())
    }

    /// inotify_add_watch(2): an inode has one watch.
    fn watch(&mut self, id: u64, slot: Slot, mask: Mask, watches_max: usize) -> Option<u64> {
        let full = self.count() >= watches_max;
        let instance = self.instances.get_mut(&id)?;
        if let Some(watched) = instance.watches.get_mut(&slot) {
            watched.mask = mask;
            return Some(watched.descriptor);
        }
        if full {
            return None;
        }
        let descriptor = self.next_descriptor;
        self.next_descriptor += 1;
        instance.watches.insert(slot, Watched { descriptor, mask });
        Some(descriptor)
    }

    /// inotify_rm_watch(2); nothing if the watch is gone already.
    fn end(&mut self, now_ns: u64, id: u64, descriptor: u64) {
        let Some(instance) = self.instances.get(&id) else { return };
        let watch = |(_, watched): &(&Slot, &Watched)| watched.descriptor == descriptor;
        if let Some((slot, _)) = instance.watches.iter().find(watch) {
            let slot = *slot;
            self.tell(now_ns, Some(id), slot, None, Happening::Ignored, true);
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.watches.remove(&slot);
            }
        }
    }

    /// Something happened to a name in a directory, or to the directory itself.
    pub(crate) fn post(
        &mut self,
        now_ns: u64,
        slot: Slot,
        name: Option<&[u8]>,
        happening: Happening,
        is_dir: bool,
    ) {
        self.tell(now_ns, None, slot, name, happening, is_dir);
    }

    /// An inode has neither name nor handle any more.
    pub(crate) fn gone(&mut self, now_ns: u64, slot: Slot) {
        if !self.watches(slot) {
            return;
        }
        self.tell(now_ns, None, slot, None, Happening::DeletedSelf, true);
        self.tell(now_ns, None, slot, None, Happening::Ignored, true);
        for instance in self.instances.values_mut() {
            instance.watches.remove(&slot);
        }
    }

    fn tell(
        &mut self,
        now_ns: u64,
        only: Option<u64>,
        slot: Slot,
        name: Option<&[u8]>,
        happening: Happening,
        is_dir: bool,
    ) {
        let instances = self.instances.iter_mut();
        for (_, instance) in instances.filter(|(id, _)| only.is_none_or(|only| only == **id)) {
            let Some(Watched { descriptor, mask }) = instance.watches.get(&slot).copied() else {
                continue;
            };
            if mask.asks_for(happening) {
                let name = name.map(Box::from);
                let event = Queued::Event { descriptor, name, happening, is_dir };
                if instance.push(event, self.queue_max) && instance.wake_ns == u64::MAX {
                    instance.wake_ns = now_ns + self.rng.between(self.delay_ns.0, self.delay_ns.1);
                }
            }
        }
    }

    /// Loses count on purpose: the fault `watch-overflow`. The queue is full of what is not told
    /// here, and the reader is late: until it wakes up, every event is lost.
    pub(crate) fn overflow(&mut self, now_ns: u64) {
        for instance in self.instances.values_mut() {
            instance.queue.clear();
            instance.queue.push_back(Queued::Overflow);
            instance.wake_ns = now_ns + OVERFLOWS_FOR_NS;
            instance.full = true;
        }
    }

    /// What the readers that wake up by now hand out.
    pub(crate) fn due(&mut self, now_ns: u64) -> Vec<Delivery> {
        let awake = self.instances.values_mut().filter(|instance| instance.wake_ns <= now_ns);
        awake
            .map(|instance| Delivery { sink: Arc::clone(&instance.sink), events: instance.read() })
            .collect()
    }
}

impl Instance {
    /// Whether anything was added to the queue.
    fn push(&mut self, event: Queued, queue_max: usize) -> bool {
        if self.full {
            return false;
        }
        // In this order: a full queue loses also what it could have merged.
        if self.queue.len() >= queue_max {
            if self.queue.back() != Some(&Queued::Overflow) {
                self.queue.push_back(Queued::Overflow);
            }
            return true;
        }
        if self.queue.back() == Some(&event) {
            return false;
        }
        self.queue.push_back(event);
        true
    }

    fn read(&mut self) -> Vec<WatchEvent> {
        (self.wake_ns, self.full) = (u64::MAX, false);
        let queue = std::mem::take(&mut self.queue);
        queue.iter().filter_map(|event| self.table.translate(event)).collect()
    }
}

impl Mask {
    fn asks_for(self, happening: Happening) -> bool {
        use Happening::{Deleted, DeletedSelf, Ignored, MovedFrom, MovedSelf};
        match self {
            Mask::Tree => true,
            Mask::Parent => {
                matches!(happening, Deleted | MovedFrom | DeletedSelf | MovedSelf | Ignored)
            }
        }
    }
}

impl Happening {
    /// A name is not there any more.
    pub(super) fn leaves(self) -> bool {
        matches!(self, Happening::Deleted | Happening::MovedFrom)
    }

    /// Of a directory itself: it is not what it was.
    pub(super) fn ends(self) -> bool {
        matches!(self, Happening::DeletedSelf | Happening::MovedSelf | Happening::Ignored)
    }
}
