//! The projection of known entries onto a disk is a tree that leaves out only what is outranked.

use std::collections::BTreeMap;

use chainsync_core::decide::{Seen, see};
use chainsync_core::disk::{FileType, Stat};
use chainsync_core::entry::{Entry, Kind};
use chainsync_core::projection::{IMPLIED_DIR_MODE, blocks, implied_dir, is_shadowed, project};
use chainsync_core::record::{Identity, Published};
use chainsync_core::version::{Dot, ReplicaId, Stamp, Version};
use chainsync_core::{RelPath, VersionVector};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{ROOT_DEVICE, entry};

/// Known entries: one for each path.
fn known() -> impl Strategy<Value = BTreeMap<RelPath, Entry>> {
    vec(entry(), 0..14)
        .prop_map(|entries| entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect())
}

/// The entries of the ancestors of a path.
fn above<'a>(
    known: &'a BTreeMap<RelPath, Entry>,
    path: &'a RelPath,
) -> impl Iterator<Item = &'a Entry> {
    path.ancestors().filter_map(|ancestor| known.get(&ancestor))
}

fn live_below<'a>(
    known: &'a BTreeMap<RelPath, Entry>,
    path: &'a RelPath,
) -> impl Iterator<Item = &'a Entry> {
    known.values().filter(|entry| entry.path.is_below(path) && entry.kind.is_live())
}

proptest! {
    #[test]
    fn the_disk_is_a_tree(known in known()) {
        let disk = project(known.values());
        for path in disk.keys() {
            for ancestor in path.ancestors() {
                let kind = disk.get(&ancestor);
                prop_assert!(kind.is_some_and(Kind::is_dir), "{} above {}", ancestor, path);
            }
        }
    }

    #[test]
    fn a_live_entry_is_on_disk_or_outranked(known in known()) {
        let disk = project(known.values());
        for (path, entry) in known.iter().filter(|(_, entry)| entry.kind.is_live()) {
            if disk.get(path) == Some(&entry.kind) {
                continue;
            }
            let stamp = entry.version.stamp;
            let outranked_from_above = above(&known, path)
                .any(|other| blocks(&other.kind) && other.version.stamp > stamp);
            let outranked_from_below = blocks(&entry.kind)
                && live_below(&known, path).any(|other| other.version.stamp >= stamp);
            prop_assert!(outranked_from_above || outranked_from_below, "{:?}", entry);
        }
        // The greatest stamp of all is on disk, whatever else is: of equals the lowest path.
        let live = known.values().filter(|entry| entry.kind.is_live());
        if let Some(greatest) = live.map(|entry| entry.version.stamp).max() {
            let on_disk = known.iter().any(|(path, entry)| {
                entry.version.stamp == greatest && disk.get(path) == Some(&entry.kind)
            });
            prop_assert!(on_disk);
        }
    }

    #[test]
    fn nothing_is_on_disk_that_no_entry_asks_for(known in known()) {
        for (path, kind) in project(known.values()) {
            let own = known.get(&path).filter(|entry| entry.kind.is_live());
            if own.is_some_and(|entry| entry.kind == kind) {
                continue;
            }
            prop_assert_eq!(&kind, &implied_dir(known.get(&path).map(|entry| &entry.kind)));
            prop_assert!(live_below(&known, &path).next().is_some(), "{} is implied", path);
        }
    }

    #[test]
    fn entry_by_entry_comes_to_the_same(known in known()) {
        let disk = project(known.values());
        for (path, entry) in &known {
            let above = above(&known, path).map(|entry| (&entry.kind, &entry.version.stamp));
            let below = live_below(&known, path).map(|entry| &entry.version.stamp).max();
            let shadowed = is_shadowed(&entry.kind, &entry.version.stamp, above, below);
            let on_disk = entry.kind.is_live() && !shadowed;
            if on_disk {
                prop_assert_eq!(disk.get(path), Some(&entry.kind));
            } else {
                // Not there, or a directory is implied by what is below.
                let kind = disk.get(path);
                prop_assert!(kind.is_none_or(|kind| *kind == implied_dir(Some(&entry.kind))));
            }
        }
    }

    #[test]
    fn a_sweep_of_a_projected_disk_finds_no_change(known in known()) {
        let disk = project(known.values());
        let paths = known.keys().chain(disk.keys());
        for (inode, path) in paths.enumerate() {
            let (published, stat) = put(disk.get(path), inode as u64);
            let seen = see(published.as_ref(), stat.as_ref(), ROOT_DEVICE);
            prop_assert_eq!(seen, Seen::AsPublished, "{}", path);
        }
    }

    #[test]
    fn what_is_on_disk_projects_to_itself(known in known()) {
        let disk = project(known.values());
        let entries: Vec<Entry> = disk
            .iter()
            .map(|(path, kind)| Entry {
                path: path.clone(),
                kind: kind.clone(),
                version: known.get(path).map_or_else(some_version, |entry| entry.version.clone()),
            })
            .collect();
        prop_assert_eq!(project(&entries), disk);
    }
}

/// What a node notes of a name after putting `kind` there, and what its disk then shows.
fn put(kind: Option<&Kind>, inode: u64) -> (Option<Published>, Option<Stat>) {
    let Some(kind) = kind else { return (None, None) };
    let (file_type, size, mode, owner) = match kind {
        Kind::File { size, mode, owner, .. } => (FileType::File, *size, *mode, *owner),
        Kind::Dir { mode, owner } => (FileType::Dir, 4096, *mode, *owner),
        Kind::Symlink { target } => (FileType::Symlink, target.len() as u64, 0o777, None),
        Kind::Tombstone { .. } => return (None, None),
    };
    let (uid, gid) = owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
    let (device, links, mtime_ns, ctime_ns) = (ROOT_DEVICE, 1, 5, 7);
    let stat = Stat { file_type, device, inode, links, size, mode, uid, gid, mtime_ns, ctime_ns };
    let identity = Some(Identity::of(&stat, 1_000, 10));
    (Some(Published { kind: kind.clone(), version: some_version(), identity }), Some(stat))
}

fn some_version() -> Version {
    let replica = ReplicaId(1);
    let dot = Dot { replica, counter: 1 };
    Version { stamp: Stamp::made(1, replica), dot, past: VersionVector::new() }
}

fn at(path: &str, kind: Kind, wall_ms: u64) -> Entry {
    let stamp = Stamp::made(wall_ms, ReplicaId(1));
    Entry { path: RelPath::new(path).unwrap(), kind, version: Version { stamp, ..some_version() } }
}

fn link() -> Kind {
    Kind::Symlink { target: b"x".to_vec() }
}

fn dir() -> Kind {
    Kind::Dir { mode: 0o700, owner: None }
}

/// PROTOCOL B5, first case: a deleted directory in which another node has created something.
#[test]
fn a_deleted_directory_is_implied_by_what_is_created_in_it() {
    let gone = Kind::Tombstone { mode: Some(0o750), owner: None };
    let entries = [at("d", gone, 9), at("d/e/y", link(), 1)];
    let disk = project(&entries);
    let mode = |path: &str| match disk.get(&RelPath::new(path).unwrap()) {
        Some(Kind::Dir { mode, .. }) => *mode,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(disk.len(), 3);
    assert_eq!((mode("d"), mode("d/e")), (0o750, IMPLIED_DIR_MODE));
}

/// PROTOCOL B5, second case: a directory replaced by a file while something is created in it.
#[test]
fn of_a_file_and_what_is_below_it_the_greater_stamp_is_on_disk() {
    for (file_ms, below_ms, file_stays) in [(2, 1, true), (1, 2, false), (1, 1, false)] {
        let entries = [at("d", link(), file_ms), at("d/y", link(), below_ms)];
        let disk = project(&entries);
        let file = disk.get(&RelPath::new("d").unwrap());
        assert_eq!(file == Some(&link()), file_stays, "{file_ms} {below_ms}");
        assert_eq!(disk.len(), if file_stays { 1 } else { 2 });
    }
}

#[test]
fn a_directory_comes_back_with_what_is_on_disk_below_it() {
    let entries = [at("a", link(), 4), at("a/d", dir(), 3), at("a/d/x", link(), 5)];
    let disk = project(&entries);
    assert_eq!(disk.get(&RelPath::new("a/d").unwrap()), Some(&dir()));
    assert_eq!(disk.len(), 3);
}
