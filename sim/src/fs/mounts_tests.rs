//! Several file systems, and a journal that is cut.

use std::collections::BTreeSet;
use std::io;

use chainsync_core::RelPath;
use chainsync_env::{RenameMode, Vfs as _};

use super::*;
use crate::shared::{Shared, lock};
use crate::trace::Trace;

const SHARE: &[u8] = b"/srv/files";

fn machine(seed: u64, mounted: bool) -> (SharedDisk, u64) {
    let shared = Shared::new(seed, Trace::new(None));
    lock(&shared.oracle).node_names = vec!["apollo".to_owned()];
    let mut disk = Disk::new(shared, "apollo", 0, DiskOptions::default());
    disk.install_share(SHARE).unwrap();
    if mounted {
        disk.install_mount(SHARE).unwrap();
    }
    let process = disk.new_process();
    (disk.shared(), process)
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn upload(disk: &SharedDisk, name: &str) -> io::Result<()> {
    let disk = &mut *lock(disk);
    let dir = disk.upload_dir(&path(name))?;
    disk.create(Actor::Writer, dir, path(name).name(), 0o644).map(drop)
}

#[test]
fn who_has_a_root_open_keeps_it_and_who_comes_by_path_finds_the_mount_point() {
    let (disk, process) = machine(1, true);
    let held = SimFs::open(&disk, SHARE, process).unwrap();
    let held_root = held.open_dir(None).unwrap();
    held.make_dir(&held_root, b".chainsync", 0o700).unwrap();
    upload(&disk, "a").unwrap();
    let identity = |fs: &SimFs| {
        let stat = fs.stat_dir(&fs.open_dir(None).unwrap()).unwrap();
        (stat.device, stat.inode)
    };
    let mounted = identity(&held);
    lock(&disk).unmount_share();
    let found = SimFs::open(&disk, SHARE, process).unwrap();
    assert_ne!(identity(&found).0, mounted.0);
    assert_ne!(identity(&found).1, mounted.1);
    assert!(found.list(&found.open_dir(None).unwrap()).unwrap().is_empty());
    assert_eq!(identity(&held), mounted);
    assert_eq!(held.list(&held_root).unwrap().len(), 2);
    assert_eq!(code(upload(&disk, "b")), libc::ENOENT);
    // A power loss does not mount it, and does not forget it.
    held.sync_all().unwrap();
    drop((held_root, held, found));
    lock(&disk).power_loss(Loss::Strict);
    assert!(lock(&disk).is_share_away());
    lock(&disk).mount_share();
    let process = lock(&disk).new_process();
    let back = SimFs::open(&disk, SHARE, process).unwrap();
    assert_eq!(identity(&back), mounted);
    assert_eq!(lock(&disk).tree(SHARE).unwrap().len(), 1);
    assert!(lock(&lock(&disk).shared.oracle).failures.is_empty());
}

#[test]
fn what_is_written_into_the_mount_point_is_noticed() {
    let (disk, process) = machine(1, true);
    lock(&disk).unmount_share();
    let found = SimFs::open(&disk, SHARE, process).unwrap();
    found.make_dir(&found.open_dir(None).unwrap(), b"x", 0o755).unwrap();
    lock(&disk).mount_share();
    let shared = std::sync::Arc::clone(&lock(&disk).shared);
    assert_eq!(lock(&shared.oracle).failures[0].invariant, crate::check::Invariant::S7);
}

#[test]
fn nothing_crosses_a_mount_below_a_root() {
    let (disk, process) = machine(1, false);
    lock(&disk).install_dir(b"/srv/files/other", 0o755).unwrap();
    let fs = SimFs::open(&disk, SHARE, process).unwrap();
    let root = fs.open_dir(None).unwrap();
    let device = fs.stat_dir(&root).unwrap().device;
    assert_eq!(fs.stat(&root, b"other").unwrap().device, device);
    lock(&disk).install_mount(b"/srv/files/other").unwrap();
    assert_ne!(fs.stat(&root, b"other").unwrap().device, device);
    assert_eq!(code(fs.open_dir(Some(&path("other")))), libc::EXDEV);
    assert_eq!(code(fs.open_dir(Some(&path("other/deep")))), libc::EXDEV);
    assert_eq!(code(fs.remove_dir(&root, b"other")), libc::EBUSY);
    let moved = fs.rename(&root, b"other", &root, b"another", RenameMode::NoReplace);
    assert_eq!(code(moved), libc::EBUSY);
    let other = SimFs::open(&disk, b"/srv/files/other", process).unwrap();
    let there = other.open_dir(None).unwrap();
    other.create_file(&there, b"a", 0o600).unwrap();
    let moved = other.rename(&there, b"a", &root, b"a", RenameMode::NoReplace);
    assert_eq!(code(moved), libc::EXDEV);
    // syncfs(2) is for one of them.
    fs.sync_all().unwrap();
    drop((root, fs, there, other));
    lock(&disk).power_loss(Loss::Strict);
    assert!(lock(&disk).tree(b"/srv/files/other").unwrap().is_empty());
}

#[test]
fn a_journal_is_cut_after_the_last_sync_of_anything() {
    let mut lengths = BTreeSet::new();
    for seed in 0..80 {
        let (disk, process) = machine(seed, false);
        let fs = SimFs::open(&disk, SHARE, process).unwrap();
        let root = fs.open_dir(None).unwrap();
        let name = |number: usize| format!("f{number:02}");
        let create = |number: usize| {
            lock(&disk).install_free(name(number).as_bytes());
        };
        (0..5).for_each(create);
        fs.sync_dir(&root).unwrap();
        for number in 5..8 {
            create(number);
        }
        // A file that is none of them.
        lock(&disk).install_free(b"other");
        fs.sync_data(&fs.open_own_file(&root, b"other").unwrap()).unwrap();
        (8..16).for_each(create);
        lock(&disk).power_loss(Loss::Journal);
        let tree = lock(&disk).tree(SHARE).unwrap();
        let there: Vec<usize> =
            (0..16).filter(|number| tree.contains_key(name(*number).as_bytes())).collect();
        assert_eq!(there, (0..there.len()).collect::<Vec<_>>(), "a prefix");
        assert!(there.len() >= 8, "the sync of another file committed what came before it");
        lengths.insert(there.len());
    }
    assert_eq!(lengths.len(), 9, "{lengths:?}");
}

#[test]
fn a_content_that_was_not_synced_may_come_back_in_every_state() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (disk, process) = machine(seed, false);
        let fs = SimFs::open(&disk, SHARE, process).unwrap();
        let root = fs.open_dir(None).unwrap();
        lock(&disk).install_free(b"a");
        let file = fs.open_own_file(&root, b"a").unwrap();
        let size = 3 * 4096 + 1000;
        {
            let slot = lock(&disk).resolve_file(b"a");
            lock(&disk).write(Actor::Writer, slot, &vec![b'1'; size], 0).unwrap();
            fs.sync_data(&file).unwrap();
            fs.sync_dir(&root).unwrap();
            lock(&disk).write(Actor::Writer, slot, &vec![b'2'; size], 0).unwrap();
        }
        lock(&disk).power_loss(Loss::Journal);
        let tree = lock(&disk).tree(SHARE).unwrap();
        let Some(Leaf::File { content, .. }) = tree.get(b"a".as_slice()) else {
            panic!("{tree:?}")
        };
        let count = |wanted: u8| content.iter().filter(|byte| **byte == wanted).count();
        let (old, new, zero) = (count(b'1'), count(b'2'), count(0));
        seen.insert(match (content.len() == size, old, new, zero) {
            (true, _, 0, 0) => "absent",
            (true, 0, _, 0) => "whole",
            (true, 0, _, _) => "zeros",
            (true, old, ..) if old % 4096 % 512 == 0 || old % 4096 % 512 == 1000 % 512 => "blocks",
            (false, ..) => "short",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

impl Disk {
    /// An empty file in the share that nobody is told of.
    fn install_free(&mut self, name: &[u8]) {
        let root = self.resolve(SHARE).unwrap();
        self.create(Actor::Writer, root, name, 0o644).unwrap();
    }

    fn resolve_file(&self, name: &[u8]) -> Slot {
        self.lookup(self.resolve(SHARE).unwrap(), name).unwrap()
    }
}
