//! The two records of a path, known and published, and their one stored form.

use chainsync_core::entry::Entry;
use chainsync_core::record::{Identity, Published, Record};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::generate::{entry, identity, published, stat, time_ns};

#[derive(Debug, Clone)]
enum Step {
    Supersede(Entry),
    Publish(Published),
    PublishKnown(Option<Identity>),
    SupersedeByPublished,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        entry().prop_map(Step::Supersede),
        published().prop_map(Step::Publish),
        option::of(identity()).prop_map(Step::PublishKnown),
        Just(Step::SupersedeByPublished),
    ]
}

proptest! {
    #[test]
    fn a_record_holds_what_was_last_known_and_last_published(
        first in entry(),
        steps in vec(step(), 0..8),
    ) {
        let mut record = Record::new(&first, 1);
        // The same as two plain variables.
        let (mut known, mut published): (Entry, Option<Published>) = (first.clone(), None);
        for (index, step) in steps.into_iter().enumerate() {
            let sequence = index as u64 + 2;
            let before = record.sequence;
            let expected_sequence = match step {
                Step::Supersede(entry) => {
                    known = Entry { path: first.path.clone(), ..entry };
                    record.supersede(&known, sequence);
                    sequence
                }
                Step::SupersedeByPublished => match published.clone() {
                    None => before,
                    Some(Published { kind, version, .. }) => {
                        known = Entry { path: first.path.clone(), kind, version };
                        record.supersede(&known, sequence);
                        sequence
                    }
                },
                Step::Publish(now) => {
                    record.publish(now.clone());
                    published = Some(now);
                    before
                }
                Step::PublishKnown(identity) => {
                    let Entry { kind, version, .. } = known.clone();
                    let now = Published { kind, version, identity };
                    record.publish(now.clone());
                    published = Some(now);
                    before
                }
            };
            prop_assert_eq!(record.sequence, expected_sequence);
            prop_assert_eq!(record.entry(first.path.clone()), known.clone());
            prop_assert_eq!(record.published(), published.clone());
            let as_known = published.as_ref().is_some_and(|published| {
                (&published.kind, &published.version) == (&known.kind, &known.version)
            });
            prop_assert_eq!(record.is_published_as_known(), as_known);

            let bytes = postcard::to_allocvec(&record).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Record>(&bytes).unwrap(), record.clone());
        }
    }

    #[test]
    fn an_identity_is_settled_only_if_a_later_change_must_show(
        stat in stat(),
        looked_ns in time_ns(),
        tick_ns in 1..3_i128,
    ) {
        let identity = Identity::of(&stat, looked_ns, tick_ns);
        prop_assert!(identity.matches(&stat));
        // A change right after the look carries this ctime at the least.
        let next_ctime_ns = looked_ns.saturating_sub(tick_ns).saturating_add(1);
        if identity.settled {
            prop_assert!(next_ctime_ns > stat.ctime_ns);
        }
    }
}
