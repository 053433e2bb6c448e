//! What can happen, and arbitrary lists of it. Nodes and paths are taken modulo how many there are,
//! so a list stays meaningful while it is shrunk.

use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A writer on the node; `noticed`: recorded at once.
    Edit {
        node: usize,
        path: usize,
        delete: bool,
        noticed: bool,
    },
    /// The watcher or a sweep looks at a path.
    Ingest {
        node: usize,
        path: usize,
    },
    /// What is known is put on the disk.
    Publish {
        node: usize,
        path: usize,
    },
    Connect {
        from: usize,
        to: usize,
    },
    Cut {
        from: usize,
        to: usize,
    },
    /// One batch of at most `entries` entries.
    Send {
        from: usize,
        to: usize,
        entries: usize,
    },
    /// One batch arrives; `published`: its entries can be put on the disk at once.
    Receive {
        from: usize,
        to: usize,
        published: bool,
    },
    /// One acknowledgement arrives.
    Hear {
        from: usize,
        to: usize,
    },
    Crash {
        node: usize,
    },
    Snapshot {
        node: usize,
    },
    /// Index and disk as they were at the snapshot.
    Restore {
        node: usize,
    },
    /// The index is gone; what is on disk is imported.
    LoseIndex {
        node: usize,
    },
    /// Everything waiting goes one hop, all round the ring.
    Round {
        entries: usize,
    },
}

/// Which of the two great faults a list may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    LostIndex,
    Restored,
}

pub(crate) fn plan(fault: Fault) -> BoxedStrategy<Vec<Event>> {
    vec(event(fault), 1..100).boxed()
}

/// Nodes of the largest ring.
const NODES_MAX: usize = 5;
const PATHS: usize = 3;

fn event(fault: Fault) -> BoxedStrategy<Event> {
    let node = || 0..NODES_MAX;
    let path = || 0..PATHS;
    let entries = || 1..4_usize;
    let common = prop_oneof![
        10 => (node(), path(), prop::bool::weighted(0.25), any::<bool>())
            .prop_map(|(node, path, delete, noticed)| Event::Edit { node, path, delete, noticed }),
        8 => (node(), path()).prop_map(|(node, path)| Event::Ingest { node, path }),
        6 => (node(), path()).prop_map(|(node, path)| Event::Publish { node, path }),
        8 => (node(), node()).prop_map(|(from, to)| Event::Connect { from, to }),
        3 => (node(), node()).prop_map(|(from, to)| Event::Cut { from, to }),
        16 => (node(), node(), entries())
            .prop_map(|(from, to, entries)| Event::Send { from, to, entries }),
        16 => (node(), node(), prop::bool::weighted(0.7))
            .prop_map(|(from, to, published)| Event::Receive { from, to, published }),
        2 => node().prop_map(|node| Event::Crash { node }),
        5 => entries().prop_map(|entries| Event::Round { entries }),
    ]
    .boxed();
    let fault = match fault {
        Fault::None => return common,
        Fault::LostIndex => node().prop_map(|node| Event::LoseIndex { node }).boxed(),
        Fault::Restored => prop_oneof![
            2 => node().prop_map(|node| Event::Snapshot { node }),
            1 => node().prop_map(|node| Event::Restore { node }),
        ]
        .boxed(),
    };
    prop_oneof![20 => common, 1 => fault].boxed()
}
