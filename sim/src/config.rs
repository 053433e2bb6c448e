//! The configuration of a node, as a scenario has it.

use std::time::Duration;

use chainsync_core::{NodeName, Ring, ShareName};
use chainsync_engine::config::{
    ArchiveLimits, DEAD_AFTER_DEFAULT, HEARTBEAT_DEFAULT, SWEEP_INTERVAL_DEFAULT,
    TOMBSTONE_AGE_DEFAULT,
};
use chainsync_engine::{Durability, Limits, NodeConfig, ShareConfig};
use chainsync_env::Peer;

use crate::check::{SHARE, STATE};
use crate::net::node_id;
use crate::scenario::{self, Scenario};

/// The share that every node has.
const SHARE_NAME: &str = "files";
const PORT: u16 = 7420;

fn limits(config: &scenario::Config) -> Limits {
    let defaults = Limits::default();
    let entries_max = config.batch_entries_max.and_then(|entries| usize::try_from(entries).ok());
    Limits {
        mass_delete_max: config.mass_delete_max.unwrap_or(defaults.mass_delete_max),
        clock_ahead_max: config.clock_ahead_max.map_or(defaults.clock_ahead_max, |span| span.0),
        // A hundred conflicts at one name are an afternoon's here: what is lost is to be noticed.
        archive: ArchiveLimits {
            generations: config.archive_generations.unwrap_or(u64::MAX),
            age: config.archive_age.map_or(Duration::MAX, |span| span.0),
            bytes: config.archive_size.map_or(u64::MAX, |size| size.0),
        },
        free_space_min: config.free_space_min.map(|size| size.0),
        batch_entries_max: entries_max.unwrap_or(defaults.batch_entries_max),
        ..defaults
    }
}

/// As the operator of a node would have written it.
pub(crate) fn node_config(scenario: &Scenario, node: &NodeName) -> NodeConfig {
    let peer = |name: &NodeName| Peer {
        name: name.clone(),
        address: format!("{name}:{PORT}"),
        id: node_id(name.as_str()),
    };
    let nodes = scenario.nodes.iter().map(|name| (name.clone(), peer(name))).collect();
    let config = &scenario.config;
    let limit = config.bandwidth_max.map(|size| size.0);
    let bandwidth_max =
        scenario.nodes.iter().filter_map(|name| Some((name.clone(), limit?))).collect();
    let durability = match config.durability {
        Some(scenario::Durability::None) => Durability::None,
        Some(scenario::Durability::Batch) | None => Durability::Batch,
    };
    let span = |span: Option<scenario::Span>, default| span.map_or(default, |span| span.0);
    NodeConfig {
        node: node.clone(),
        listen: format!("0.0.0.0:{PORT}"),
        state: STATE.into(),
        nodes,
        bandwidth_max,
        shares: vec![ShareConfig {
            name: ShareName::new(SHARE_NAME).expect("a constant that is a name"),
            path: SHARE.into(),
            ring: Ring::new(scenario.nodes.clone()).expect("the scenario's parser checked it"),
            exclude: config.exclude.clone(),
            durability,
            owner: config.owner.unwrap_or(false),
            sweep_interval: SWEEP_INTERVAL_DEFAULT,
            policy: config.policy.unwrap_or_default(),
            prefer: config.prefer.as_deref().and_then(|name| NodeName::new(name).ok()),
            tombstone_age: span(config.tombstone_age, TOMBSTONE_AGE_DEFAULT),
            limits: limits(config),
        }],
        heartbeat: span(config.heartbeat, HEARTBEAT_DEFAULT),
        dead_after: span(config.dead_after, DEAD_AFTER_DEFAULT),
    }
}
