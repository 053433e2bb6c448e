//! The watcher against a real kernel and the real notify.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use chainsync_core::RelPath;
use chainsync_core::hints::Urgency::{self, Finished, Started};
use chainsync_env::{Watch, WatchError, WatchEvent};
use chainsync_host::HostWatch;

/// Far longer than any event takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    // Dropped last.
    events: Receiver<WatchEvent>,
    watch: HostWatch,
    root: PathBuf,
    directory: tempfile::TempDir,
    /// Numbers the marks of `seen`.
    marks: u32,
}

/// A watched root in a directory of its own.
fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let (sender, events) = channel();
    let watch = HostWatch::new(&root, Arc::new(move |event| drop(sender.send(event)))).unwrap();
    watch.add(None).unwrap();
    World { events, watch, root, directory, marks: 0 }
}

impl World {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// All events up to now: the kernel keeps their order, so a mark made now comes after them.
    fn seen(&mut self) -> Vec<WatchEvent> {
        self.marks += 1;
        let name = format!("mark-{}", self.marks);
        fs::create_dir(self.at(&name)).unwrap();
        let mark = hint(&name, Finished);
        let mut seen = Vec::new();
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap();
            if event == mark {
                return seen;
            }
            seen.push(event);
        }
    }

    fn add(&self, added: &str) {
        self.watch.add(Some(&path(added))).unwrap();
    }

    fn await_event(&self, expected: &WatchEvent) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) if event == *expected => return,
                Ok(_) => {}
                Err(error) => panic!("{error} while waiting for {expected:?}"),
            }
        }
        panic!("no {expected:?}");
    }
}

fn path(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path).unwrap()
}

fn hint(at: &str, urgency: Urgency) -> WatchEvent {
    WatchEvent::Hint(path(at), urgency)
}

#[test]
fn what_happens_in_a_watched_directory_is_reported_and_nothing_else() {
    let mut world = world();
    for name in ["d", ".chainsync"] {
        fs::create_dir(world.at(name)).unwrap();
    }
    fs::create_dir(world.at(".chainsync/cookies")).unwrap();
    world.add("d");
    world.add(".chainsync/cookies");
    world.seen();

    fs::write(world.at("d/f"), "x").unwrap();
    assert_eq!(world.seen(), [hint("d/f", Started), hint("d/f", Finished)]);
    fs::read(world.at("d/f")).unwrap();
    assert_eq!(world.seen(), []);
    fs::set_permissions(world.at("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.seen(), [hint("d/f", Finished)]);
    fs::rename(world.at("d/f"), world.at("g")).unwrap();
    assert_eq!(world.seen(), [hint("d/f", Finished), hint("g", Finished)]);
    fs::remove_file(world.at("g")).unwrap();
    assert_eq!(world.seen(), [hint("g", Finished)]);
    symlink("x", world.at("l")).unwrap();
    assert_eq!(world.seen(), [hint("l", Started)]);
    fs::create_dir(world.at("d/e")).unwrap();
    assert_eq!(world.seen(), [hint("d/e", Finished)]);
    let bytes = world.root.join(std::ffi::OsStr::from_bytes(b"\xff\x80"));
    fs::create_dir(&bytes).unwrap();
    assert_eq!(world.seen(), [WatchEvent::Hint(path(b"\xff\x80"), Finished)]);

    // Not watched: staging. Watched: the cookies beside it.
    fs::write(world.at(".chainsync/staged"), "x").unwrap();
    fs::write(world.at("d/e/unwatched"), "x").unwrap();
    assert_eq!(world.seen(), []);
    fs::create_dir(world.at(".chainsync/cookies/1")).unwrap();
    assert_eq!(world.seen(), [hint(".chainsync/cookies/1", Finished)]);
    // Renamed in from staging: one event.
    fs::rename(world.at(".chainsync/staged"), world.at("d/f")).unwrap();
    assert_eq!(world.seen(), [hint("d/f", Finished)]);
}

#[test]
fn a_renamed_directory_is_watched_where_it_is_now() {
    let mut world = world();
    fs::create_dir_all(world.at("a/b")).unwrap();
    world.add("a");
    world.add("a/b");
    world.seen();
    fs::rename(world.at("a"), world.at("z")).unwrap();
    // Whether the old path is removed before or after the new one is added.
    world.add("z");
    world.add("z/b");
    world.watch.remove(&path("a"));
    world.seen();
    assert_eq!(world.watch.len(), 3);
    fs::create_dir(world.at("z/1")).unwrap();
    fs::create_dir(world.at("z/b/1")).unwrap();
    assert_eq!(world.seen(), [hint("z/1", Finished), hint("z/b/1", Finished)]);

    fs::rename(world.at("z"), world.at("a")).unwrap();
    world.watch.remove(&path("z"));
    world.add("a");
    world.add("a/b");
    world.seen();
    fs::create_dir(world.at("a/b/2")).unwrap();
    assert_eq!(world.seen(), [hint("a/b/2", Finished)]);
}

#[test]
fn a_directory_that_came_back_is_reported_where_it_is() {
    let mut world = world();
    fs::create_dir(world.at("a")).unwrap();
    world.add("a");
    fs::rename(world.at("a"), world.at("z")).unwrap();
    world.add("z");
    fs::rename(world.at("z"), world.at("a")).unwrap();
    world.add("a");
    world.seen();
    fs::create_dir(world.at("a/1")).unwrap();
    assert_eq!(world.seen(), [hint("a/1", Finished)]);
    world.watch.remove(&path("z"));
    fs::create_dir(world.at("a/2")).unwrap();
    assert_eq!(world.seen(), [hint("a/2", Finished)]);
}

#[test]
fn another_directory_of_the_same_name_is_watched_by_the_time_add_returns() {
    let mut world = world();
    // Many times: the events of the old directory are read before, while and after the new one is
    // added; and the new one has mostly the inode number of the old.
    for round in 0..300 {
        fs::create_dir(world.at("a")).unwrap();
        fs::create_dir(world.at("a/b")).unwrap();
        world.add("a");
        world.add("a/b");
        if round % 3 == 0 {
            world.seen();
        }
        match round % 2 {
            0 => fs::remove_dir_all(world.at("a")).unwrap(),
            _ => fs::rename(world.at("a"), world.at(&format!("old-{round}"))).unwrap(),
        }
        fs::create_dir(world.at("a")).unwrap();
        fs::create_dir(world.at("a/b")).unwrap();
        // As the engine does: for the hints at a name, and after that for what it lists.
        for _ in 0..2 {
            world.add("a");
            world.add("a/b");
            world.seen();
        }
        // The events of the replacement are read by now, so this is the last word.
        world.add("a");
        world.add("a/b");
        fs::create_dir(world.at("a/1")).unwrap();
        fs::create_dir(world.at("a/b/1")).unwrap();
        let seen = world.seen();
        assert!(seen.contains(&hint("a/1", Finished)), "round {round}: {seen:?}");
        assert!(seen.contains(&hint("a/b/1", Finished)), "round {round}: {seen:?}");
        fs::remove_dir_all(world.at("a")).unwrap();
        world.seen();
    }
}

#[test]
fn directories_that_changed_places_are_watched_where_they_are() {
    let mut world = world();
    for name in ["a", "b"] {
        fs::create_dir(world.at(name)).unwrap();
        world.add(name);
    }
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    let (a, b) = (world.at("a"), world.at("b"));
    rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, exchange).unwrap();
    world.add("a");
    world.add("b");
    world.seen();
    fs::create_dir(world.at("a/1")).unwrap();
    fs::create_dir(world.at("b/2")).unwrap();
    assert_eq!(world.seen(), [hint("a/1", Finished), hint("b/2", Finished)]);
}

#[test]
fn adding_again_loses_no_event() {
    let mut world = world();
    fs::create_dir(world.at("a")).unwrap();
    for round in 0..200 {
        world.add("a");
        fs::create_dir(world.at(&format!("a/{round}"))).unwrap();
        // Puts the watch in doubt, so that it is made again while the event above may be queued.
        fs::rename(world.at("a"), world.at("b")).unwrap();
        fs::rename(world.at("b"), world.at("a")).unwrap();
    }
    world.add("a");
    let seen = world.seen();
    for round in 0..200 {
        assert!(seen.contains(&hint(&format!("a/{round}"), Finished)), "{round}");
    }
}

#[test]
fn removing_ends_the_watches_below_too() {
    let mut world = world();
    fs::create_dir_all(world.at("a/b/c")).unwrap();
    fs::create_dir(world.at("ab")).unwrap();
    for name in ["a", "a/b", "a/b/c", "ab"] {
        world.add(name);
    }
    assert_eq!(world.watch.len(), 5);
    world.watch.remove(&path("a"));
    assert_eq!(world.watch.len(), 2);
    world.seen();
    for name in ["a/1", "a/b/1", "a/b/c/1"] {
        fs::create_dir(world.at(name)).unwrap();
    }
    fs::create_dir(world.at("ab/1")).unwrap();
    assert_eq!(world.seen(), [hint("ab/1", Finished)]);
    assert!(!world.watch.is_empty());
}

#[test]
fn only_directories_beneath_the_root_are_watched() {
    let world = world();
    fs::write(world.at("f"), "").unwrap();
    fs::create_dir(world.at("d")).unwrap();
    symlink("d", world.at("l")).unwrap();
    symlink("/", world.at("out")).unwrap();
    for name in ["none", "f", "f/x", "l", "out/etc"] {
        let error = world.watch.add(Some(&path(name))).unwrap_err();
        assert!(matches!(error, WatchError::Gone), "{name}: {error}");
    }
    assert_eq!(world.watch.len(), 1);
    let none = HostWatch::new(&world.at("none"), Arc::new(drop));
    assert!(matches!(none, Err(WatchError::Gone)));
}

#[test]
fn a_root_that_is_deleted_or_renamed_is_reported() {
    let deleted = world();
    fs::remove_dir_all(&deleted.root).unwrap();
    deleted.await_event(&WatchEvent::RootGone);

    let renamed = world();
    fs::rename(&renamed.root, renamed.directory.path().join("other")).unwrap();
    renamed.await_event(&WatchEvent::RootGone);

    let above = world();
    let moved = above.directory.path().with_extension("moved");
    fs::rename(above.directory.path(), &moved).unwrap();
    above.await_event(&WatchEvent::RootGone);
    fs::remove_dir_all(moved).unwrap();

    // What happens beside the root does not matter.
    let mut quiet = world();
    let beside = quiet.directory.path().join("beside");
    fs::create_dir(&beside).unwrap();
    fs::rename(&beside, beside.with_extension("moved")).unwrap();
    fs::remove_dir(beside.with_extension("moved")).unwrap();
    fs::set_permissions(&quiet.root, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(quiet.seen(), []);
    // The parent's events come from a watcher of their own; a rename of the root comes after them.
    fs::rename(&quiet.root, quiet.directory.path().join("other")).unwrap();
    assert_eq!(quiet.events.recv_timeout(PATIENCE), Ok(WatchEvent::RootGone));
}

#[test]
fn a_queue_that_overflows_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, events) = channel();
    let (go, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    // A sink that does what no sink may: it waits, so that nobody empties the kernel's queue.
    let sink = Arc::new(move |event| {
        let _ = gate.lock().unwrap().recv();
        let _ = sender.send(event);
    });
    let watch = HostWatch::new(directory.path(), sink).unwrap();
    watch.add(None).unwrap();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // Two events for each round.
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    fs::create_dir(&a).unwrap();
    for _ in 0..limit / 2 + 1000 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    drop(go);
    let overflow = || events.recv_timeout(PATIENCE).unwrap() == WatchEvent::Overflow;
    assert!((0..2 * limit).any(|_| overflow()));
}

/// 100 directories and 5,000 files made as fast as possible, while the consumer watches each
/// directory that it hears of or finds, and lists it afterwards.
#[test]
fn a_storm_in_new_directories_loses_nothing() {
    const DIRECTORIES: usize = 100;
    const FILES: usize = 50;
    let world = world();
    let root = world.root.clone();
    let storm = std::thread::spawn(move || {
        for directory in 0..DIRECTORIES {
            // Two levels, and some renamed into place.
            let parent = root.join(format!("p{}", directory % 10));
            let _ = fs::create_dir(&parent);
            let place = parent.join(format!("d{directory}"));
            let made = match directory % 3 {
                0 => parent.join(format!("tmp{directory}")),
                _ => place.clone(),
            };
            fs::create_dir(&made).unwrap();
            for file in 0..FILES / 2 {
                fs::write(made.join(format!("f{file}")), "x").unwrap();
            }
            if made != place {
                fs::rename(&made, &place).unwrap();
            }
            for file in FILES / 2..FILES {
                fs::write(place.join(format!("f{file}")), "x").unwrap();
            }
        }
    });
    let expected: BTreeSet<String> = (0..DIRECTORIES)
        .flat_map(|d| (0..FILES).map(move |f| format!("p{}/d{d}/f{f}", d % 10)))
        .collect();
    let mut found = BTreeSet::new();
    let mut storm = Some(storm);
    let deadline = Instant::now() + 2 * PATIENCE;
    while !expected.is_subset(&found) && Instant::now() < deadline {
        match world.events.recv_timeout(Duration::from_millis(500)) {
            Ok(WatchEvent::Hint(path, urgency)) => look(&world, &path, urgency, &mut found),
            Ok(event) => panic!("{event:?}"),
            // Half a second of silence after the storm: whatever is missing was lost.
            Err(RecvTimeoutError::Timeout) => match storm.take() {
                Some(running) if !running.is_finished() => storm = Some(running),
                Some(finished) => finished.join().unwrap(),
                None => break,
            },
            Err(error) => panic!("{error}"),
        }
    }
    let lost: Vec<&String> = expected.difference(&found).take(5).collect();
    assert!(lost.is_empty(), "{} lost, such as {lost:?}", expected.difference(&found).count());
    if let Some(storm) = storm {
        storm.join().unwrap();
    }
}

/// What the engine does with a hint, in short.
fn look(world: &World, at: &RelPath, urgency: Urgency, found: &mut BTreeSet<String>) {
    let place = world.root.join(std::ffi::OsStr::from_bytes(at.as_bytes()));
    match fs::symlink_metadata(&place) {
        Ok(metadata) if metadata.is_dir() => watch_and_list(world, at, &place, found),
        // A started file is not read yet: only its end counts here, so that each must be told.
        Ok(_) if urgency == Finished => drop(found.insert(at.to_string())),
        Ok(_) => {}
        Err(_) => world.watch.remove(at),
    }
}

fn watch_and_list(world: &World, at: &RelPath, place: &Path, found: &mut BTreeSet<String>) {
    match world.watch.add(Some(at)) {
        Ok(_) => {}
        // Renamed meanwhile; its new name has a hint of its own.
        Err(WatchError::Gone) => return,
        Err(error) => panic!("{error}"),
    }
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let child = RelPath::child(Some(at), entry.file_name().as_bytes()).unwrap();
        match entry.file_type() {
            Ok(file_type) if file_type.is_dir() => {
                watch_and_list(world, &child, &entry.path(), found);
            }
            _ => drop(found.insert(child.to_string())),
        }
    }
}
