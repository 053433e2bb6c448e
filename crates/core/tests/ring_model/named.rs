//! The counterexamples of the protocol's review as event lists. Each passes with the rules as they
//! are, and is caught with its one rule switched off.

use crate::check::Violation;
use crate::event::Event;
use crate::node::Node;
use crate::oracle::{Edit, edit_of};
use crate::rules::Rules;
use crate::run;
use crate::world::{World, name};

const P: usize = 0;
const Q: usize = 1;

fn write(node: usize, path: usize) -> Event {
    Event::Edit { node, path, delete: false, noticed: true }
}

fn delete(node: usize, path: usize) -> Event {
    Event::Edit { node, path, delete: true, noticed: true }
}

fn write_unnoticed(node: usize, path: usize) -> Event {
    Event::Edit { node, path, delete: false, noticed: false }
}

/// A link is opened and brings one batch.
fn deliver(from: usize, to: usize, entries: usize, published: bool) -> Vec<Event> {
    vec![
        Event::Connect { from, to },
        Event::Send { from, to, entries },
        Event::Receive { from, to, published },
    ]
}

/// The check that a run fails, if it does.
fn failed(result: Result<World, Violation>) -> Option<&'static str> {
    result.err().map(|violation| violation.check)
}

fn held(node: &Node, path: usize) -> Option<Edit> {
    node.records.get(&name(path)).map(|record| edit_of(&record.kind))
}

#[test]
fn a1_knowledge_in_the_middle_of_a_pass_covers_what_was_superseded() {
    let mut events = vec![write(0, P), write(0, Q), write(0, P)];
    events.extend(deliver(0, 1, 1, true));
    assert_eq!(failed(run(Rules::default(), 2, &events)), None);
    let broken = Rules { knowledge_at_pass_end: false, ..Rules::default() };
    assert_eq!(failed(run(broken, 2, &events)), Some("SKIP"));
}

#[test]
fn a2_a_restored_index_uses_its_counters_again() {
    let mut events = vec![Event::Snapshot { node: 0 }, write(0, P)];
    events.extend(deliver(0, 1, 1, true));
    events.extend([Event::Restore { node: 0 }, write(0, Q)]);
    assert_eq!(failed(run(Rules::default(), 2, &events)), None);
    let broken = Rules { new_replica_after_start: false, ..Rules::default() };
    assert_eq!(failed(run(broken, 2, &events)), Some("SKIP"));
}

#[test]
fn a3_a_bare_cursor_survives_the_restore_of_its_upstream() {
    let (upstream, downstream, author) = (0, 1, 2);
    let mut events = vec![Event::Snapshot { node: upstream }, write(author, P)];
    events.extend(deliver(author, upstream, 1, true));
    events.extend(deliver(upstream, downstream, 1, true));
    events.push(Event::Restore { node: upstream });
    // In the journal that goes on from the snapshot, q takes the sequence that p had.
    events.extend([write(author, Q), write(author, P)]);
    events.extend(deliver(author, upstream, 2, true));
    events.extend(deliver(upstream, downstream, 2, true));
    assert_eq!(failed(run(Rules::default(), 3, &events)), None);
    let broken = Rules { cursor_tags: false, ..Rules::default() };
    assert_eq!(failed(run(broken, 3, &events)), Some("SKIP"));
}

#[test]
fn a4_an_edit_noticed_late_does_not_follow_what_came_in_between() {
    let (late, other) = (0, 1);
    let mut events = vec![write(late, P)];
    events.extend(deliver(late, other, 1, true));
    events.extend([write_unnoticed(late, P), write(other, P)]);
    events.extend(deliver(other, late, 1, false));
    events.push(Event::Ingest { node: late, path: P });
    let world = run(Rules::default(), 2, &events).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!(held(&world.nodes[late], P), Some(2), "the younger edit");
    assert!(world.oracle.archived.contains(&(late, 1)), "the older one is kept");
    let broken = Rules { base_is_published: false, ..Rules::default() };
    assert_eq!(failed(run(broken, 2, &events)), Some("OLDER-WINS"));
}

#[test]
fn a5_an_entry_that_cannot_be_published_is_recorded_all_the_same() {
    let mut events = vec![write(0, P)];
    events.extend(deliver(0, 1, 1, false));
    assert_eq!(failed(run(Rules::default(), 2, &events)), None);
    let broken = Rules { unpublished_is_recorded: false, ..Rules::default() };
    assert_eq!(failed(run(broken, 2, &events)), Some("SKIP"));
}

#[test]
fn b1_a_lost_edit_is_a_conflict_on_the_node_that_made_it() {
    let (deleter, author) = (0, 2);
    let mut events = vec![write(deleter, P), Event::Round { entries: 3 }];
    events.extend([write(author, P), delete(deleter, P)]);
    // One hop for the edit, two for the deletion.
    events.extend(deliver(author, deleter, 3, true));
    let world = run(Rules::default(), 3, &events).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!(held(&world.nodes[author], P), Some(2), "the deletion is younger");
    assert!(world.oracle.archived.contains(&(author, 1)));
    let broken = Rules { versions_are_immutable: false, ..Rules::default() };
    assert_eq!(failed(run(broken, 3, &events)), Some("LOST"));
}

/// Seen by the middle node's successor only, then forgotten there: an import knows no ancestors.
#[test]
fn r1_an_import_gives_way_to_its_own_ancestor_until_its_author_is_heard() {
    let (lost, behind, author) = (0, 1, 2);
    let mut events = vec![write(lost, P), Event::Round { entries: 1 }, write(author, P)];
    events.extend(deliver(author, lost, 1, true));
    events.push(Event::LoseIndex { node: lost });
    events.extend(deliver(behind, lost, 1, true));
    let world = run(Rules::default(), 3, &events).unwrap_or_else(|it| panic!("{it}"));
    assert!(world.oracle.archived.contains(&(lost, 1)), "what gave way is kept");
    assert_eq!(held(&world.nodes[lost], P), Some(1), "the author's version wins in the end");
}
