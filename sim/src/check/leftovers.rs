//! L3: nothing is left in staging.

use super::{Machines, SHARE};
use crate::failure::Failure;
use crate::fs::Leaf;
use crate::shared::lock;

pub(crate) fn leftovers(machines: &Machines, now_ns: u64) -> Result<(), Failure> {
    for machine in machines {
        let staging = format!("{SHARE}/.chainsync/staging");
        let Ok(tree) = lock(&machine.disk).tree(staging.as_bytes()) else { continue };
        let mut left = tree.iter().filter(|(_, leaf)| !matches!(leaf, Leaf::Dir { .. }));
        if let Some((path, _)) = left.next() {
            let count = 1 + left.count();
            let sentence = format!("{count} files are left in staging");
            return Err(Failure::new("L3", now_ns, sentence).on(&machine.name).at_path(path));
        }
    }
    Ok(())
}
