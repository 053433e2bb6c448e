//! What a node is told. Already checked: the CLI parses files, the simulation fills it in directly.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chainsync_core::batch::BATCH_ENTRIES_MAX;
use chainsync_core::{NodeName, Policy, Ring, ShareName};
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
    /// Bytes a second that a share's link to a node carries at most; to a node that is not here, as
    /// many as go through.
    pub bandwidth_max: BTreeMap<NodeName, u64>,
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
    /// What becomes of edits that lost. Set alike on all members.
    pub policy: Policy,
    /// For the first import only: the node whose files win over what the others had before.
    pub prefer: Option<NodeName>,
    /// For so long a tombstone is kept at least.
    pub tombstone_age: Duration,
    pub limits: Limits,
}

/// What a share takes at most. A path that is beyond is a problem here, and the rest goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file made on this node; `None` for any size that the version can do.
    pub max_file_size: Option<u64>,
    /// A sweep that finds more paths missing, and more than half of the share, halts it.
    pub mass_delete_max: u64,
    /// How far in the future, by the clock here, a peer's change may have been made.
    pub clock_ahead_max: Duration,
    pub archive: ArchiveLimits,
    /// Bytes that what comes from peers leaves free on the share's file system; `None` for a hundredth
    /// of it, and at most 1 GiB.
    pub free_space_min: Option<u64>,
    /// Entries that go into one batch, from 1 to [`BATCH_ENTRIES_MAX`].
    pub batch_entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_size: None,
            mass_delete_max: MASS_DELETE_MAX_DEFAULT,
            clock_ahead_max: CLOCK_AHEAD_MAX_DEFAULT,
            archive: ArchiveLimits::default(),
            free_space_min: None,
            batch_entries_max: BATCH_ENTRIES_MAX,
        }
    }
}

/// What the archive keeps of edits that lost: the newest ones within all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Edits of one path.
    pub generations: u64,
    pub age: Duration,
    /// Bytes of all contents together.
    pub bytes: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { generations: 10, age: Duration::from_secs(90 * 24 * 3600), bytes: 10 << 30 }
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
/// An evening's cleaning up is less.
pub const MASS_DELETE_MAX_DEFAULT: u64 = 1000;
/// More than any time zone is wrong by.
pub const CLOCK_AHEAD_MAX_DEFAULT: Duration = Duration::from_secs(24 * 3600);
