//! That the search can fail: with one rule switched off, it finds a counterexample by itself.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::event::{Fault, plan};
use crate::rules::Rules;
use crate::run;

/// Lists tried. With a rule off, 16 to 360 of a thousand fail.
const LISTS_MAX: usize = 500;

/// The check that the first failing list fails. Always the same lists, so this is never luck.
fn search(rules: Rules, fault: Fault) -> Option<&'static str> {
    let mut runner = TestRunner::deterministic();
    let (nodes, events) = (2..6_usize, plan(fault));
    (0..LISTS_MAX).find_map(|_| {
        let nodes = nodes.new_tree(&mut runner).unwrap().current();
        let events = events.new_tree(&mut runner).unwrap().current();
        run(rules, nodes, &events).err().map(|violation| violation.check)
    })
}

#[test]
fn every_rule_that_is_switched_off_is_found() {
    let on = Rules::default();
    let plants = [
        ("A1", Rules { knowledge_at_pass_end: false, ..on }, Fault::None),
        ("A2", Rules { new_replica_after_start: false, ..on }, Fault::Restored),
        ("A3", Rules { cursor_tags: false, ..on }, Fault::Restored),
        ("A4", Rules { base_is_published: false, ..on }, Fault::None),
        ("A5", Rules { unpublished_is_recorded: false, ..on }, Fault::None),
        ("B1", Rules { versions_are_immutable: false, ..on }, Fault::None),
    ];
    for (rule, rules, fault) in plants {
        assert!(search(rules, fault).is_some(), "nothing found without {rule}");
    }
}
