//! The reference model: what DESIGN and docs/ALGORITHM.md say of one path, as sets and numbers. It
//! uses none of core's comparisons and nothing that core exports to decide with.

use std::collections::BTreeSet;

use chainsync_core::decide::{Action, Unsupported};
use chainsync_core::entry::{Entry, Kind, Merge};
use chainsync_core::record::Published;
use chainsync_core::version::{Class, Dot, Stamp, Version};
use chainsync_core::{FileType, Stat, VersionVector};

/// Only a name that shows what was published is open to what a peer says.
pub(crate) fn decide(
    known: Option<(&Kind, &Version)>,
    published: Option<&Published>,
    disk: Option<&Stat>,
    incoming: Option<&Entry>,
    root: u64,
) -> Action {
    use FileType::{Device, Dir, Fifo, File, Socket, Symlink};
    let live = published.filter(|it| !matches!(it.kind, Kind::Tombstone { .. }));
    let expected = live.map(|published| (&published.kind, published.identity));
    match (disk.map(|stat| (stat, stat.file_type)), expected) {
        (Some((stat, _)), _) if stat.device != root => return Action::Problem(Unsupported::Mount),
        (Some((_, special @ (Fifo | Socket | Device))), _) => {
            return Action::Problem(Unsupported::Special(special));
        }
        (None, None) => {}
        (Some((stat, Dir)), Some((Kind::Dir { mode, owner }, _))) => {
            let mine = owner.is_none_or(|owner| owner.uid == stat.uid && owner.gid == stat.gid);
            // The set-id bits are not replicated.
            if stat.mode % 0o2000 != *mode || !mine {
                return Action::Ingest;
            }
        }
        (Some((stat, File)), Some((Kind::File { .. }, identity)))
        | (Some((stat, Symlink)), Some((Kind::Symlink { .. }, identity))) => {
            let now = (stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns);
            let settled = identity.filter(|identity| identity.settled);
            let then = settled.map(|it| (it.inode, it.size, it.mtime_ns, it.ctime_ns));
            if then != Some(now) {
                return Action::Examine;
            }
        }
        _ => return Action::Ingest,
    }
    match incoming.map(|entry| merge(known, (&entry.kind, &entry.version))) {
        None | Some(Merge::Same) => Action::Nothing,
        Some(Merge::Wins { conflict }) => Action::Accept { conflict },
        Some(Merge::Loses { conflict }) => Action::Refuse { conflict },
    }
}

/// The greater stamp wins; it is a conflict if neither author had seen the other's version, and the
/// loser has bytes that the winner has not.
pub(crate) fn merge(known: Option<(&Kind, &Version)>, incoming: (&Kind, &Version)) -> Merge {
    let Some(known) = known else { return Merge::Wins { conflict: false } };
    let name = |dot: &Dot| (dot.replica.0, dot.counter);
    let order = |(kind, it): (&Kind, &Version)| {
        (time(&it.stamp), it.stamp.replica.0, name(&it.dot), kind.clone())
    };
    let seen = |version: &Version| -> BTreeSet<(u64, u64)> {
        let past = version.past.iter();
        let past = past.flat_map(|(replica, last)| (1..=last).map(move |at| (replica.0, at)));
        past.chain([name(&version.dot)]).collect()
    };
    let bytes = |kind: &Kind| match kind {
        Kind::File { size: 1.., hash, .. } => Some(hash.as_bytes().to_vec()),
        Kind::Symlink { target } => Some([b"-> ", target.as_slice()].concat()),
        _ => None,
    };
    let concurrent = !seen(known.1).contains(&name(&incoming.1.dot))
        && !seen(incoming.1).contains(&name(&known.1.dot));
    let is_kept = |loser, winner| bytes(loser).is_none() || bytes(loser) == bytes(winner);
    let lost = |loser, winner| concurrent && !is_kept(loser, winner);
    match (order(known), order(incoming)) {
        (held, new) if held < new => Merge::Wins { conflict: lost(known.0, incoming.0) },
        (held, new) if held > new => Merge::Loses { conflict: lost(incoming.0, known.0) },
        _ => Merge::Same,
    }
}

/// `max(when it was made, the stamp below it + 1)`; its past is what it was made to, with its past.
pub(crate) fn change(base: Option<&Version>, made_ms: u64, dot: Dot) -> Version {
    let made = time(&Stamp::made(made_ms, dot.replica));
    let time = base.map_or(made, |base| made.max(time(&base.stamp) + 1));
    let (wall_ms, counter) = ((time >> 32) as u64, time as u32);
    let stamp = Stamp { class: Class::Made, wall_ms, counter, replica: dot.replica };
    let mut past = base.map_or_else(VersionVector::new, |base| base.past.clone());
    base.into_iter().for_each(|base| past.raise(base.dot));
    Version { stamp, dot, past }
}

/// A class is worth more than any clock, a millisecond more than any counter.
fn time(stamp: &Stamp) -> u128 {
    let class = u128::from(stamp.class == Class::Made);
    class << 96 | u128::from(stamp.wall_ms) << 32 | u128::from(stamp.counter)
}
