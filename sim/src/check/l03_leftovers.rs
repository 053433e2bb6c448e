//! L3: nothing is left in staging.

use super::{Invariant, Machines, SHARE};
use crate::failure::Failure;
use crate::fs::{Leaf, Tree};
use crate::shared::lock;

/// Large files that were displaced: kept for a minute, in case they come back under another name.
const SPARE: &[u8] = b"spare-";

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

/// Whether some of what is in staging is there for a minute only.
pub(crate) fn keeps_spares(machines: &Machines) -> bool {
    machines.iter().any(|machine| staging(machine).keys().any(|name| name.starts_with(SPARE)))
}

pub(super) fn staging(machine: &crate::machine::Machine) -> Tree {
    let staging = format!("{SHARE}/.chainsync/staging");
    lock(&machine.disk).tree(staging.as_bytes()).unwrap_or_default()
}
