//! Who may open an index file. Alone in its process: a test that starts programs hands the locks of the
//! tests beside it to them, for the moment between fork and exec.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::io;
use std::path::Path;
use std::process::Command;

use chainsync_env::Env;
use chainsync_host::tls::TlsConfig;
use chainsync_host::{HostEnv, HostStorage, PrivateKey};
use redb::Database;

#[test]
fn an_index_has_one_user() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let key = PrivateKey::generate().unwrap();
    let env = HostEnv::new(TlsConfig::new(&key, []).unwrap());
    let first = env.open_storage(&path).unwrap();
    let error = env.open_storage(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // Another process, and redb's own way in.
    let flock = |path: &Path| {
        let flock = Command::new("flock").arg("--nonblock").arg(path).arg("true").status();
        flock.unwrap().success()
    };
    assert!(!flock(&path));
    assert!(Database::open(&path).is_err());
    assert!(redb::ReadOnlyDatabase::open(&path).is_err());
    drop(first);
    assert!(flock(&path));
    // Still locked while a database is open on it, and free once that is closed.
    let database = HostStorage::open(&path).unwrap();
    let database = Database::builder().create_with_backend(database).unwrap();
    assert_eq!(env.open_storage(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(database);
    env.open_storage(&path).unwrap();
    let none = env.open_storage(&directory.path().join("none/index")).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::NotFound);
}
