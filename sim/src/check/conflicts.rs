//! As many conflicts as the scenario expects.

use super::{Invariant, Machines};
use crate::failure::Failure;

pub(crate) fn conflicts(machines: &Machines, now_ns: u64, expected: u64) -> Result<(), Failure> {
    let of = |machine: &crate::machine::Machine| -> u64 {
        let status = machine.status().map(|(_, status)| status.shares).unwrap_or_default();
        status.iter().map(|share| share.conflicts).sum()
    };
    let counts: Vec<u64> = machines.iter().map(|machine| of(machine)).collect();
    if counts.iter().sum::<u64>() == expected {
        return Ok(());
    }
    let each: Vec<String> = machines
        .iter()
        .zip(&counts)
        .map(|(machine, count)| format!("{}: {count}", machine.name))
        .collect();
    let sentence = format!("{expected} conflicts were expected, reported are {}", each.join(", "));
    Err(Failure::new(Invariant::Conflicts, now_ns, sentence))
}
