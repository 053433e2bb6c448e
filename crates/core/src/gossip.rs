//! What the members of a ring know of each other.
//!
//! Every node has one *row*, which only it writes; rows travel along the links, both ways. A row
//! says which rows its author had *heard* when it wrote it. That echo is the freshness proof behind
//! `flush`, `converged` and the confirmation of a replica id: a row that has heard row 7 of my
//! present run was written after I wrote row 7, whatever way it took and however long.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::entry::Entry;
use crate::knowledge::{Knowledge, VersionVector};
use crate::name::NodeName;
use crate::ring::RING_NODES_MAX;
use crate::version::ReplicaId;
use crate::wire::AUTHORS_MAX;

/// The place of a row in the life of its author: `run` grows from start to start (the wall clock in
/// milliseconds, raised above any earlier run that is still talked about), `number` within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct RowId {
    pub run: u64,
    pub number: u64,
}

/// What a node says of itself. The default knows nothing and has nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: RowId,
    /// Counts the rows under one id, which differ in nothing but what they have heard. An echo is
    /// not echoed: otherwise two idle nodes would talk for ever.
    pub revision: u64,
    /// The replicas under which it makes changes in this run, and of which it therefore lacks none.
    #[serde(deserialize_with = "bounded::vec::<_, _, AUTHORS_MAX>")]
    pub authors: Vec<ReplicaId>,
    pub knowledge: Knowledge,
    /// Knowledge less what is still pending here.
    pub applied: VersionVector,
    /// Paths where what is known is not yet on disk.
    pub pending: u64,
    pub problems: u64,
    pub conflicts: u64,
    /// Hints not looked at yet, or a sweep or first import under way.
    pub unread: bool,
    /// A pass is open on its link, or has arrived in part: it may hold entries that its knowledge
    /// does not cover yet.
    pub passing: bool,
    /// Why the share does not move, if it does not.
    pub halted: Option<String>,
    /// Whom its link leads to.
    pub successor: Option<NodeName>,
    /// The newest row of each member that it had when it wrote this one.
    #[serde(deserialize_with = "bounded::map::<_, _, _, RING_NODES_MAX>")]
    pub heard: BTreeMap<NodeName, RowId>,
}

impl Row {
    /// Whether this row was written after `node` wrote its row `id`.
    pub fn is_after(&self, node: &NodeName, id: RowId) -> bool {
        self.heard.get(node).is_some_and(|heard| heard.run == id.run && heard.number >= id.number)
    }

    /// The order of the rows of one author.
    pub fn age(&self) -> (RowId, u64) {
        (self.id, self.revision)
    }
}

/// The newest row of every member.
#[derive(Debug, Clone, Default)]
pub struct Rows(BTreeMap<NodeName, Row>);

impl Rows {
    /// Takes a row in; says whether it is news.
    pub fn update(&mut self, node: &NodeName, row: Row) -> bool {
        if self.0.get(node).is_some_and(|held| held.age() >= row.age()) {
            return false;
        }
        self.0.insert(node.clone(), row);
        true
    }

    pub fn get(&self, node: &NodeName) -> Option<&Row> {
        self.0.get(node)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Row)> {
        self.0.iter()
    }

    pub fn heard(&self) -> BTreeMap<NodeName, RowId> {
        self.0.iter().map(|(node, row)| (node.clone(), row.id)).collect()
    }

    /// Forgets who is not in the ring any more.
    pub fn retain(&mut self, keep: impl Fn(&NodeName) -> bool) {
        self.0.retain(|node, _| keep(node));
    }
}

/// What the upstream may leave out: the receiver's knowledge, as it said on this connection, and the
/// replicas under which it is making changes itself.
#[derive(Debug, Clone, Default)]
pub struct ReceiverKnows {
    knowledge: Knowledge,
    authors: Vec<ReplicaId>,
    row: RowId,
}

impl ReceiverKnows {
    /// A row of the receiver, received from itself on this connection.
    pub fn hear_row(&mut self, row: &Row) {
        if row.id > self.row {
            self.row = row.id;
            self.authors.clone_from(&row.authors);
        }
        self.knowledge.join(&row.knowledge);
    }

    pub fn hear_knowledge(&mut self, knowledge: &Knowledge) {
        self.knowledge.join(knowledge);
    }

    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// Whether `entry` need not be sent: it, or something greater, is there.
    pub fn covers(&self, entry: &Entry) -> bool {
        let dot = &entry.version.dot;
        self.authors.contains(&dot.replica) || self.knowledge.covers(dot)
    }
}
