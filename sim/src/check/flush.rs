//! `flush`: it says yes only when every member has, on its disk, what had been finished on its node before
//! it was asked (PROTOCOL C2), and no member is passed over that was not named.

use std::collections::BTreeMap;
use std::time::Duration;

use chainsync_core::ContentHash;

use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::ledger::{Fact, What};
use crate::shared::{Shared, lock};

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flush {
    pub asked_ns: u64,
    /// Who is in the ring by the node's configuration.
    pub members: Vec<String>,
    pub within: Duration,
    pub live: bool,
    /// What has to be answered, if the scenario says so.
    pub expected: Option<bool>,
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    pub asked: Flush,
    pub node: usize,
    pub answered_ns: u64,
    pub complete: bool,
    /// Who lacks something, and why.
    pub reasons: Vec<String>,
    pub left_out: Vec<String>,
}

/// Judged by what is there in the end (`current`: each node's tree): whatever else a member may have had
/// instead, of that it had nothing greater.
pub(crate) fn flushed(
    shared: &Shared,
    machines: &Machines,
    current: &[BTreeMap<Vec<u8>, ContentHash>],
) -> Result<(), Failure> {
    let oracle = lock(&shared.oracle);
    let answers = machines.iter().flat_map(|machine| machine.flushed());
    for Flushed { asked, node, answered_ns, complete, reasons, left_out } in answers {
        let fails = |sentence: String| {
            Failure::new(Invariant::Flush, answered_ns, sentence).on(&machines[node].name)
        };
        if asked.expected.is_some_and(|expected| expected != complete) {
            let word = if complete { "complete" } else { "not complete" };
            return Err(fails(format!("`flush` says that it is {word}: {reasons:?}")));
        }
        if !complete {
            continue;
        }
        let asked_ns = asked.asked_ns;
        for upload in oracle.uploads.iter().filter(|upload| upload.node == node) {
            let before = upload.finished_ns.is_some_and(|finished| finished < asked_ns);
            if !before || current[node].get(&upload.path) != Some(&upload.hash) {
                continue;
            }
            let facts = oracle.ledger.of(&upload.path, &upload.hash);
            // It had its name by then, and has kept it.
            let is_named =
                |fact: &Fact| fact.what == What::Put && fact.node == node && fact.at_ns < asked_ns;
            if !facts.iter().any(is_named) || facts.iter().any(|fact| fact.what.takes()) {
                continue;
            }
            let lacks = machines.iter().find(|machine| {
                let has = |fact: &Fact| {
                    fact.node == machine.index
                        && fact.at_ns <= answered_ns
                        && (fact.what.puts() || fact.what == What::Published)
                };
                asked.members.contains(&machine.name)
                    && !left_out.contains(&machine.name)
                    && !facts.iter().any(has)
            });
            if let Some(machine) = lacks {
                let sentence = format!(
                    "`flush`, asked at {:.3} s, says that everybody has everything; {} lacks this",
                    Duration::from_nanos(asked_ns).as_secs_f64(),
                    machine.name
                );
                return Err(fails(sentence).at_path(&upload.path));
            }
        }
    }
    Ok(())
}
