//! One triple, asked of core and of the reference.

use chainsync_core::decide::{Action, change_version, decide};
use chainsync_core::disk::Stat;
use chainsync_core::entry::{Entry, Kind, Merge, merge};
use chainsync_core::record::{Published, Record};
use chainsync_core::version::{Dot, Version};

use crate::generate::{ROOT_DEVICE, Triple};
use crate::reference;

/// What is compared; each function can be put in a mutant's place.
pub(crate) struct Core {
    pub(crate) decide: fn(Option<&Record>, Option<&Stat>, Option<&Entry>) -> Action,
    pub(crate) merge: fn((&Kind, &Version), (&Kind, &Version)) -> Merge,
    pub(crate) change: fn(Option<&Record>, u64, Dot) -> Version,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            decide: |record, disk, incoming| decide(record, disk, incoming, ROOT_DEVICE),
            merge: |known, incoming| merge(Some(known), incoming),
            change: |record, made_ms, dot| {
                let published = record.and_then(Record::published);
                change_version(published.as_ref(), made_ms, dot.replica, dot.counter)
            },
        }
    }
}

/// The decision; the change that would be recorded; and who wins, between what is known, what
/// arrives and that change.
pub(crate) fn compare(core: &Core, triple: &Triple) -> Result<(), String> {
    let Triple { record, disk, incoming, made_ms, dot } = triple;
    let (record, disk, incoming) = (record.as_ref(), disk.as_ref(), incoming.as_ref());
    let published: Option<Published> = record.and_then(Record::published);
    let known = record.map(|record| (&record.kind, &record.version));

    let action = (core.decide)(record, disk, incoming);
    let expected = reference::decide(known, published.as_ref(), disk, incoming, ROOT_DEVICE);
    same("decide", &action, &expected)?;

    let change = (core.change)(record, *made_ms, *dot);
    let expected = reference::change(published.as_ref().map(|it| &it.version), *made_ms, *dot);
    same("change", &change, &expected)?;

    let (Some(known), Some(incoming)) = (known, incoming) else { return Ok(()) };
    let incoming = (&incoming.kind, &incoming.version);
    // What the change shows is of no matter here: the peer's kind will do.
    let change = (incoming.0, &change);
    let (mine, theirs) = ((known, incoming), (incoming, known));
    for (held, new) in [mine, theirs, (known, change), (change, incoming)] {
        same("merge", &(core.merge)(held, new), &reference::merge(Some(held), new))?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, core: &T, expected: &T) -> Result<(), String> {
    if core == expected {
        return Ok(());
    }
    Err(format!("{what}: core says {core:?}, the reference {expected:?}"))
}
