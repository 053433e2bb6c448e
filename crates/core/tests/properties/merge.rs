//! The merge rule: whatever the order of arrival, the greatest stamp is left.

use chainsync_core::entry::{Kind, Merge, merge};
use chainsync_core::version::{Relation, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::generate::{kind, version};

type Entry = (Kind, Version);

fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Entry> {
    entries.into_iter().fold(None, merged)
}

fn merged(known: Option<Entry>, incoming: &Entry) -> Option<Entry> {
    let known_parts = known.as_ref().map(|(kind, version)| (kind, version));
    match merge(known_parts, (&incoming.0, &incoming.1)) {
        Merge::Wins { .. } => Some(incoming.clone()),
        Merge::Same | Merge::Loses { .. } => known,
    }
}

/// What a person would call the content: what is gone if nobody keeps it.
fn content(kind: &Kind) -> Option<Vec<u8>> {
    match kind {
        Kind::File { size: 0, .. } | Kind::Dir { .. } | Kind::Tombstone { .. } => None,
        Kind::File { hash, .. } => Some(hash.as_bytes().to_vec()),
        Kind::Symlink { target } => Some(target.clone()),
    }
}

proptest! {
    #[test]
    fn any_order_with_any_repetition_leaves_the_same_entry(
        entries in vec((kind(), version()), 1..6),
        again in vec(any::<Index>(), 0..12),
    ) {
        let left = fold(&entries);
        // The repetitions come first, so that every later arrival meets other knowns.
        let repeated = again.iter().map(|index| index.get(&entries)).chain(entries.iter().rev());
        prop_assert_eq!(&left, &fold(repeated));
        let greatest = entries.iter().map(|entry| entry.1.stamp).max();
        prop_assert_eq!(left.map(|entry| entry.1.stamp), greatest);
    }

    #[test]
    fn merge_is_associative(
        first in vec((kind(), version()), 0..4),
        second in vec((kind(), version()), 0..4),
    ) {
        let (left, right) = (fold(&first), fold(&second));
        let of_results = fold(left.iter().chain(right.iter()));
        prop_assert_eq!(of_results, fold(first.iter().chain(&second)));
    }

    #[test]
    fn both_sides_see_one_winner_and_the_same_conflict(
        mine in (kind(), version()),
        theirs in (kind(), version()),
    ) {
        let here = merge(Some((&mine.0, &mine.1)), (&theirs.0, &theirs.1));
        let there = merge(Some((&theirs.0, &theirs.1)), (&mine.0, &mine.1));
        let mirrored = match there {
            Merge::Same => Merge::Same,
            Merge::Wins { conflict } => Merge::Loses { conflict },
            Merge::Loses { conflict } => Merge::Wins { conflict },
        };
        prop_assert_eq!(here, mirrored);
    }

    #[test]
    fn a_conflict_is_a_concurrent_loss_of_a_content(
        mine in (kind(), version()),
        theirs in (kind(), version()),
    ) {
        let seen = |by: &Version, of: &Version| by.past.counter(of.dot.replica) >= of.dot.counter;
        let concurrent = mine.1.dot != theirs.1.dot
            && !seen(&mine.1, &theirs.1)
            && !seen(&theirs.1, &mine.1);
        let lost = |loser: &Kind, winner: &Kind| {
            content(loser).is_some_and(|lost| content(winner).is_none_or(|kept| kept != lost))
        };
        match merge(Some((&mine.0, &mine.1)), (&theirs.0, &theirs.1)) {
            Merge::Same => prop_assert_eq!(&mine.0, &theirs.0),
            Merge::Wins { conflict } => {
                prop_assert_eq!(conflict, concurrent && lost(&mine.0, &theirs.0));
            }
            Merge::Loses { conflict } => {
                prop_assert_eq!(conflict, concurrent && lost(&theirs.0, &mine.0));
            }
        }
    }

    #[test]
    fn relations_mirror(left in version(), mut right in version()) {
        // Of two versions, one can have been made after the other, not each after the other.
        if left.past.covers(&right.dot) {
            let counter = right.past.counter(left.dot.replica).min(left.dot.counter - 1);
            right.past.set(left.dot.replica, counter);
        }
        let mirrored = match right.relation(&left) {
            Relation::After => Relation::Before,
            Relation::Before => Relation::After,
            same => same,
        };
        prop_assert_eq!(left.relation(&right), mirrored);
    }
}

#[test]
fn a_first_entry_wins_without_a_conflict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&(kind(), version()), |(kind, version)| {
            prop_assert_eq!(merge(None, (&kind, &version)), Merge::Wins { conflict: false });
            Ok(())
        })
        .unwrap();
}
