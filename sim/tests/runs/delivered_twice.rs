//! L5 at the door of one node: the same batch, delivered again on a second connection, byte for byte.
//!
//! Between daemons the cursor in the welcome keeps this from happening, unless an upstream was rolled
//! back or two of them have the same to tell; here the upstream is made by hand and heeds nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chainsync_core::batch::{BATCH_ENTRIES_MAX, BatchBuilder};
use chainsync_core::entry::{Entry, Kind};
use chainsync_core::knowledge::Recorded;
use chainsync_core::version::{Dot, Stamp, Version};
use chainsync_core::wire::{Batch, Cursor, Frame, PassEnd};
use chainsync_core::{ContentHash, Knowledge, RelPath, VersionVector};
use chainsync_engine::config::SWEEP_INTERVAL_DEFAULT;
use chainsync_sim::check::SHARE;
use chainsync_sim::fs::Tree;
use chainsync_sim::shared::{EPOCH_NS, Shared, lock};
use chainsync_sim::trace::Trace;
use tokio::time::sleep;

use crate::upstream::{REPLICA, deliver, node};

const CONTENT: &[u8] = b"an upload on apollo";

/// What the node's disk looked like after each delivery, and how often it had been changed.
type Seen = Vec<(Tree, u64)>;

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

/// Delivers batches one after the other.
fn run(batches: Vec<Frame>) -> Seen {
    let shared = Shared::new(1, Trace::new(None));
    let (mut sim, machine, net) = node(&shared, SWEEP_INTERVAL_DEFAULT);
    {
        let mut oracle = lock(&shared.oracle);
        oracle.announce(0, b"d/a", None, &Arc::new(CONTENT.to_vec()));
    }
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (looked, disk) = (Arc::clone(&seen), Arc::clone(&machine.disk));
    sim.client("apollo", async move {
        sleep(Duration::from_secs(2)).await;
        for batch in &batches {
            deliver(&net, std::slice::from_ref(batch)).await?;
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
