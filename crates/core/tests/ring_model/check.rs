//! What must hold after every commit, and what must hold once the ring is healed.

use std::collections::BTreeMap;
use std::fmt;

use chainsync_core::RelPath;
use chainsync_core::entry::Kind;
use chainsync_core::version::Class;

use crate::node::Node;
use crate::oracle::{Edit, Oracle, edit_of};
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) check: &'static str,
    detail: String,
}

impl Violation {
    pub(crate) fn new(check: &'static str, detail: String) -> Self {
        Self { check, detail }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.detail)
    }
}

/// CAUSAL: nothing is replaced by what it was made from.
///
/// An import is excused, since its history went with the index (residual R1): it gives way to any
/// version with one, its own ancestor too, but only into the archive.
pub(crate) fn check_replaced(
    node: usize,
    (old, class): (&Kind, Class),
    new: &Kind,
    oracle: &Oracle,
) -> Result<(), Violation> {
    let (old, new) = (edit_of(old), edit_of(new));
    let is_excused = class == Class::Imported && oracle.archived.contains(&(node, old));
    if old != new && oracle.is_ancestor(new, old) && !is_excused {
        let detail = format!("node {node}: edit {old} is replaced by its ancestor {new}");
        return Err(Violation::new("CAUSAL", detail));
    }
    Ok(())
}

pub(crate) fn check_node(world: &World, index: usize) -> Result<(), Violation> {
    let node = &world.nodes[index];
    for (dot, versions) in &world.oracle.versions {
        if !node.knowledge.covers(dot) {
            continue;
        }
        for (path, stamp, edit) in versions {
            let held = node.records.get(path).map(|record| record.version.stamp);
            if held.is_none_or(|held| held < *stamp) {
                let detail = format!("node {index} knows {dot} of {path}, edit {edit}, not held");
                return Err(Violation::new("SKIP", detail));
            }
        }
    }
    for other in world.nodes.iter().filter(|other| other.index != index) {
        let same_knowledge = node.knowledge.to_vector() == other.knowledge.to_vector();
        if same_knowledge && !is_ahead(node) && !is_ahead(other) && state(node) != state(other) {
            let detail = format!("nodes {index} and {} know the same", other.index);
            return Err(Violation::new("EQUAL-KNOWLEDGE", detail));
        }
    }
    Ok(())
}

/// In a pass, a node holds entries that its knowledge does not cover yet.
fn is_ahead(node: &Node) -> bool {
    node.records.values().any(|record| !node.knowledge.covers(&record.version.dot))
}

fn state(node: &Node) -> BTreeMap<&RelPath, Edit> {
    let live = node.records.iter().filter(|(_, record)| record.kind.is_live());
    live.map(|(path, record)| (path, edit_of(&record.kind))).collect()
}

pub(crate) fn check_healed(world: &World) -> Result<(), Violation> {
    let first = &world.nodes[0];
    for node in &world.nodes {
        let index = node.index;
        if state(node) != state(first) {
            let detail = format!("nodes 0 and {index}: {:?} {:?}", state(first), state(node));
            return Err(Violation::new("DIVERGED", detail));
        }
        if node.knowledge != first.knowledge {
            let detail = format!("0 and {index}: {:?} {:?}", first.knowledge, node.knowledge);
            return Err(Violation::new("KNOWLEDGE-DIFFERS", detail));
        }
        let pending = node.records.iter().find(|(_, record)| !record.is_published_as_known());
        if let Some((path, _)) = pending.filter(|(path, _)| !node.is_changed(path)) {
            return Err(Violation::new("PENDING", format!("{path} on node {index}")));
        }
    }
    check_winners(world)?;
    if world.lost_state {
        return Ok(());
    }
    check_greatest(world)?;
    check_lost(world)
}

/// GREATEST: what is left at a path has the greatest stamp that was ever given to a change there.
fn check_greatest(world: &World) -> Result<(), Violation> {
    for (path, stamp, edit) in world.oracle.versions.values().flatten() {
        let held = world.nodes[0].records.get(path).map(|record| record.version.stamp);
        if held < Some(*stamp) {
            return Err(Violation::new(
                "GREATEST",
                format!("edit {edit} of {path} should be left"),
            ));
        }
    }
    Ok(())
}

/// LOST: a recorded content is current, was overwritten by somebody who had it, or is in the archive
/// of a node that had its bytes.
fn check_lost(world: &World) -> Result<(), Violation> {
    let oracle = &world.oracle;
    for (path, _, edit) in oracle.versions.values().flatten() {
        let winner = world.nodes[0].records.get(path).map(|record| edit_of(&record.kind));
        let archived = oracle.archived.iter().any(|(_, loser)| loser == edit);
        let kept = winner == Some(*edit) || archived || oracle.is_overwritten(*edit);
        if !kept && !oracle.is_deletion(*edit) {
            return Err(Violation::new("LOST", format!("edit {edit} of {path}")));
        }
    }
    Ok(())
}

/// OLDER-WINS: no edit beat a younger one that was made without it. The clocks are right here, and a
/// time that was only imported decides nothing.
fn check_winners(world: &World) -> Result<(), Violation> {
    let oracle = &world.oracle;
    let first = &world.nodes[0];
    let versions = oracle.versions.values().flatten();
    for (path, stamp, edit) in versions.filter(|(_, stamp, _)| stamp.class == Class::Made) {
        let Some(record) = first.records.get(path) else { continue };
        let winner = edit_of(&record.kind);
        let made = oracle.made(*edit);
        let beaten = winner != *edit
            && record.version.stamp.class == Class::Made
            && record.version.stamp > *stamp
            && !oracle.is_ancestor(*edit, winner)
            && !oracle.is_ancestor(winner, *edit);
        if beaten && made.wall_ms > oracle.made(winner).wall_ms {
            let detail = format!("{}: edit {winner} beat {edit}", made.path);
            return Err(Violation::new("OLDER-WINS", detail));
        }
    }
    Ok(())
}
