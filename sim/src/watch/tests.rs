use std::sync::{Arc, Mutex};

use chainsync_core::hints::Urgency;

use super::*;
use crate::fs::{Actor, Disk, DiskOptions, Slot};
use crate::shared::Shared;
use crate::trace::Trace;
use chainsync_env::{RenameMode, Vfs as _};

const SHARE: &[u8] = b"/srv/files";

struct Fixture {
    disk: SharedDisk,
    watch: SimWatch,
    events: Arc<Mutex<Vec<WatchEvent>>>,
    root: Slot,
}

fn fixture(options: DiskOptions) -> Fixture {
    let shared = Shared::new(3, Trace::new(None));
    lock(&shared.oracle).node_names = vec!["apollo".to_owned()];
    let mut disk = Disk::new(shared, "apollo", 0, options);
    disk.install_share(SHARE).unwrap();
    let root = disk.resolve(SHARE).unwrap();
    let process = disk.new_process();
    let disk = disk.shared();
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let sink: WatchSink = Arc::new(move |event| lock(&sink).push(event));
    let watch = SimWatch::new(&disk, SHARE, process, sink).unwrap();
    Fixture { disk, watch, events, root }
}

impl Fixture {
    /// Everything that is queued, as if the reader had woken.
    fn delivered(&self) -> Vec<String> {
        let shared = Arc::clone(&lock(&self.disk).shared);
        shared.set_step_ns(shared.step_ns() + 1_000_000_000);
        deliver(&self.disk);
        std::mem::take(&mut *lock(&self.events)).iter().map(show).collect()
    }

    fn make_dir(&self, dir: Slot, name: &[u8]) -> Slot {
        lock(&self.disk).make_dir(Actor::Writer, dir, name, 0o755).unwrap()
    }

    fn write_file(&self, dir: Slot, name: &[u8]) {
        let disk = &mut *lock(&self.disk);
        let slot = disk.create(Actor::Writer, dir, name, 0o644).unwrap();
        let handle = disk.open(slot, Some((dir, name)), true);
        disk.write(Actor::Writer, slot, b"x", 0).unwrap();
        disk.close(slot, handle);
    }

    fn rename(&self, from: (Slot, &[u8]), to: (Slot, &[u8]), mode: RenameMode) {
        lock(&self.disk).rename(Actor::Writer, from, to, mode).unwrap();
    }
}

fn show(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Hint(path, Urgency::Started) => format!("started {path}"),
        WatchEvent::Hint(path, Urgency::Finished) => format!("finished {path}"),
        other => format!("{other:?}"),
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

#[test]
fn what_happens_to_names_in_watched_directories_is_told() {
    let fixture = fixture(DiskOptions::default());
    let root = fixture.root;
    fixture.write_file(root, b"before");
    fixture.watch.add(None).unwrap();
    assert_eq!(fixture.delivered(), [""; 0], "a watch says nothing of what was before");

    fixture.write_file(root, b"a");
    assert_eq!(fixture.delivered(), ["started a", "finished a"]);
    let dir = fixture.make_dir(root, b"d");
    fixture.write_file(dir, b"unseen");
    assert_eq!(fixture.delivered(), ["finished d"], "a new directory is not watched");
    fixture.watch.add(Some(&path("d"))).unwrap();
    fixture.rename((root, b"a"), (dir, b"b"), RenameMode::NoReplace);
    assert_eq!(fixture.delivered(), ["finished a", "finished d/b"]);
    fixture.rename((dir, b"b"), (dir, b"unseen"), RenameMode::Exchange);
    // from b, to unseen, from unseen, to b: both names twice.
    assert_eq!(fixture.delivered().len(), 4);
    lock(&fixture.disk).unlink(Actor::Writer, dir, b"b").unwrap();
    assert_eq!(fixture.delivered(), ["finished d/b"]);
}

#[test]
fn the_daemons_own_changes_are_told_like_anyones() {
    let fixture = fixture(DiskOptions::default());
    let process = lock(&fixture.disk).new_process();
    let fs = crate::fs::SimFs::open(&fixture.disk, SHARE, process).unwrap();
    fixture.write_file(fixture.root, b"a");
    // The watcher of the life before may still report, but takes no orders.
    assert!(fixture.watch.add(None).is_err());
    let events = Arc::clone(&fixture.events);
    let sink: WatchSink = Arc::new(move |event| lock(&events).push(event));
    let watch = SimWatch::new(&fixture.disk, SHARE, process, sink).unwrap();
    watch.add(None).unwrap();
    let root = fs.open_dir(None).unwrap();
    let file = fs.open_file(&root, b"a").unwrap();
    fs.set_file_mode(&file, 0o600).unwrap();
    drop(file);
    assert_eq!(fixture.delivered(), ["finished a"], "closing after reading is no event");
    drop(watch);
    fixture.write_file(fixture.root, b"b");
    assert_eq!(fixture.delivered(), [""; 0]);
}

#[test]
fn a_full_queue_ends_with_one_overflow() {
    let fixture = fixture(DiskOptions { watch_queue_max: 4, ..DiskOptions::default() });
    fixture.watch.add(None).unwrap();
    for name in [b"a", b"b", b"c", b"d"] {
        fixture.write_file(fixture.root, name);
    }
    let expected = ["started a", "finished a", "started b", "finished b", "Overflow"];
    assert_eq!(fixture.delivered(), expected);
    fixture.write_file(fixture.root, b"e");
    assert_eq!(fixture.delivered(), ["started e", "finished e"]);
    // Equal neighbours are one event.
    let disk = &fixture.disk;
    let slot = lock(disk).lookup(fixture.root, b"e").unwrap();
    for mode in [0o600, 0o644] {
        let at = Some((fixture.root, b"e".as_slice().into()));
        lock(disk).set_meta(Actor::Writer, slot, at, "chmod", |meta| meta.mode = mode);
    }
    assert_eq!(fixture.delivered(), ["finished e"]);
}

#[test]
fn a_renamed_directory_is_reported_where_it_was_added_last() {
    let fixture = fixture(DiskOptions::default());
    let root = fixture.root;
    let dir = fixture.make_dir(root, b"old");
    fixture.watch.add(Some(&path("old"))).unwrap();
    fixture.rename((root, b"old"), (root, b"new"), RenameMode::NoReplace);
    fixture.write_file(dir, b"a");
    assert_eq!(fixture.delivered(), ["started old/a", "finished old/a"]);
    fixture.watch.add(Some(&path("new"))).unwrap();
    // Ending the old path must not end the same inode's watch at the new one.
    fixture.watch.remove(&path("old"));
    assert_eq!(fixture.watch.len(), 1);
    fixture.write_file(dir, b"b");
    assert_eq!(fixture.delivered(), ["started new/b", "finished new/b"]);
    // Another directory at a watched path: the watch goes to it.
    fixture.rename((root, b"new"), (root, b"aside"), RenameMode::NoReplace);
    let other = fixture.make_dir(root, b"new");
    fixture.watch.add(Some(&path("new"))).unwrap();
    assert_eq!(fixture.watch.len(), 1);
    fixture.write_file(dir, b"c");
    fixture.write_file(other, b"d");
    assert_eq!(fixture.delivered(), ["started new/d", "finished new/d"]);
    fixture.watch.remove(&path("new"));
    assert!(fixture.watch.is_empty());
}

#[test]
fn removed_directories_and_limits() {
    let fixture = fixture(DiskOptions { watches_max: 3, ..DiskOptions::default() });
    let root = fixture.root;
    fixture.make_dir(root, b"d");
    fixture.make_dir(root, b"e");
    fixture.watch.add(None).unwrap();
    fixture.watch.add(Some(&path("d"))).unwrap();
    assert!(matches!(fixture.watch.add(Some(&path("e"))), Err(WatchError::Limit)));
    fixture.watch.add(Some(&path("d"))).unwrap();
    assert!(matches!(fixture.watch.add(Some(&path("none"))), Err(WatchError::Gone)));
    lock(&fixture.disk).remove_dir(Actor::Writer, root, b"d").unwrap();
    assert_eq!(fixture.watch.len(), 2, "it hears of that when it reads");
    assert_eq!((fixture.delivered(), fixture.watch.len()), (vec!["finished d".to_owned()], 1));
    fixture.watch.add(Some(&path("e"))).unwrap();
    let srv = lock(&fixture.disk).resolve(b"/srv").unwrap();
    fixture.rename((srv, b"files"), (srv, b"moved"), RenameMode::NoReplace);
    assert_eq!(fixture.delivered(), ["RootGone", "RootGone"], "by its parent, and by itself");
}
