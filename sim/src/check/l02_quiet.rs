//! L2: once converged, nothing moves: no batches, no changes found, no writes into the tree.

use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::shared::lock;

/// What a node had done by some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    batches_sent: u64,
    changes: u64,
    applied: u64,
    tree_changes: u64,
}

pub(crate) fn activity(machines: &Machines) -> Vec<Activity> {
    machines
        .iter()
        .map(|machine| {
            let mut activity =
                Activity { tree_changes: lock(&machine.disk).tree_changes, ..Activity::default() };
            let shares = machine.status().map(|(_, status)| status.shares).unwrap_or_default();
            for share in shares {
                activity.batches_sent += share.counters.batches_sent;
                activity.changes += share.counters.changes;
                activity.applied += share.counters.applied;
            }
            activity
        })
        .collect()
}

pub(crate) fn quiet(
    machines: &Machines,
    before: &[Activity],
    after: &[Activity],
    now_ns: u64,
) -> Result<(), Failure> {
    for ((machine, before), after) in machines.iter().zip(before).zip(after) {
        if before != after {
            let sentence = format!(
                "the ring had converged and still something moved: before {before:?}, a few \
                 seconds later {after:?}"
            );
            return Err(Failure::new(Invariant::L2, now_ns, sentence).on(&machine.name));
        }
    }
    Ok(())
}
