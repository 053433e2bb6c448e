//! `bypass-within`: when a node dies, uploads made from then on still reach all others in time.

use std::time::Duration;

use super::Machines;
use crate::failure::Failure;
use crate::oracle::Upload;
use crate::shared::{Shared, lock};

/// A node's death, and its return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    pub node: usize,
    pub at_ns: u64,
    pub back_ns: Option<u64>,
}

pub(crate) fn bypassed(
    shared: &Shared,
    machines: &Machines,
    deaths: &[Death],
    within: Duration,
) -> Result<(), Failure> {
    let within_ns = within.as_nanos() as u64;
    let oracle = lock(&shared.oracle);
    for death in deaths {
        let until_ns = death.at_ns + within_ns;
        let made = |upload: &&Upload| {
            upload.node != death.node
                && upload.finished_ns.is_some_and(|at| (death.at_ns..until_ns).contains(&at))
        };
        let name = &machines[death.node].name;
        if !oracle.uploads.iter().any(|upload| made(&upload)) {
            let sentence = format!(
                "nothing was uploaded within {within:?} after the death of {name}: the scenario \
                 cannot show `bypass-within`"
            );
            return Err(Failure::new("bypass", death.at_ns, sentence).on(name));
        }
        for alive in (0..machines.len()).filter(|node| *node != death.node) {
            let others = oracle.uploads.iter().filter(made).filter(|upload| upload.node != alive);
            let mut others = others.peekable();
            if others.peek().is_none() {
                continue;
            }
            let arrived = others.filter_map(|upload| upload.published_ns[alive]).min();
            if arrived.is_none_or(|arrived| arrived > until_ns) {
                let sentence = format!(
                    "{name} died, and of what was uploaded from then on nothing reached {} within \
                     {within:?}",
                    machines[alive].name
                );
                return Err(Failure::new("bypass", until_ns, sentence).on(&machines[alive].name));
            }
        }
    }
    Ok(())
}
