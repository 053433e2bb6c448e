//! The name of a world: equal for two worlds that nothing in the future can tell apart, so that what
//! was explored once is not explored again.
//!
//! History counts only as far as somebody still refers to it. An edit is *kept* while a node, a disk
//! or a batch has it, or a check may still complain about it; whatever else was ever written is left
//! out. Numbers count by their order alone: times among the kept edits, counters among those that
//! somebody knows, sequences by how many records are above them. Tags, identities and the numbers of
//! rows and batches are left out: as long as no index is restored, nothing depends on them.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::entry::Entry;
use chainsync_core::version::{Dot, ReplicaId, Version};
use chainsync_core::{Knowledge, RelPath};

use crate::link::Link;
use crate::node::Node;
use crate::oracle::{Edit, edit_of};
use crate::world::World;

/// 128 bits of BLAKE3: among millions of worlds no two share one.
pub(crate) type Name = u128;

/// `rest`: what else the future depends on.
pub(crate) fn name_of(world: &World, rest: &[u8]) -> Name {
    let mut writer = Writer::new(world);
    writer.bytes.extend_from_slice(rest);
    writer.edits();
    for node in &world.nodes {
        writer.node(node);
    }
    for ((from, _), link) in &world.links {
        writer.link(link, &world.nodes[*from]);
    }
    let hash = blake3::hash(&writer.bytes);
    let mut name = [0; 16];
    name.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(name)
}

struct Writer<'a> {
    world: &'a World,
    bytes: Vec<u8>,
    /// The kept edits, each with its place.
    kept: BTreeMap<Edit, u8>,
    /// Every replica, in the order that decides between equal times.
    replicas: Vec<ReplicaId>,
    /// Every counter of a replica that is somebody's knowledge.
    counters: BTreeSet<(ReplicaId, u64)>,
}

impl<'a> Writer<'a> {
    fn new(world: &'a World) -> Self {
        let mut kept = referenced(world);
        kept.extend(contested(world, &kept));
        let places = (0..).zip(&kept).map(|(place, edit)| (*edit, place)).collect();
        let counters = knowledges(world)
            .flat_map(Knowledge::iter)
            .map(|(it, last)| (it, last.counter))
            .collect();
        let of_nodes =
            world.nodes.iter().flat_map(|node| node.authors.iter().chain([&node.replica]));
        let of_dots = world.oracle.versions.keys().map(|dot| &dot.replica);
        let mut replicas: Vec<ReplicaId> = of_nodes.chain(of_dots).copied().collect();
        replicas.sort_unstable();
        replicas.dedup();
        Self { world, bytes: Vec::with_capacity(512), kept: places, replicas, counters }
    }

    fn edits(&mut self) {
        let world = self.world;
        let oracle = &world.oracle;
        let kept: Vec<Edit> = self.kept.keys().copied().collect();
        let mut before = None;
        for edit in &kept {
            let made = oracle.made(*edit);
            self.path(&made.path);
            self.flags([
                made.deletion,
                before == Some(made.wall_ms),
                oracle.archived.iter().any(|(_, loser)| loser == edit),
                oracle.is_overwritten(*edit),
            ]);
            before = Some(made.wall_ms);
            self.flags(kept.iter().map(|other| made.ancestors.contains(other)));
        }
        for (dot, versions) in &oracle.versions {
            for (_, stamp, edit) in versions {
                let Some(place) = self.kept.get(edit) else { continue };
                self.bytes.push(*place);
                self.replica(dot.replica);
                let wall =
                    kept.iter().filter(|it| oracle.made(**it).wall_ms < stamp.wall_ms).count();
                self.number(wall as u64);
                self.number(u64::from(stamp.counter));
            }
        }
        self.end();
    }

    fn node(&mut self, node: &Node) {
        self.replica(node.replica);
        self.flags([node.unconfirmed]);
        node.authors.iter().for_each(|replica| self.replica(*replica));
        self.end();
        for (path, record) in &node.records {
            self.path(path);
            self.number(above(node, record.sequence));
            self.edit(edit_of(&record.kind));
            self.past(&record.version);
            let as_known = record.is_published_as_known();
            match (!as_known).then(|| record.published()).flatten() {
                None => self.flags([true, as_known]),
                Some(published) => {
                    self.edit(edit_of(&published.kind));
                    self.past(&published.version);
                }
            }
        }
        self.end();
        self.knowledge(&node.knowledge);
        // Also where nothing changed: a file that came and went unseen leaves a name without the
        // deletion that is published there, and the next edit is not made from it.
        for (path, shown) in &node.disk {
            self.path(path);
            self.edit(edit_of(&shown.kind));
            self.flags([node.is_changed(path)]);
        }
        self.end();
        for (upstream, cursor) in &node.cursors {
            self.number(above(&self.world.nodes[*upstream], cursor.sequence));
        }
        if !self.world.rules.knowledge_at_pass_end {
            for (sequence, knowledge) in &node.knowledge_at {
                self.number(above(node, *sequence));
                self.knowledge(knowledge);
            }
        }
        self.end();
    }

    fn link(&mut self, link: &Link, upstream: &Node) {
        self.number(above(upstream, link.position));
        self.flags([link.told.as_ref() == Some(&upstream.knowledge), link.pass.is_some()]);
        // Used to leave out entries, so it counts by what it covers. An acknowledgement that adds
        // nothing makes no difference, whenever it is heard.
        let mut heard = self.covered(|dot| link.knows.knowledge().covers(dot));
        self.number(heard);
        for row in &link.acks {
            let before = heard;
            heard |= self.covered(|dot| row.knowledge.covers(dot));
            if heard != before {
                self.number(heard);
            }
        }
        self.end();
        for batch in &link.in_flight {
            self.number(above(upstream, batch.cursor.sequence));
            batch.entries.iter().for_each(|entry| self.entry(&entry.entry));
            self.end();
            batch.end.iter().for_each(|end| self.knowledge(&end.knowledge));
            self.end();
        }
        self.end();
        if let Some(pass) = &link.pass {
            pass.entries.iter().for_each(|(_, entry)| self.entry(entry));
            self.number(above(upstream, pass.end.0.sequence));
            self.knowledge(&pass.end.1);
        }
        self.end();
    }

    fn entry(&mut self, entry: &Entry) {
        self.edit(edit_of(&entry.kind));
        self.past(&entry.version);
    }

    fn edit(&mut self, edit: Edit) {
        self.bytes.push(self.kept[&edit]);
    }

    fn past(&mut self, version: &Version) {
        let covered = self.covered(|dot| version.past.covers(dot));
        self.number(covered);
    }

    fn knowledge(&mut self, knowledge: &Knowledge) {
        let covered = self.covered(|dot| knowledge.covers(dot));
        self.number(covered);
        for (replica, recorded) in knowledge.iter() {
            let below = (replica, 0)..(replica, recorded.counter);
            self.replica(replica);
            self.number(self.counters.range(below).count() as u64);
        }
        self.end();
    }

    /// Which of the kept edits, one bit each.
    fn covered(&self, covers: impl Fn(&Dot) -> bool) -> u64 {
        let versions = self.world.oracle.versions.iter().filter(|(dot, _)| covers(dot));
        let edits = versions.flat_map(|(_, versions)| versions).map(|(_, _, edit)| edit);
        edits.filter_map(|edit| self.kept.get(edit)).fold(0, |covered, place| covered | 1 << place)
    }

    fn replica(&mut self, replica: ReplicaId) {
        let place = self.replicas.binary_search(&replica);
        self.number(place.unwrap() as u64);
    }

    fn path(&mut self, path: &RelPath) {
        self.bytes.extend_from_slice(path.as_bytes());
    }

    fn flags(&mut self, flags: impl IntoIterator<Item = bool>) {
        self.bytes.push(flags.into_iter().fold(1, |bits, flag| bits << 1 | u8::from(flag)));
    }

    fn number(&mut self, number: u64) {
        assert!(number < u64::from(END), "{number} is more than a small world has");
        self.bytes.push(number as u8);
    }

    /// Of a list.
    fn end(&mut self) {
        self.bytes.push(END);
    }
}

const END: u8 = u8::MAX;

/// The edits that a node, a disk or a link has.
fn referenced(world: &World) -> BTreeSet<Edit> {
    let mut edits = BTreeSet::new();
    for node in &world.nodes {
        for record in node.records.values() {
            edits.insert(edit_of(&record.kind));
            if !record.is_published_as_known() {
                edits.extend(record.published().map(|published| edit_of(&published.kind)));
            }
        }
        edits.extend(node.disk.values().map(|shown| edit_of(&shown.kind)));
    }
    for link in world.links.values() {
        let in_flight = link.in_flight.iter().flat_map(|batch| &batch.entries);
        edits.extend(in_flight.map(|entry| edit_of(&entry.entry.kind)));
        let waiting = link.pass.iter().flat_map(|pass| &pass.entries);
        edits.extend(waiting.map(|(_, entry)| edit_of(&entry.kind)));
    }
    edits
}

/// The edits that a check may still complain about: not held everywhere, not kept for good, or
/// younger than something with a greater stamp.
fn contested(world: &World, referenced: &BTreeSet<Edit>) -> Vec<Edit> {
    let oracle = &world.oracle;
    let versions = || oracle.versions.values().flatten();
    let is_contested = |(path, stamp, edit): &(RelPath, _, Edit)| {
        let held = |node: &Node| node.records.get(path).map(|record| record.version.stamp);
        let kept_for_good = oracle.is_deletion(*edit)
            || oracle.is_overwritten(*edit)
            || oracle.archived.iter().any(|(_, loser)| loser == edit);
        let beaten_by_older = |(other_path, greater, other): &(RelPath, _, Edit)| {
            other_path == path
                && referenced.contains(other)
                && greater > stamp
                && oracle.made(*other).wall_ms < oracle.made(*edit).wall_ms
        };
        !kept_for_good
            || world.nodes.iter().any(|node| held(node) < Some(*stamp))
            || versions().any(beaten_by_older)
    };
    versions().filter(|it| is_contested(it)).map(|(_, _, edit)| *edit).collect()
}

fn knowledges(world: &World) -> impl Iterator<Item = &Knowledge> {
    let of_links = world.links.values().flat_map(|link| {
        let ends = link.in_flight.iter().filter_map(|batch| batch.end.as_ref());
        let ends = ends.map(|end| &end.knowledge);
        ends.chain(link.pass.iter().map(|pass| &pass.end.1))
    });
    world.nodes.iter().map(|node| &node.knowledge).chain(of_links)
}

/// How many of a journal's entries come after a sequence.
fn above(node: &Node, sequence: u64) -> u64 {
    node.records.values().filter(|record| record.sequence > sequence).count() as u64
}
