//! Every order in which a few operations, and all that follows from them, can happen: depth first,
//! each state once.

use std::collections::BTreeSet;

use crate::canonical::{Name, name_of};
use crate::check::{Violation, check_healed};
use crate::event::Event;
use crate::reduce::{Delayed, is_due, persistent};
use crate::rules::Rules;
use crate::world::{World, name};

/// What a search covers. Clocks are right and no two edits are made in one millisecond, so all nodes
/// and paths are alike and the first edit may as well be made on node 0, at the first path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    pub(crate) paths: usize,
    /// Writes and deletions; each on any node, at any path, at any time.
    pub(crate) operations: u32,
    /// An entry may arrive that cannot be put on the disk at once.
    pub(crate) unpublished: bool,
    /// An acknowledgement takes its time.
    pub(crate) late_acks: bool,
    /// One daemon may be killed, and all its links are made anew.
    pub(crate) crash: bool,
    /// Leaves out orders that come to the same: see `reduce.rs`.
    pub(crate) reduced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: u64,
    pub(crate) steps: u64,
    /// The worlds in which nothing moves until somebody writes again.
    pub(crate) ends: BTreeSet<Name>,
}

#[derive(Debug)]
pub(crate) struct Counterexample {
    pub(crate) violation: Violation,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn explore(rules: Rules, bounds: Bounds) -> Result<Explored, Counterexample> {
    let mut search = Search {
        bounds,
        seen: BTreeSet::new(),
        open: BTreeSet::new(),
        way: Vec::new(),
        explored: Explored::default(),
    };
    for later_writers in 0..bounds.nodes.pow(bounds.operations - 1) {
        let writer = |operation| later_writers / bounds.nodes.pow(operation) % bounds.nodes;
        let state = State {
            world: ring(rules, bounds),
            writers: (0..bounds.operations).map(writer).collect(),
            delayed: Vec::new(),
            may_crash: bounds.crash,
        };
        if let Err(violation) = search.visit(&state) {
            return Err(Counterexample { violation, events: search.way });
        }
    }
    Ok(search.explored)
}

fn ring(rules: Rules, bounds: Bounds) -> World {
    let mut world = World::new(rules, bounds.nodes);
    world.acks_take_time = bounds.late_acks;
    connect(bounds.nodes).iter().try_for_each(|event| world.step(event)).unwrap();
    world
}

fn connect(nodes: usize) -> Vec<Event> {
    (0..nodes).map(|from| Event::Connect { from, to: (from + 1) % nodes }).collect()
}

#[derive(Clone)]
pub(crate) struct State {
    pub(crate) world: World,
    /// Who makes the edits that are left, the next one last. Settled from the start, so that it is
    /// known who writes no more.
    pub(crate) writers: Vec<usize>,
    pub(crate) delayed: Vec<Delayed>,
    pub(crate) may_crash: bool,
}

impl State {
    fn name(&self) -> Name {
        let mut rest: Vec<u8> = self.writers.iter().map(|node| *node as u8).collect();
        rest.extend([u8::MAX, u8::from(self.may_crash)]);
        rest.extend(self.delayed.iter().flat_map(Delayed::bytes));
        name_of(&self.world, &rest)
    }
}

/// Events of one run: the longest there is has some eighty.
const WAY_MAX: usize = 200;

/// Events that happen as one step.
pub(crate) type Step = Vec<Event>;

struct Search {
    bounds: Bounds,
    seen: BTreeSet<Name>,
    /// The states on the way to where the search is.
    open: BTreeSet<Name>,
    way: Vec<Event>,
    explored: Explored,
}

impl Search {
    fn visit(&mut self, state: &State) -> Result<(), Violation> {
        let name = state.name();
        if !self.seen.insert(name) {
            // Without a cycle, whatever happens comes to an end.
            return match self.open.contains(&name) {
                true => Err(Violation::new("NOT-QUIET", "back at an earlier state".to_owned())),
                false => Ok(()),
            };
        }
        if self.way.len() > WAY_MAX {
            return Err(Violation::new("NOT-QUIET", format!("after {WAY_MAX} events")));
        }
        self.explored.states += 1;
        self.open.insert(name);
        let mut steps = self.moves(&state.world);
        if steps.is_empty() && state.delayed.is_empty() {
            check_healed(&state.world)?;
            self.explored.ends.insert(name_of(&state.world, &[]));
        }
        match persistent(state, &steps).filter(|_| self.bounds.reduced && !self.bounds.late_acks) {
            Some(enough) => steps = enough,
            None => steps.extend(self.edits(state)),
        }
        for step in steps {
            let reduced = self.bounds.reduced;
            let delayed = if reduced { is_due(state, &step) } else { Some(Vec::new()) };
            let Some(delayed) = delayed else { continue };
            let mut next = State { delayed, ..state.clone() };
            match step[0] {
                Event::Edit { .. } => next.writers.truncate(state.writers.len() - 1),
                Event::Crash { .. } => next.may_crash = false,
                _ => {}
            }
            self.take(next, step)?;
        }
        self.open.remove(&name);
        Ok(())
    }

    fn take(&mut self, mut next: State, step: Step) -> Result<(), Violation> {
        self.explored.steps += 1;
        let length = self.way.len();
        for event in step {
            self.way.push(event.clone());
            next.world.step(&event)?;
        }
        self.visit(&next)?;
        self.way.truncate(length);
        Ok(())
    }

    /// What happens by itself, sooner or later.
    fn moves(&self, world: &World) -> Vec<Step> {
        let mut moves = Vec::new();
        for (node, it) in world.nodes.iter().enumerate() {
            for (path, name) in (0..self.bounds.paths).map(|path| (path, name(path))) {
                let record = it.records.get(&name);
                if it.disk.contains_key(&name) && it.is_changed(&name) {
                    moves.push(vec![Event::Ingest { node, path }]);
                } else if record.is_some_and(|record| !record.is_published_as_known()) {
                    moves.push(vec![Event::Publish { node, path }]);
                }
            }
        }
        for ((from, to), link) in &world.links {
            let (from, to) = (*from, *to);
            if let Some(batch) = link.in_flight.front() {
                moves.push(vec![Event::Receive { from, to, published: true }]);
                if self.bounds.unpublished && !batch.entries.is_empty() {
                    moves.push(vec![Event::Receive { from, to, published: false }]);
                }
            }
            if link.has_more(&world.nodes[from]) {
                let send = Event::Send { from, to, entries: 1 };
                // Until a link is cut, a batch in the middle of a pass depends on nothing that
                // happens meanwhile, and waits at the receiver as well as here.
                let batches = link.batches_left(&world.nodes[from]);
                let at_once = if self.bounds.reduced && !self.bounds.crash { batches } else { 1 };
                for heard in 0..=link.acks.len() {
                    let mut step = vec![Event::Hear { from, to }; heard];
                    step.extend(vec![send.clone(); if link.acks.is_empty() { at_once } else { 1 }]);
                    moves.push(step);
                }
            }
        }
        moves
    }

    /// What somebody may do.
    fn edits(&self, state: &State) -> Vec<Step> {
        let mut edits = Vec::new();
        let is_first = state.writers.len() == self.bounds.operations as usize;
        let paths = if is_first { 1 } else { self.bounds.paths };
        if let Some(node) = state.writers.last().copied() {
            for path in 0..paths {
                let shown = state.world.nodes[node].disk.get(&name(path));
                let is_there = shown.is_some_and(|shown| shown.kind.is_live());
                for delete in [false, true].into_iter().filter(|delete| is_there || !delete) {
                    edits.push(vec![Event::Edit { node, path, delete, noticed: false }]);
                }
            }
        }
        if state.may_crash {
            for node in 0..self.bounds.nodes {
                let crash = vec![Event::Crash { node }];
                edits.push(crash.into_iter().chain(connect(self.bounds.nodes)).collect());
            }
        }
        edits
    }
}
