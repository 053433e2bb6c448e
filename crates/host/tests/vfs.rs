//! The file system against Linux itself.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use chainsync_core::{FileType, RelPath};
use chainsync_env::{RenameMode, Vfs};
use chainsync_host::{HostDir, HostVfs};

struct World {
    directory: tempfile::TempDir,
    vfs: HostVfs,
    root: HostDir,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let vfs = HostVfs::open(directory.path()).unwrap();
    let root = vfs.open_dir(None).unwrap();
    World { directory, vfs, root }
}

impl World {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn names(&self) -> Vec<String> {
        let list = self.vfs.list(&self.root).unwrap();
        let mut names: Vec<String> =
            list.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect();
        names.sort();
        names
    }
}

fn path(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path).unwrap()
}

#[track_caller]
fn assert_errno<T>(result: io::Result<T>, errno: i32) {
    let error = result.err().expect("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

#[test]
fn paths_resolve_beneath_the_root_and_never_through_a_symlink() {
    let world = world();
    fs::create_dir_all(world.path().join("a/b")).unwrap();
    fs::write(world.path().join("a/file"), "x").unwrap();
    symlink("a", world.path().join("link")).unwrap();
    symlink("/etc", world.path().join("out")).unwrap();
    world.vfs.open_dir(Some(&path("a/b"))).unwrap();
    assert_errno(world.vfs.open_dir(Some(&path("a/c"))), libc::ENOENT);
    assert_errno(world.vfs.open_dir(Some(&path("a/file"))), libc::ENOTDIR);
    assert_errno(world.vfs.open_dir(Some(&path("a/file/b"))), libc::ENOTDIR);
    assert_errno(world.vfs.open_dir(Some(&path("link"))), libc::ELOOP);
    assert_errno(world.vfs.open_dir(Some(&path("link/b"))), libc::ELOOP);
    assert_errno(world.vfs.open_dir(Some(&path("out/ssl"))), libc::ELOOP);
    // A name is one component: a path would be resolved without these guards.
    for name in ["", ".", "..", "a/b", "link/b", "../x"] {
        assert_errno(world.vfs.stat(&world.root, name.as_bytes()), libc::EINVAL);
    }
    assert_errno(world.vfs.stat(&world.root, b"a\0b"), libc::EINVAL);
    assert_errno(HostVfs::open(&world.path().join("none")), libc::ENOENT);
    assert_errno(HostVfs::open(&world.path().join("a/file")), libc::ENOTDIR);
}

#[test]
fn a_listing_is_whole_each_time_and_names_are_bytes() {
    let world = world();
    // More than one buffer of getdents.
    let mut expected: Vec<Vec<u8>> = (0..500).map(|n| format!("{n:0>200}").into_bytes()).collect();
    expected.push(b"not-utf8-\xff\xfe".to_vec());
    expected.push(b"new\nline".to_vec());
    for name in &expected {
        world.vfs.create_file(&world.root, name, 0o600).unwrap();
    }
    expected.sort();
    for _ in 0..2 {
        let list = world.vfs.list(&world.root).unwrap();
        let mut names: Vec<Vec<u8>> = list.into_iter().map(|entry| entry.name).collect();
        names.sort();
        assert_eq!(names, expected);
    }
}

#[test]
fn stat_tells_what_lstat_tells() {
    let world = world();
    let file = world.vfs.create_file(&world.root, b"f", 0o600).unwrap();
    world.vfs.write_at(&file, b"hello", 3).unwrap();
    world.vfs.set_file_mode(&file, 0o4751).unwrap();
    fs::hard_link(world.path().join("f"), world.path().join("g")).unwrap();
    symlink("a target", world.path().join("l")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path().join("p"), 0o600.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path().join("s")).unwrap();
    for (name, file_type) in [
        ("f", FileType::File),
        ("l", FileType::Symlink),
        ("p", FileType::Fifo),
        ("s", FileType::Socket),
    ] {
        let stat = world.vfs.stat(&world.root, name.as_bytes()).unwrap();
        let truth = fs::symlink_metadata(world.path().join(name)).unwrap();
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        assert_eq!(stat.file_type, file_type);
        assert_eq!((stat.device, stat.inode), (truth.dev(), truth.ino()));
        assert_eq!((stat.links, stat.size), (truth.nlink(), truth.size()));
        assert_eq!(stat.mode, truth.mode() & 0o7777);
        assert_eq!((stat.uid, stat.gid), (truth.uid(), truth.gid()));
        assert_eq!(stat.mtime_ns, ns(truth.mtime(), truth.mtime_nsec()));
        assert_eq!(stat.ctime_ns, ns(truth.ctime(), truth.ctime_nsec()));
    }
    let stat = world.vfs.stat_file(&file).unwrap();
    assert_eq!((stat.size, stat.links, stat.mode), (8, 2, 0o4751));
    assert_eq!(stat, world.vfs.stat(&world.root, b"g").unwrap());
    let root = world.vfs.stat_dir(&world.root).unwrap();
    assert_eq!(root.file_type, FileType::Dir);
    assert_eq!(root.inode, fs::metadata(world.path()).unwrap().ino());
    let device = HostVfs::open(Path::new("/dev")).unwrap();
    let stat = device.stat(&device.open_dir(None).unwrap(), b"null").unwrap();
    assert_eq!(stat.file_type, FileType::Device);
    assert_errno(world.vfs.stat(&world.root, b"none"), libc::ENOENT);
    assert_errno(world.vfs.stat(&world.root, &[b'n'; 256]), libc::ENAMETOOLONG);
}

#[test]
fn files_are_read_and_written_at_offsets() {
    let world = world();
    let file = world.vfs.create_file(&world.root, b"f", 0o600).unwrap();
    world.vfs.write_at(&file, b"0123456789", 0).unwrap();
    world.vfs.write_at(&file, b"xy", 4).unwrap();
    world.vfs.sync_data(&file).unwrap();
    let file = world.vfs.open_file(&world.root, b"f").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(world.vfs.read_at(&file, &mut buffer, 3).unwrap(), 7);
    assert_eq!(&buffer[..7], b"3xy6789");
    assert_eq!(world.vfs.read_at(&file, &mut buffer, 10).unwrap(), 0);
    assert_errno(world.vfs.create_file(&world.root, b"f", 0o600), libc::EEXIST);
}

#[test]
fn only_regular_files_are_opened_and_none_blocks() {
    let world = world();
    fs::create_dir(world.path().join("d")).unwrap();
    fs::write(world.path().join("f"), "x").unwrap();
    symlink("f", world.path().join("l")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path().join("p"), 0o600.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path().join("s")).unwrap();
    for (name, errno) in [
        ("d", libc::EISDIR),
        ("l", libc::ELOOP),
        ("p", libc::EINVAL),
        ("s", libc::ENXIO),
        ("none", libc::ENOENT),
    ] {
        assert_errno(world.vfs.open_file(&world.root, name.as_bytes()), errno);
    }
}

#[test]
fn times_keep_their_nanoseconds() {
    let world = world();
    let file = world.vfs.create_file(&world.root, b"f", 0o600).unwrap();
    for ns in [1_700_000_000_123_456_789, 0, -1, -1_500_000_001] {
        world.vfs.set_file_mtime(&file, ns).unwrap();
        assert_eq!(world.vfs.stat_file(&file).unwrap().mtime_ns, ns);
    }
    let truth = fs::metadata(world.path().join("f")).unwrap();
    assert_eq!((truth.atime(), truth.atime_nsec()), (-2, 499_999_999));
    assert_errno(world.vfs.set_file_mtime(&file, i128::MAX), libc::EINVAL);
}

#[test]
fn owners_are_set_and_never_left_by_a_magic_number() {
    let world = world();
    let file = world.vfs.create_file(&world.root, b"f", 0o600).unwrap();
    let stat = world.vfs.stat_file(&file).unwrap();
    // Root may give files away; others may only keep them.
    let (uid, gid) = if stat.uid == 0 { (65_533, 65_532) } else { (stat.uid, stat.gid) };
    world.vfs.set_file_owner(&file, uid, gid).unwrap();
    world.vfs.set_dir_owner(&world.root, uid, gid).unwrap();
    let stat = world.vfs.stat_file(&file).unwrap();
    assert_eq!((stat.uid, stat.gid), (uid, gid));
    let stat = world.vfs.stat_dir(&world.root).unwrap();
    assert_eq!((stat.uid, stat.gid), (uid, gid));
    assert_errno(world.vfs.set_file_owner(&file, u32::MAX, 0), libc::EINVAL);
}

#[test]
fn names_move_in_three_ways() {
    let world = world();
    let (vfs, root) = (&world.vfs, &world.root);
    fs::create_dir(world.path().join("d")).unwrap();
    let d = vfs.open_dir(Some(&path("d"))).unwrap();
    fs::write(world.path().join("a"), "a").unwrap();
    fs::write(world.path().join("d/b"), "b").unwrap();
    let read = |name: &str| fs::read_to_string(world.path().join(name)).unwrap();

    assert_errno(vfs.rename(root, b"a", &d, b"b", RenameMode::NoReplace), libc::EEXIST);
    assert_errno(vfs.rename(root, b"a", &d, b"c", RenameMode::Exchange), libc::ENOENT);
    assert_errno(vfs.rename(root, b"none", &d, b"c", RenameMode::NoReplace), libc::ENOENT);
    vfs.rename(root, b"a", &d, b"b", RenameMode::Exchange).unwrap();
    assert_eq!((read("a"), read("d/b")), ("b".into(), "a".into()));
    vfs.rename(root, b"a", &d, b"b", RenameMode::Replace).unwrap();
    assert_eq!(read("d/b"), "b");
    vfs.rename(&d, b"b", root, b"\xff", RenameMode::NoReplace).unwrap();
    // A file and a directory change places too.
    vfs.rename(root, b"\xff", root, b"d", RenameMode::Exchange).unwrap();
    assert_eq!(vfs.stat(root, b"\xff").unwrap().file_type, FileType::Dir);
    assert_eq!(read("d"), "b");
    let long = [b'n'; 256];
    assert_errno(vfs.rename(root, b"d", root, &long, RenameMode::NoReplace), libc::ENAMETOOLONG);
    assert_errno(vfs.rename(root, b"d", root, b"x/y", RenameMode::NoReplace), libc::EINVAL);
}

#[test]
fn names_are_removed_by_their_kind() {
    let world = world();
    let (vfs, root) = (&world.vfs, &world.root);
    fs::create_dir_all(world.path().join("d/e")).unwrap();
    fs::write(world.path().join("f"), "").unwrap();
    assert_errno(vfs.remove_dir(root, b"d"), libc::ENOTEMPTY);
    assert_errno(vfs.remove_dir(root, b"f"), libc::ENOTDIR);
    assert_errno(vfs.unlink(root, b"d"), libc::EISDIR);
    assert_errno(vfs.unlink(root, b"none"), libc::ENOENT);
    let d = vfs.open_dir(Some(&path("d"))).unwrap();
    vfs.remove_dir(&d, b"e").unwrap();
    vfs.remove_dir(root, b"d").unwrap();
    vfs.unlink(root, b"f").unwrap();
    assert_eq!(world.names(), [""; 0]);
    // Where nothing can be made any more.
    assert_errno(vfs.create_file(&d, b"f", 0o600), libc::ENOENT);
}

#[test]
fn symlinks_keep_any_target() {
    let world = world();
    let long = [b'x'; 4000];
    for (name, target) in [(&b"a"[..], &b"../out/\xff"[..]), (b"b", b"/abs"), (b"c", &long)] {
        world.vfs.make_symlink(&world.root, name, target).unwrap();
        assert_eq!(world.vfs.read_link(&world.root, name).unwrap(), target);
    }
    assert_errno(world.vfs.make_symlink(&world.root, b"a", b"x"), libc::EEXIST);
    assert_errno(world.vfs.make_symlink(&world.root, b"d", b""), libc::ENOENT);
    fs::write(world.path().join("f"), "").unwrap();
    assert_errno(world.vfs.read_link(&world.root, b"f"), libc::EINVAL);
}

#[test]
fn a_writer_is_seen_while_it_has_the_file_open() {
    let world = world();
    fs::write(world.path().join("f"), "x").unwrap();
    let ours = world.vfs.open_file(&world.root, b"f").unwrap();
    assert_eq!(world.vfs.has_writer(&ours).unwrap(), Some(false));
    let reader = fs::File::open(world.path().join("f")).unwrap();
    assert_eq!(world.vfs.has_writer(&ours).unwrap(), Some(false));
    let writer = fs::OpenOptions::new().append(true).open(world.path().join("f")).unwrap();
    assert_eq!(world.vfs.has_writer(&ours).unwrap(), Some(true));
    let second = writer.try_clone().unwrap();
    drop(writer);
    assert_eq!(world.vfs.has_writer(&ours).unwrap(), Some(true));
    drop((second, reader));
    assert_eq!(world.vfs.has_writer(&ours).unwrap(), Some(false));
    // No lease was left behind: an open for writing that does not wait succeeds.
    let nonblocking = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(world.path().join("f"));
    nonblocking.unwrap();
}

#[test]
fn a_broken_lease_does_not_kill_the_process() {
    let world = world();
    fs::write(world.path().join("f"), "x").unwrap();
    let file = world.path().join("f");
    let ours = world.vfs.open_file(&world.root, b"f").unwrap();
    // Opens for writing keep breaking the leases that are asked for meanwhile. A broken lease
    // raises SIGIO, and that would be the end of this test.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut free, mut written) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                drop(fs::OpenOptions::new().append(true).open(&file).unwrap());
            }
        });
        for _ in 0..200_000 {
            match world.vfs.has_writer(&ours).unwrap() {
                Some(false) => free += 1,
                Some(true) => written += 1,
                None => panic!("leases work on a file of our own"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(free > 0 && written > 0, "free {free}, written {written}");
    // The signal itself, in case no open ever met a lease.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::IO).unwrap();
}

#[test]
fn where_the_tick_is_zero_every_change_after_a_look_has_a_new_ctime() {
    let world = world();
    if world.vfs.ctime_tick_ns() != 0 {
        assert_eq!(world.vfs.ctime_tick_ns(), 20_000_000);
        return;
    }
    let file = world.vfs.create_file(&world.root, b"f", 0o600).unwrap();
    let mut before = world.vfs.stat_file(&file).unwrap().ctime_ns;
    for round in 0..10_000_u32 {
        world.vfs.write_at(&file, &round.to_le_bytes(), 0).unwrap();
        let after = world.vfs.stat_file(&file).unwrap().ctime_ns;
        assert!(after > before, "round {round}");
        before = after;
    }
}

#[test]
fn the_tick_can_be_told() {
    let world = world();
    let vfs = HostVfs::open_with_ctime_tick(world.path(), 7).unwrap();
    assert_eq!(vfs.ctime_tick_ns(), 7);
    assert_eq!(vfs.clone().ctime_tick_ns(), 7);
}

#[test]
fn syncing_and_space_work_on_the_root() {
    let world = world();
    world.vfs.sync_dir(&world.root).unwrap();
    world.vfs.sync_all().unwrap();
    let space = world.vfs.space().unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
}
