//! `bypass-within`: when nodes die, hang or are cut off, uploads made from then on still reach in time
//! everybody who can be reached.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::oracle::Upload;
use crate::scenario::Reaches;
use crate::shared::{Shared, lock};

/// A moment from which fewer nodes reach each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    pub at_ns: u64,
    /// For the report: `chronos died`.
    pub what: String,
    /// Living nodes that all reach each other.
    pub parts: Vec<BTreeSet<usize>>,
}

pub(crate) fn bypassed(
    shared: &Shared,
    machines: &Machines,
    disturbances: &[Disturbance],
    within: Duration,
) -> Result<(), Failure> {
    let within_ns = within.as_nanos() as u64;
    let oracle = lock(&shared.oracle);
    for Disturbance { at_ns, what, parts } in disturbances {
        let until_ns = at_ns + within_ns;
        // Who dies or is cut off as well before the time is up is excused, and its uploads with it.
        let later = disturbances.iter().filter(|other| (*at_ns..until_ns).contains(&other.at_ns));
        let parts = later.fold(parts.clone(), |parts, other| split(&parts, &other.parts));
        let finished = |upload: &&Upload| {
            upload.finished_ns.is_some_and(|at| (*at_ns..until_ns).contains(&at))
        };
        let mut judged = false;
        for part in &parts {
            for node in part {
                let due = oracle
                    .uploads
                    .iter()
                    .filter(finished)
                    .filter(|upload| upload.node != *node && part.contains(&upload.node));
                let mut due = due.peekable();
                if due.peek().is_none() {
                    continue;
                }
                judged = true;
                let arrived = due.filter_map(|upload| upload.published_ns[*node]).min();
                if arrived.is_none_or(|arrived| arrived > until_ns) {
                    let name = &machines[*node].name;
                    let sentence = format!(
                        "{what}, and of what was uploaded from then on nothing reached {name} \
                         within {within:?}"
                    );
                    return Err(Failure::new(Invariant::Bypass, until_ns, sentence).on(name));
                }
            }
        }
        if !judged {
            let sentence = format!(
                "nothing was uploaded within {within:?} after {what}: the scenario cannot show \
                 `bypass-within`"
            );
            return Err(Failure::new(Invariant::Bypass, *at_ns, sentence));
        }
    }
    Ok(())
}

/// `reaches`: what is uploaded on some nodes is on all of these in time, whatever becomes of the others.
pub(crate) fn reached(
    shared: &Shared,
    machines: &Machines,
    reaches: &Reaches,
) -> Result<(), Failure> {
    let within = reaches.within.0;
    let is_one = |node: usize| reaches.nodes.contains(&machines[node].name);
    let oracle = lock(&shared.oracle);
    let mut judged = false;
    for upload in oracle.uploads.iter().filter(|upload| is_one(upload.node) && !upload.replaced) {
        let Some(finished_ns) = upload.finished_ns else { continue };
        let until_ns = finished_ns + within.as_nanos() as u64;
        judged = true;
        let late = machines.iter().find(|machine| {
            let arrived = upload.published_ns[machine.index];
            machine.index != upload.node
                && is_one(machine.index)
                && arrived.is_none_or(|arrived| arrived > until_ns)
        });
        if let Some(machine) = late {
            let sentence = format!(
                "an upload finished on {} did not reach {} within {within:?}",
                machines[upload.node].name, machine.name
            );
            let failure = Failure::new(Invariant::Bypass, until_ns, sentence);
            return Err(failure.on(&machine.name).at_path(&upload.path));
        }
    }
    if judged {
        return Ok(());
    }
    let sentence = "nothing was uploaded: the scenario cannot show `reaches`";
    Err(Failure::new(Invariant::Bypass, 0, sentence))
}

/// Of the living nodes those that all reach each other. `cut`: pairs between which something is lost, in
/// one direction or the other.
pub(crate) fn parts(
    mut living: BTreeSet<usize>,
    cut: &BTreeSet<(usize, usize)>,
) -> Vec<BTreeSet<usize>> {
    let is_cut = |one, other| cut.contains(&(one, other)) || cut.contains(&(other, one));
    let mut parts = Vec::new();
    while let Some(first) = living.first().copied() {
        let part: BTreeSet<usize> =
            living.iter().copied().filter(|node| !is_cut(first, *node)).collect();
        living.retain(|node| !part.contains(node));
        let whole = part.iter().all(|one| part.iter().all(|other| !is_cut(*one, *other)));
        if whole && part.len() > 1 {
            parts.push(part);
        }
    }
    parts
}

/// The parts that are together in both.
pub(crate) fn split(left: &[BTreeSet<usize>], right: &[BTreeSet<usize>]) -> Vec<BTreeSet<usize>> {
    let pairs = left.iter().flat_map(|left| right.iter().map(move |right| (left, right)));
    let common = pairs.map(|(left, right)| left.intersection(right).copied().collect());
    common.filter(|part: &BTreeSet<usize>| part.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_split_by_what_happens_next() {
        let set = |nodes: &[usize]| nodes.iter().copied().collect::<BTreeSet<usize>>();
        let first = [set(&[0, 2, 3, 4])];
        assert_eq!(split(&first, &[set(&[0, 3, 4])]), [set(&[0, 3, 4])]);
        assert_eq!(split(&first, &[set(&[0, 1, 2]), set(&[3, 4])]), [set(&[0, 2]), set(&[3, 4])]);
        assert_eq!(split(&first, &[set(&[0]), set(&[1, 3])]), Vec::<BTreeSet<usize>>::new());
    }
}
