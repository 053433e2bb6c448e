//! The whole of a small world: every interleaving of up to four operations on two and three nodes,
//! batch by batch. At every end all nodes are equal, the greatest stamp is left, and what lost is
//! overwritten or in an archive; on the way all that `check.rs` looks at.
//!
//! `SMALL_WORLD=whole` adds the bounds that take minutes. How much was walked:
//! `cargo test -p chainsync-core --test ring_model exhaustive -- --nocapture`.
//!
//! Not in this world: clocks that are wrong or equal (see the `small_world` tests), cuts, lost and
//! restored indexes, which the arbitrary interleavings have.

use crate::explore::{Bounds, Counterexample, Explored, explore};
use crate::rules::Rules;

const TWO: Bounds = Bounds {
    nodes: 2,
    paths: 2,
    operations: 4,
    unpublished: false,
    late_acks: false,
    crash: false,
    reduced: true,
};
const THREE: Bounds = Bounds { nodes: 3, ..TWO };

fn hold(bounds: Bounds) -> Explored {
    match explore(Rules::default(), bounds) {
        Ok(explored) => {
            let Explored { states, steps, ends } = &explored;
            println!("{states:9} states, {steps:9} steps, {:4} ends: {bounds:?}", ends.len());
            assert!(!ends.is_empty());
            explored
        }
        Err(Counterexample { violation, events }) => panic!("{violation}\n{events:#?}"),
    }
}

fn whole_world() -> bool {
    std::env::var("SMALL_WORLD").is_ok_and(|asked| asked == "whole")
}

#[test]
fn four_operations_on_two_nodes() {
    hold(TWO);
}

#[test]
fn four_operations_on_three_nodes() {
    hold(Bounds { paths: 1, ..THREE });
    hold(Bounds { operations: 3, ..THREE });
    if whole_world() {
        hold(THREE);
    }
}

#[test]
fn operations_while_entries_wait_to_be_published() {
    hold(Bounds { operations: 3, unpublished: true, ..TWO });
    hold(Bounds { operations: 3, paths: 1, unpublished: true, ..THREE });
    if whole_world() {
        hold(Bounds { unpublished: true, ..TWO });
        hold(Bounds { operations: 3, unpublished: true, ..THREE });
    }
}

#[test]
fn operations_around_a_crash() {
    hold(Bounds { operations: 2, crash: true, ..TWO });
    hold(Bounds { operations: 2, paths: 1, crash: true, ..THREE });
    if whole_world() {
        hold(Bounds { operations: 3, crash: true, ..TWO });
        hold(Bounds { operations: 3, paths: 1, crash: true, ..THREE });
    }
}

#[test]
fn operations_while_acknowledgements_are_under_way() {
    hold(Bounds { operations: 3, paths: 1, late_acks: true, ..TWO });
    hold(Bounds { operations: 2, late_acks: true, ..THREE });
    if whole_world() {
        hold(Bounds { operations: 3, late_acks: true, ..TWO });
        hold(Bounds { operations: 3, paths: 1, late_acks: true, ..THREE });
    }
}

#[test]
fn what_is_left_out_would_end_the_same() {
    let two = Bounds { operations: 3, paths: 1, ..TWO };
    let three = Bounds { operations: 2, ..THREE };
    let crash = Bounds { operations: 2, paths: 1, crash: true, ..TWO };
    let unpublished = Bounds { operations: 2, unpublished: true, ..TWO };
    for bounds in [two, three, crash, unpublished] {
        let (reduced, all) = (hold(bounds), hold(Bounds { reduced: false, ..bounds }));
        assert!(reduced.states < all.states);
        assert_eq!(reduced.ends, all.ends, "{bounds:?}");
    }
}

#[test]
fn every_rule_that_is_switched_off_is_found() {
    let on = Rules::default();
    let unpublished = Bounds { unpublished: true, ..TWO };
    let plants = [
        ("A1", Rules { knowledge_at_pass_end: false, ..on }, TWO),
        ("A4", Rules { base_is_published: false, ..on }, unpublished),
        ("A5", Rules { unpublished_is_recorded: false, ..on }, unpublished),
        ("B1", Rules { versions_are_immutable: false, ..on }, THREE),
    ];
    for (rule, rules, bounds) in plants {
        let fewest = (1..=bounds.operations).find_map(|operations| {
            explore(rules, Bounds { operations, ..bounds }).err().map(|found| (operations, found))
        });
        let Some((operations, found)) = fewest else { panic!("nothing found without {rule}") };
        println!("{rule}: {operations} operations: {}", found.violation);
    }
}
