use std::io;
use std::sync::Arc;

use chainsync_core::{FileType, RelPath};
use chainsync_env::{RenameMode, StorageBackend as _, Vfs as _};

use super::*;
use crate::check::Invariant;
use crate::shared::{Shared, lock};
use crate::trace::Trace;
use crate::workload::Style;

const SHARE: &[u8] = b"/srv/files";

fn disk() -> SharedDisk {
    disk_with(DiskOptions::default())
}

fn disk_with(options: DiskOptions) -> SharedDisk {
    let shared = Shared::new(7, Trace::new(None));
    lock(&shared.oracle).node_names = vec!["apollo".to_owned()];
    let mut disk = Disk::new(shared, "apollo", 0, options);
    disk.install_share(SHARE).unwrap();
    disk.install_dir(b"/var/lib/x", 0o700).unwrap();
    disk.shared()
}

fn view(disk: &SharedDisk) -> SimFs {
    let process = lock(disk).new_process();
    SimFs::open(disk, SHARE, process).unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// Creates a file below the root with a content, without syncing anything.
fn put(fs: &SimFs, dir: &SimDir, name: &[u8], content: &[u8]) -> SimFile {
    let file = fs.create_file(dir, name, 0o600).unwrap();
    fs.write_at(&file, content, 0).unwrap();
    file
}

fn read(fs: &SimFs, dir: &SimDir, name: &[u8]) -> io::Result<Vec<u8>> {
    let file = fs.open_file(dir, name)?;
    let mut buffer = vec![0; 100];
    let length = fs.read_at(&file, &mut buffer, 0)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// The daemon's own directory: where it may create files without being judged.
fn staging(fs: &SimFs) -> SimDir {
    let root = fs.open_dir(None).unwrap();
    let _ = fs.make_dir(&root, b".chainsync", 0o700);
    fs.open_dir(Some(&path(".chainsync"))).unwrap()
}

#[test]
fn errors_carry_the_errno_of_linux() {
    let disk = disk();
    let fs = view(&disk);
    let dir = staging(&fs);
    put(&fs, &dir, b"file", b"x");
    fs.make_dir(&dir, b"dir", 0o755).unwrap();
    fs.make_dir(&dir, b"other", 0o755).unwrap();
    fs.make_symlink(&dir, b"link", b"dir").unwrap();
    let inner = fs.open_dir(Some(&path(".chainsync/dir"))).unwrap();
    put(&fs, &inner, b"in", b"y");
    let long = [b'n'; 256];
    let rename = |from: &[u8], to: &[u8], mode| code(fs.rename(&dir, from, &dir, to, mode));
    for (call, got, expected) in [
        ("stat", code(fs.stat(&dir, b"none")), libc::ENOENT),
        ("stat long", code(fs.stat(&dir, &long)), libc::ENAMETOOLONG),
        ("stat dots", code(fs.stat(&dir, b"..")), libc::EINVAL),
        ("open dir as file", code(fs.open_file(&dir, b"dir")), libc::EISDIR),
        ("open link", code(fs.open_file(&dir, b"link")), libc::ELOOP),
        ("through file", code(fs.open_dir(Some(&path(".chainsync/file/x")))), libc::ENOTDIR),
        ("through link", code(fs.open_dir(Some(&path(".chainsync/link/x")))), libc::ELOOP),
        ("create", code(fs.create_file(&dir, b"file", 0o600)), libc::EEXIST),
        ("mkdir", code(fs.make_dir(&dir, b"file", 0o755)), libc::EEXIST),
        ("unlink dir", code(fs.unlink(&dir, b"dir")), libc::EISDIR),
        ("rmdir file", code(fs.remove_dir(&dir, b"file")), libc::ENOTDIR),
        ("rmdir full", code(fs.remove_dir(&dir, b"dir")), libc::ENOTEMPTY),
        ("readlink", code(fs.read_link(&dir, b"file")), libc::EINVAL),
        ("no replace", rename(b"file", b"link", RenameMode::NoReplace), libc::EEXIST),
        ("exchange", rename(b"file", b"none", RenameMode::Exchange), libc::ENOENT),
        ("onto dir", rename(b"file", b"dir", RenameMode::Replace), libc::EISDIR),
        ("dir onto file", rename(b"dir", b"file", RenameMode::Replace), libc::ENOTDIR),
        ("onto full dir", rename(b"other", b"dir", RenameMode::Replace), libc::ENOTEMPTY),
        (
            "into itself",
            code(fs.rename(&dir, b"dir", &inner, b"x", RenameMode::NoReplace)),
            libc::EINVAL,
        ),
    ] {
        assert_eq!(got, expected, "{call}");
    }
    let gone = fs.open_dir(Some(&path(".chainsync/other"))).unwrap();
    fs.remove_dir(&dir, b"other").unwrap();
    assert_eq!(code(fs.create_file(&gone, b"x", 0o600)), libc::ENOENT);
}

#[test]
fn inodes_outlive_their_names_and_directories_keep_their_children() {
    let disk = disk();
    let fs = view(&disk);
    let dir = staging(&fs);
    let file = put(&fs, &dir, b"a", b"old");
    let inode = fs.stat_file(&file).unwrap().inode;
    fs.unlink(&dir, b"a").unwrap();
    assert_eq!(fs.stat_file(&file).unwrap().links, 0);
    let mut buffer = [0; 8];
    assert_eq!(fs.read_at(&file, &mut buffer, 1).unwrap(), 2);
    // While it is open its number is taken; afterwards the next file gets it.
    let other = put(&fs, &dir, b"b", b"");
    assert_ne!(fs.stat_file(&other).unwrap().inode, inode);
    drop(file);
    let third = put(&fs, &dir, b"c", b"");
    assert_eq!(fs.stat_file(&third).unwrap().inode, inode);

    fs.make_dir(&dir, b"d", 0o755).unwrap();
    let inner = fs.open_dir(Some(&path(".chainsync/d"))).unwrap();
    put(&fs, &inner, b"child", b"here");
    fs.rename(&dir, b"d", &dir, b"e", RenameMode::NoReplace).unwrap();
    let moved = fs.open_dir(Some(&path(".chainsync/e"))).unwrap();
    assert_eq!(read(&fs, &moved, b"child").unwrap(), b"here");
    assert_eq!(code(fs.open_dir(Some(&path(".chainsync/d")))), libc::ENOENT);
}

#[test]
fn exchange_swaps_and_moves_every_ctime() {
    let disk = disk();
    let fs = view(&disk);
    let dir = staging(&fs);
    drop(put(&fs, &dir, b"a", b"A"));
    fs.make_dir(&dir, b"sub", 0o755).unwrap();
    let sub = fs.open_dir(Some(&path(".chainsync/sub"))).unwrap();
    drop(put(&fs, &sub, b"b", b"B"));
    let before = fs.stat(&dir, b"a").unwrap();
    fs.rename(&dir, b"a", &sub, b"b", RenameMode::Exchange).unwrap();
    assert_eq!(read(&fs, &dir, b"a").unwrap(), b"B");
    assert_eq!(read(&fs, &sub, b"b").unwrap(), b"A");
    let after = fs.stat(&sub, b"b").unwrap();
    assert_eq!((after.inode, after.links, after.mtime_ns), (before.inode, 1, before.mtime_ns));
    assert!(after.ctime_ns > before.ctime_ns);
    // A directory and a file may change places, and link counts follow.
    assert_eq!(fs.stat_dir(&dir).unwrap().links, 3);
    fs.rename(&dir, b"a", &dir, b"sub", RenameMode::Exchange).unwrap();
    assert_eq!(fs.stat(&dir, b"a").unwrap().file_type, FileType::Dir);
    assert_eq!(fs.stat_dir(&dir).unwrap().links, 3);
}

#[test]
fn only_what_was_synced_survives_a_power_loss() {
    let disk = disk();
    let fs = view(&disk);
    let dir = staging(&fs);
    fs.sync_all().unwrap();
    drop(put(&fs, &dir, b"nothing", b"x"));
    let content_only = put(&fs, &dir, b"content", b"x");
    fs.sync_data(&content_only).unwrap();
    lock(&disk).power_loss(Loss::Strict);
    let fs = view(&disk);
    let dir = staging(&fs);
    assert_eq!(fs.list(&dir).unwrap(), []);

    // A name without a content is an empty file: the classic bug.
    drop(put(&fs, &dir, b"name", b"x"));
    let both = put(&fs, &dir, b"both", b"xy");
    fs.set_file_mode(&both, 0o640).unwrap();
    fs.set_file_mtime(&both, 5).unwrap();
    fs.sync_data(&both).unwrap();
    fs.sync_dir(&dir).unwrap();
    fs.write_at(&both, b"z", 0).unwrap();
    lock(&disk).power_loss(Loss::Strict);
    assert_eq!(code(fs.stat_file(&both)), libc::EIO, "the dead daemon's handles are void");
    drop(both);
    let fs = view(&disk);
    let dir = staging(&fs);
    assert_eq!(read(&fs, &dir, b"name").unwrap(), b"");
    assert_eq!(read(&fs, &dir, b"both").unwrap(), b"xy");
    let stat = fs.stat(&dir, b"both").unwrap();
    assert_eq!((stat.mode, stat.mtime_ns), (0o640, 5));

    // An unlinked file comes back unless its directory was synced; everything else was synced.
    fs.unlink(&dir, b"name").unwrap();
    fs.sync_dir(&dir).unwrap();
    fs.unlink(&dir, b"both").unwrap();
    drop(put(&fs, &dir, b"new", b"n"));
    lock(&disk).power_loss(Loss::Strict);
    let fs = view(&disk);
    let names = fs.list(&staging(&fs)).unwrap();
    assert_eq!(names.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [b"both"]);
}

#[test]
fn a_rename_between_directories_is_durable_as_a_whole() {
    for sync_target in [true, false] {
        let disk = disk();
        let fs = view(&disk);
        let dir = staging(&fs);
        fs.make_dir(&dir, b"sub", 0o755).unwrap();
        let sub = fs.open_dir(Some(&path(".chainsync/sub"))).unwrap();
        for name in [b"a", b"b"] {
            drop(put(&fs, &dir, name, name));
        }
        fs.sync_all().unwrap();
        fs.rename(&dir, b"a", &sub, b"a", RenameMode::NoReplace).unwrap();
        drop(put(&fs, &sub, b"late", b""));
        fs.unlink(&dir, b"b").unwrap();
        fs.sync_dir(if sync_target { &sub } else { &dir }).unwrap();
        lock(&disk).power_loss(Loss::Strict);
        let fs = view(&disk);
        let dir = staging(&fs);
        let sub = fs.open_dir(Some(&path(".chainsync/sub"))).unwrap();
        assert_eq!(read(&fs, &sub, b"a").unwrap(), b"a");
        assert_eq!(code(fs.stat(&dir, b"a")), libc::ENOENT);
        // What else happened in the other directory stays what it was: not durable.
        assert_eq!(fs.stat(&dir, b"b").is_ok(), sync_target);
        assert_eq!(fs.stat(&sub, b"late").is_ok(), sync_target);
    }
}

#[test]
fn many_power_losses_leave_a_consistent_table() {
    // Every prefix of a script, a power loss, then the whole script again on what is left.
    let steps = 12;
    for prefix in 0..=steps {
        let disk = disk();
        for limit in [prefix, steps] {
            let fs = view(&disk);
            let dir = staging(&fs);
            for step in 0..limit {
                let name = [b'a' + step % 3];
                match step % 4 {
                    0 => drop(fs.create_file(&dir, &name, 0o600)),
                    1 => drop(fs.rename(&dir, &name, &dir, b"r", RenameMode::Replace)),
                    2 => drop(fs.sync_dir(&dir)),
                    _ => drop(fs.unlink(&dir, b"r")),
                }
            }
            lock(&disk).power_loss(Loss::Strict);
        }
        let fs = view(&disk);
        let names = fs.list(&staging(&fs)).unwrap();
        let dir = staging(&fs);
        let mut inodes: Vec<u64> =
            names.iter().map(|entry| fs.stat(&dir, &entry.name).unwrap().inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), names.len(), "two files with one number");
    }
}

#[test]
fn a_full_disk_says_so_and_forgets_nothing_it_has() {
    let disk = disk_with(DiskOptions { capacity_bytes: 10, ..DiskOptions::default() });
    let fs = view(&disk);
    let dir = staging(&fs);
    let file = put(&fs, &dir, b"a", b"12345678");
    assert_eq!(code(fs.write_at(&file, b"xyz", 8)), libc::ENOSPC);
    fs.write_at(&file, b"xy", 8).unwrap();
    assert_eq!(fs.space().unwrap().free_bytes, 0);
    assert_eq!(code(fs.create_file(&dir, b"b", 0o600).map(drop)), libc::ENOSPC);
    fs.unlink(&dir, b"a").unwrap();
    drop(file);
    assert_eq!(fs.space().unwrap().free_bytes, 10);
}

#[test]
fn coarse_clocks_repeat_themselves_and_fine_ones_never() {
    let coarse =
        DiskOptions { ctime_coarse_ns: 4_000_000, ctime_tick_ns: 20_000_000, ..Default::default() };
    for (options, equal) in [(coarse, true), (DiskOptions::default(), false)] {
        let disk = disk_with(options);
        let fs = view(&disk);
        let dir = staging(&fs);
        let file = put(&fs, &dir, b"a", b"1");
        let first = fs.stat_file(&file).unwrap();
        fs.write_at(&file, b"2", 0).unwrap();
        assert_eq!(first.ctime_ns == fs.stat_file(&file).unwrap().ctime_ns, equal);
    }
}

#[test]
fn listings_have_an_order_of_their_own_that_repeats() {
    let list = || {
        let disk = disk();
        let fs = view(&disk);
        let dir = staging(&fs);
        for index in 0..20 {
            fs.make_dir(&dir, format!("{index:02}").as_bytes(), 0o755).unwrap();
        }
        fs.make_dir(&dir, b"\xff\xfe", 0o755).unwrap();
        fs.list(&dir).unwrap()
    };
    let listed = list();
    assert_eq!(listed, list());
    let mut sorted = listed.clone();
    sorted.sort();
    assert_ne!(listed, sorted);
    assert!(listed.iter().any(|entry| entry.name == b"\xff\xfe"));
}

#[test]
fn the_web_application_runs_between_the_daemons_calls() {
    let disk = disk();
    let fs = view(&disk);
    {
        let mut disk = lock(&disk);
        let now = disk.now_ns();
        let upload = |disk: &mut Disk, name, style| {
            crate::workload::upload(disk, now, name, 5_000, Some(style));
        };
        upload(&mut disk, "d/in-place", Style::InPlace);
        upload(&mut disk, "d/renamed", Style::Rename);
    }
    let mut writer_seen = false;
    let mut sizes = Vec::new();
    // Far more calls than the uploads have: the clock only moves with them.
    for _ in 0..20_000 {
        let Ok(dir) = fs.open_dir(Some(&path("d"))) else { continue };
        if let Ok(file) = fs.open_file(&dir, b"in-place") {
            writer_seen |= fs.has_writer(&file).unwrap() == Some(true);
            sizes.push(fs.stat_file(&file).unwrap().size);
        }
    }
    assert!(writer_seen, "nobody was caught writing");
    assert_eq!((sizes.first(), sizes.last()), (Some(&0), Some(&5_000)));
    let disk = lock(&disk);
    assert!(!disk.has_jobs());
    let oracle = lock(&disk.shared.oracle);
    assert!(oracle.uploads.iter().all(|upload| upload.finished_ns.is_some()));
    let names: Vec<Vec<u8>> = disk.tree(SHARE).unwrap().into_keys().collect();
    assert_eq!(names, [&b"d"[..], b"d/in-place", b"d/renamed"]);
}

#[test]
fn publishing_what_nobody_wrote_is_noticed() {
    let disk = disk();
    let fs = view(&disk);
    let (dir, root) = (staging(&fs), fs.open_dir(None).unwrap());
    let content = {
        let mut disk = lock(&disk);
        let mut rng = crate::rng::Stream::new(1, "test", "");
        let content = crate::workload::content("x", 100, &mut rng);
        let shared = Arc::clone(&disk.shared);
        let id = lock(&shared.oracle).announce(0, b"right", None, &content);
        lock(&shared.oracle).finished(id, disk.now_ns());
        content
    };
    let publish = |name: &[u8], content: &[u8]| {
        drop(put(&fs, &dir, b"t", content));
        let _ = fs.unlink(&root, name);
        fs.rename(&dir, b"t", &root, name, RenameMode::NoReplace).unwrap();
        let mut disk = lock(&disk);
        disk.now_ns();
        let mut oracle = lock(&disk.shared.oracle);
        let failures = std::mem::take(&mut oracle.failures);
        failures.iter().map(|failure| failure.invariant).collect::<Vec<_>>()
    };
    assert_eq!(publish(b"right", &content), []);
    assert_eq!(publish(b"wrong", &content), [Invariant::S2]);
    // Nobody had removed what is there.
    assert_eq!(publish(b"right", &content[..99]), [Invariant::S8, Invariant::S1]);
    assert_eq!(publish(b"right", b""), [Invariant::S8, Invariant::S1]);
    // Creating the final name itself shows an empty file for a moment.
    drop(fs.create_file(&root, b"direct", 0o600).unwrap());
    assert_eq!(lock(&lock(&disk).shared.oracle).failures.len(), 1);
}

#[test]
fn a_second_name_is_the_same_file() {
    let disk = disk();
    let fs = view(&disk);
    {
        let mut disk = lock(&disk);
        crate::workload::upload(&mut disk, 0, "a", 10, Some(Style::InPlace));
        disk.run_writers(u64::MAX);
        disk.link_upload(&path("a"), &path("d/b")).unwrap();
    }
    let root = fs.open_dir(None).unwrap();
    let dir = fs.open_dir(Some(&path("d"))).unwrap();
    let (first, second) = (fs.stat(&root, b"a").unwrap(), fs.stat(&dir, b"b").unwrap());
    assert_eq!((first.inode, first.links), (second.inode, 2));
    fs.unlink(&root, b"a").unwrap();
    assert_eq!(fs.stat(&dir, b"b").unwrap().links, 1);
}

#[test]
fn index_storage_is_exclusive_and_loses_what_was_not_synced() {
    let disk = disk();
    let storages = SharedStorages::default();
    let open = |process| SimStorage::open(&storages, &disk, b"/var/lib/x/index", process);
    let process = lock(&disk).new_process();
    assert_eq!(
        code(SimStorage::open(&storages, &disk, b"/none/index", process).map(drop)),
        libc::ENOENT
    );
    let first = open(process).unwrap();
    assert_eq!(open(process).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    first.set_len(8).unwrap();
    first.write(0, b"durable!").unwrap();
    first.sync_data().unwrap();
    first.write(0, b"volatile").unwrap();
    first.set_len(4).unwrap();
    // kill -9 keeps what was written, and lets the dead one write no more.
    let process = lock(&disk).new_process();
    lock(&storages).crash();
    assert_eq!(code(first.write(0, b"dead")), libc::EIO);
    let second = open(process).unwrap();
    drop(first);
    assert_eq!(second.len().unwrap(), 4);
    let mut buffer = [0; 4];
    second.read(0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"vola");
    lock(&storages).power_loss(Loss::Strict, &mut crate::rng::Stream::new(1, "scatter", ""));
    let third = open(process).unwrap();
    let mut buffer = [0; 8];
    third.read(0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"durable!");
    assert!(third.read(1, &mut buffer).is_err());
}

#[test]
fn a_tree_that_is_removed_under_an_open_file_goes_when_it_is_closed() {
    let shared = Shared::new(1, Trace::new(None));
    let mut disk = Disk::new(shared, "apollo", 0, DiskOptions::default());
    disk.install_share(b"/srv/files").unwrap();
    let path = |name: &str| RelPath::new(name).unwrap();
    let outer = disk.upload_dir(&path("a/b/c")).unwrap();
    let file = disk.create(Actor::Writer, outer, b"c", 0o644).unwrap();
    let handle = disk.open(file, Some((outer, b"c")), true);
    disk.unlink(Actor::Writer, outer, b"c").unwrap();
    let middle = disk.upload_dir(&path("a/b")).unwrap();
    disk.remove_dir(Actor::Writer, middle, b"b").unwrap();
    let root = disk.upload_dir(&path("a")).unwrap();
    disk.remove_dir(Actor::Writer, root, b"a").unwrap();
    disk.close(file, handle);
    assert_eq!(disk.used_bytes, 0);
}
