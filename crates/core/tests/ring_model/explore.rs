//! Every order in which a few operations and all that follows from them can happen, depth first,
//! each state once.

use std::collections::BTreeSet;

use crate::canonical::{Name, name_of};
use crate::check::{Violation, check_healed};
use crate::event::Event;
use crate::rules::Rules;
use crate::world::{World, name};

/// What a search covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    pub(crate) paths: usize,
    /// Writes and deletions, on any node and path.
    pub(crate) operations: usize,
    /// Whether an entry may arrive that cannot be put on the disk at once.
    pub(crate) unpublished: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Explored {
    pub(crate) states: u64,
    pub(crate) steps: u64,
    /// States in which nothing moves until somebody writes.
    pub(crate) ends: u64,
}

#[derive(Debug)]
pub(crate) struct Counterexample {
    pub(crate) check: &'static str,
    pub(crate) violation: String,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn explore(rules: Rules, bounds: Bounds) -> Result<Explored, Counterexample> {
    let mut world = World::new(rules, bounds.nodes);
    world.acks_take_time = false;
    for from in 0..bounds.nodes {
        let _ = world.step(&Event::Connect { from, to: (from + 1) % bounds.nodes });
    }
    let mut search = Search { bounds, seen: BTreeSet::new(), way: Vec::new(), explored: Explored::default() };
    for number in 0..bounds.nodes.pow(bounds.operations as u32 - 1) {
        let writers = (0..bounds.operations as u32).map(|at| number / bounds.nodes.pow(at) % bounds.nodes).collect();
        let state = State { world: world.clone(), writers, burst: Vec::new() };
        search.visit(&state).map_err(|violation| Counterexample {
            check: violation.check,
            violation: violation.to_string(),
            events: search.way.clone(),
        })?;
    }
    Ok(search.explored)
}

#[derive(Clone)]
struct State {
    world: World,
    /// Who makes the edits that are left, the next one last.
    writers: Vec<usize>,
    burst: Vec<(usize, usize)>,
}

struct Search {
    bounds: Bounds,
    seen: BTreeSet<Name>,
    way: Vec<Event>,
    explored: Explored,
}

impl Search {
    fn visit(&mut self, state: &State) -> Result<(), Violation> {
        let mut rest: Vec<u8> = state.writers.iter().map(|it| *it as u8).collect();
        rest.push(255);
        rest.extend(state.burst.iter().flat_map(|(node, path)| [*node as u8, *path as u8]));
        if !self.seen.insert(name_of(&state.world, &rest)) {
            return Ok(());
        }
        self.explored.states += 1;
        if self.explored.states % 100_000 == 0 { eprintln!("{:?}", self.explored); }
        let mut follow = self.follow(state);
        if follow.is_empty() && state.burst.is_empty() {
            self.explored.ends += 1;
            check_healed(&state.world)?;
        }
        if state.burst.is_empty() {
            follow = match persistent(state, follow) { Ok(follow) => return self.follow_all(state, follow), Err(follow) => follow };
        }
        self.follow_all(state, follow)?;
        let mut next = state.clone();
        let Some(node) = next.writers.pop() else { return Ok(()) };
        {
                for path in 0..if state.writers.len() == self.bounds.operations { 1 } else { self.bounds.paths } {
                    for delete in [false, true] {
                        if delete && !state.world.nodes[node].disk.get(&name(path)).is_some_and(|it| it.kind.is_live()) {
                            continue;
                        }
                        let mut next = next.clone();
                        if !next.burst.contains(&(node, path)) {
                            next.burst.push((node, path));
                            next.burst.sort();
                        }
                        self.step(next, vec![Event::Edit { node, path, delete, noticed: false }])?;
                    }
                }
        }
        Ok(())
    }

    fn follow_all(&mut self, state: &State, follow: Vec<Vec<Event>>) -> Result<(), Violation> {
        for events in follow {
            let mut next = state.clone();
            let touched = touches(&state.world, &events);
            if !state.burst.is_empty() && !state.burst.iter().any(|it| touched.contains(it)) {
                continue;
            }
            next.burst.clear();
            self.step(next, events)?;
        }
        Ok(())
    }

    fn step(&mut self, mut next: State, events: Vec<Event>) -> Result<(), Violation> {
        self.explored.steps += 1;
        let length = self.way.len();
        for event in events {
            self.way.push(event);
            next.world.step(self.way.last().unwrap())?;
        }
        self.visit(&next)?;
        self.way.truncate(length);
        Ok(())
    }

    /// What can happen by itself.
    fn follow(&self, state: &State) -> Vec<Vec<Event>> {
        let mut follow = Vec::new();
        let world = &state.world;
        for (node, it) in world.nodes.iter().enumerate() {
            for path in 0..self.bounds.paths {
                let path_name = name(path);
                if it.disk.contains_key(&path_name) && it.is_changed(&path_name) {
                    follow.push(vec![Event::Ingest { node, path }]);
                } else if it.records.get(&path_name).is_some_and(|record| !record.is_published_as_known()) {
                    follow.push(vec![Event::Publish { node, path }]);
                }
            }
        }
        for ((from, to), link) in &world.links {
            let (from, to) = (*from, *to);
            if let Some(batch) = link.in_flight.front() {
                follow.push(vec![Event::Receive { from, to, published: true }]);
                if self.bounds.unpublished && !batch.entries.is_empty() {
                    follow.push(vec![Event::Receive { from, to, published: false }]);
                }
            }
            if link.has_more(&world.nodes[from]) {
                let left = link.batches_left(&world.nodes[from]);
                follow.push(vec![Event::Send { from, to, entries: 1 }; left]);
            }
        }
        follow
    }
}

fn persistent(state: &State, follow: Vec<Vec<Event>>) -> Result<Vec<Vec<Event>>, Vec<Vec<Event>>> {
    let world = &state.world;
    let count = world.nodes.len();
    let of = |events: &Vec<Event>| match events[0] {
        Event::Ingest { node, .. } | Event::Publish { node, .. } => node,
        Event::Receive { to, .. } => to,
        Event::Send { from, .. } => from,
        _ => unreachable!(),
    };
    let best = (0..count)
        .filter(|node| !state.writers.contains(node) && !world.links[&((node + count - 1) % count, *node)].in_flight.is_empty())
        .min_by_key(|node| follow.iter().filter(|it| of(it) == *node).count());
    match best {
        Some(node) => Ok(follow.into_iter().filter(|it| of(it) == node).collect()),
        None => Err(follow),
    }
}

/// The names on disks that a step looks at or changes.
fn touches(world: &World, events: &[Event]) -> Vec<(usize, usize)> {
    match events.last() {
        Some(Event::Ingest { node, path } | Event::Publish { node, path }) => vec![(*node, *path)],
        Some(Event::Receive { from, to, .. }) => {
            let batch = world.links[&(*from, *to)].in_flight.front();
            let entries = batch.map_or(&[][..], |batch| &batch.entries);
            (0..3).filter(|path| entries.iter().any(|it| it.entry.path == name(*path))).map(|path| (*to, path)).collect()
        }
        _ => Vec::new(),
    }
}
