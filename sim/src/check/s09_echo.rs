//! S9: a daemon's own writes are no changes, and each content crosses each link once.
//!
//! Judged by the counters of daemons that lived through the whole run: a restart begins them anew.

use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::shared::{Shared, lock};

/// `healthy`: no fault at all, so that a content has no reason to be sent twice.
pub(crate) fn echo(
    shared: &Shared,
    machines: &Machines,
    now_ns: u64,
    healthy: bool,
) -> Result<(), Failure> {
    for (index, machine) in machines.iter().enumerate() {
        if machine.starts() != 1 {
            continue;
        }
        let Some((_, status)) = machine.status() else { continue };
        let calls = lock(&machine.disk).jobs.calls;
        for share in &status.shares {
            let changes = share.counters.changes;
            // Each call of the web application may show as a change of its own, at most.
            if changes > calls {
                let sentence = format!(
                    "the daemon found {changes} changes, and the web application made {calls} \
                     calls: it took its own writes for changes"
                );
                return Err(Failure::new(Invariant::S9, now_ns, sentence).on(&machine.name));
            }
            let successor = (index + 1) % machines.len();
            let due = contents_for(shared, successor);
            let sent = share.counters.contents_sent;
            if healthy && sent > due {
                let sentence = format!(
                    "the daemon sent {sent} contents to its successor, which lacked {due}: some \
                     crossed the link twice or went back to their origin"
                );
                return Err(Failure::new(Invariant::S9, now_ns, sentence).on(&machine.name));
            }
        }
    }
    Ok(())
}

/// Contents that a node has to get from its predecessor: everything not written there. One whose name
/// or mode is changed may be met under each of them.
fn contents_for(shared: &Shared, node: usize) -> u64 {
    let oracle = lock(&shared.oracle);
    // What was renamed elsewhere is new there.
    let uploads = oracle.uploads.iter();
    let uploads = uploads.filter(|upload| upload.node != node || upload.named_elsewhere);
    uploads.map(|upload| upload.versions).sum()
}
