//! L2: once converged, nothing moves: no batches, no changes found, no writes to the disk.
//!
//! One thing is written all the same, and documented: once a minute a daemon notes in its index that
//! it was watching.

use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::shared::lock;

/// The minute's note, if it falls into the silence: one commit of the index, which syncs twice.
const INDEX_SYNCS_MAX: u64 = 2;

/// What a node had done by some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    batches_sent: u64,
    changes: u64,
    applied: u64,
    tree_changes: u64,
    /// Disk operations, those on the index apart.
    disk_operations: u64,
    /// Not compared, but limited.
    index_syncs: u64,
}

pub(crate) fn activity(machines: &Machines) -> Vec<Activity> {
    machines
        .iter()
        .map(|machine| {
            let mut activity = {
                let disk = lock(&machine.disk);
                let (index, files): (Vec<&str>, Vec<&str>) =
                    disk.operations().iter().partition(|call| call.ends_with("-index"));
                Activity {
                    tree_changes: disk.tree_changes,
                    disk_operations: files.len() as u64,
                    index_syncs: index.iter().filter(|call| **call == "sync-index").count() as u64,
                    ..Activity::default()
                }
            };
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
        if !is_quiet(before, after) {
            let sentence = format!(
                "the ring had converged and still something moved: before {before:?}, a few \
                 seconds later {after:?}"
            );
            return Err(Failure::new(Invariant::L2, now_ns, sentence).on(&machine.name));
        }
    }
    Ok(())
}

fn is_quiet(before: &Activity, after: &Activity) -> bool {
    let noted = Activity { index_syncs: after.index_syncs, ..before.clone() };
    noted == *after && after.index_syncs <= before.index_syncs + INDEX_SYNCS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_moves_is_seen() {
        let before = Activity { index_syncs: 10, ..Activity::default() };
        assert!(is_quiet(&before, &before));
        assert!(is_quiet(&before, &Activity { index_syncs: 12, ..before.clone() }));
        for after in [
            Activity { index_syncs: 13, ..before.clone() },
            Activity { batches_sent: 1, ..before.clone() },
            Activity { changes: 1, ..before.clone() },
            Activity { applied: 1, ..before.clone() },
            Activity { tree_changes: 1, ..before.clone() },
            Activity { disk_operations: 1, ..before.clone() },
        ] {
            assert!(!is_quiet(&before, &after), "{after:?}");
        }
    }
}
