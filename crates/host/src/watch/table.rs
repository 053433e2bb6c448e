//! Which directory is watched where.
//!
//! A descriptor stands for an inode, wherever that is; a path has the descriptor that was added for
//! it last. Invariant: the two maps are each other's inverse.

use std::collections::BTreeMap;

use chainsync_core::RelPath;
use chainsync_env::Added;

/// What a descriptor stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory of the tree; `None` is the root.
    Dir(Option<RelPath>),
    /// The directory that holds the root, under this name.
    Parent(Vec<u8>),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    descriptors: BTreeMap<Option<RelPath>, i32>,
    paths: BTreeMap<i32, Option<RelPath>>,
    parent: Option<(i32, Vec<u8>)>,
}

impl Table {
    pub(super) fn watch_parent(&mut self, descriptor: i32, root_name: &[u8]) {
        self.parent = Some((descriptor, root_name.to_vec()));
    }

    pub(super) fn place(&self, descriptor: i32) -> Option<Place> {
        match &self.parent {
            Some((parent, name)) if *parent == descriptor => Some(Place::Parent(name.clone())),
            _ => self.paths.get(&descriptor).cloned().map(Place::Dir),
        }
    }

    /// The directory at `path` has this descriptor. Returns also the descriptor of another directory
    /// that was there before, and is watched nowhere else: its watch is to be ended.
    pub(super) fn add(&mut self, path: Option<&RelPath>, descriptor: i32) -> (Added, Option<i32>) {
        let path = path.cloned();
        let before = self.descriptors.insert(path.clone(), descriptor);
        if before == Some(descriptor) {
            return (Added::Known, None);
        }
        if let Some(before) = before {
            self.paths.remove(&before);
        }
        // It was watched at another path, and was renamed since.
        if let Some(other) = self.paths.insert(descriptor, path) {
            self.descriptors.remove(&other);
        }
        (Added::New, before)
    }

    /// Whatever is at `path` now could not be watched. Returns the descriptor of what was there before:
    /// its watch is to be ended.
    pub(super) fn not_added(&mut self, path: Option<&RelPath>) -> Option<i32> {
        let before = self.descriptors.remove(&path.cloned())?;
        self.paths.remove(&before);
        Some(before)
    }

    /// Forgets `path` and everything below it; returns the descriptors whose watches are to be ended.
    pub(super) fn remove(&mut self, path: &RelPath) -> Vec<i32> {
        // A path sorts directly before everything below it.
        let removed: Vec<(Option<RelPath>, i32)> = self
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

    /// The kernel ended a watch.
    pub(super) fn ended(&mut self, descriptor: i32) {
        if let Some(path) = self.paths.remove(&descriptor) {
            self.descriptors.remove(&path);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.descriptors.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    fn dir(at: &str) -> Option<Place> {
        Some(Place::Dir(Some(path(at))))
    }

    #[test]
    fn another_directory_takes_the_path() {
        let mut table = Table::default();
        let a = path("a");
        assert_eq!(table.add(Some(&a), 1), (Added::New, None));
        assert_eq!(table.add(Some(&a), 1), (Added::Known, None));
        assert_eq!(table.add(Some(&a), 2), (Added::New, Some(1)));
        // The kernel's word about the old one comes late.
        table.ended(1);
        assert_eq!((table.place(1), table.place(2)), (None, dir("a")));
        table.ended(2);
        assert_eq!((table.add(Some(&a), 3), table.len()), ((Added::New, None), 1));
    }

    #[test]
    fn a_renamed_directory_is_where_it_was_added_last() {
        let mut table = Table::default();
        let (a, z) = (path("a"), path("z"));
        table.add(Some(&a), 1);
        assert_eq!(table.add(Some(&z), 1), (Added::New, None));
        assert_eq!((table.place(1), table.len()), (dir("z"), 1));
        // Removing the old path does not touch it.
        assert_eq!(table.remove(&a), []);
        assert_eq!(table.place(1), dir("z"));
        assert_eq!(table.add(Some(&a), 1), (Added::New, None));
        assert_eq!(table.remove(&z), []);
        assert_eq!(table.place(1), dir("a"));
    }

    #[test]
    fn directories_change_places() {
        let mut table = Table::default();
        let (a, b) = (path("a"), path("b"));
        table.add(Some(&a), 1);
        table.add(Some(&b), 2);
        assert_eq!(table.add(Some(&a), 2), (Added::New, Some(1)));
        // The watch of the first was ended; the kernel gives it a new one.
        assert_eq!(table.add(Some(&b), 3), (Added::New, None));
        assert_eq!((table.place(2), table.place(3)), (dir("a"), dir("b")));
    }

    #[test]
    fn what_cannot_be_watched_hides_what_was_there_before() {
        let mut table = Table::default();
        let a = path("a");
        table.add(Some(&a), 1);
        table.add(Some(&path("a/b")), 2);
        assert_eq!(table.not_added(Some(&a)), Some(1));
        assert_eq!((table.place(1), table.place(2)), (None, dir("a/b")));
        assert_eq!(table.not_added(Some(&a)), None);
        assert_eq!(table.add(Some(&a), 3), (Added::New, None));
    }

    #[test]
    fn a_whole_tree_is_removed_and_nothing_else() {
        let mut table = Table::default();
        table.watch_parent(100, b"root");
        table.add(None, 0);
        let paths = ["a", "a/b", "a/b/c", "a-b", "ab", "b"].map(path);
        for (descriptor, path) in (1..).zip(&paths) {
            table.add(Some(path), descriptor);
        }
        assert_eq!(table.remove(&path("a")), [1, 2, 3]);
        assert_eq!(table.len(), 4);
        assert_eq!(table.remove(&path("a")), []);
        assert_eq!(table.place(0), Some(Place::Dir(None)));
        assert_eq!(table.place(100), Some(Place::Parent(b"root".to_vec())));
    }
}
