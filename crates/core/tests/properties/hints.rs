//! Hints may be widened, repeated and merged; they must never be lost.

use std::collections::BTreeMap;

use chainsync_core::RelPath;
use chainsync_core::hints::{Hints, Taken, Urgency};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::path;

#[derive(Debug, Clone)]
enum Step {
    Add(RelPath, Urgency),
    Everything,
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let urgency = prop_oneof![Just(Urgency::Started), Just(Urgency::Finished)];
    prop_oneof![
        8 => (path(), urgency).prop_map(|(path, urgency)| Step::Add(path, urgency)),
        1 => Just(Step::Everything),
        4 => (0..4_usize).prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn what_was_hinted_is_handed_out_once_and_never_lost(steps in vec(step(), 0..40)) {
        let mut hints = Hints::default();
        let mut waiting: BTreeMap<RelPath, Urgency> = BTreeMap::new();
        let mut everything = false;
        for step in steps {
            match step {
                Step::Add(path, urgency) => {
                    hints.add(path.clone(), urgency);
                    let held = waiting.entry(path).or_insert(urgency);
                    *held = (*held).max(urgency);
                }
                Step::Everything => {
                    hints.add_everything();
                    everything = true;
                }
                Step::Take(max) => match hints.take(max) {
                    Taken::Everything => {
                        prop_assert!(everything);
                        waiting.clear();
                        everything = false;
                    }
                    Taken::Paths(taken) => {
                        prop_assert!(!everything);
                        prop_assert_eq!(taken.len(), max.min(waiting.len()));
                        for (path, urgency) in taken {
                            let first = waiting.pop_first();
                            prop_assert_eq!(first, Some((path, urgency)), "in path order");
                        }
                    }
                },
            }
            prop_assert_eq!(hints.is_empty(), !everything && waiting.is_empty());
        }
    }
}
