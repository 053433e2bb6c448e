//! Deaths at an operation, and power losses that leave some of what was not synced.

use std::collections::BTreeSet;
use std::time::Duration;

use chainsync_core::RelPath;
use chainsync_env::{RenameMode, Vfs as _};

use super::*;
use crate::gate::State;
use crate::shared::{Shared, lock};
use crate::trace::Trace;

/// A machine with a share, and the daemon's view of it.
pub(super) fn machine(seed: u64) -> (SharedDisk, SimFs) {
    let mut disk =
        Disk::new(Shared::new(seed, Trace::new(None)), "apollo", 0, DiskOptions::default());
    disk.install_share(b"/srv/files").unwrap();
    let process = disk.new_process();
    let disk = disk.shared();
    let fs = SimFs::open(&disk, b"/srv/files", process).unwrap();
    fs.make_dir(&fs.open_dir(None).unwrap(), b".chainsync", 0o700).unwrap();
    (disk, fs)
}

pub(super) fn own(fs: &SimFs) -> SimDir {
    fs.open_dir(Some(&RelPath::new(".chainsync").unwrap())).unwrap()
}

fn names(disk: &SharedDisk) -> BTreeSet<Vec<u8>> {
    lock(disk).tree(b"/srv/files/.chainsync").unwrap().into_keys().collect()
}

#[test]
fn a_daemon_dies_before_the_operation_and_does_nothing_more() {
    let mut torn = BTreeSet::new();
    for seed in 0..40 {
        let (disk, fs) = machine(seed);
        let dir = own(&fs);
        let fall = Fall { loss: None, back_after: Duration::from_secs(1) };
        let made = lock(&disk).operations().len() as u64;
        lock(&disk).fall_before(made + 2, fall);
        let file = fs.create_file(&dir, b"a", 0o600).unwrap();
        // Reading is no operation.
        assert_eq!(fs.list(&dir).unwrap().len(), 1);
        assert!(fs.write_at(&file, &[b'x'; 1000], 0).is_err());
        assert!(fs.stat(&dir, b"a").is_err(), "the dead read nothing either");
        assert!(fs.unlink(&dir, b"a").is_err());
        assert_eq!(lock(&disk).fallen.take(), Some(fall));
        assert_eq!(lock(&disk).gate.state(), State::Killed);
        let tree = lock(&disk).tree(b"/srv/files/.chainsync").unwrap();
        let Some(Leaf::File { content, .. }) = tree.get(b"a".as_slice()) else {
            panic!("{tree:?}")
        };
        torn.insert(content.len());
    }
    // Some deaths are before the write, some in the middle of it.
    assert!(torn.contains(&0) && torn.len() > 5, "{torn:?}");
}

#[test]
fn of_what_was_not_synced_some_survives_a_scattered_power_loss() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let (disk, fs) = machine(seed);
        let dir = own(&fs);
        for name in [b"old".as_slice(), b"kept"] {
            fs.write_at(&fs.create_file(&dir, name, 0o600).unwrap(), b"content", 0).unwrap();
        }
        fs.sync_all().unwrap();
        fs.rename(&dir, b"old", &dir, b"new", RenameMode::NoReplace).unwrap();
        drop(fs.create_file(&dir, b"late", 0o600).unwrap());
        lock(&disk).power_loss(Loss::Scattered);
        let names = names(&disk);
        // What was synced is there, and a rename is one thing.
        assert!(names.contains(b"kept".as_slice()));
        assert_ne!(names.contains(b"old".as_slice()), names.contains(b"new".as_slice()));
        seen.insert((names.contains(b"new".as_slice()), names.contains(b"late".as_slice())));
    }
    assert_eq!(seen.len(), 4, "the two changes survive independently: {seen:?}");
}

#[test]
fn an_unsynced_content_survives_whole_torn_or_not_at_all() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let (disk, fs) = machine(seed);
        let dir = own(&fs);
        let file = fs.create_file(&dir, b"a", 0o600).unwrap();
        fs.sync_dir(&dir).unwrap();
        fs.write_at(&file, &[b'x'; 100], 0).unwrap();
        lock(&disk).power_loss(Loss::Scattered);
        let tree = lock(&disk).tree(b"/srv/files/.chainsync").unwrap_or_default();
        if let Some(Leaf::File { content, .. }) = tree.get(b"a".as_slice()) {
            let good = content.iter().take_while(|byte| **byte == b'x').count();
            assert!(content[good..].iter().all(|byte| *byte == 0));
            seen.insert(match (content.len(), good) {
                (0, _) => "empty",
                (100, 100) => "whole",
                (100, _) => "zeros at the end",
                _ => "short",
            });
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}
