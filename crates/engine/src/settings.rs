//! What a reload may change of a share while it runs: one value, replaced as a whole.
//!
//! Who needs a setting asks for it each time, or waits on `settings_moved`. What decides where files
//! and index are, and what an acknowledgement promises, is not here: it takes a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::{NodeId, NodeName, Policy, Ring};
use chainsync_env::{Env, Peer};

use crate::config::{Limits, NodeConfig, ShareConfig};
use crate::exclude::Exclude;
use crate::share::{Share, lock};

#[derive(Debug, Clone)]
pub struct Settings {
    pub ring: Ring,
    /// All nodes by name, this one too.
    pub peers: BTreeMap<NodeName, Peer>,
    /// Bytes a second of the link to a node.
    pub bandwidth_max: BTreeMap<NodeName, u64>,
    pub heartbeat: Duration,
    pub dead_after: Duration,
    pub exclude: Exclude,
    pub limits: Limits,
    pub sweep_interval: Duration,
    pub policy: Policy,
    pub prefer: Option<NodeName>,
    pub tombstone_age: Duration,
    /// The share was taken out of the configuration: its connections are to end.
    pub closed: bool,
}

impl Settings {
    pub fn new(node: &NodeConfig, share: &ShareConfig) -> Result<Self, ignore::Error> {
        Ok(Self {
            ring: share.ring.clone(),
            peers: node.nodes.clone(),
            bandwidth_max: node.bandwidth_max.clone(),
            heartbeat: node.heartbeat,
            dead_after: node.dead_after,
            exclude: Exclude::new(&share.exclude)?,
            limits: share.limits.clone(),
            sweep_interval: share.sweep_interval,
            policy: share.policy,
            prefer: share.prefer.clone(),
            tombstone_age: share.tombstone_age,
            closed: false,
        })
    }

    /// Why a connection from `node`, which proved to be `id`, may not go on, if it may not.
    pub fn parted(&self, node: &NodeName, id: NodeId) -> Option<String> {
        if self.closed {
            return Some("the share was taken out of the configuration here".to_owned());
        }
        if !self.ring.contains(node) {
            return Some(format!("`{node}` is no longer in the ring here"));
        }
        let same = self.peers.get(node).is_some_and(|peer| peer.id == id);
        (!same).then(|| format!("`{node}` has another key in the configuration here"))
    }
}

impl<E: Env> Share<E> {
    /// The settings as of now.
    pub fn settings(&self) -> Arc<Settings> {
        lock(&self.settings).clone()
    }

    pub fn heartbeat(&self) -> Duration {
        self.settings().heartbeat
    }

    pub fn dead_after(&self) -> Duration {
        self.settings().dead_after
    }

    /// Bytes a second that the link to a node may carry.
    pub fn bandwidth_to(&self, node: &NodeName) -> Option<u64> {
        self.settings().bandwidth_max.get(node).copied()
    }

    pub fn ring(&self) -> Ring {
        self.settings().ring.clone()
    }

    /// Whoever waits on `settings_moved` is woken. Where patterns change, the caller holds the gate.
    pub fn set_settings(&self, settings: Settings) {
        self.board.set_ring(settings.ring.clone());
        *lock(&self.settings) = Arc::new(settings);
        self.settings_moved.send_modify(|count| *count += 1);
    }
}
