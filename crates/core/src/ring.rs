//! The ring: who comes after whom.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::NodeName;

/// Members of one ring. Gossip and knowledge are O(members); a ring of 64 is far beyond any group of
/// web servers behind one balancer.
pub const RING_NODES_MAX: usize = 64;

/// The nodes of a share, in the order in which changes travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeName>", into = "Vec<NodeName>")]
pub struct Ring(Vec<NodeName>);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RingError {
    #[error("the ring is empty")]
    Empty,
    #[error("the ring names `{0}` twice")]
    Twice(NodeName),
    #[error("the ring has {0} nodes, more than {RING_NODES_MAX}")]
    TooLong(usize),
}

impl Ring {
    pub fn new(nodes: Vec<NodeName>) -> Result<Self, RingError> {
        if nodes.is_empty() {
            return Err(RingError::Empty);
        }
        if nodes.len() > RING_NODES_MAX {
            return Err(RingError::TooLong(nodes.len()));
        }
        for (index, node) in nodes.iter().enumerate() {
            if nodes[..index].contains(node) {
                return Err(RingError::Twice(node.clone()));
            }
        }
        Ok(Self(nodes))
    }

    pub fn nodes(&self) -> &[NodeName] {
        &self.0
    }

    pub fn contains(&self, node: &NodeName) -> bool {
        self.0.contains(node)
    }

    /// The other nodes, nearest successor first. Empty if `node` is not in the ring or alone.
    pub fn successors(&self, node: &NodeName) -> impl DoubleEndedIterator<Item = &NodeName> {
        let at = self.0.iter().position(|other| other == node);
        let (before, after) = match at {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&self.0[..0], &self.0[..0]),
        };
        after.iter().chain(before)
    }

    /// The node whose link normally ends at `node`.
    pub fn predecessor(&self, node: &NodeName) -> Option<&NodeName> {
        self.successors(node).next_back()
    }
}

impl TryFrom<Vec<NodeName>> for Ring {
    type Error = RingError;

    fn try_from(nodes: Vec<NodeName>) -> Result<Self, RingError> {
        Self::new(nodes)
    }
}

impl From<Ring> for Vec<NodeName> {
    fn from(ring: Ring) -> Self {
        ring.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_go_once_round() {
        let names = ["apollo", "chronos", "hermes"].map(|name| NodeName::new(name).unwrap());
        let ring = Ring::new(names.to_vec()).unwrap();
        let of = |name| ring.successors(name).map(NodeName::as_str).collect::<Vec<_>>();
        assert_eq!(of(&names[0]), ["chronos", "hermes"]);
        assert_eq!(of(&names[2]), ["apollo", "chronos"]);
        assert_eq!(ring.predecessor(&names[0]).map(NodeName::as_str), Some("hermes"));
        assert_eq!(of(&NodeName::new("zeus").unwrap()), [""; 0]);
        let alone = Ring::new(names[..1].to_vec()).unwrap();
        assert_eq!(alone.predecessor(&names[0]), None);
    }
}
