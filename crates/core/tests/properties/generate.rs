//! Arbitrary values of core's types. Small ranges, so that equal replicas, stamps and contents meet
//! often; the extremes of each type are in them. The larger strategies are boxed: by value, nested,
//! they outgrow the stack of a test thread.

use chainsync_core::disk::{FileType, Stat};
use chainsync_core::entry::{Entry, Kind, Owner};
use chainsync_core::knowledge::{Knowledge, Recorded, VersionVector};
use chainsync_core::record::{Identity, Published};
use chainsync_core::version::{Class, Dot, ReplicaId, Stamp, Version};
use chainsync_core::{ContentHash, RelPath};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

pub(crate) fn replica() -> impl Strategy<Value = ReplicaId> {
    (1..5_u64).prop_map(ReplicaId)
}

pub(crate) fn dot() -> impl Strategy<Value = Dot> {
    (replica(), 1..6_u64).prop_map(|(replica, counter)| Dot { replica, counter })
}

pub(crate) fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Imported), Just(Class::Made)]
}

/// Any stamp, the last ones there are among them.
pub(crate) fn stamp() -> impl Strategy<Value = Stamp> {
    let wall_ms = prop_oneof![4 => 0..4_u64, 1 => Just(u64::MAX - 1), 1 => Just(u64::MAX)];
    (class(), wall_ms, edge_u32(), replica()).prop_map(|(class, wall_ms, counter, replica)| Stamp {
        class,
        wall_ms,
        counter,
        replica,
    })
}

/// A stamp that a node can have made.
pub(crate) fn real_stamp() -> impl Strategy<Value = Stamp> {
    (class(), 0..6_u64, 0..2_u32, replica()).prop_map(|(class, wall_ms, counter, replica)| Stamp {
        class,
        wall_ms,
        counter,
        replica,
    })
}

pub(crate) fn edge_u32() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..3_u32, 1 => Just(u32::MAX)]
}

pub(crate) fn vector() -> impl Strategy<Value = VersionVector> {
    btree_map(replica(), 0..6_u64, 0..4).prop_map(|counters| counters.into_iter().collect())
}

pub(crate) fn knowledge() -> impl Strategy<Value = Knowledge> {
    let recorded = (0..6_u64, 0..2_u64).prop_map(|(counter, tag)| Recorded { counter, tag });
    btree_map(replica(), recorded, 0..4).prop_map(|records| records.into_iter().collect())
}

/// A version that a node can have made.
pub(crate) fn version() -> BoxedStrategy<Version> {
    (real_stamp(), dot(), vector())
        .prop_map(|(stamp, dot, mut past)| {
            past.set(dot.replica, past.counter(dot.replica).min(dot.counter - 1));
            Version { stamp, dot, past }
        })
        .boxed()
}

pub(crate) fn owner() -> impl Strategy<Value = Option<Owner>> {
    option::of((0..2_u32, 0..2_u32).prop_map(|(uid, gid)| Owner { uid, gid }))
}

pub(crate) fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o644), Just(0o755), Just(0o000), Just(0o1777)]
}

pub(crate) fn file() -> impl Strategy<Value = Kind> {
    (0..3_u8, mode(), -1..2_i128, owner()).prop_map(|(content, mode, mtime_ns, owner)| {
        let content = vec![content; usize::from(content)];
        let hash = ContentHash::of(&content);
        Kind::File { size: content.len() as u64, hash, mode, mtime_ns, owner }
    })
}

pub(crate) fn kind() -> BoxedStrategy<Kind> {
    prop_oneof![
        3 => file(),
        2 => (mode(), owner()).prop_map(|(mode, owner)| Kind::Dir { mode, owner }),
        1 => vec(b'a'..b'd', 1..3).prop_map(|target| Kind::Symlink { target }),
        2 => (option::of(mode()), owner())
            .prop_map(|(mode, owner)| Kind::Tombstone { mode, owner }),
    ]
    .boxed()
}

/// Paths up to four deep over two names: often one above the other.
pub(crate) fn path() -> impl Strategy<Value = RelPath> {
    vec(prop_oneof![Just("a"), Just("b")], 1..5)
        .prop_map(|names| RelPath::new(names.join("/")).unwrap())
}

pub(crate) fn entry() -> BoxedStrategy<Entry> {
    (path(), kind(), version())
        .prop_map(|(path, kind, version)| Entry { path, kind, version })
        .boxed()
}

pub(crate) fn file_type() -> impl Strategy<Value = FileType> {
    prop_oneof![
        3 => Just(FileType::File),
        3 => Just(FileType::Dir),
        2 => Just(FileType::Symlink),
        1 => Just(FileType::Fifo),
        1 => Just(FileType::Socket),
        1 => Just(FileType::Device),
    ]
}

pub(crate) fn time_ns() -> impl Strategy<Value = i128> {
    prop_oneof![
        4 => 0..3_i128,
        2 => (0..5_i128).prop_map(|ms| ms * 1_000_000),
        1 => Just(i128::MIN),
        1 => Just(i128::MAX),
    ]
}

/// The device of the root is 1.
pub(crate) const ROOT_DEVICE: u64 = 1;

prop_compose! {
    fn plain_stat()(
        file_type in file_type(),
        device in prop_oneof![9 => Just(ROOT_DEVICE), 1 => Just(2_u64)],
        inode in 1..3_u64,
        size in 0..3_u64,
        mode in prop_oneof![mode(), Just(0o4755_u32), Just(0o2755_u32)],
        uid in 0..2_u32,
        gid in 0..2_u32,
        mtime_ns in time_ns(),
        ctime_ns in time_ns(),
    ) -> Stat {
        Stat { file_type, device, inode, links: 1, size, mode, uid, gid, mtime_ns, ctime_ns }
    }
}

pub(crate) fn stat() -> BoxedStrategy<Stat> {
    plain_stat().boxed()
}

prop_compose! {
    pub(crate) fn identity()(
        inode in 1..3_u64,
        size in 0..3_u64,
        mtime_ns in time_ns(),
        ctime_ns in time_ns(),
        settled in any::<bool>(),
    ) -> Identity {
        Identity { inode, size, mtime_ns, ctime_ns, settled }
    }
}

pub(crate) fn published() -> BoxedStrategy<Published> {
    (kind(), version(), option::of(identity()))
        .prop_map(|(kind, version, identity)| Published { kind, version, identity })
        .boxed()
}
