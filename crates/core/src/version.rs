//! Versions: what a change is called, when it was made, and what its author had seen.
//!
//! A version never changes once it is made, and two versions are never joined: a node that joined
//! them would hide a lost edit from every node behind it (PROTOCOL B1).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::knowledge::VersionVector;

/// One life of one node's index: random, 64 bit. A new index, a restored index: a new replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0 >> 48)
    }
}

/// The name of one change: the `counter`-th that `replica` made in a share. Counters start at 1 and
/// leave no gap; one counter serves all paths of a share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    pub replica: ReplicaId,
    pub counter: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.replica, self.counter)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replica, self.counter)
    }
}

/// How much a stamp's time can be trusted; the leading part of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Found by a first import: the time is an mtime that anybody may have set.
    Imported,
    /// Seen being made, or proved by its ctime to have been made here.
    Made,
    /// Found by the first import of the node that is known to be right (`prefer`). Between the two:
    /// whatever is made beats it. Declared last, since that is its number on the wire.
    Preferred,
}

impl Class {
    fn rank(self) -> u8 {
        match self {
            Self::Imported => 0,
            Self::Preferred => 1,
            Self::Made => 2,
        }
    }
}

impl Ord for Class {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Class {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The latest time that a peer's stamp may carry: some ten thousand years off. Above it there is room
/// to raise a stamp, so a change always beats its base.
pub const WALL_MS_MAX: u64 = 1 << 48;

/// When a version was made: the total order that decides between versions of a path.
///
/// A hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014) behind a class: a
/// change's stamp is above that of whatever it changed, whatever the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub class: Class,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    pub counter: u32,
    /// The author: the last tie-break.
    pub replica: ReplicaId,
}

impl Stamp {
    pub fn made(wall_ms: u64, replica: ReplicaId) -> Self {
        Self { class: Class::Made, wall_ms, counter: 0, replica }
    }

    pub fn imported(wall_ms: u64, replica: ReplicaId) -> Self {
        Self { class: Class::Imported, wall_ms, counter: 0, replica }
    }

    pub fn preferred(wall_ms: u64, replica: ReplicaId) -> Self {
        Self { class: Class::Preferred, wall_ms, counter: 0, replica }
    }

    /// The stamp of a change made at `wall_ms` by `replica` to what carries `base`:
    /// `max(when it was made, base + 1)`, and no more (PROTOCOL A4).
    pub fn of_change(wall_ms: u64, replica: ReplicaId, base: Option<&Stamp>) -> Self {
        let made = Self::made(wall_ms, replica);
        base.map_or(made, |base| made.above(base))
    }

    /// This stamp if its time is above that of `floor`, else the least time that is. Also for the
    /// stamps of collected tombstones, which a change at a path without an entry has to beat
    /// (PROTOCOL A7).
    ///
    /// The author does not count: whoever it is, the result is greater than `floor`, unless that is
    /// the last stamp there is, far above [`WALL_MS_MAX`].
    pub fn above(self, floor: &Stamp) -> Self {
        let time = |stamp: &Stamp| (stamp.class, stamp.wall_ms, stamp.counter);
        if time(&self) > time(floor) {
            return self;
        }
        let (wall_ms, counter) = match (floor.counter.checked_add(1), floor.wall_ms.checked_add(1))
        {
            (Some(counter), _) => (floor.wall_ms, counter),
            (None, Some(wall_ms)) => (wall_ms, 0),
            (None, None) => (u64::MAX, u32::MAX),
        };
        Self { class: floor.class, wall_ms, counter, replica: self.replica }
    }
}

/// The immutable version of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub stamp: Stamp,
    pub dot: Dot,
    /// What the author had published at this path when it made the change, with all of its past.
    pub past: VersionVector,
}

/// How two versions of one path relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// The left one was made by someone who had the right one.
    After,
    /// The right one was made by someone who had the left one.
    Before,
    /// Neither author had seen the other's.
    Concurrent,
}

impl Version {
    pub fn relation(&self, other: &Version) -> Relation {
        if self.dot == other.dot {
            Relation::Same
        } else if self.past.covers(&other.dot) {
            Relation::After
        } else if other.past.covers(&self.dot) {
            Relation::Before
        } else {
            Relation::Concurrent
        }
    }

    pub fn concurrent(&self, other: &Version) -> bool {
        self.relation(other) == Relation::Concurrent
    }

    /// The past of a change made on top of this version: its own past and its dot.
    pub fn as_past(&self) -> VersionVector {
        let mut past = self.past.clone();
        past.raise(self.dot);
        past
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReplicaId = ReplicaId(1);
    const B: ReplicaId = ReplicaId(2);

    #[test]
    fn a_change_beats_its_base_even_when_the_clock_ran_back() {
        for base in [
            Stamp::made(1_000, B),
            Stamp { counter: u32::MAX, ..Stamp::made(1_000, B) },
            Stamp::imported(9_000, B),
            Stamp::made(5, A),
        ] {
            for wall_ms in [0, 999, 1_000, 1_001] {
                for replica in [A, B] {
                    let change = Stamp::of_change(wall_ms, replica, Some(&base));
                    assert!(change > base, "{change:?} {base:?}");
                    assert_eq!(change.class, Class::Made);
                }
            }
        }
        // Not raised without need: a later change elsewhere must be able to win (PROTOCOL A4).
        assert_eq!(Stamp::of_change(2_000, A, Some(&Stamp::made(1_000, B))).wall_ms, 2_000);
    }

    #[test]
    fn made_beats_imported_whatever_the_mtime_says() {
        assert!(Stamp::made(1, A) > Stamp::preferred(u64::MAX, B));
        assert!(Stamp::preferred(1, A) > Stamp::imported(u64::MAX, B));
    }
}
