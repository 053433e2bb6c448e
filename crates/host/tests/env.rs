//! The rest of the environment: state directories, index files, clocks, threads.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use chainsync_env::{Env, Net, Vfs, Watch};
use chainsync_host::tls::TlsConfig;
use chainsync_host::{HostEnv, HostStorage, PrivateKey};
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};

const TABLE: TableDefinition<u64, u64> = TableDefinition::new("table");

fn env() -> HostEnv {
    let key = PrivateKey::generate().unwrap();
    HostEnv::new(TlsConfig::new(&key, []).unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn state_directories_are_private_and_may_exist() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let state = directory.path().join("a/b/c");
    for _ in 0..2 {
        env().create_state_dir(&state).unwrap();
    }
    assert_eq!(mode(directory.path()), 0o755);
    for path in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&directory.path().join(path)), 0o700, "{path}");
    }
    env().create_state_dir(Path::new("/")).unwrap();
    fs::write(directory.path().join("f"), "").unwrap();
    for path in ["f", "f/a"] {
        assert!(env().create_state_dir(&directory.path().join(path)).is_err(), "{path}");
    }
}

#[test]
fn an_index_lives_in_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    for round in 0..3 {
        let storage = HostStorage::open(&path).unwrap();
        let database = Database::builder().create_with_backend(storage).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap().insert(round, round).unwrap();
        write.commit().unwrap();
        let read = database.begin_read().unwrap();
        let table = read.open_table(TABLE).unwrap();
        for earlier in 0..=round {
            assert_eq!(table.get(earlier).unwrap().unwrap().value(), earlier);
        }
    }
    assert_eq!(mode(&path), 0o600);
    // An ordinary redb file.
    Database::open(&path).unwrap().begin_read().unwrap().open_table(TABLE).unwrap();
}

#[test]
fn storage_reads_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let storage = HostStorage::open(&directory.path().join("index")).unwrap();
    storage.set_len(10).unwrap();
    storage.write(4, b"abc").unwrap();
    storage.sync_data().unwrap();
    let mut out = [1; 10];
    storage.read(0, &mut out).unwrap();
    assert_eq!(&out, b"\0\0\0\0abc\0\0\0");
    assert_eq!(storage.len().unwrap(), 10);
    let past = storage.read(5, &mut out).unwrap_err();
    assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_wall_clock_is_the_system_s() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let (before, wall, after) = (now(), env().wall_ns(), now());
    assert!(i128::try_from(before).unwrap() <= wall && wall <= i128::try_from(after).unwrap());
}

#[test]
fn random_numbers_differ() {
    let env = env();
    let mut numbers: Vec<u64> = (0..1000).map(|_| env.random_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 1000);
}

#[tokio::test]
async fn blocking_work_runs_on_another_thread_and_panics_here() {
    let env = env();
    let here = std::thread::current().id();
    let there = env.blocking(|| std::thread::current().id()).await;
    assert_ne!(here, there);
    let task = tokio::spawn(async move { env.blocking(|| panic!("in the work")).await });
    let panic = task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the work"));
}

#[tokio::test]
async fn the_parts_come_together() {
    let directory = tempfile::tempdir().unwrap();
    let env = env();
    let vfs = env.open_root(directory.path()).unwrap();
    let (sender, events) = std::sync::mpsc::channel();
    let sink = Arc::new(move |event| drop(sender.send(event)));
    let watch = env.watch(directory.path(), sink).unwrap();
    watch.add(None).unwrap();
    vfs.create_file(&vfs.open_dir(None).unwrap(), b"f", 0o600).unwrap();
    let event = events.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    let path = chainsync_core::RelPath::new("f").unwrap();
    let started = chainsync_core::hints::Urgency::Started;
    assert_eq!(event, chainsync_env::WatchEvent::Hint(path, started));
    env.net().listen("127.0.0.1:0").await.unwrap();
}
