//! What a node is told. Already checked: the CLI parses files, the simulation fills it in directly.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chainsync_core::batch::BATCH_ENTRIES_MAX;
use chainsync_core::{NodeName, Ring, ShareName};
use chainsync_env::Peer;

#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    pub node: NodeName,
    /// `host:port`.
    pub listen: String,
    /// Index and archive; never inside a share.
    pub state: PathBuf,
    /// All nodes by name, this one too.
    pub nodes: BTreeMap<NodeName, Peer>,
    pub shares: Vec<ShareConfig>,
    /// How often a link proves that it lives.
    pub heartbeat: Duration,
    /// Silence after which a peer counts as dead.
    pub dead_after: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ShareConfig {
    pub name: ShareName,
    pub path: PathBuf,
    pub ring: Ring,
    /// gitignore syntax, relative to the root.
    pub exclude: Vec<String>,
    pub durability: Durability,
    /// Whether numeric owners are replicated.
    pub owner: bool,
    /// How often the whole tree is looked at, as the last net; zero: never.
    pub sweep_interval: Duration,
    /// For so long a tombstone is kept at least.
    pub tombstone_age: Duration,
    pub limits: Limits,
}

/// What a share takes at most. A path that is beyond is a problem here, and the rest goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file made on this node; `None` for any size that the version can do.
    pub max_file_size: Option<u64>,
    /// Entries that go into one batch, from 1 to [`BATCH_ENTRIES_MAX`].
    pub batch_entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_file_size: None, batch_entries_max: BATCH_ENTRIES_MAX }
    }
}

/// What "acknowledged" promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Contents and index survive power loss.
    #[default]
    Batch,
    /// They survive a crash of the daemon only.
    None,
}

/// A sweep costs a few seconds of one processor in a tree of a million files.
pub const SWEEP_INTERVAL_DEFAULT: Duration = Duration::from_secs(3600);
/// Longer than any outage after which a node comes back as it was, and than any clock is off.
pub const TOMBSTONE_AGE_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(1);
pub const DEAD_AFTER_DEFAULT: Duration = Duration::from_secs(5);
