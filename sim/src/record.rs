//! What is kept of a run for its report: everything that happened, and what lay where at the end.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use crate::check::{SHARE, STATE};
use crate::frames::FrameRecord;
use crate::fs::{Leaf, Tree};
use crate::history::History;
use crate::oracle::Upload;
use crate::shared::lock;
use crate::world::World;

/// Filled only if [`crate::run::Options::record`] asks for it: it holds all trees in memory.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub history: History,
    pub frames: Vec<FrameRecord>,
    /// Of all nodes, in ring order.
    pub trees: Vec<Tree>,
    /// What the web application wrote.
    pub uploads: Vec<Upload>,
    /// Contents in an archive, and the nodes whose archive it is.
    pub archived: BTreeMap<ContentHash, BTreeSet<usize>>,
}

impl Record {
    /// As the world is now.
    pub(crate) fn of(world: &World) -> Self {
        let shared = &world.shared;
        let mut archived: BTreeMap<ContentHash, BTreeSet<usize>> = BTreeMap::new();
        for machine in &world.machines {
            let state = lock(&machine.disk).tree(STATE.as_bytes()).unwrap_or_default();
            for (path, leaf) in state {
                let in_archive = path.split(|byte| *byte == b'/').any(|name| name == b"archive");
                if let (true, Leaf::File { content, .. }) = (in_archive, leaf) {
                    archived.entry(ContentHash::of(&content)).or_default().insert(machine.index);
                }
            }
        }
        let tree = |machine: &std::sync::Arc<crate::machine::Machine>| {
            lock(&machine.disk).tree(SHARE.as_bytes()).unwrap_or_default()
        };
        Self {
            history: shared.trace.read(Clone::clone),
            frames: lock(&shared.frames).sent.clone(),
            trees: world.machines.iter().map(tree).collect(),
            uploads: lock(&shared.oracle).uploads.clone(),
            archived,
        }
    }
}
