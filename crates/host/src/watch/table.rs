//! Which directory is watched at which path.
//!
//! Pure bookkeeping. Its point is to tell a watch that is still good from one that has to be made
//! again: a sweep adds every directory, and almost all of them are watched already.

use std::collections::BTreeMap;

use chainsync_core::RelPath;

use super::names::Names;

/// Which directory it is. An inode's number is taken again soon after a directory is deleted; the
/// time of birth tells the two apart, unless both were born within one tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    /// Zero where the file system does not tell.
    pub(super) born: (i64, u32),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    watched: BTreeMap<Option<RelPath>, Watched>,
    /// The path that was added last for a directory: the kernel has one watch for an inode, and
    /// notify reports its events at the path added last.
    reported: BTreeMap<Identity, Option<RelPath>>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    identity: Identity,
    spelling: usize,
    /// Something happened to this name since: another directory of the same identity may be there.
    doubtful: bool,
}

/// What to do about a path: watch it in the new spelling, then end the old.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) new: usize,
    pub(super) old: Option<usize>,
    before: Option<Watched>,
}

impl Table {
    /// Notes that `path` is about to be watched; `None` if it is watched already.
    pub(super) fn begin(&mut self, path: Option<&RelPath>, identity: Identity) -> Option<Change> {
        let path = path.cloned();
        let before = self.watched.get(&path).copied();
        let good = |watched: &Watched| watched.identity == identity && !watched.doubtful;
        if before.as_ref().is_some_and(good) && self.reported.get(&identity) == Some(&path) {
            return None;
        }
        let old = before.map(|watched| watched.spelling);
        let new = old.map_or(0, Names::next);
        if let Some(before) = before {
            self.forget(&path, before.identity);
        }
        self.reported.insert(identity, path.clone());
        self.watched.insert(path, Watched { identity, spelling: new, doubtful: false });
        Some(Change { new, old, before })
    }

    /// Takes back a change that failed. What was watched before is in doubt.
    pub(super) fn undo(&mut self, path: Option<&RelPath>, change: &Change) {
        let path = path.cloned();
        if let Some(failed) = self.watched.remove(&path) {
            self.forget(&path, failed.identity);
        }
        if let Some(before) = change.before {
            self.watched.insert(path, Watched { doubtful: true, ..before });
        }
    }

    /// Something happened to the name `path`.
    pub(super) fn doubt(&mut self, path: &RelPath) {
        // No borrowed form of `Option<RelPath>` exists; cloning one is a reference count.
        if let Some(watched) = self.watched.get_mut(&Some(path.clone())) {
            watched.doubtful = true;
        }
    }

    /// Forgets `path` and everything below it; returns what was watched there, and how spelled.
    pub(super) fn remove(&mut self, path: &RelPath) -> Vec<(RelPath, usize)> {
        // A path sorts directly before everything below it.
        let removed: Vec<(RelPath, Watched)> = self
            .watched
            .range(Some(path.clone())..)
            .filter_map(|(other, watched)| Some((other.clone()?, *watched)))
            .take_while(|(other, _)| other == path || other.is_below(path))
            .collect();
        for (path, watched) in &removed {
            let path = Some(path.clone());
            self.watched.remove(&path);
            self.forget(&path, watched.identity);
        }
        removed.into_iter().map(|(path, watched)| (path, watched.spelling)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }

    fn forget(&mut self, path: &Option<RelPath>, identity: Identity) {
        if self.reported.get(&identity) == Some(path) {
            self.reported.remove(&identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    fn identity(inode: u64) -> Identity {
        Identity { device: (8, 1), inode, born: (1, 2) }
    }

    #[test]
    fn only_a_good_watch_is_left_alone() {
        let mut table = Table::default();
        let a = path("a");
        let change = table.begin(Some(&a), identity(1)).unwrap();
        assert_eq!((change.old, change.new), (None, 0));
        assert!(table.begin(Some(&a), identity(1)).is_none());
        // Another directory.
        let change = table.begin(Some(&a), identity(2)).unwrap();
        assert_eq!((change.old, change.new), (Some(0), 1));
        // The same inode number, but its name was touched.
        table.doubt(&a);
        let change = table.begin(Some(&a), identity(2)).unwrap();
        assert_eq!((change.old, change.new), (Some(1), 0));
        assert!(table.begin(Some(&a), identity(2)).is_none());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_directory_that_moved_away_and_back_is_watched_again() {
        let mut table = Table::default();
        let (a, z) = (path("a"), path("z"));
        table.begin(Some(&a), identity(1)).unwrap();
        table.begin(Some(&z), identity(1)).unwrap();
        // Its events are reported at z now.
        let change = table.begin(Some(&a), identity(1)).unwrap();
        assert_eq!(change.old, Some(0));
        assert!(table.begin(Some(&a), identity(1)).is_none());
        // Removing z does not touch what is reported at a.
        assert_eq!(table.remove(&z), [(z, 0)]);
        assert!(table.begin(Some(&a), identity(1)).is_none());
    }

    #[test]
    fn a_failed_change_leaves_the_old_watch_in_doubt() {
        let mut table = Table::default();
        let a = path("a");
        let change = table.begin(Some(&a), identity(1)).unwrap();
        table.undo(Some(&a), &change);
        assert_eq!(table.len(), 0);
        table.begin(Some(&a), identity(1)).unwrap();
        let change = table.begin(Some(&a), identity(2)).unwrap();
        table.undo(Some(&a), &change);
        let change = table.begin(Some(&a), identity(1)).unwrap();
        assert_eq!((change.old, change.new), (Some(0), 1));
    }

    #[test]
    fn a_whole_tree_is_removed_and_nothing_else() {
        let mut table = Table::default();
        table.begin(None, identity(0)).unwrap();
        let paths = ["a", "a/b", "a/b/c", "a-b", "ab", "b"].map(path);
        for (inode, path) in (1..).zip(&paths) {
            table.begin(Some(path), identity(inode)).unwrap();
        }
        let removed: Vec<String> =
            table.remove(&path("a")).iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(removed, ["a", "a/b", "a/b/c"]);
        assert_eq!(table.len(), 4);
        assert_eq!(table.remove(&path("a")), []);
    }
}
