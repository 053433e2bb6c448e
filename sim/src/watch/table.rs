//! The user half: which directory is watched where, and what an event means.
//!
//! As `chainsync-host` has it (watch/table.rs and translate.rs there); the conformance test compares
//! the two. A descriptor stands for an inode, wherever that is; a path has the descriptor that was
//! added for it last.

use std::collections::BTreeMap;

use chainsync_core::RelPath;
use chainsync_core::hints::Urgency;
use chainsync_env::{Added, WatchEvent};

use super::kernel::{Happening, Queued};

#[derive(Default)]
pub(super) struct Table {
    /// `None` is the root.
    descriptors: BTreeMap<Option<RelPath>, u64>,
    paths: BTreeMap<u64, Option<RelPath>>,
    /// The directory that holds the root, and under which name.
    parent: Option<(u64, Box<[u8]>)>,
}

impl Table {
    pub(super) fn watch_parent(&mut self, descriptor: u64, root_name: &[u8]) {
        self.parent = Some((descriptor, root_name.into()));
    }

    /// The directory at `path` has this descriptor. Returns also the descriptor of another directory
    /// that was there before: its watch is to be ended.
    pub(super) fn add(&mut self, path: Option<&RelPath>, descriptor: u64) -> (Added, Option<u64>) {
        let path = path.cloned();
        let before = self.descriptors.insert(path.clone(), descriptor);
        if before == Some(descriptor) {
            return (Added::Known, None);
        }
        if let Some(before) = before {
            self.paths.remove(&before);
        }
        if let Some(other) = self.paths.insert(descriptor, path) {
            self.descriptors.remove(&other);
        }
        (Added::New, before)
    }

    /// Whatever is at `path` now could not be watched. Returns the descriptor of what was there before:
    /// its watch is to be ended.
    pub(super) fn not_added(&mut self, path: Option<&RelPath>) -> Option<u64> {
        let before = self.descriptors.remove(&path.cloned())?;
        self.paths.remove(&before);
        Some(before)
    }

    /// Forgets `path` and everything below it; returns the descriptors whose watches are to be ended.
    pub(super) fn remove(&mut self, path: &RelPath) -> Vec<u64> {
        let removed: Vec<(Option<RelPath>, u64)> = self
            .descriptors
            .range(Some(path.clone())..)
            .take_while(|(other, _)| {
                other.as_ref().is_some_and(|other| other == path || other.is_below(path))
            })
            .map(|(other, descriptor)| (other.clone(), *descriptor))
            .collect();
        for (path, descriptor) in &removed {
            self.descriptors.remove(path);
            self.paths.remove(descriptor);
        }
        removed.into_iter().map(|(_, descriptor)| descriptor).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// What an event means; `None` if nothing. Notes what has ended.
    pub(super) fn translate(&mut self, event: &Queued) -> Option<WatchEvent> {
        let Queued::Event { descriptor, name, happening, is_dir } = event else {
            return Some(WatchEvent::Overflow);
        };
        let name = name.as_deref();
        if let Some((parent, root)) = &self.parent
            && parent == descriptor
        {
            let gone = match name {
                Some(name) => happening.leaves() && *name == **root,
                None => happening.ends(),
            };
            return gone.then_some(WatchEvent::RootGone);
        }
        // None: of a watch that was ended from here.
        let dir = self.paths.get(descriptor)?.clone();
        if *happening == Happening::Ignored
            && let Some(path) = self.paths.remove(descriptor)
        {
            self.descriptors.remove(&path);
        }
        match name {
            None => (dir.is_none() && happening.ends()).then_some(WatchEvent::RootGone),
            Some(name) => match RelPath::child(dir.as_ref(), name) {
                Ok(path) => Some(WatchEvent::Hint(path, urgency(*happening, *is_dir))),
                // Too long for a path of ours: then it is about the directory that holds it.
                Err(_) => Some(WatchEvent::Hint(dir?, Urgency::Finished)),
            },
        }
    }
}

fn urgency(happening: Happening, is_dir: bool) -> Urgency {
    if happening == Happening::Created && !is_dir { Urgency::Started } else { Urgency::Finished }
}
