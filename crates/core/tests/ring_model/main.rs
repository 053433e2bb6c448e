//! The protocol as a model: rings of 2 to 5 nodes built from core's functions alone, driven through
//! arbitrary interleavings of edits, deliveries, cuts, crashes, lost and restored indexes, then healed
//! to a plain ring.
//!
//! One event is one atomic commit. Checked all along: knowledge never covers what is not recorded,
//! equal knowledge is equal state, nothing is replaced by its own ancestor. After healing: quiet, the
//! same state and knowledge everywhere, no older edit over a younger one.
//!
//! Not modelled: collected tombstones, directories, policies, contents on their way, a crash between
//! a disk step and its commit. A lost index and a restored one never meet in one run: there the
//! documented residual R1 begins (an unsent edit on the very node that lost its index).

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod canonical;
mod check;
mod event;
mod exhaustive;
mod explore;
mod link;
mod named;
mod node;
mod oracle;
mod reduce;
mod rules;
mod search;
mod world;

use proptest::prelude::*;

use event::{Event, Fault, plan};
use rules::Rules;
use world::World;

/// Some ten seconds in a debug build; `PROPTEST_CASES` asks for more.
const CASES: u32 = 700;

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { CASES };
    ProptestConfig { cases, ..default }
}

fn run(rules: Rules, nodes: usize, events: &[Event]) -> Result<World, check::Violation> {
    let mut world = World::new(rules, nodes);
    for event in events {
        world.step(event)?;
    }
    world.heal()?;
    Ok(world)
}

fn hold(nodes: usize, events: &[Event]) -> Result<(), TestCaseError> {
    match run(Rules::default(), nodes, events) {
        Ok(_) => Ok(()),
        Err(violation) => Err(TestCaseError::fail(violation.to_string())),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_ring_converges_through_cuts_and_crashes(
        nodes in 2..6_usize,
        events in plan(Fault::None),
    ) {
        hold(nodes, &events)?;
    }

    #[test]
    fn a_ring_converges_around_a_lost_index(nodes in 2..6_usize, events in plan(Fault::LostIndex)) {
        hold(nodes, &events)?;
    }

    #[test]
    fn a_ring_converges_around_a_restored_machine(
        nodes in 2..6_usize,
        events in plan(Fault::Restored),
    ) {
        hold(nodes, &events)?;
    }
}
