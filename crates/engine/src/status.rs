//! What a node answers when asked. The JSON form is a contract: fields are added, never renamed.

use chainsync_core::{NodeName, ShareName};
use serde::{Deserialize, Serialize};

use crate::config::ShareConfig;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    /// Wall clock at start, milliseconds since 1970.
    pub started_ms: u64,
    pub shares: Vec<ShareStatus>,
    /// The last reload, if it was refused: the configuration before it is in force.
    #[serde(default)]
    pub refused_reload: Option<RefusedReload>,
}

/// A configuration that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReload {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareStatus {
    pub share: String,
    pub path: String,
    pub ring: Vec<String>,
    /// Why the share does not move, if it does not.
    pub halted: Option<String>,
    /// Whether an operator paused it.
    #[serde(default)]
    pub paused: bool,
    /// All members hold the same and say so, freshly.
    pub converged: bool,
    /// What keeps it from `converged`, in words.
    pub waiting_for: Vec<String>,
    /// The head of the journal.
    pub sequence: u64,
    /// Live paths in the index.
    pub entries: u64,
    pub watches: u64,
    /// Hints not looked at yet.
    pub unread: u64,
    pub sweeping: bool,
    /// Paths known but not published here.
    pub pending: u64,
    pub problems: Vec<Problem>,
    pub conflicts: u64,
    /// The link to the successor.
    pub link: Option<LinkStatus>,
    /// Links from upstream nodes.
    pub upstream: Vec<UpstreamStatus>,
    pub members: Vec<MemberStatus>,
    pub counters: Counters,
}

impl ShareStatus {
    /// Of a share that could not begin, while others run.
    pub(crate) fn not_started(share: &ShareConfig, reason: String) -> Self {
        Self {
            share: share.name.to_string(),
            path: share.path.display().to_string(),
            ring: share.ring.nodes().iter().map(ToString::to_string).collect(),
            waiting_for: vec![format!("the share is halted: {reason}")],
            halted: Some(reason),
            ..Self::default()
        }
    }
}

impl FlushReport {
    /// Of a share that could not begin: nobody looks at what was changed there.
    pub(crate) fn halted(share: &ShareName, me: &NodeName, reason: &str) -> Self {
        let lacking = Lacking { node: me.to_string(), reason: format!("halted: {reason}") };
        Self {
            share: share.to_string(),
            complete: false,
            applied: Vec::new(),
            lacking: vec![lacking],
            left_out: Vec::new(),
            elapsed_ms: 0,
            note: String::new(),
        }
    }
}

/// A path with which something is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Shown with `\xNN` for what is not printable.
    pub path: String,
    pub reason: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    pub to: String,
    /// Skips dead nodes.
    pub bypass: bool,
    /// Entries of the journal that it has not been sent yet, at most.
    pub behind: u64,
    /// Batches sent and not acknowledged.
    pub in_flight: u64,
    /// How long all this will take at the rate of the last seconds, if that can be told.
    #[serde(default)]
    pub seconds_left: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    pub from: String,
    pub since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    pub node: String,
    pub state: MemberState,
    /// Since when it is in this state, milliseconds since 1970.
    pub since_ms: u64,
    /// Changes known here that it had not applied when last heard of.
    pub behind: u64,
    pub pending: u64,
    pub problems: u64,
    pub halted: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// This node.
    Me,
    /// Heard of lately, along the links.
    Reachable,
    /// Not heard of for longer than `dead_after`; no link leads to it.
    Unreachable,
    /// Never heard of since this daemon started.
    Unknown,
}

/// Totals since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Changes found on this node's disk.
    pub changes: u64,
    /// Entries received that won.
    pub applied: u64,
    pub batches_sent: u64,
    pub batches_received: u64,
    pub entries_sent: u64,
    pub contents_sent: u64,
    /// Bytes written into the link's TLS stream and read from it, by peer.
    pub link_bytes_sent: std::collections::BTreeMap<String, u64>,
    pub link_bytes_received: std::collections::BTreeMap<String, u64>,
    /// Hints that turned out to be no change: own writes among them.
    pub hints_without_change: u64,
    pub sweeps: u64,
    pub archived: u64,
}

/// The answer to `flush`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlushReport {
    pub share: String,
    /// Every member that counts has durably applied everything changed here before the call.
    pub complete: bool,
    pub applied: Vec<String>,
    /// Who has not, and why.
    pub lacking: Vec<Lacking>,
    /// Unreachable members left out because the call asked for `live` ones only.
    pub left_out: Vec<Lacking>,
    pub elapsed_ms: u64,
    /// What the answer does not cover.
    pub note: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lacking {
    pub node: String,
    pub reason: String,
}
