//! All nodes and links, the events that move them, and the healing at the end.

use std::collections::BTreeMap;
use std::rc::Rc;

use chainsync_core::RelPath;
use chainsync_core::version::ReplicaId;

use crate::check::{Violation, check_healed, check_node};
use crate::event::Event;
use crate::link::Link;
use crate::node::{Commit, Node};
use crate::oracle::Oracle;
use crate::rules::Rules;

/// Links that end at one node at the same time: the ring's and a bypass.
const UPSTREAMS_MAX: usize = 2;
/// Rounds of healing. A change needs a round for each hop; the rest is room, so that what never gets
/// quiet is found.
const HEAL_ROUNDS_MAX: usize = 60;

/// A copy shares what neither changes: a search copies the world at every step.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    /// Off: an acknowledgement is heard in the same moment.
    pub(crate) acks_take_time: bool,
    pub(crate) nodes: Vec<Rc<Node>>,
    pub(crate) links: BTreeMap<(usize, usize), Rc<Link>>,
    snapshots: Vec<Option<Rc<Node>>>,
    pub(crate) oracle: Rc<Oracle>,
    /// Grows with everything that happens. A second a step: far more than a tick.
    wall_ms: u64,
    replicas: u64,
    /// A machine was restored or lost its index: what it alone had is gone with that.
    pub(crate) lost_state: bool,
}

impl World {
    pub(crate) fn new(rules: Rules, nodes: usize) -> Self {
        let replica = |index: usize| ReplicaId(index as u64 + 1);
        Self {
            rules,
            acks_take_time: false,
            nodes: (0..nodes).map(|index| Rc::new(Node::new(index, replica(index)))).collect(),
            links: BTreeMap::new(),
            snapshots: vec![None; nodes],
            oracle: Rc::default(),
            wall_ms: 1_000_000,
            replicas: nodes as u64,
            lost_state: false,
        }
    }

    pub(crate) fn step(&mut self, event: &Event) -> Result<(), Violation> {
        let count = self.nodes.len();
        match event {
            Event::Edit { node, path, delete, noticed } => {
                let (node, path) = (node % count, name(*path));
                self.wall_ms += 1000;
                let (oracle, it) = (Rc::make_mut(&mut self.oracle), &mut self.nodes[node]);
                Rc::make_mut(it).edit(&path, *delete, self.wall_ms, oracle);
                if *noticed {
                    self.ingest(node, &path)?;
                }
            }
            Event::Ingest { node, path } => {
                self.ingest(node % count, &name(*path))?;
            }
            Event::Publish { node, path } => {
                self.publish(node % count, &name(*path))?;
            }
            Event::Connect { from, to } => self.connect(from % count, to % count),
            Event::Cut { from, to } => {
                self.links.remove(&(from % count, to % count));
            }
            Event::Send { from, to, entries } => {
                self.send(from % count, to % count, *entries);
            }
            Event::Receive { from, to, published } => {
                self.receive(from % count, to % count, *published)?;
            }
            Event::Hear { from, to } => {
                if let Some(link) = self.links.get_mut(&(from % count, to % count)) {
                    Rc::make_mut(link).hear();
                }
            }
            Event::Crash { node } => {
                self.isolate(node % count);
                self.node(node % count).start();
            }
            Event::Snapshot { node } => {
                self.snapshots[node % count] = Some(self.nodes[node % count].clone());
            }
            Event::Restore { node } => {
                let node = node % count;
                if let Some(snapshot) = self.snapshots[node].clone() {
                    self.lost_state = true;
                    self.isolate(node);
                    self.nodes[node] = snapshot;
                    self.node(node).start();
                }
            }
            Event::LoseIndex { node } => self.lose_index(node % count)?,
            Event::Round { entries } => {
                self.round(*entries)?;
            }
        }
        Ok(())
    }

    /// Cuts bypasses, closes the ring and lets everything run until nothing moves.
    pub(crate) fn heal(&mut self) -> Result<(), Violation> {
        let count = self.nodes.len();
        self.links.retain(|(from, to), _| (from + 1) % count == *to);
        for _ in 0..HEAL_ROUNDS_MAX {
            let mut moved = self.round(3)?;
            for node in 0..count {
                let on_disk = self.nodes[node].disk.keys();
                let known = self.nodes[node].records.keys();
                let paths: Vec<RelPath> = on_disk.chain(known).cloned().collect();
                for path in paths {
                    moved |= self.publish(node, &path)?;
                }
            }
            if !moved {
                return check_healed(self);
            }
        }
        Err(Violation::new("NOT-QUIET", format!("after {HEAL_ROUNDS_MAX} rounds")))
    }

    fn round(&mut self, entries: usize) -> Result<bool, Violation> {
        let count = self.nodes.len();
        let mut moved = false;
        for from in 0..count {
            let to = (from + 1) % count;
            self.connect(from, to);
            loop {
                let sent = self.send(from, to, entries);
                let received = self.receive(from, to, true)?;
                if !sent && !received {
                    break;
                }
                moved = true;
            }
        }
        Ok(moved)
    }

    fn connect(&mut self, from: usize, to: usize) {
        let upstreams = self.links.keys().filter(|(_, end)| *end == to).count();
        if from == to || self.links.contains_key(&(from, to)) || upstreams >= UPSTREAMS_MAX {
            return;
        }
        let upstream = self.nodes[from].clone();
        let link = Link::open(self.rules, &upstream, self.node(to));
        self.links.insert((from, to), Rc::new(link));
    }

    fn isolate(&mut self, node: usize) {
        self.links.retain(|(from, to), _| *from != node && *to != node);
    }

    fn send(&mut self, from: usize, to: usize, entries: usize) -> bool {
        let Some(link) = self.links.get_mut(&(from, to)) else { return false };
        Rc::make_mut(link).send(self.rules, &self.nodes[from], entries)
    }

    fn receive(&mut self, from: usize, to: usize, published: bool) -> Result<bool, Violation> {
        let link = self.links.get_mut(&(from, to));
        let batch = link.and_then(|link| Rc::make_mut(link).receive());
        let Some(batch) = batch else { return Ok(false) };
        self.commit(to, |node, commit| {
            for entry in &batch.entries {
                node.apply(&entry.entry, published, commit)?;
            }
            node.cursors.insert(from, batch.cursor);
            if let Some(end) = &batch.end {
                node.knowledge.join(&end.knowledge);
            }
            node.commit(commit);
            Ok(())
        })?;
        if let Some(link) = self.links.get_mut(&(from, to)) {
            let link = Rc::make_mut(link);
            link.acknowledge(Rc::make_mut(&mut self.nodes[to]));
            if !self.acks_take_time {
                link.hear();
            }
        }
        Ok(true)
    }

    fn ingest(&mut self, node: usize, path: &RelPath) -> Result<bool, Violation> {
        self.commit(node, |node, commit| Ok(node.ingest(path, commit)))
    }

    /// Brings a name from what is on disk to what is known; a change comes first.
    fn publish(&mut self, node: usize, path: &RelPath) -> Result<bool, Violation> {
        let ingested = self.ingest(node, path)?;
        let published = self.commit(node, |node, commit| node.publish(path, commit))?;
        Ok(ingested || published)
    }

    fn lose_index(&mut self, node: usize) -> Result<(), Violation> {
        self.isolate(node);
        self.lost_state = true;
        self.snapshots[node] = None;
        self.replicas += 1;
        let mut fresh = Node::new(node, ReplicaId(self.replicas));
        fresh.disk = std::mem::take(&mut self.node(node).disk);
        self.nodes[node] = Rc::new(fresh);
        self.commit(node, |node, commit| {
            node.import(commit);
            Ok(())
        })
    }

    fn node(&mut self, node: usize) -> &mut Node {
        Rc::make_mut(&mut self.nodes[node])
    }

    fn commit<T>(
        &mut self,
        node: usize,
        transaction: impl FnOnce(&mut Node, &mut Commit) -> Result<T, Violation>,
    ) -> Result<T, Violation> {
        self.wall_ms += 1000;
        self.replicas += 1;
        let mut commit = Commit {
            rules: self.rules,
            wall_ms: self.wall_ms,
            // Never given twice: what a random 64 bit number stands for.
            tag: self.wall_ms,
            fresh: ReplicaId(self.replicas),
            oracle: &mut self.oracle,
        };
        let result = transaction(Rc::make_mut(&mut self.nodes[node]), &mut commit)?;
        check_node(self, node)?;
        Ok(result)
    }
}

pub(crate) fn name(path: usize) -> RelPath {
    RelPath::new(["p", "q", "r"][path % 3]).unwrap()
}
