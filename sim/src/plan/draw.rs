//! From a seed to a plan.
//!
//! Swarm testing (Groce et al., ISSTA 2012): every run switches whole classes of operations and faults
//! on or off and draws its own sizes, latencies and limits, so that rare combinations are not drowned
//! by what always happens.

use std::time::Duration;

use chainsync_core::{NodeName, Policy};

use super::faults::Faults;
use super::operations::{Operations, pick};
use crate::rng::Stream;
use crate::scenario::{Bandwidth, Event, MachineKnobs, Scenario, Span, SpanRange, TimedEvent};

/// How large plans are; each bound is inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub nodes: (u64, u64),
    pub operations: (u64, u64),
    pub faults: (u64, u64),
    /// Every plan has what is hard to bring together: the same names written everywhere, files here and
    /// directories there, a policy, indexes that are rolled back.
    pub clashes: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { nodes: (3, 5), operations: (50, 500), faults: (0, 10), clashes: false }
    }
}

/// A ring of seven is the largest that is drawn: what needs more nodes has not been seen yet.
pub const NODES_MAX: u64 = 7;

const NAMES: [&str; NODES_MAX as usize] =
    ["apollo", "chronos", "hermes", "hestia", "kronia", "nereus", "triton"];

/// In which steps a clock that stamps changes advances: from the finest to that of a slow kernel.
const TICKS_NS: [u64; 5] = [0, 1, 1_000, 1_000_000, 10_000_000];
/// After everything is healed. Far longer than any backoff of the engine: a minute passes in a second.
const CONVERGED_WITHIN: Duration = Duration::from_secs(90);

/// The plan of a seed. The same for ever, as long as this code is the same.
pub fn draw(seed: u64, shape: Shape) -> Scenario {
    let mut rng = Stream::new(seed, "plan", "");
    let nodes = rng.between(shape.nodes.0, shape.nodes.1.min(NODES_MAX)) as usize;
    let names = NAMES.iter().take(nodes).filter_map(|name| NodeName::new(name).ok()).collect();
    let mut plan = Scenario::made(String::new(), seed, names);
    let span = Duration::from_millis(log_between(&mut rng, 500, 10_000));
    network(&mut plan, &mut rng);
    config(&mut plan, &mut rng);
    policy(&mut plan, &mut Stream::new(seed, "plan-policy", ""), shape.clashes);
    machines(&mut plan, seed);
    let operations = log_between(&mut rng, shape.operations.0, shape.operations.1);
    let what =
        Operations::draw(&mut Stream::new(seed, "plan-operations", ""), &plan.nodes, shape.clashes);
    what.add(&mut plan, &mut Stream::new(seed, "plan-operation", ""), operations, span);
    let faults = rng.between(shape.faults.0, shape.faults.1);
    let how = Faults::draw(&mut Stream::new(seed, "plan-faults", ""), shape.clashes);
    how.add(&mut plan, &mut Stream::new(seed, "plan-fault", ""), faults, span);
    if nodes > 2 && rng.one_in(12) {
        // One node stays dead when all is healed: the others have to do without it.
        plan.expect.dead = vec![plan.nodes[rng.between(0, nodes as u64 - 1) as usize].to_string()];
    }
    tombstones(&mut plan, &mut Stream::new(seed, "plan-tombstones", ""));
    plan.drop_impossible();
    plan.expect.lost = Some(0);
    plan.expect.converged_within = Some(Span(CONVERGED_WITHIN));
    plan.about = format!("Drawn: {what}; faults: {how}.");
    plan
}

fn network(plan: &mut Scenario, rng: &mut Stream) {
    let micros = |rng: &mut Stream, from, to| Duration::from_micros(log_between(rng, from, to));
    let least = micros(rng, 50, 20_000);
    let most = least + micros(rng, 1_000, 100_000);
    plan.network.latency = Some(SpanRange { from: least, to: most });
    if rng.one_in(3) {
        plan.network.split = Some(rng.between(0, 8));
    }
    if rng.one_in(3) {
        plan.network.bandwidth = Some(Bandwidth(log_between(rng, 5_000, 1_000_000) * 1_000));
    }
}

/// Of each node by itself, so that one node less leaves the others as they are.
fn machines(plan: &mut Scenario, seed: u64) {
    for name in plan.nodes.clone() {
        let mut rng = Stream::new(seed, "plan-machine", name.as_str());
        let mut knobs = MachineKnobs::default();
        if rng.one_in(3) {
            knobs.tick = Some(Span(Duration::from_nanos(*pick(&mut rng, &TICKS_NS))));
        }
        if rng.one_in(4) {
            knobs.watch_queue = Some(log_between(&mut rng, 8, 16_384));
        }
        if rng.one_in(4) {
            let to = Duration::from_micros(log_between(&mut rng, 100, 50_000));
            knobs.watch_delay = Some(SpanRange { from: Duration::ZERO, to });
        }
        if rng.one_in(6) {
            let from = Duration::from_nanos(log_between(&mut rng, 500, 20_000));
            knobs.calls = Some(SpanRange { from, to: from * 3 });
        }
        if !knobs.is_default() {
            plan.machines.insert(name.to_string(), knobs);
        }
    }
}

fn config(plan: &mut Scenario, rng: &mut Stream) {
    if rng.one_in(2) {
        plan.config.batch_entries_max = Some(log_between(rng, 1, 512));
    }
    if rng.one_in(3) {
        let heartbeat = Duration::from_millis(log_between(rng, 200, 2_000));
        plan.config.heartbeat = Some(Span(heartbeat));
        plan.config.dead_after = Some(Span(heartbeat * rng.between(3, 6) as u32));
    }
}

fn policy(plan: &mut Scenario, rng: &mut Stream, clashes: bool) {
    plan.config.policy = match rng.between(0, if clashes { 2 } else { 7 }) {
        0 => Some(Policy::KeepBoth),
        1 => Some(Policy::EditBeatsDelete),
        _ => None,
    };
}

/// Tombstones are dropped while the run lasts. Where a clock is set, they are not: their age has to be
/// above what clocks are off by (PROTOCOL A7).
fn tombstones(plan: &mut Scenario, rng: &mut Stream) {
    let is_clock = |timed: &TimedEvent| matches!(timed.event, Event::Clock(_));
    if rng.one_in(3) && !plan.events.iter().any(is_clock) {
        let age = Duration::from_millis(log_between(rng, 500, 16_000));
        plan.config.tombstone_age = Some(Span(age));
    }
}

/// Small numbers as often as large ones.
pub(super) fn log_between(rng: &mut Stream, low: u64, high: u64) -> u64 {
    let (low, high) = (low.max(1), high.max(low.max(1)));
    let bits = rng.between(0, (high / low).ilog2().into());
    let from = low << bits;
    rng.between(from, (from * 2 - 1).min(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_that_its_file_holds_whole() {
        for seed in 0..200 {
            let plan = draw(seed, Shape::default());
            let text = plan.to_toml();
            assert_eq!(text, draw(seed, Shape::default()).to_toml());
            let read =
                Scenario::parse("plan.toml", &text).unwrap_or_else(|e| panic!("{text}\n{e}"));
            assert_eq!(read.to_toml(), text);
            assert_eq!(read.check_simulated(), Ok(()), "seed {seed}");
            assert!((3..=5).contains(&plan.nodes.len()));
        }
    }

    #[test]
    fn numbers_are_within_their_bounds_and_of_every_size() {
        let mut rng = Stream::new(1, "test", "");
        let drawn: Vec<u64> = (0..2_000).map(|_| log_between(&mut rng, 50, 500)).collect();
        assert!(drawn.iter().all(|number| (50..=500).contains(number)));
        for part in [50..100, 100..200, 200..500] {
            assert!(drawn.iter().filter(|number| part.contains(*number)).count() > 300, "{part:?}");
        }
        assert_eq!(log_between(&mut rng, 7, 7), 7);
    }
}
