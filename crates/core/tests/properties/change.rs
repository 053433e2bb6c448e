//! A change beats what it was made to, whatever the clocks say, and is raised no further than that
//! takes (PROTOCOL A4).

use chainsync_core::decide::{Preferred, change_version, import_stamp, made_ms};
use chainsync_core::record::Published;
use chainsync_core::version::{Class, Relation, Stamp};
use proptest::option;
use proptest::prelude::*;

use crate::generate::{published, replica, stamp, stat, time_ns};

/// The place of a stamp in time, its author left out.
fn time(stamp: &Stamp) -> (Class, u64, u32) {
    (stamp.class, stamp.wall_ms, stamp.counter)
}

fn is_last(stamp: &Stamp) -> bool {
    (stamp.wall_ms, stamp.counter) == (u64::MAX, u32::MAX)
}

proptest! {
    #[test]
    fn a_change_is_stamped_when_it_was_made_or_just_above_its_base(
        wall_ms in prop_oneof![0..5_u64, Just(u64::MAX)],
        replica in replica(),
        base in option::of(stamp()),
    ) {
        let change = Stamp::of_change(wall_ms, replica, base.as_ref());
        let made = Stamp::made(wall_ms, replica);
        prop_assert_eq!(change.class, Class::Made);
        prop_assert_eq!(change.replica, replica);
        let Some(base) = base else {
            prop_assert_eq!(change, made);
            return Ok(());
        };
        if time(&made) > time(&base) {
            prop_assert_eq!(change, made);
        } else if is_last(&base) {
            prop_assert_eq!(time(&change), time(&base));
        } else {
            // The base's successor: nothing lies between the two.
            let next = base.counter.checked_add(1).map_or(
                (base.class, base.wall_ms.saturating_add(1), 0),
                |counter| (base.class, base.wall_ms, counter),
            );
            prop_assert_eq!(time(&change), next);
        }
        prop_assert!(change > base || is_last(&base), "{:?} {:?}", change, base);
    }

    #[test]
    fn raising_twice_is_raising_once(mine in stamp(), floor in stamp()) {
        let raised = mine.above(&floor);
        prop_assert!(raised >= mine || is_last(&floor));
        prop_assert_eq!(raised.replica, mine.replica);
        if !is_last(&floor) {
            prop_assert_eq!(raised.above(&floor), raised);
        }
    }

    #[test]
    fn changes_follow_one_another_whoever_makes_them_and_whatever_the_clock(
        first in option::of(published()),
        edits in proptest::collection::vec((0..5_u64, replica()), 1..6),
    ) {
        let mut published = first;
        for (counter, (wall_ms, replica)) in edits.into_iter().enumerate() {
            let counter = 100 + counter as u64;
            let version = change_version(published.as_ref(), wall_ms, replica, counter);
            prop_assert_eq!((version.dot.replica, version.dot.counter), (replica, counter));
            if let Some(base) = &published {
                prop_assert_eq!(version.relation(&base.version), Relation::After);
                prop_assert!(version.stamp > base.version.stamp);
                prop_assert!(version.past.includes(&base.version.past));
            } else {
                prop_assert!(version.past.is_empty());
            }
            let kind = chainsync_core::Kind::Tombstone { mode: None, owner: None };
            published = Some(Published { kind, version, identity: None });
        }
    }

    #[test]
    fn a_change_is_never_made_in_the_future(stat in stat(), now_ms in 0..5_u64) {
        prop_assert!(made_ms(&stat, now_ms) <= now_ms);
    }

    #[test]
    fn an_import_counts_as_made_only_if_nobody_set_its_mtime(
        stat in stat(),
        now_ms in 0..5_u64,
        tick_ns in time_ns(),
        replica in replica(),
    ) {
        let stamp = import_stamp(&stat, now_ms, tick_ns, replica, Preferred::Nobody);
        prop_assert!(stamp.wall_ms <= now_ms);
        prop_assert_eq!((stamp.counter, stamp.replica), (0, replica));
        if stat.mtime_ns == stat.ctime_ns {
            prop_assert_eq!(stamp, Stamp::made(made_ms(&stat, now_ms), replica));
        }
        let apart = stat.mtime_ns.abs_diff(stat.ctime_ns);
        if apart > 10_000_000 && apart > tick_ns.unsigned_abs() {
            prop_assert_eq!(stamp.class, Class::Imported);
        }
    }
}
