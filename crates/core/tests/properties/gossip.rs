//! Rows: the newest of each member stays, whatever way and order they come in.

use std::collections::BTreeMap;

use chainsync_core::NodeName;
use chainsync_core::gossip::{ReceiverKnows, Row, RowId, Rows};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::generate::{entry, knowledge, replica, vector};

pub(crate) fn node() -> impl Strategy<Value = NodeName> {
    prop_oneof![Just("apollo"), Just("chronos"), Just("hermes")]
        .prop_map(|name| NodeName::new(name).unwrap())
}

fn row_id() -> impl Strategy<Value = RowId> {
    (1..3_u64, 0..3_u64).prop_map(|(run, number)| RowId { run, number })
}

prop_compose! {
    fn plain_row()(
        id in row_id(),
        revision in 0..2_u64,
        authors in vec(replica(), 0..3),
        knowledge in knowledge(),
        applied in vector(),
        (pending, problems, conflicts) in any::<(u64, u64, u64)>(),
        unread in any::<bool>(),
        passing in any::<bool>(),
        halted in option::of("[a-zäö]{0,8}"),
        successor in option::of(node()),
        heard in btree_map(node(), row_id(), 0..4),
    ) -> Row {
        Row {
            id, revision, authors, knowledge, applied, pending, problems, conflicts, unread, passing,
            halted, successor, heard,
        }
    }
}

pub(crate) fn row() -> BoxedStrategy<Row> {
    plain_row().boxed()
}

proptest! {
    #[test]
    fn the_newest_row_of_each_member_stays(said in vec((node(), row()), 0..12)) {
        let mut rows = Rows::default();
        let mut newest: BTreeMap<NodeName, Row> = BTreeMap::new();
        for (node, row) in said {
            let news = newest.get(&node).is_none_or(|held| held.age() < row.age());
            prop_assert_eq!(rows.update(&node, row.clone()), news);
            if news {
                newest.insert(node.clone(), row.clone());
            }
            prop_assert!(!rows.update(&node, row), "a repetition is no news");
        }
        let held: BTreeMap<NodeName, Row> =
            rows.iter().map(|(node, row)| (node.clone(), row.clone())).collect();
        prop_assert_eq!(&held, &newest);
        let heard: BTreeMap<NodeName, RowId> =
            newest.iter().map(|(node, row)| (node.clone(), row.id)).collect();
        prop_assert_eq!(rows.heard(), heard);
        rows.retain(|node| node.as_str() == "apollo");
        prop_assert!(rows.iter().all(|(node, _)| node.as_str() == "apollo"));
    }

    #[test]
    fn a_row_of_a_former_run_is_no_echo(row in row(), node in node(), id in row_id()) {
        let echo = row.heard.get(&node).copied();
        prop_assert_eq!(
            row.is_after(&node, id),
            echo.is_some_and(|heard| heard.run == id.run && heard.number >= id.number)
        );
    }

    #[test]
    fn a_receiver_is_spared_what_it_said_it_has(
        said in vec(row(), 0..4),
        acknowledged in vec(knowledge(), 0..3),
        entry in entry(),
    ) {
        let mut receiver = ReceiverKnows::default();
        said.iter().for_each(|row| receiver.hear_row(row));
        acknowledged.iter().for_each(|knowledge| receiver.hear_knowledge(knowledge));
        let dot = entry.version.dot;
        let known = said.iter().map(|row| &row.knowledge).chain(&acknowledged);
        let known = known.into_iter().any(|knowledge| knowledge.covers(&dot));
        // Of its newest row, the first to come: replicas of a former run are not its own any more.
        let newest = said.iter().map(|row| row.id).max();
        let newest = said.iter().find(|row| Some(row.id) == newest);
        let authored = newest.is_some_and(|row| row.authors.contains(&dot.replica));
        prop_assert_eq!(receiver.covers(&entry), known || authored);
    }

    #[test]
    fn a_silent_receiver_is_spared_nothing(entry in entry()) {
        prop_assert!(!ReceiverKnows::default().covers(&entry));
    }
}
