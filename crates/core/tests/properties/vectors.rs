//! The laws of version vectors and of knowledge: both are joined like sets of dots.

use chainsync_core::knowledge::{Knowledge, VersionVector};
use chainsync_core::version::{Dot, ReplicaId};
use proptest::prelude::*;

use crate::generate::{dot, knowledge, replica, vector};

/// Every dot that the small ranges of the generators can name.
fn dots() -> impl Iterator<Item = Dot> {
    (1..5)
        .flat_map(|replica| (1..7).map(move |counter| Dot { replica: ReplicaId(replica), counter }))
}

fn joined(left: &VersionVector, right: &VersionVector) -> VersionVector {
    let mut both = left.clone();
    both.join(right);
    both
}

fn known_together(left: &Knowledge, right: &Knowledge) -> Knowledge {
    let mut both = left.clone();
    both.join(right);
    both
}

proptest! {
    #[test]
    fn vectors_join_like_sets_of_dots(a in vector(), b in vector(), c in vector()) {
        let both = joined(&a, &b);
        for dot in dots() {
            prop_assert_eq!(both.covers(&dot), a.covers(&dot) || b.covers(&dot));
        }
        prop_assert_eq!(&both, &joined(&b, &a));
        prop_assert_eq!(joined(&both, &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(&joined(&a, &a), &a);
        prop_assert!(both.includes(&a) && both.includes(&b));
        let subset = dots().all(|dot| !b.covers(&dot) || a.covers(&dot));
        prop_assert_eq!(a.includes(&b), subset);
        prop_assert_eq!(a.includes(&b) && b.includes(&a), a == b);
    }

    #[test]
    fn vectors_meet_like_sets_of_dots(a in vector(), b in vector()) {
        let mut both = a.clone();
        both.meet(&b);
        for dot in dots() {
            prop_assert_eq!(both.covers(&dot), a.covers(&dot) && b.covers(&dot));
        }
        prop_assert!(both.iter().all(|(_, counter)| counter > 0), "counter 0 leaves no trace");
    }

    #[test]
    fn a_vector_covers_what_it_was_raised_to(a in vector(), dot in dot(), to in replica()) {
        let mut raised = a.clone();
        raised.raise(dot);
        prop_assert!(raised.covers(&dot));
        for other in dots().filter(|other| other.replica != dot.replica) {
            prop_assert_eq!(raised.covers(&other), a.covers(&other));
        }
        let mut unchanged = raised.clone();
        unchanged.raise(Dot { replica: to, counter: 0 });
        prop_assert_eq!(&unchanged, &raised, "counter 0 leaves no trace");
        raised.set(dot.replica, dot.counter - 1);
        prop_assert!(!raised.covers(&dot));
        prop_assert_eq!(raised.counter(dot.replica), dot.counter - 1);
        prop_assert!(raised.iter().all(|(_, counter)| counter > 0));
    }

    #[test]
    fn knowledge_joins_like_its_vector(a in knowledge(), b in knowledge(), c in knowledge()) {
        let both = known_together(&a, &b);
        prop_assert_eq!(both.to_vector(), joined(&a.to_vector(), &b.to_vector()));
        prop_assert_eq!(&known_together(&a, &a), &a);
        // In the tags too, joining is associative; it is not commutative: see `Knowledge::join`.
        prop_assert_eq!(known_together(&both, &c), known_together(&a, &known_together(&b, &c)));
        prop_assert!(both.includes(&a) && both.includes(&b));
        prop_assert_eq!(a.includes(&b), a.to_vector().includes(&b.to_vector()));
        for dot in dots() {
            prop_assert_eq!(a.covers(&dot), a.to_vector().covers(&dot));
        }
    }

    #[test]
    fn a_fork_is_one_counter_with_two_tags(a in knowledge(), b in knowledge()) {
        let forks: Vec<ReplicaId> = a.forks(&b).collect();
        prop_assert_eq!(&forks, &b.forks(&a).collect::<Vec<_>>());
        for replica in (1..5).map(ReplicaId) {
            let forked = match (a.recorded(replica), b.recorded(replica)) {
                (Some(mine), Some(theirs)) => {
                    mine.counter == theirs.counter && mine.tag != theirs.tag
                }
                _ => false,
            };
            prop_assert_eq!(forks.contains(&replica), forked);
        }
        // Without a fork the order of joining does not show.
        let (ours, theirs) = (known_together(&a, &b), known_together(&b, &a));
        prop_assert_eq!(forks.is_empty(), ours == theirs);
        // A fork is not hidden by joining.
        prop_assert_eq!(ours.forks(&b).collect::<Vec<_>>(), forks);
    }

    #[test]
    fn what_is_missing_is_counted(a in knowledge(), b in vector()) {
        let missing = dots().filter(|dot| b.covers(dot) && !a.covers(dot)).count();
        prop_assert_eq!(a.missing_from(&b), missing as u64);
    }

    #[test]
    fn vectors_survive_storage(a in vector(), b in knowledge()) {
        let bytes = postcard::to_allocvec(&(&a, &b)).unwrap();
        prop_assert_eq!(postcard::from_bytes(&bytes), Ok((a, b)));
    }
}

#[test]
fn a_huge_gap_is_counted_without_overflow() {
    let far = [1, 2, 3].map(|replica| (ReplicaId(replica), u64::MAX)).into_iter().collect();
    assert_eq!(Knowledge::new().missing_from(&far), u64::MAX);
}

#[test]
fn a_stored_zero_counter_is_dropped() {
    let bytes = postcard::to_allocvec(&[(1_u64, 0_u64), (2, 7)][..]).unwrap();
    let vector: VersionVector = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(vector, [(ReplicaId(2), 7)].into_iter().collect());
}

#[test]
fn an_endless_vector_is_not_decoded() {
    let counters: Vec<(u64, u64)> = (0..100_000).map(|replica| (replica, 1)).collect();
    let bytes = postcard::to_allocvec(&counters).unwrap();
    assert!(postcard::from_bytes::<VersionVector>(&bytes).is_err());
}
