//! The environment of a daemon: all parts of this crate behind the seam.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use chainsync_env::{Env, Point, StorageBackend, WatchError, WatchSink};
use ring::rand::{SecureRandom, SystemRandom};

use crate::net::HostNet;
use crate::storage::HostStorage;
use crate::tls::TlsConfig;
use crate::vfs::HostVfs;
use crate::watch::HostWatch;

/// One node's real world.
#[derive(Debug, Clone)]
pub struct HostEnv {
    net: HostNet,
    random: SystemRandom,
}

impl HostEnv {
    pub fn new(tls: TlsConfig) -> Self {
        Self { net: HostNet::new(tls), random: SystemRandom::new() }
    }
}

impl Env for HostEnv {
    type Vfs = HostVfs;
    type Watch = HostWatch;
    type Net = HostNet;

    fn open_root(&self, path: &Path) -> io::Result<HostVfs> {
        HostVfs::open(path)
    }

    fn create_state_dir(&self, path: &Path) -> io::Result<()> {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
        let mut directories: Vec<&Path> = path.ancestors().take_while(missing).collect();
        // Even if nothing is missing: a crash may have come before its name was durable.
        if directories.is_empty() {
            directories.push(path);
        }
        for directory in directories.iter().rev() {
            match std::fs::DirBuilder::new().mode(0o700).create(directory) {
                Ok(()) => {}
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
                Err(error) => return Err(error),
            }
            // The root directory has no name to make durable.
            if directory.parent().is_some() {
                crate::sync_parent(directory)?;
            }
        }
        Ok(())
    }

    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(HostStorage::open(path)?))
    }

    fn watch(&self, root: &Path, sink: WatchSink) -> Result<HostWatch, WatchError> {
        HostWatch::new(root, sink)
    }

    fn net(&self) -> &HostNet {
        &self.net
    }

    fn wall_ns(&self) -> i128 {
        // An i128 holds any number of nanoseconds that a Duration can have, of either sign.
        let ns = |duration: std::time::Duration| {
            i128::from(duration.as_secs()) * 1_000_000_000 + i128::from(duration.subsec_nanos())
        };
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => ns(since),
            Err(before) => -ns(before.duration()),
        }
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        // getrandom(2) does not fail once the system has seeded it, and waits until then; the
        // openat2(2) that this crate needs is newer than it. Without randomness two replicas could
        // take one id, so there is nothing to do but stop.
        self.random.fill(&mut bytes).expect("the system has randomness");
        u64::from_ne_bytes(bytes)
    }

    async fn blocking<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and the caller with it: it is never polled again.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn probe(&self, _: Point) {}
}
