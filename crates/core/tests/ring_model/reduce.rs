//! Of many orders that come to the same, one is enough.
//!
//! Two steps are *independent* if either order leads to the same world. Runs that differ only in the
//! order of independent steps end in the same world, and every node goes through the same states of
//! its own; so each class of such runs needs to be walked once. Two rules, both exact:
//!
//! - An edit, and its ingestion, is *delayed* until something depends on it. A step that is neither
//!   is taken only if everything that was delayed leads up to it; what does not happens later.
//! - A node that nobody writes to any more and that has a batch waiting can do nothing else than it
//!   can do now, whatever the others do: its steps are enough, and the others' come later.
//!
//! `exhaustive.rs` checks that both leave the same ends as a search without them.

use crate::event::Event;
use crate::explore::{State, Step};
use crate::link::WINDOW;
use crate::world::{World, name};

/// The last of the delayed steps: those that no other delayed step depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Delayed {
    Edit { node: usize, path: usize },
    Ingest { node: usize, path: usize },
}

impl Delayed {
    pub(crate) fn bytes(&self) -> [u8; 3] {
        match *self {
            Self::Edit { node, path } => [0, node as u8, path as u8],
            Self::Ingest { node, path } => [1, node as u8, path as u8],
        }
    }

    fn of(step: &Step) -> Option<Self> {
        match step[0] {
            Event::Edit { node, path, .. } => Some(Self::Edit { node, path }),
            Event::Ingest { node, path } => Some(Self::Ingest { node, path }),
            _ => None,
        }
    }

    fn node(&self) -> usize {
        match *self {
            Self::Edit { node, .. } | Self::Ingest { node, .. } => node,
        }
    }

    /// Whether the next step may come out otherwise than without this one.
    fn matters_to(&self, step: &Step, world: &World) -> bool {
        // All that is done before the last event of a step is to hear acknowledgements.
        match (*self, &step[step.len() - 1]) {
            (_, _) if matches!(step[0], Event::Crash { .. }) => true,
            // Edits happen in the order of their times.
            (Self::Edit { .. }, Event::Edit { .. }) => true,
            (Self::Edit { node, path }, Event::Receive { from, to, .. }) => {
                let batch = world.links[&(*from, *to)].in_flight.front();
                let mut entries = batch.iter().flat_map(|batch| &batch.entries);
                node == *to && entries.any(|entry| entry.entry.path == name(path))
            }
            (Self::Edit { node, path }, Event::Ingest { node: at, path: of })
            | (Self::Edit { node, path }, Event::Publish { node: at, path: of })
            | (Self::Ingest { node, path }, Event::Edit { node: at, path: of, .. })
            | (Self::Ingest { node, path }, Event::Publish { node: at, path: of }) => {
                (node, path) == (*at, *of)
            }
            // The disk alone: nothing that a link reads.
            (Self::Edit { .. }, _) => false,
            (Self::Ingest { node, .. }, Event::Ingest { node: at, .. })
            | (Self::Ingest { node, .. }, Event::Receive { to: at, .. })
            | (Self::Ingest { node, .. }, Event::Send { from: at, .. }) => node == *at,
            (Self::Ingest { .. }, event) => panic!("{event:?} is no step of a search"),
        }
    }
}

/// What is delayed after a step; nothing if the step does not wait for what is delayed already.
pub(crate) fn is_due(state: &State, step: &Step) -> Option<Vec<Delayed>> {
    let is_open = |delayed: &&Delayed| !delayed.matters_to(step, &state.world);
    let mut open: Vec<Delayed> = state.delayed.iter().filter(is_open).copied().collect();
    let Some(delayed) = Delayed::of(step) else { return open.is_empty().then_some(open) };
    open.push(delayed);
    open.sort_unstable();
    // Two nodes are brought together by an edit or a crash only.
    let together = open.iter().all(|it| it.node() == delayed.node());
    let may_meet = !state.writers.is_empty() || state.may_crash;
    (together || may_meet).then_some(open)
}

/// The steps of one node that are enough, if there is such a node: of all, the one with the fewest.
pub(crate) fn persistent(state: &State, moves: &[Step]) -> Option<Vec<Step>> {
    if !state.delayed.is_empty() || state.may_crash {
        return None;
    }
    let links = state.world.links.iter();
    let waiting = links.filter(|(_, link)| !link.in_flight.is_empty()).map(|((_, to), _)| *to);
    let settled = waiting.filter(|node| !state.writers.contains(node) && has_room(state, *node));
    let of = |node: usize| moves.iter().filter(move |step| node_of(step) == node);
    let node = settled.min_by_key(|node| of(*node).count())?;
    Some(of(node).cloned().collect())
}

/// Whether it need not wait for acknowledgements to send what it has.
fn has_room(state: &State, node: usize) -> bool {
    let mut links = state.world.links.iter().filter(|((from, _), _)| *from == node);
    links.all(|(_, link)| link.in_flight.len() < WINDOW)
}

fn node_of(step: &Step) -> usize {
    match step[step.len() - 1] {
        Event::Ingest { node, .. } | Event::Publish { node, .. } => node,
        Event::Receive { to, .. } => to,
        Event::Send { from, .. } => from,
        ref event => panic!("{event:?} happens by nobody's doing"),
    }
}
