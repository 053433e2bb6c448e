//! The simulated watcher: inotify as the kernel does it, and a reader that is late.
//!
//! Watches are on directory inodes, events carry a watch and a name, the queue is bounded with one
//! overflow mark at its end, an event equal to the last one in the queue is merged into it. The
//! reader wakes a few milliseconds after the first event and turns what is queued into
//! [`WatchEvent`]s, under the path at which the directory was last added. Whoever writes, the daemon
//! included, is reported alike. A crash loses queue and watches.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use chainsync_core::RelPath;
use chainsync_core::hints::Urgency;
use chainsync_env::{Added, Watch, WatchError, WatchEvent, WatchSink};

use crate::fs::{Disk, SharedDisk, Slot};
use crate::rng::Stream;
use crate::shared::lock;

/// How late the reader of an overflowing queue is: long enough for uploads to be missed.
const OVERFLOWS_FOR_NS: u64 = 200_000_000;

/// What the kernel reports of a name in a watched directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Created { dir: bool, symlink: bool },
    ClosedAfterWriting,
    MovedFrom,
    MovedTo,
    Deleted,
    Attributes,
}

/// The kernel half, for all watchers of one machine.
pub(crate) struct Kernel {
    rng: Stream,
    queue_max: usize,
    /// How late the reader is.
    delay_ns: (u64, u64),
    instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    next_descriptor: u64,
}

struct Instance {
    sink: WatchSink,
    by_slot: BTreeMap<Slot, u64>,
    /// The user half: what a descriptor stands for. `None` is the root.
    paths: BTreeMap<u64, Option<RelPath>>,
    by_path: BTreeMap<Option<RelPath>, u64>,
    queue: VecDeque<Queued>,
    wake_ns: u64,
    /// Overflowed on purpose, and not read since.
    full: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Queued {
    Event {
        descriptor: u64,
        name: Box<[u8]>,
        happening: Happening,
    },
    /// The watch ended with its directory.
    Ignored {
        descriptor: u64,
    },
    RootMoved,
    Overflow,
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
            by_slot: BTreeMap::new(),
            paths: BTreeMap::new(),
            by_path: BTreeMap::new(),
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
        self.instances.values().any(|instance| instance.by_slot.contains_key(&slot))
    }

    pub(crate) fn count(&self) -> usize {
        self.instances.values().map(|instance| instance.by_slot.len()).sum()
    }

    pub(crate) fn post(&mut self, now_ns: u64, slot: Slot, name: &[u8], happening: Happening) {
        for instance in self.instances.values_mut() {
            if let Some(descriptor) = instance.by_slot.get(&slot).copied() {
                let event = Queued::Event { descriptor, name: name.into(), happening };
                instance.push(now_ns, event, self.queue_max, self.delay_ns, &mut self.rng);
            }
        }
    }

    /// The directory itself is being removed.
    pub(crate) fn gone(&mut self, slot: Slot) {
        for instance in self.instances.values_mut() {
            if let Some(descriptor) = instance.by_slot.remove(&slot) {
                let event = Queued::Ignored { descriptor };
                instance.push(0, event, self.queue_max, self.delay_ns, &mut self.rng);
            }
        }
    }

    /// The directory itself got another name: of interest only if it is a root.
    pub(crate) fn root_moved(&mut self, slot: Slot) {
        for instance in self.instances.values_mut() {
            if instance.root_slot_is(slot) {
                let event = Queued::RootMoved;
                instance.push(0, event, self.queue_max, self.delay_ns, &mut self.rng);
            }
        }
    }

    /// The slot will be used for another inode.
    pub(crate) fn forget(&mut self, slot: Slot) {
        for instance in self.instances.values_mut() {
            instance.by_slot.remove(&slot);
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
    fn push(
        &mut self,
        now_ns: u64,
        event: Queued,
        queue_max: usize,
        delay_ns: (u64, u64),
        rng: &mut Stream,
    ) {
        if self.full || self.queue.back() == Some(&event) {
            return;
        }
        if self.queue.len() >= queue_max {
            if self.queue.back() != Some(&Queued::Overflow) {
                self.queue.push_back(Queued::Overflow);
            }
            return;
        }
        if self.wake_ns == u64::MAX {
            self.wake_ns = now_ns + rng.between(delay_ns.0, delay_ns.1);
        }
        self.queue.push_back(event);
    }

    fn root_slot_is(&self, slot: Slot) -> bool {
        self.by_path.get(&None).is_some_and(|root| self.by_slot.get(&slot) == Some(root))
    }

    fn read(&mut self) -> Vec<WatchEvent> {
        (self.wake_ns, self.full) = (u64::MAX, false);
        let mut events = Vec::with_capacity(self.queue.len());
        for queued in std::mem::take(&mut self.queue) {
            match queued {
                Queued::Overflow => events.push(WatchEvent::Overflow),
                Queued::RootMoved => events.push(WatchEvent::RootGone),
                Queued::Ignored { descriptor } => {
                    if let Some(path) = self.forget_descriptor(descriptor)
                        && path.is_none()
                    {
                        events.push(WatchEvent::RootGone);
                    }
                }
                Queued::Event { descriptor, name, happening } => {
                    // Events of a watch that was removed meanwhile have no path to be reported under.
                    let Some(parent) = self.paths.get(&descriptor) else { continue };
                    if let Ok(path) = RelPath::child(parent.as_ref(), &name) {
                        events.push(WatchEvent::Hint(path, happening.urgency()));
                    }
                }
            }
        }
        events
    }

    fn forget_descriptor(&mut self, descriptor: u64) -> Option<Option<RelPath>> {
        let path = self.paths.remove(&descriptor)?;
        if self.by_path.get(&path) == Some(&descriptor) {
            self.by_path.remove(&path);
        }
        Some(path)
    }

    fn end_watch(&mut self, descriptor: u64) {
        self.by_slot.retain(|_, other| *other != descriptor);
        self.forget_descriptor(descriptor);
    }

    /// Watches the inode under `path`, wherever it was watched before.
    fn add(&mut self, slot: Slot, path: Option<RelPath>, new_descriptor: u64) -> Added {
        let descriptor = *self.by_slot.entry(slot).or_insert(new_descriptor);
        if self.by_path.get(&path) == Some(&descriptor) {
            return Added::Known;
        }
        if let Some(other) = self.by_path.get(&path).copied()
            && other != descriptor
        {
            self.end_watch(other);
        }
        if let Some(before) = self.paths.insert(descriptor, path.clone())
            && before != path
            && self.by_path.get(&before) == Some(&descriptor)
        {
            self.by_path.remove(&before);
        }
        self.by_path.insert(path, descriptor);
        Added::New
    }

    fn remove(&mut self, path: &RelPath) {
        let below = self
            .by_path
            .range(Some(path.clone())..)
            .take_while(|(other, _)| {
                other.as_ref().is_some_and(|other| other == path || other.is_below(path))
            })
            .map(|(_, descriptor)| *descriptor)
            .collect::<Vec<_>>();
        for descriptor in below {
            self.end_watch(descriptor);
        }
    }
}

impl Happening {
    fn urgency(self) -> Urgency {
        match self {
            Happening::Created { dir: false, symlink: false } => Urgency::Started,
            _ => Urgency::Finished,
        }
    }
}

/// A watcher of one tree.
pub struct SimWatch {
    disk: SharedDisk,
    /// Open: watches are set below it, wherever it is by now.
    root: Slot,
    boot: u64,
    id: u64,
    process: u64,
}

impl SimWatch {
    pub fn new(
        disk: &SharedDisk,
        root: &[u8],
        process: u64,
        sink: WatchSink,
    ) -> Result<Self, WatchError> {
        let mut locked = lock(disk);
        locked.enter(process).map_err(WatchError::Io)?;
        let root = locked.resolve(root).map_err(WatchError::Io)?;
        locked.open(root, false);
        let (id, boot) = (locked.kernel.open(sink), locked.boot);
        Ok(Self { disk: SharedDisk::clone(disk), root, boot, id, process })
    }

    fn resolve(&self, disk: &Disk, path: Option<&RelPath>) -> io::Result<Slot> {
        match path {
            None => Ok(self.root),
            Some(path) => disk.walk(self.root, path.components()),
        }
    }
}

impl Watch for SimWatch {
    fn add(&self, path: Option<&RelPath>) -> Result<Added, WatchError> {
        let mut disk = lock(&self.disk);
        disk.enter(self.process).map_err(WatchError::Io)?;
        let slot = self.resolve(&disk, path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => WatchError::Gone,
            _ => WatchError::Io(error),
        })?;
        let watches_max = disk.options.watches_max;
        let full = disk.kernel.count() >= watches_max;
        let new_descriptor = disk.kernel.next_descriptor;
        disk.kernel.next_descriptor += 1;
        let Some(instance) = disk.kernel.instances.get_mut(&self.id) else {
            return Err(WatchError::Io(io::Error::from_raw_os_error(libc::EIO)));
        };
        if full && !instance.by_slot.contains_key(&slot) {
            return Err(WatchError::Limit);
        }
        Ok(instance.add(slot, path.cloned(), new_descriptor))
    }

    fn remove(&self, path: &RelPath) {
        let mut disk = lock(&self.disk);
        if disk.is_current(self.process)
            && let Some(instance) = disk.kernel.instances.get_mut(&self.id)
        {
            instance.remove(path);
        }
    }

    fn len(&self) -> usize {
        let disk = lock(&self.disk);
        disk.kernel.instances.get(&self.id).map_or(0, |instance| instance.by_slot.len())
    }
}

impl Drop for SimWatch {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        disk.kernel.close(self.id);
        if disk.boot == self.boot {
            disk.close(self.root, false);
        }
    }
}

/// Delivers what is due on a machine; the sinks run here, on no lock.
pub(crate) fn deliver(disk: &SharedDisk) {
    let deliveries = {
        let mut disk = lock(disk);
        let now = disk.shared.step_ns();
        let deliveries = disk.kernel.due(now);
        for event in deliveries.iter().flat_map(|delivery| &delivery.events) {
            match event {
                WatchEvent::Hint(path, urgency) => {
                    disk.event("watch", format_args!("{urgency:?} {path}"));
                }
                other => disk.event("watch", format_args!("{other:?}")),
            }
        }
        deliveries
    };
    for Delivery { sink, events } in deliveries {
        events.into_iter().for_each(|event| sink(event));
    }
}

#[cfg(test)]
mod tests;
