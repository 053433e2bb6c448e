//! The disk is a function of the known entries (PROTOCOL B5): whatever the order in which they come, and
//! however they are cut into batches, the disk is what `core::projection` says; and the node that looks at
//! its tree afterwards finds nothing that anybody changed.
//!
//! `CHAINSYNC_PROJECTIONS=2000` draws so many sets of entries, `CHAINSYNC_SEED` the first of them;
//! `CHAINSYNC_TRACE` names a file for what happens in the last run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chainsync_core::batch::{BATCH_ENTRIES_MAX, BatchBuilder};
use chainsync_core::knowledge::Recorded;
use chainsync_core::projection::project;
use chainsync_core::version::{Dot, Stamp, Version};
use chainsync_core::wire::{Batch, Cursor, Frame, PassEnd};
use chainsync_core::{ContentHash, Entry, Kind, Knowledge, RelPath, VersionVector};
use chainsync_sim::check::SHARE;
use chainsync_sim::fs::{Leaf, Tree};
use chainsync_sim::rng::Stream;
use chainsync_sim::shared::{EPOCH_NS, Shared, lock};
use chainsync_sim::trace::Trace;
use tokio::time::sleep;

use crate::upstream::{REPLICA, deliver, node};

/// Sets of entries, each in two orders.
const SETS: u64 = 40;
const ENTRIES: (u64, u64) = (2, 24);
/// Long enough for every wait of the engine's, and for two sweeps.
const SETTLED: Duration = Duration::from_secs(15);
const SWEEP_INTERVAL: Duration = Duration::from_secs(6);

/// Entries at few paths, several at some, so that they meet. Of one path the greatest stamp wins.
fn draw(rng: &mut Stream) -> Vec<(Entry, Option<Bytes>)> {
    let count = rng.between(ENTRIES.0, ENTRIES.1);
    let of = |counter: u64| {
        let depth = rng.between(1, 4);
        let names: Vec<&str> = (0..depth).map(|_| if rng.one_in(2) { "a" } else { "b" }).collect();
        let content = Bytes::from(format!("content {counter}"));
        let mode = [0o755, 0o700, 0o640, 0o600][rng.between(0, 3) as usize];
        let (kind, content) = match rng.between(0, 5) {
            0 | 1 => {
                let (size, hash) = (content.len() as u64, ContentHash::of(&content));
                let mtime_ns = EPOCH_NS + i128::from(counter);
                (Kind::File { size, hash, mode, mtime_ns, owner: None }, Some(content))
            }
            2 => (Kind::Symlink { target: format!("target {counter}").into_bytes() }, None),
            3 => (Kind::Dir { mode, owner: None }, None),
            4 => (Kind::Tombstone { mode: Some(mode), owner: None }, None),
            _ => (Kind::Tombstone { mode: None, owner: None }, None),
        };
        let stamp = Stamp::made((EPOCH_NS / 1_000_000) as u64 + rng.between(1, 1_000_000), REPLICA);
        let dot = Dot { replica: REPLICA, counter };
        let version = Version { stamp, dot, past: VersionVector::new() };
        (Entry { path: RelPath::new(names.join("/")).unwrap(), kind, version }, content)
    };
    (1..=count).map(of).collect()
}

fn shuffle<T>(rng: &mut Stream, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.between(0, last as u64) as usize);
    }
}

/// One pass in batches of a drawn size.
fn batches(rng: &mut Stream, entries: &[(Entry, Option<Bytes>)]) -> Vec<Frame> {
    let count = entries.len() as u64;
    let mut knowledge = Knowledge::new();
    knowledge.record(REPLICA, Recorded { counter: count, tag: 1 });
    let end =
        PassEnd { knowledge, collected: VersionVector::new(), collected_stamp: None, full: false };
    let mut left = entries;
    let mut frames = Vec::new();
    while !left.is_empty() {
        let (these, rest) = left.split_at(rng.between(1, left.len() as u64) as usize);
        left = rest;
        let mut batch = BatchBuilder::new(BATCH_ENTRIES_MAX);
        these.iter().for_each(|(entry, content)| batch.push(entry.clone(), content.as_ref()));
        let (entries, packs) = batch.finish();
        let sequence = count - left.len() as u64;
        frames.push(Frame::Batch(Batch {
            number: frames.len() as u64 + 1,
            entries,
            cursor: Cursor { sequence, tag: sequence },
            end: left.is_empty().then(|| end.clone()),
            held: Vec::new(),
            packs,
        }));
    }
    frames
}

/// What the disk has to be.
fn expected(entries: &[(Entry, Option<Bytes>)]) -> Tree {
    let mut known: BTreeMap<&RelPath, &Entry> = BTreeMap::new();
    for (entry, _) in entries {
        let greatest = known.entry(&entry.path).or_insert(entry);
        if greatest.version.stamp < entry.version.stamp {
            *greatest = entry;
        }
    }
    let content = |hash: ContentHash| {
        let mut contents = entries.iter().filter_map(|(_, content)| content.as_ref());
        contents.find(|content| ContentHash::of(content) == hash).unwrap().to_vec()
    };
    let leaf = |kind: Kind| match kind {
        Kind::File { hash, mode, mtime_ns, .. } => {
            Leaf::File { content: Arc::new(content(hash)), mode, mtime_ns }
        }
        Kind::Dir { mode, .. } => Leaf::Dir { mode },
        Kind::Symlink { target } => Leaf::Symlink { target },
        Kind::Tombstone { .. } => unreachable!("nothing that is deleted is on disk"),
    };
    let disk = project(known.into_values());
    disk.into_iter().map(|(path, kind)| (path.as_bytes().to_vec(), leaf(kind))).collect()
}

/// The tree as it is when all has been delivered, and later, when the node has looked at it; and how many
/// changes of its own the node has found.
fn run(frames: Vec<Frame>, entries: &[(Entry, Option<Bytes>)]) -> (Tree, Tree, usize) {
    let trace = std::env::var_os("CHAINSYNC_TRACE").map(|path| -> Box<dyn std::io::Write + Send> {
        Box::new(std::fs::File::create(path).unwrap())
    });
    let shared = Shared::new(1, Trace::new(trace));
    let (mut sim, machine, net) = node(&shared, SWEEP_INTERVAL);
    for (entry, content) in entries {
        // Each may make room for any other.
        lock(&shared.oracle).ledger.removed(entry.path.as_bytes());
        if let Some(content) = content {
            let content = Arc::new(content.to_vec());
            lock(&shared.oracle).announce(0, entry.path.as_bytes(), None, &content);
        }
    }
    let seen: Arc<Mutex<Vec<Tree>>> = Arc::default();
    let made = Arc::new(Mutex::new(0));
    let (looked, disk, changes) = (Arc::clone(&seen), Arc::clone(&machine.disk), Arc::clone(&made));
    sim.client("apollo", async move {
        sleep(Duration::from_secs(2)).await;
        deliver(&net, &frames).await?;
        for _ in 0..2 {
            sleep(SETTLED).await;
            lock(&looked).push(lock(&disk).tree(SHARE.as_bytes())?);
        }
        let row = deliver(&net, &[]).await?;
        *lock(&changes) = row.knowledge.iter().filter(|(replica, _)| *replica != REPLICA).count();
        Ok(())
    });
    sim.run().unwrap();
    assert_eq!(lock(&shared.oracle).failures, []);
    drop(sim);
    let [first, second] = <[Tree; 2]>::try_from(std::mem::take(&mut *lock(&seen))).unwrap();
    let made = *lock(&made);
    (first, second, made)
}

#[test]
fn the_disk_is_what_is_known_in_whatever_order_it_came() {
    let number = |variable: &str| std::env::var(variable).ok().map(|it| it.parse().unwrap());
    let first: u64 = number("CHAINSYNC_SEED").unwrap_or(0);
    for seed in first..first + number("CHAINSYNC_PROJECTIONS").unwrap_or(SETS) {
        let mut rng = Stream::new(seed, "projection", "");
        let mut entries = draw(&mut rng);
        let expected = expected(&entries);
        for order in ["as drawn", "shuffled"] {
            let frames = batches(&mut rng, &entries);
            let (tree, later, changes) = run(frames, &entries);
            let told: Vec<String> = entries
                .iter()
                .map(|(entry, _)| {
                    let Entry { path, kind, version } = entry;
                    format!("{} {path} {kind:?}", version.stamp.wall_ms)
                })
                .collect();
            let story = format!("CHAINSYNC_SEED={seed}, {order}:\n{}", told.join("\n"));
            assert_eq!(tree, expected, "{story}");
            assert_eq!(later, tree, "a sweep changes nothing; {story}");
            assert_eq!(changes, 0, "a sweep finds nothing; {story}");
            shuffle(&mut rng, &mut entries);
        }
    }
}
