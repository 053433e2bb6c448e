//! A node with one share in a directory of its own, and what an application does in there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chainsync_core::{NodeId, NodeName, Policy, Ring, ShareName};
use chainsync_engine::{Durability, Handle, Limits, Node, NodeConfig, ShareConfig, ShareStatus};
use chainsync_env::Peer;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::env::{BenchEnv, Callers};

pub const SHARE: &str = "site";
pub const UPSTREAM: &str = "upstream";
const NODE: &str = "node";
/// Rings.
pub const ALONE: &[&str] = &[NODE];
pub const WITH_UPSTREAM: &[&str] = &[NODE, UPSTREAM];
pub const CONTENT_BYTES: usize = 5 << 10;
/// Directories over which files are spread.
pub const DIRECTORIES: usize = 10;

/// A quiet node says nothing: no heartbeat, sweep or silence comes between.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const FLUSH_MAX: Duration = Duration::from_secs(60);
/// How often the node is asked how far it is: the grain of `published`.
const POLL: Duration = Duration::from_millis(1);
/// Longer than events take through the kernel.
const EVENTS_MAX: Duration = Duration::from_millis(30);
/// A whole batch, and what the node says meanwhile.
const PIPE_BYTES: usize = 8 << 20;

/// The directory of a node: its share, its state.
pub struct Place {
    directory: TempDir,
    releases: AtomicUsize,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), releases: AtomicUsize::new(0) };
        fs::create_dir(place.share()).unwrap();
        place
    }

    pub fn share(&self) -> PathBuf {
        self.directory.path().join("share")
    }

    /// A directory of files beside the share.
    pub fn write_release(&self, files: usize) -> Release {
        let number = self.releases.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("release-{number}"));
        fs::create_dir(&path).unwrap();
        Tree::new(path.clone()).write_some(files);
        Release(path)
    }
}

pub struct Release(PathBuf);

impl Release {
    pub fn move_into(self, share: &Path) {
        fs::rename(&self.0, share.join(self.0.file_name().unwrap())).unwrap();
    }
}

/// Directories in which an application makes files.
pub struct Tree {
    root: PathBuf,
    files: usize,
}

impl Tree {
    pub fn new(root: PathBuf) -> Self {
        for number in 0..DIRECTORIES {
            fs::create_dir(root.join(directory(number))).unwrap();
        }
        Self { root, files: 0 }
    }

    /// New ones.
    pub fn write_some(&mut self, files: usize) {
        for number in self.files..self.files + files {
            fs::write(self.root.join(file(number)), content(number)).unwrap();
        }
        self.files += files;
    }
}

pub fn directory(number: usize) -> String {
    format!("d{:02}", number % DIRECTORIES)
}

pub fn file(number: usize) -> String {
    format!("{}/page-{number:06}.html", directory(number))
}

/// Incompressible, and no two alike.
pub fn content(number: usize) -> Vec<u8> {
    let mut content = vec![0; CONTENT_BYTES];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// A node that runs.
pub struct Site {
    place: Place,
    handle: Handle,
    callers: Callers,
    runs: JoinHandle<()>,
}

impl Site {
    /// Starts a node, and waits until it has imported what was there.
    pub async fn start(place: Place, ring: &[&str], durability: Durability) -> Self {
        let (env, callers) = BenchEnv::new();
        let config = config(place.directory.path(), ring, durability);
        let node = Node::start(env, config).await.unwrap();
        let handle = node.handle();
        let runs = tokio::spawn(node.run());
        let site = Self { place, handle, callers, runs };
        site.flush().await;
        site
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Until all that was done in the share is recorded. Asks nobody else.
    pub async fn flush(&self) {
        let share = ShareName::new(SHARE).unwrap();
        let reports = loop {
            match self.handle.flush(Some(&share), FLUSH_MAX, true).await {
                Some(reports) => break reports,
                // The node has no shares before it runs.
                None => sleep(POLL).await,
            }
        };
        assert!(reports.iter().all(|report| report.complete), "{reports:?}");
    }

    /// A connection from the upstream.
    pub async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.callers.send((id(UPSTREAM), theirs)).await.unwrap();
        ours
    }

    /// Until all that is known is on disk.
    pub async fn published(&self) {
        while self.status().await.pending > 0 {
            sleep(POLL).await;
        }
    }

    /// Until all events are looked at, those of the node's own writes among them.
    pub async fn quiet(&self) {
        loop {
            sleep(EVENTS_MAX).await;
            let status = self.status().await;
            assert!(status.problems.is_empty(), "{:?}", status.problems);
            if status.unread == 0 && !status.waiting_for.iter().any(|why| why.contains("looked")) {
                return;
            }
        }
    }

    async fn status(&self) -> ShareStatus {
        self.handle.status(None).await.unwrap().shares.remove(0)
    }

    pub async fn stop(self) {
        self.handle.stop();
        self.runs.await.unwrap();
    }
}

/// Pipes prove nothing: any id will do.
fn id(node: &str) -> NodeId {
    NodeId::of_public_key(node.as_bytes())
}

fn config(directory: &Path, ring: &[&str], durability: Durability) -> NodeConfig {
    let members: Vec<NodeName> = ring.iter().map(|name| NodeName::new(name).unwrap()).collect();
    let peer = |name: &NodeName| {
        (name.clone(), Peer { name: name.clone(), address: String::new(), id: id(name.as_str()) })
    };
    let share = ShareConfig {
        name: ShareName::new(SHARE).unwrap(),
        path: directory.join("share"),
        ring: Ring::new(members.clone()).unwrap(),
        exclude: Vec::new(),
        durability,
        owner: false,
        sweep_interval: Duration::ZERO,
        policy: Policy::default(),
        prefer: None,
        tombstone_age: NEVER,
        limits: Limits::default(),
    };
    NodeConfig {
        node: NodeName::new(NODE).unwrap(),
        listen: String::new(),
        state: directory.join("state"),
        nodes: members.iter().map(peer).collect(),
        bandwidth_max: Default::default(),
        shares: vec![share],
        heartbeat: NEVER,
        dead_after: NEVER,
    }
}
