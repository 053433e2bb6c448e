//! From a plan that fails to the smallest one that still breaks the same promise.
//!
//! Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
//! TSE 2002) on the plan, never on the seed: nodes, events, sizes and knobs are taken away as long as
//! the failure stays. What is left is written as a scenario.

use std::time::Duration;

use chainsync_core::NodeName;

use crate::scenario::{Config, Event, Network, Scenario, Size, Span};

/// Says which plans still fail in the way that is looked for.
pub trait Judge {
    /// The first of `candidates` that fails so. They may be run side by side.
    fn first_failing(&mut self, candidates: &[Scenario]) -> Option<usize>;

    /// For people who wait.
    fn progress(&mut self, plan: &Scenario);
}

/// Rounds through all passes; each one makes the plan smaller, so this is only a net.
const ROUNDS_MAX: usize = 12;
/// Nothing that happens between fewer than two nodes is of interest to a ring.
const NODES_MIN: usize = 2;
/// What trials are given to converge: a run that never does costs what it waits, and most of the time
/// of a search for a small plan is spent on those. Longer than any backoff and any silence.
const PATIENCE: Duration = Duration::from_secs(30);
/// Candidates handed over at a time: enough for every core, few enough that the first good one is
/// found early.
const AT_A_TIME: usize = 4;

/// Shrinks `plan`, which fails.
pub fn shrink(plan: &Scenario, judge: &mut impl Judge) -> Scenario {
    let within = plan.expect.converged_within;
    let mut hurried = plan.clone();
    hurried.expect.converged_within = Some(Span(PATIENCE));
    if within.is_none_or(|within| within.0 > PATIENCE)
        && judge.first_failing(std::slice::from_ref(&hurried)).is_some()
    {
        let mut small = reduce(hurried, judge);
        small.expect.converged_within = within;
        // What only needs more time than that is another failure.
        if judge.first_failing(std::slice::from_ref(&small)).is_some() {
            return small;
        }
    }
    reduce(plan.clone(), judge)
}

fn reduce(mut best: Scenario, judge: &mut impl Judge) -> Scenario {
    // With batches of one entry, few events do what takes many otherwise.
    let mut one_by_one = best.clone();
    one_by_one.config.batch_entries_max = Some(1);
    take_first(&mut best, &[one_by_one], judge);
    for _ in 0..ROUNDS_MAX {
        let before = best.to_toml();
        // Nodes first: with fewer of them, every run that follows is shorter.
        remove_nodes(&mut best, judge);
        remove_events(&mut best, judge);
        simplify(&mut best, judge);
        judge.progress(&best);
        if best.to_toml() == before {
            break;
        }
    }
    best
}

/// Takes the first candidate that still fails; whether there was one.
fn take_first(best: &mut Scenario, candidates: &[Scenario], judge: &mut impl Judge) -> bool {
    for some in candidates.chunks(AT_A_TIME) {
        if let Some(index) = judge.first_failing(some) {
            best.clone_from(&some[index]);
            return true;
        }
    }
    false
}

/// Halves, quarters, ... and at last single events are left out.
fn remove_events(best: &mut Scenario, judge: &mut impl Judge) {
    let mut length = best.events.len().div_ceil(2).max(1);
    loop {
        let mut begin = 0;
        while begin < best.events.len() {
            let begins: Vec<usize> =
                (begin..best.events.len()).step_by(length).take(AT_A_TIME).collect();
            let candidates: Vec<Scenario> =
                begins.iter().map(|begin| without(best, *begin, length)).collect();
            match judge.first_failing(&candidates) {
                Some(index) => {
                    begin = begins[index];
                    best.clone_from(&candidates[index]);
                    judge.progress(best);
                }
                None => begin = begins.last().map_or(begin, |last| last + length),
            }
        }
        if length == 1 {
            return;
        }
        length = length.div_ceil(2);
    }
}

fn without(plan: &Scenario, begin: usize, length: usize) -> Scenario {
    let mut smaller = plan.clone();
    smaller.events.drain(begin..(begin + length).min(plan.events.len()));
    smaller.drop_impossible();
    smaller
}

fn remove_nodes(best: &mut Scenario, judge: &mut impl Judge) {
    while best.nodes.len() > NODES_MIN {
        let candidates: Vec<Scenario> =
            best.nodes.iter().map(|node| without_node(best, node)).collect();
        if !take_first(best, &candidates, judge) {
            return;
        }
        judge.progress(best);
    }
}

fn without_node(plan: &Scenario, node: &NodeName) -> Scenario {
    let mut smaller = plan.clone();
    smaller.nodes.retain(|other| other != node);
    smaller.machines.remove(node.as_str());
    smaller.expect.dead.retain(|other| other != node.as_str());
    smaller.expect.winners.retain(|_, other| other != node.as_str());
    if let Some(reaches) = &mut smaller.expect.reaches {
        reaches.nodes.retain(|other| other != node.as_str());
    }
    smaller.config.prefer.take_if(|other| other == node.as_str());
    smaller.events.retain_mut(|timed| timed.event.forget_node(node.as_str()));
    smaller.drop_impossible();
    smaller
}

/// One thing at a time becomes what it is in most runs.
fn simplify(best: &mut Scenario, judge: &mut impl Judge) {
    let knobs: [fn(&mut Scenario); 9] = [
        |plan| plan.machines.clear(),
        |plan| plan.expect.dead.clear(),
        |plan| plan.network = Network::default(),
        |plan| plan.network.split = None,
        |plan| plan.config = Config::default(),
        |plan| plan.network.bandwidth = None,
        |plan| plan.config.batch_entries_max = None,
        |plan| plan.config.tombstone_age = None,
        |plan| (plan.config.heartbeat, plan.config.dead_after) = (None, None),
    ];
    for knob in knobs {
        let mut simpler = best.clone();
        knob(&mut simpler);
        if simpler.to_toml() != best.to_toml() {
            take_first(best, &[simpler], judge);
        }
    }
    for name in best.machines.keys().cloned().collect::<Vec<_>>() {
        let mut simpler = best.clone();
        simpler.machines.remove(&name);
        take_first(best, &[simpler], judge);
    }
    for index in 0..best.events.len() {
        let candidates = simpler_events(&best.events[index].event).into_iter().map(|event| {
            let mut simpler = best.clone();
            simpler.events[index].event = event;
            simpler
        });
        take_first(best, &candidates.collect::<Vec<_>>(), judge);
    }
    earlier(best, judge);
}

/// The simplest first.
fn simpler_events(event: &Event) -> Vec<Event> {
    let mut simpler = Vec::new();
    match event {
        Event::Write(write) | Event::Overwrite(write) => {
            let mut plain = write.clone();
            plain.over = None;
            for size in [32, 1 << 10] {
                if write.size.0 > size {
                    plain.size = Size(size);
                    simpler.push(Event::Write(plain.clone()));
                }
            }
            if write.over.is_some() {
                plain.size = write.size;
                simpler.push(Event::Write(plain));
            }
        }
        Event::Storm(storm) => {
            for files in [1, storm.files / 4, storm.files / 2] {
                if (1..storm.files).contains(&files) {
                    let mut smaller = storm.clone();
                    (smaller.files, smaller.directories) = (files, storm.directories.min(files));
                    simpler.push(Event::Storm(smaller));
                }
            }
        }
        Event::Churn(churn) => {
            for operations in [churn.operations / 4, churn.operations / 2] {
                if (1..churn.operations).contains(&operations) {
                    let mut smaller = churn.clone();
                    smaller.operations = operations;
                    simpler.push(Event::Churn(smaller));
                }
            }
        }
        _ => {}
    }
    simpler
}

/// Idle time goes: everything from some event on happens earlier, at round times if it can.
fn earlier(best: &mut Scenario, judge: &mut impl Judge) {
    for index in 0..best.events.len() {
        let before = index.checked_sub(1).map_or(Duration::ZERO, |index| best.events[index].time);
        let gap = best.events[index].time - before;
        let closer = [gap / 8, gap / 2].into_iter().map(|gap| {
            let milliseconds = gap.as_millis() as u64;
            Duration::from_millis(if milliseconds > 100 {
                milliseconds / 100 * 100
            } else {
                milliseconds
            })
        });
        let candidates = closer.filter(|closer| *closer < gap).map(|closer| {
            let mut sooner = best.clone();
            for timed in &mut sooner.events[index..] {
                timed.time -= gap - closer;
            }
            sooner
        });
        take_first(best, &candidates.collect::<Vec<_>>(), judge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Shape, draw};

    /// Fails while there is a write to `path` on a node and a later event `key` on another one.
    struct Rule {
        runs: usize,
    }

    fn fails(plan: &Scenario) -> bool {
        let write = plan.events.iter().position(|timed| timed.event.key() == "write");
        let delete = plan.events.iter().rposition(|timed| timed.event.key() == "delete");
        matches!((write, delete), (Some(write), Some(delete)) if write < delete
            && plan.events[write].event.nodes()[0].get_ref()
                != plan.events[delete].event.nodes()[0].get_ref())
    }

    impl Judge for Rule {
        fn first_failing(&mut self, candidates: &[Scenario]) -> Option<usize> {
            self.runs += candidates.len();
            candidates.iter().position(fails)
        }

        fn progress(&mut self, _: &Scenario) {}
    }

    #[test]
    fn what_is_not_needed_goes() {
        let shape = Shape::default();
        let plans = (0..100).map(|seed| draw(seed, shape)).filter(fails);
        for plan in plans.take(10) {
            let mut rule = Rule { runs: 0 };
            let small = shrink(&plan, &mut rule);
            assert_eq!((small.nodes.len(), small.events.len()), (2, 2), "{}", small.to_toml());
            assert!(fails(&small) && rule.runs < 2_000, "{} runs", rule.runs);
            assert_eq!((small.network, small.config), (Network::default(), Config::default()));
        }
    }

    /// With little time everything fails; with enough of it, as [`Rule`].
    struct Hasty(Rule);

    impl Judge for Hasty {
        fn first_failing(&mut self, candidates: &[Scenario]) -> Option<usize> {
            let hurried = |plan: &Scenario| {
                plan.expect.converged_within.is_some_and(|within| within.0 <= PATIENCE)
            };
            self.0.runs += candidates.len();
            candidates.iter().position(|plan| hurried(plan) || fails(plan))
        }

        fn progress(&mut self, _: &Scenario) {}
    }

    #[test]
    fn what_only_needs_time_is_not_taken_for_the_failure() {
        let plan = (0..100).map(|seed| draw(seed, Shape::default())).find(fails).unwrap();
        let small = shrink(&plan, &mut Hasty(Rule { runs: 0 }));
        assert!(fails(&small), "{}", small.to_toml());
        assert_eq!(small.events.len(), 2);
        assert_eq!(small.expect.converged_within, plan.expect.converged_within);
    }
}
