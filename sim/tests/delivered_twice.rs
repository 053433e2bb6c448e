//! L5 at the door of one node: the same batch, delivered again on a second connection, byte for byte.
//!
//! Between daemons the cursor in the welcome keeps this from happening, unless an upstream was rolled
//! back or two of them have the same to tell; here the upstream is made by hand and heeds nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use chainsync_core::VersionVector;
use chainsync_core::batch::{BATCH_ENTRIES_MAX, BatchBuilder};
use chainsync_core::entry::{Entry, Kind};
use chainsync_core::gossip::{Row, RowId};
use chainsync_core::knowledge::Recorded;
use chainsync_core::version::{Dot, Stamp, Version};
use chainsync_core::wire::{Batch, Cursor, Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN, PassEnd};
use chainsync_core::{
    ContentHash, Knowledge, NodeName, Policy, RelPath, ReplicaId, Ring, ShareName,
};
use chainsync_engine::config::{SWEEP_INTERVAL_DEFAULT, TOMBSTONE_AGE_DEFAULT};
use chainsync_engine::{Durability, NodeConfig, ShareConfig};
use chainsync_env::{Net, Peer};
use chainsync_sim::check::{SHARE, STATE};
use chainsync_sim::fs::{DiskOptions, Tree};
use chainsync_sim::machine::Machine;
use chainsync_sim::net::{NetOptions, SimNet, node_id};
use chainsync_sim::shared::{EPOCH_NS, Shared, lock};
use chainsync_sim::trace::Trace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

const REPLICA: ReplicaId = ReplicaId(7);
const CONTENT: &[u8] = b"an upload on apollo";

/// What the node's disk looked like after each delivery, and how often it had been changed.
type Seen = Vec<(Tree, u64)>;

fn peer(name: &str) -> Peer {
    let address = format!("{name}:7420");
    Peer { name: NodeName::new(name).unwrap(), address, id: node_id(name) }
}

fn config() -> NodeConfig {
    let names = ["apollo", "hermes"].map(|name| NodeName::new(name).unwrap());
    NodeConfig {
        node: names[1].clone(),
        listen: "0.0.0.0:7420".into(),
        state: STATE.into(),
        nodes: names.iter().map(|name| (name.clone(), peer(name.as_str()))).collect(),
        shares: vec![ShareConfig {
            name: ShareName::new("files").unwrap(),
            path: SHARE.into(),
            ring: Ring::new(names.to_vec()).unwrap(),
            exclude: Vec::new(),
            durability: Durability::Batch,
            owner: false,
            sweep_interval: SWEEP_INTERVAL_DEFAULT,
            policy: Policy::Younger,
            prefer: None,
            tombstone_age: TOMBSTONE_AGE_DEFAULT,
            limits: Default::default(),
        }],
        heartbeat: Duration::from_secs(1),
        dead_after: Duration::from_secs(5),
    }
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        share: ShareName::new("files").unwrap(),
        node: NodeName::new("apollo").unwrap(),
        row: Row {
            id: RowId { run: 1, number: 1 },
            revision: 0,
            authors: vec![REPLICA],
            knowledge: Knowledge::new(),
            applied: VersionVector::new(),
            pending: 0,
            problems: 0,
            conflicts: 0,
            unread: false,
            passing: false,
            halted: None,
            successor: None,
            heard: BTreeMap::new(),
        },
    })
}

/// A file, a directory and a tombstone; `counter` makes it another batch of the same paths.
fn batch(counter: u64) -> Frame {
    let made_ms = (EPOCH_NS / 1_000_000) as u64 + counter;
    let mut batch = BatchBuilder::new(BATCH_ENTRIES_MAX);
    let mut push = |path: &str, counter: u64, kind: Kind, content: Option<&Bytes>| {
        let version = Version {
            stamp: Stamp::made(made_ms, REPLICA),
            dot: Dot { replica: REPLICA, counter },
            past: VersionVector::new(),
        };
        batch.push(Entry { path: RelPath::new(path).unwrap(), kind, version }, content);
    };
    let content = Bytes::from_static(CONTENT);
    let kind = Kind::File {
        size: CONTENT.len() as u64,
        hash: ContentHash::of(CONTENT),
        mode: 0o640,
        mtime_ns: EPOCH_NS + i128::from(counter),
        owner: None,
    };
    push("d", 3 * counter - 2, Kind::Dir { mode: 0o755, owner: None }, None);
    push("d/a", 3 * counter - 1, kind, Some(&content));
    push("gone", 3 * counter, Kind::Tombstone { mode: None, owner: None }, None);
    let (entries, packs) = batch.finish();
    let mut knowledge = Knowledge::new();
    knowledge.record(REPLICA, Recorded { counter: 3 * counter, tag: counter });
    Frame::Batch(Batch {
        number: 1,
        entries,
        cursor: Cursor { sequence: 3 * counter, tag: counter },
        end: Some(PassEnd {
            knowledge,
            collected: VersionVector::new(),
            collected_stamp: None,
            full: false,
        }),
        held: Vec::new(),
        packs,
    })
}

/// Delivers one batch on a connection of its own and waits for its acknowledgement.
async fn deliver(net: &SimNet, batch: &Frame) -> turmoil::Result {
    let mut stream = net.connect(&peer("hermes")).await?;
    let mut bytes = BytesMut::new();
    hello().encode(&mut bytes);
    batch.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = Frame::decode(&mut buffer)? {
            match frame {
                Frame::Ack(_) => return Ok(()),
                Frame::Goodbye(reason) => return Err(reason.into()),
                _ => {}
            }
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("the connection ended before the acknowledgement".into());
        }
    }
}

/// Delivers batches one after the other.
fn run(batches: Vec<Frame>) -> Seen {
    let shared = Shared::new(1, Trace::new(None));
    {
        let mut oracle = lock(&shared.oracle);
        oracle.node_names = vec!["apollo".into(), "hermes".into()];
        oracle.announce(0, b"d/a", None, &Arc::new(CONTENT.to_vec()));
    }
    let machine = Machine::new(&shared, 1, config(), DiskOptions::default(), NetOptions::default());
    {
        let mut disk = lock(&machine.disk);
        disk.install_dir(STATE.as_bytes(), 0o700).unwrap();
        disk.install_share(SHARE.as_bytes()).unwrap();
    }
    machine.want();
    let epoch = Duration::from_nanos(u64::try_from(EPOCH_NS).unwrap());
    let mut sim = turmoil::Builder::new()
        .epoch(UNIX_EPOCH + epoch)
        .tcp_capacity(1024)
        .simulation_duration(Duration::from_secs(60))
        .build();
    let host = Arc::clone(&machine);
    sim.host("hermes", move || Arc::clone(&host).live());
    let known: BTreeSet<String> = ["apollo", "hermes"].map(String::from).into();
    let net = SimNet::new(&shared, "apollo", known, NetOptions::default(), Arc::default());
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (looked, disk) = (Arc::clone(&seen), Arc::clone(&machine.disk));
    sim.client("apollo", async move {
        sleep(Duration::from_secs(2)).await;
        for batch in &batches {
            deliver(&net, batch).await?;
            sleep(Duration::from_secs(2)).await;
            let disk = lock(&disk);
            lock(&looked).push((disk.tree(SHARE.as_bytes())?, disk.tree_changes));
        }
        Ok(())
    });
    sim.run().unwrap();
    assert_eq!(lock(&shared.oracle).failures, []);
    drop(sim);
    Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
}

#[test]
fn a_batch_that_is_delivered_twice_changes_nothing() {
    let seen = run(vec![batch(1), batch(1), batch(1)]);
    let (tree, changes) = &seen[0];
    assert_eq!(tree.keys().collect::<Vec<_>>(), [&b"d".to_vec(), &b"d/a".to_vec()]);
    assert!(*changes > 0);
    assert_eq!(seen[1], seen[0]);
    assert_eq!(seen[2], seen[0]);
}

#[test]
fn another_batch_is_told_from_it() {
    let seen = run(vec![batch(1), batch(2), batch(1)]);
    assert_ne!(seen[1], seen[0], "a newer time has to show");
    assert_eq!(seen[2], seen[1], "and an old batch has to change nothing then");
}
