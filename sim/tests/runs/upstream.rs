//! One node with its share, and an upstream that is made by hand and heeds nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use chainsync_core::gossip::{Row, RowId};
use chainsync_core::wire::{Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN};
use chainsync_core::{NodeName, Policy, ReplicaId, Ring, ShareName};
use chainsync_engine::config::TOMBSTONE_AGE_DEFAULT;
use chainsync_engine::{Durability, NodeConfig, ShareConfig};
use chainsync_env::{Net, Peer};
use chainsync_sim::check::{SHARE, STATE};
use chainsync_sim::fs::DiskOptions;
use chainsync_sim::machine::Machine;
use chainsync_sim::net::{NetOptions, SimNet, node_id};
use chainsync_sim::shared::{EPOCH_NS, Shared, lock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The upstream's one author.
pub const REPLICA: ReplicaId = ReplicaId(7);

fn peer(name: &str) -> Peer {
    let address = format!("{name}:7420");
    Peer { name: NodeName::new(name).unwrap(), address, id: node_id(name) }
}

fn config(sweep_interval: Duration) -> NodeConfig {
    let names = ["apollo", "hermes"].map(|name| NodeName::new(name).unwrap());
    NodeConfig {
        node: names[1].clone(),
        listen: "0.0.0.0:7420".into(),
        state: STATE.into(),
        nodes: names.iter().map(|name| (name.clone(), peer(name.as_str()))).collect(),
        bandwidth_max: Default::default(),
        shares: vec![ShareConfig {
            name: ShareName::new("files").unwrap(),
            path: SHARE.into(),
            ring: Ring::new(names.to_vec()).unwrap(),
            exclude: Vec::new(),
            durability: Durability::Batch,
            owner: false,
            sweep_interval,
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
        row: Row { id: RowId { run: 1, number: 1 }, authors: vec![REPLICA], ..Row::default() },
    })
}

/// Sends batches on a connection of its own and waits until all are acknowledged: the row with which the
/// node welcomes.
pub async fn deliver(net: &SimNet, batches: &[Frame]) -> Result<Row, Box<dyn std::error::Error>> {
    let mut stream = net.connect(&peer("hermes")).await?;
    let mut bytes = BytesMut::new();
    hello().encode(&mut bytes);
    batches.iter().for_each(|batch| batch.encode(&mut bytes));
    stream.write_all(&bytes).await?;
    let (mut buffer, mut welcome, mut acknowledged) = (BytesMut::new(), None, 0);
    loop {
        while let Some(frame) = Frame::decode(&mut buffer)? {
            match frame {
                Frame::Welcome(it) => welcome = Some(it.row),
                Frame::Ack(_) => acknowledged += 1,
                Frame::Goodbye(reason) => return Err(reason.into()),
                _ => {}
            }
        }
        if let Some(row) = welcome.take_if(|_| acknowledged == batches.len()) {
            return Ok(row);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("the connection ended before the acknowledgement".into());
        }
    }
}

/// The node, running as `hermes`, and the network card of its upstream, `apollo`.
pub fn node(
    shared: &Arc<Shared>,
    sweep_interval: Duration,
) -> (turmoil::Sim<'static>, Arc<Machine>, SimNet) {
    lock(&shared.oracle).node_names = vec!["apollo".into(), "hermes".into()];
    let (disk, net) = (DiskOptions::default(), NetOptions::default());
    let machine = Machine::new(shared, 1, config(sweep_interval), disk, net);
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
    let net = SimNet::new(shared, "apollo", known, NetOptions::default(), Arc::default());
    (sim, machine, net)
}
