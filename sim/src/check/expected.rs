//! What a scenario expects beside the promises that always hold: that what lost is more than a file in
//! an archive, and who wins.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::shared::{Shared, lock};

/// At most `allowed` uploads that nobody took back are in no tree any more, whatever archives hold.
/// `current`: what each node's tree holds.
pub(crate) fn visible(
    shared: &Shared,
    machines: &Machines,
    current: &[BTreeMap<Vec<u8>, ContentHash>],
    allowed: u64,
    now_ns: u64,
) -> Result<(), Failure> {
    let contents: Vec<BTreeSet<&ContentHash>> =
        current.iter().map(|tree| tree.values().collect()).collect();
    let oracle = lock(&shared.oracle);
    let mut hidden =
        oracle.standing().filter(|upload| !contents.iter().all(|tree| tree.contains(&upload.hash)));
    let Some(first) = hidden.next() else { return Ok(()) };
    let count = 1 + hidden.count() as u64;
    if count <= allowed {
        return Ok(());
    }
    let sentence = format!(
        "{count} finished uploads are in no tree ({allowed} allowed); the first was finished on {}",
        machines[first.node].name
    );
    Err(Failure::new(Invariant::Expected, now_ns, sentence)
        .on(&machines[first.node].name)
        .at_path(&first.path))
}

/// At each of these paths is, on all nodes, what was written on the node that is named.
pub(crate) fn won(
    shared: &Shared,
    machines: &Machines,
    current: &[BTreeMap<Vec<u8>, ContentHash>],
    winners: &BTreeMap<String, String>,
    now_ns: u64,
) -> Result<(), Failure> {
    let oracle = lock(&shared.oracle);
    for (path, winner) in winners {
        let is_theirs = |hash: &ContentHash| {
            let mut uploads = oracle.uploads.iter().filter(|upload| upload.hash == *hash);
            uploads.any(|upload| machines[upload.node].name == *winner)
        };
        let shown = current.iter().zip(machines);
        for (tree, machine) in shown {
            if tree.get(path.as_bytes()).is_none_or(|hash| !is_theirs(hash)) {
                let sentence = format!("what {winner} wrote was to win here, and it did not");
                return Err(Failure::new(Invariant::Expected, now_ns, sentence)
                    .on(&machine.name)
                    .at_path(path.as_bytes()));
            }
        }
    }
    Ok(())
}
