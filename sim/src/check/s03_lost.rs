//! S3: no lost update. An upload that somebody finished and that no writer who had it replaced is
//! current on all nodes, or in an archive.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use super::{Invariant, Machines, SHARE, STATE, acknowledged};
use crate::failure::Failure;
use crate::fs::{Leaf, Tree};
use crate::shared::{Shared, lock};

/// The hash of each file of each node.
pub(crate) fn contents(
    shared: &Shared,
    machines: &Machines,
) -> Vec<BTreeMap<Vec<u8>, ContentHash>> {
    let of = |machine: &std::sync::Arc<crate::machine::Machine>| {
        let tree = lock(&machine.disk).tree(SHARE.as_bytes()).unwrap_or_default();
        hashes(shared, tree)
    };
    machines.iter().map(of).collect()
}

/// How many uploads are lost, and the first of them. `current`: what [`contents`] found.
pub(crate) fn lost(
    shared: &Shared,
    machines: &Machines,
    current: &[BTreeMap<Vec<u8>, ContentHash>],
    now_ns: u64,
    allowed: u64,
) -> Result<u64, Failure> {
    let mut archived = BTreeSet::new();
    for machine in machines {
        // One archive a share, wherever below the state directory it is.
        let state = lock(&machine.disk).tree(STATE.as_bytes()).unwrap_or_default();
        let archive = state.into_iter().filter(|(path, _)| {
            path.split(|byte| *byte == b'/').any(|component| component == b"archive")
        });
        let archive: Tree = archive.collect();
        archived.extend(hashes(shared, archive).into_values());
    }
    let oracle = lock(&shared.oracle);
    let is_everywhere =
        |path: &[u8], hash: &ContentHash| current.iter().all(|tree| tree.get(path) == Some(hash));
    // It was renamed on two nodes, on one of them there and back before anybody looked: then the other
    // name is its name. That the one it lost comes back is S4's affair.
    let is_renamed = |hash: &ContentHash| {
        let mut names = current.first().into_iter().flatten().filter(|(_, held)| *held == hash);
        names.any(|(path, _)| {
            let put = oracle.ledger.of(path, hash).iter().any(|fact| fact.what.puts());
            put && is_everywhere(path, hash)
        })
    };
    let is_lost = |upload: &&crate::oracle::Upload| {
        let hash = &upload.hash;
        !is_everywhere(&upload.path, hash) && !archived.contains(hash) && !is_renamed(hash)
    };
    let mut lost = oracle.standing().filter(is_lost);
    let Some(first) = lost.next() else { return Ok(0) };
    let count = 1 + lost.count() as u64;
    if count <= allowed {
        return Ok(count);
    }
    let finished = first.finished_ns.unwrap_or(now_ns);
    let holders: Vec<&str> = machines
        .iter()
        .zip(current)
        .filter(|(_, tree)| tree.get(&first.path) == Some(&first.hash))
        .map(|(machine, _)| machine.name.as_str())
        .collect();
    let holders = if holders.is_empty() { "nobody".to_owned() } else { holders.join(", ") };
    // Somebody had promised to keep it: then that promise is the broken one.
    let promised = acknowledged(&lock(&shared.frames));
    let promised = promised.contains(&(first.path.clone(), first.hash));
    let lost_power = oracle.ledger.lost_power();
    let (invariant, and) = match promised && lost_power {
        true => (Invariant::S5, "; a node had acknowledged it, and power was lost since"),
        false => (Invariant::S3, ""),
    };
    let sentence = format!(
        "{count} finished uploads are lost ({allowed} allowed); of the first one, finished on {}, \
         {holders} has the content, and no archive{and}",
        machines[first.node].name
    );
    Err(Failure::new(invariant, finished, sentence)
        .on(&machines[first.node].name)
        .at_path(&first.path))
}

fn hashes(shared: &Shared, tree: Tree) -> BTreeMap<Vec<u8>, ContentHash> {
    let digests = &mut lock(&shared.oracle).digests;
    tree.into_iter()
        .filter_map(|(path, leaf)| match leaf {
            Leaf::File { content, .. } => Some((path, digests.of(&content))),
            Leaf::Dir { .. } | Leaf::Symlink { .. } => None,
        })
        .collect()
}
