//! L3: nothing is left in staging.

use std::time::Duration;

use super::{Invariant, Machines, SHARE};
use crate::failure::Failure;
use crate::fs::{Leaf, Tree};
use crate::shared::lock;

/// Large files that were displaced: kept for a minute, in case they come back under another name.
const SPARE: &[u8] = b"spare-";
/// They are gone after a minute, and a few seconds until somebody looks.
const SPARES_KEPT: Duration = Duration::from_secs(70);
/// What a failing disk did not remove is tried again every five seconds.
const DISCARDED_AGAIN: Duration = Duration::from_secs(6);

pub(crate) fn leftovers(machines: &Machines, now_ns: u64) -> Result<(), Failure> {
    for machine in machines {
        let tree = staging(machine);
        let mut left = tree.iter().filter(|(_, leaf)| !matches!(leaf, Leaf::Dir { .. }));
        if let Some((path, _)) = left.next() {
            let count = 1 + left.count();
            let sentence = format!("{count} files are left in staging");
            return Err(Failure::new(Invariant::L3, now_ns, sentence)
                .on(&machine.name)
                .at_path(path));
        }
    }
    Ok(())
}

/// How long it may take until staging has been emptied. `refused`: a disk has refused something, and
/// that may have been a removal; of a name that is not there, too.
pub(crate) fn staged_for(machines: &Machines, refused: bool) -> Duration {
    let staged: Vec<_> = machines.iter().flat_map(|machine| staging(machine).into_keys()).collect();
    if staged.iter().any(|name| name.starts_with(SPARE)) {
        SPARES_KEPT
    } else if refused {
        DISCARDED_AGAIN
    } else {
        Duration::ZERO
    }
}

pub(super) fn staging(machine: &crate::machine::Machine) -> Tree {
    let staging = format!("{SHARE}/.chainsync/staging");
    lock(&machine.disk).tree(staging.as_bytes()).unwrap_or_default()
}
