//! Core with one bug each: that the comparison can fail.

use chainsync_core::decide::{Action, change_version, decide};
use chainsync_core::disk::Stat;
use chainsync_core::entry::{Kind, Merge, merge};
use chainsync_core::record::{Published, Record};
use chainsync_core::version::{Class, Version};

use crate::compare::Core;
use crate::generate::ROOT_DEVICE;

pub(crate) fn all() -> Vec<(&'static str, Core)> {
    let merging = |merge| Core { merge, ..Core::default() };
    let deciding = |decide| Core { decide, ..Core::default() };
    let changing = |change| Core { change, ..Core::default() };
    vec![
        (
            "what arrives wins a tie of stamps",
            merging(|known, incoming| match merge(Some(known), incoming) {
                Merge::Loses { conflict } if known.1.stamp == incoming.1.stamp => {
                    Merge::Wins { conflict }
                }
                verdict => verdict,
            }),
        ),
        (
            "the clock counts for more than the class",
            merging(|known, incoming| {
                let made = |version: &Version| {
                    let mut version = version.clone();
                    version.stamp.class = Class::Made;
                    version
                };
                merge(Some((known.0, &made(known.1))), (incoming.0, &made(incoming.1)))
            }),
        ),
        (
            "an overwritten ancestor is a conflict",
            merging(|known, incoming| match merge(Some(known), incoming) {
                Merge::Wins { .. } => Merge::Wins { conflict: known.0.content().is_some() },
                verdict => verdict,
            }),
        ),
        (
            "equal contents are a conflict",
            merging(|known, incoming| match merge(Some(known), incoming) {
                Merge::Loses { .. } => Merge::Loses { conflict: known.1.concurrent(incoming.1) },
                verdict => verdict,
            }),
        ),
        (
            "an empty file is worth the archive",
            merging(|known, incoming| match merge(Some(known), incoming) {
                Merge::Wins { .. } if matches!(known.0, Kind::File { size: 0, .. }) => {
                    Merge::Wins { conflict: known.1.concurrent(incoming.1) }
                }
                verdict => verdict,
            }),
        ),
        (
            "an unsettled identity is proof",
            deciding(|record, disk, incoming| {
                let settled = record.map(|record| with_published(record, settle));
                decide(settled.as_ref(), disk, incoming, ROOT_DEVICE)
            }),
        ),
        (
            "the disk is held against what is known",
            deciding(|record, disk, incoming| {
                let as_known = record.map(|record| {
                    let (kind, version) = (record.kind.clone(), record.version.clone());
                    with_published(record, |it| Published { kind, version, ..it })
                });
                decide(as_known.as_ref(), disk, incoming, ROOT_DEVICE)
            }),
        ),
        (
            "set-id bits are a change",
            deciding(|record, disk, incoming| match disk {
                Some(Stat { mode: 0o2000.., .. }) => Action::Ingest,
                _ => decide(record, disk, incoming, ROOT_DEVICE),
            }),
        ),
        (
            "an incoming entry is taken before the change is",
            deciding(|record, disk, incoming| match decide(record, disk, incoming, ROOT_DEVICE) {
                Action::Ingest if incoming.is_some() => Action::Accept { conflict: false },
                action => action,
            }),
        ),
        (
            "a mount is a change",
            deciding(|record, disk, incoming| {
                let stat = disk.map(|stat| Stat { device: ROOT_DEVICE, ..*stat });
                decide(record, stat.as_ref(), incoming, ROOT_DEVICE)
            }),
        ),
        (
            "a change follows what is known",
            changing(|record, made_ms, dot| {
                let known = record.map(|record| Published {
                    kind: record.kind.clone(),
                    version: record.version.clone(),
                    identity: None,
                });
                change_version(known.as_ref(), made_ms, dot.replica, dot.counter)
            }),
        ),
        (
            "a change is stamped now, whatever it was made to",
            changing(|record, made_ms, dot| {
                let published = record.and_then(Record::published);
                let first = change_version(None, made_ms, dot.replica, dot.counter);
                let change = change_version(published.as_ref(), made_ms, dot.replica, dot.counter);
                Version { stamp: first.stamp, ..change }
            }),
        ),
    ]
}

fn with_published(record: &Record, change: impl FnOnce(Published) -> Published) -> Record {
    let mut record = record.clone();
    if let Some(published) = record.published() {
        record.publish(change(published));
    }
    record
}

fn settle(mut published: Published) -> Published {
    if let Some(identity) = &mut published.identity {
        identity.settled = true;
    }
    published
}
