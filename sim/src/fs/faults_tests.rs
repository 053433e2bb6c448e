//! A disk that refuses.

use std::collections::BTreeSet;
use std::io;

use chainsync_core::RelPath;
use chainsync_env::{RenameMode, Vfs as _};

use super::fall_tests::{machine, own};
use super::*;
use crate::shared::lock;

fn fault(trouble: Trouble, on: &[CallClass], chance: Chance) -> Fault {
    let on = on.iter().copied().collect();
    Fault { trouble, on, chance, until_ns: u64::MAX, late_ns: 1_000_000 }
}

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn content(disk: &SharedDisk, name: &[u8]) -> Option<Vec<u8>> {
    match lock(disk).tree(b"/srv/files/.chainsync").unwrap().get(name) {
        Some(Leaf::File { content, .. }) => Some(content.to_vec()),
        _ => None,
    }
}

#[test]
fn each_error_befalls_the_calls_that_can_end_so() {
    for (trouble, expected) in [
        (Trouble::Io, libc::EIO),
        (Trouble::Full, libc::ENOSPC),
        (Trouble::OverQuota, libc::EDQUOT),
        (Trouble::Exhausted, libc::EMFILE),
        (Trouble::Forbidden, libc::EACCES),
        (Trouble::Slow, 0),
    ] {
        let (disk, fs) = machine(1);
        let dir = own(&fs);
        let file = fs.create_file(&dir, b"a", 0o600).unwrap();
        fs.create_file(&dir, b"b", 0o600).unwrap();
        fs.set_file_mode(&file, 0o600).unwrap();
        lock(&disk).add_fault(fault(
            trouble,
            &trouble.usual().into_iter().collect::<Vec<_>>(),
            Chance::OneIn(1),
        ));
        let befalls = |class| if trouble.befalls(class) { expected } else { 0 };
        assert_eq!(code(fs.open_file(&dir, b"a")), befalls(CallClass::Open));
        assert_eq!(code(fs.open_dir(None)), befalls(CallClass::Open));
        assert_eq!(code(fs.list(&dir)), befalls(CallClass::List));
        assert_eq!(code(fs.stat(&dir, b"a")), befalls(CallClass::Stat));
        assert_eq!(code(fs.read_at(&file, &mut [0], 0)), befalls(CallClass::Read));
        assert_eq!(code(fs.create_file(&dir, b"new", 0o600)), befalls(CallClass::Create));
        assert_eq!(code(fs.make_dir(&dir, b"dir", 0o755)), befalls(CallClass::Create));
        assert_eq!(code(fs.write_at(&file, b"x", 0)), befalls(CallClass::Write));
        assert_eq!(code(fs.set_file_mode(&file, 0o644)), befalls(CallClass::Metadata));
        assert_eq!(code(fs.sync_data(&file)), befalls(CallClass::Sync));
        assert_eq!(code(fs.sync_dir(&dir)), befalls(CallClass::Sync));
        assert_eq!(code(fs.sync_all()), befalls(CallClass::Sync));
        let renamed = fs.rename(&dir, b"b", &dir, b"c", RenameMode::NoReplace);
        assert_eq!(code(renamed), befalls(CallClass::Rename));
        assert_eq!(code(fs.unlink(&dir, b"a")), befalls(CallClass::Remove));
        assert_eq!(lock(&disk).has_refused(), trouble != Trouble::Slow);
        // The web application is never hit.
        lock(&disk).upload_dir(&RelPath::new("x/y").unwrap()).unwrap();
        lock(&disk).end_faults();
        fs.sync_all().unwrap();
    }
}

#[test]
fn an_exact_call_is_hit_and_no_other() {
    let (disk, fs) = machine(1);
    let dir = own(&fs);
    lock(&disk).add_fault(fault(Trouble::Io, &[CallClass::Stat], Chance::At(3)));
    let codes: Vec<i32> = (0..6)
        .map(|_| {
            // Calls of another class do not count.
            assert_eq!(code(fs.list(&dir)), 0);
            code(fs.stat_dir(&dir))
        })
        .collect();
    assert_eq!(codes, [0, 0, libc::EIO, 0, 0, 0]);
}

#[test]
fn a_chance_comes_true_now_and_then_until_its_time_is_up() {
    let (disk, fs) = machine(1);
    let dir = own(&fs);
    let now_ns = lock(&disk).now_ns();
    let until_ns = now_ns + 5_000_000;
    let fault = fault(Trouble::Io, &[CallClass::Stat], Chance::OneIn(10));
    lock(&disk).add_fault(Fault { until_ns, ..fault });
    let (mut failed, mut later) = (0, 0);
    for _ in 0..4_000 {
        let refused = fs.stat_dir(&dir).is_err();
        let now_ns = lock(&disk).now_ns();
        failed += u64::from(refused && now_ns < until_ns);
        later += u64::from(refused && now_ns >= until_ns);
    }
    // About 1,800 calls take 5 ms.
    assert!((100..300).contains(&failed), "{failed}");
    assert_eq!(later, 0);
}

#[test]
fn a_slow_call_succeeds_and_costs_time() {
    let (disk, fs) = machine(1);
    let dir = own(&fs);
    lock(&disk).take_debt();
    lock(&disk).add_fault(fault(Trouble::Slow, &[CallClass::Sync], Chance::At(1)));
    fs.sync_dir(&dir).unwrap();
    assert!(lock(&disk).take_debt() > 500_000);
}

#[test]
fn a_failed_write_may_have_written_its_beginning() {
    let mut lengths = BTreeSet::new();
    for seed in 0..40 {
        let (disk, fs) = machine(seed);
        let file = fs.create_file(&own(&fs), b"a", 0o600).unwrap();
        lock(&disk).add_fault(fault(Trouble::Full, &[CallClass::Write], Chance::OneIn(1)));
        assert_eq!(code(fs.write_at(&file, &[b'x'; 1000], 0)), libc::ENOSPC);
        lengths.insert(content(&disk, b"a").unwrap().len());
    }
    assert!(lengths.contains(&0) && lengths.len() > 5, "{lengths:?}");
}

#[test]
fn after_a_failed_sync_the_next_one_says_yes_and_the_content_is_lost() {
    let (disk, fs) = machine(1);
    let dir = own(&fs);
    let file = fs.create_file(&dir, b"a", 0o600).unwrap();
    fs.write_at(&file, &[b'1'; 10_000], 0).unwrap();
    fs.sync_all().unwrap();
    fs.write_at(&file, &[b'2'; 10_000], 0).unwrap();
    lock(&disk).add_fault(fault(Trouble::Io, &[CallClass::Sync], Chance::At(1)));
    assert_eq!(code(fs.sync_data(&file)), libc::EIO);
    fs.sync_data(&file).unwrap();
    fs.sync_dir(&dir).unwrap();
    fs.sync_all().unwrap();
    // Whoever reads it sees what was written ...
    assert_eq!(content(&disk, b"a").unwrap(), [b'2'; 10_000]);
    // ... and a page that is written again is stored.
    fs.write_at(&file, b"3", 5_000).unwrap();
    fs.sync_data(&file).unwrap();
    lock(&disk).power_loss(Loss::Strict);
    let survived = content(&disk, b"a").unwrap();
    assert_eq!(survived[..4096], [b'1'; 4096]);
    assert_eq!(survived[4096..8192][904], b'3');
    assert_eq!(survived[4096], b'2');
    assert_eq!(survived[8192..], [b'1'; 10_000 - 8192]);
}

#[test]
fn a_failed_sync_of_everything_loses_some_contents() {
    let mut survivors = BTreeSet::new();
    for seed in 0..40 {
        let (disk, fs) = machine(seed);
        let dir = own(&fs);
        for name in [b"a".as_slice(), b"b"] {
            fs.write_at(&fs.create_file(&dir, name, 0o600).unwrap(), b"content", 0).unwrap();
        }
        lock(&disk).add_fault(fault(Trouble::Io, &[CallClass::Sync], Chance::At(1)));
        assert_eq!(code(fs.sync_all()), libc::EIO);
        fs.sync_all().unwrap();
        lock(&disk).power_loss(Loss::Strict);
        let is_whole = |name: &[u8]| content(&disk, name).unwrap() == b"content";
        survivors.insert((is_whole(b"a"), is_whole(b"b")));
    }
    assert_eq!(survivors.len(), 4, "{survivors:?}");
}

#[test]
fn a_quota_is_the_daemons_alone() {
    let (disk, fs) = machine(1);
    let file = fs.create_file(&own(&fs), b"a", 0o600).unwrap();
    lock(&disk).options.quota_bytes = Some(1000);
    fs.write_at(&file, &[0; 900], 0).unwrap();
    assert_eq!(code(fs.write_at(&file, &[0; 200], 900)), libc::EDQUOT);
    let path = RelPath::new("upload").unwrap();
    let mut locked = lock(&disk);
    let dir = locked.upload_dir(&path).unwrap();
    let slot = locked.create(Actor::Writer, dir, b"upload", 0o644).unwrap();
    locked.write(Actor::Writer, slot, &[0; 5000], 0).unwrap();
    locked.end_faults();
    drop(locked);
    fs.write_at(&file, &[0; 200], 900).unwrap();
}
