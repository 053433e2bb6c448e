//! Vectors over replicas: the past of a version, and what a node knows.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::bounded;
use crate::version::{Dot, ReplicaId};

/// Replicas in one vector. A node takes a new replica id when its index is new or unconfirmed: a
/// few a year. 4,096 is 64 nodes for decades, and 64 KiB on the wire.
pub const VECTOR_REPLICAS_MAX: usize = 4096;

/// Replicas in a vector that is decoded at all. Above the limit of the wire, so that an index that
/// outgrew it can still be read.
const VECTOR_DECODE_MAX: usize = 4 * VECTOR_REPLICAS_MAX;

/// `replica → counter`: stands for every dot of a replica up to its counter.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
pub struct VersionVector(BTreeMap<ReplicaId, u64>);

impl VersionVector {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn covers(&self, dot: &Dot) -> bool {
        self.counter(dot.replica) >= dot.counter
    }

    pub fn counter(&self, replica: ReplicaId) -> u64 {
        self.0.get(&replica).copied().unwrap_or(0)
    }

    /// Whether every dot that `other` stands for is covered here too.
    pub fn includes(&self, other: &VersionVector) -> bool {
        other.0.iter().all(|(replica, counter)| self.counter(*replica) >= *counter)
    }

    /// Makes the vector cover `dot`. Counter 0 stands for no dot and leaves no trace, so that equal
    /// vectors compare as equal.
    pub fn raise(&mut self, dot: Dot) {
        if dot.counter > self.counter(dot.replica) {
            self.0.insert(dot.replica, dot.counter);
        }
    }

    /// Sets a replica's counter, also downwards; 0 removes it.
    pub fn set(&mut self, replica: ReplicaId, counter: u64) {
        match counter {
            0 => self.0.remove(&replica),
            counter => self.0.insert(replica, counter),
        };
    }

    pub fn join(&mut self, other: &VersionVector) {
        for (replica, counter) in &other.0 {
            self.raise(Dot { replica: *replica, counter: *counter });
        }
    }

    /// Leaves what `other` covers too.
    pub fn meet(&mut self, other: &VersionVector) {
        self.0.retain(|replica, counter| {
            *counter = (*counter).min(other.counter(*replica));
            *counter > 0
        });
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.0.iter().map(|(replica, counter)| (*replica, *counter))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ReplicaId, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, u64)>>(counters: I) -> Self {
        let mut vector = Self::new();
        for (replica, counter) in counters {
            vector.raise(Dot { replica, counter });
        }
        vector
    }
}

impl<'de> Deserialize<'de> for VersionVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counters = bounded::map::<_, _, _, VECTOR_DECODE_MAX>(deserializer)?;
        Ok(counters.into_iter().collect())
    }
}

impl fmt::Debug for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

/// The last change of a replica that is recorded without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub counter: u64,
    /// The random tag of the commit that made this change. Two different tags for one counter say
    /// that an index was rolled back and its counters used again (PROTOCOL A2).
    pub tag: u64,
}

/// Per share: every change up to a replica's counter is *recorded* here, itself or something
/// greater at its path.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
pub struct Knowledge(BTreeMap<ReplicaId, Recorded>);

impl Knowledge {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn covers(&self, dot: &Dot) -> bool {
        self.recorded(dot.replica).map_or(0, |recorded| recorded.counter) >= dot.counter
    }

    pub fn recorded(&self, replica: ReplicaId) -> Option<Recorded> {
        self.0.get(&replica).copied()
    }

    /// Notes a change of `replica`. Counter 0 stands for none and leaves no trace.
    pub fn record(&mut self, replica: ReplicaId, recorded: Recorded) {
        let known = self.recorded(replica).map_or(0, |known| known.counter);
        if known < recorded.counter {
            self.0.insert(replica, recorded);
        }
    }

    /// Adds what `other` knows.
    ///
    /// Where both name one counter with different tags, a fork, the tag that is here stays: it
    /// belongs to the change that is recorded here, and a replica finds out by it that its counter
    /// was used twice. So after a fork two nodes that know the same can differ in tags for ever:
    /// "equally knowing" is `includes` both ways, not `==`.
    pub fn join(&mut self, other: &Knowledge) {
        for (replica, recorded) in &other.0 {
            self.record(*replica, *recorded);
        }
    }

    pub fn includes(&self, other: &Knowledge) -> bool {
        other.0.iter().all(|(replica, recorded)| {
            self.covers(&Dot { replica: *replica, counter: recorded.counter })
        })
    }

    /// The replicas for which both name the same counter but different tags: one counter was used
    /// for two changes.
    pub fn forks<'a>(&'a self, other: &'a Knowledge) -> impl Iterator<Item = ReplicaId> + 'a {
        self.0.iter().filter_map(|(replica, mine)| {
            let theirs = other.recorded(*replica)?;
            (theirs.counter == mine.counter && theirs.tag != mine.tag).then_some(*replica)
        })
    }

    pub fn to_vector(&self) -> VersionVector {
        self.0.iter().map(|(replica, recorded)| (*replica, recorded.counter)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, Recorded)> + '_ {
        self.0.iter().map(|(replica, recorded)| (*replica, *recorded))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many changes `other` knows that this one does not.
    pub fn missing_from(&self, other: &VersionVector) -> u64 {
        other
            .iter()
            .map(|(replica, counter)| {
                let mine = self.recorded(replica).map_or(0, |recorded| recorded.counter);
                counter.saturating_sub(mine)
            })
            .fold(0, u64::saturating_add)
    }
}

impl FromIterator<(ReplicaId, Recorded)> for Knowledge {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, Recorded)>>(records: I) -> Self {
        let mut knowledge = Self::new();
        records.into_iter().for_each(|(replica, recorded)| knowledge.record(replica, recorded));
        knowledge
    }
}

impl<'de> Deserialize<'de> for Knowledge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let records: BTreeMap<ReplicaId, Recorded> =
            bounded::map::<_, _, _, VECTOR_DECODE_MAX>(deserializer)?;
        Ok(records.into_iter().collect())
    }
}

impl fmt::Debug for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(replica, recorded)| (replica, recorded.counter)))
            .finish()
    }
}
