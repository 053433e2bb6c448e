//! What a scenario says once: keys of the daemon's configuration, the network, what is expected.

use std::collections::BTreeMap;

use chainsync_core::Policy;
use serde::{Deserialize, Serialize};

use super::{Bandwidth, Size, Span, SpanRange};

/// Keys of the daemon's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_after: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mass_delete_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_max: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_generations: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_age: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space_min: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_max: Option<Size>,
    /// Any, also one that the daemon's configuration refuses: a run has to live to see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_age: Option<Span>,
    /// Entries of one batch at most; no key of the daemon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_entries_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    Batch,
    None,
}

/// The simulated network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<SpanRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Of so many reads or writes one is short, drawn; 0: none. Without it, 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<u64>,
    /// Whether connections run over the TLS of the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reaches {
    pub nodes: Vec<String>,
    pub within: Span,
}

/// What has to come true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expect {
    /// After a node dies, uploads made from then on reach all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_within: Option<Span>,
    /// Every upload on these nodes is on all of them so soon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaches: Option<Reaches>,
    /// After the last event, with everything healed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converged_within: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<u64>,
    /// At most so many finished uploads that nobody took back are in archives only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<u64>,
    /// Paths with the node whose upload is there in the end, on all nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub winners: BTreeMap<String, String>,
    /// Paths at which nothing may be in the end, on any node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Marks of the engine (`chainsync_env::Point`), and how often all nodes together pass each at
    /// least: otherwise the run did not show what the scenario is about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passes: BTreeMap<String, u64>,
    /// Nodes that stay dead when everything else is healed: the others have to converge without
    /// them, and with them when they come back, last of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead: Vec<String>,
}
