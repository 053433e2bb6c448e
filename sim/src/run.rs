//! One run: warm-up, events, heal, convergence, quiet, audit.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::Policy;
use chainsync_core::batch::INLINE_BYTES_MAX;
use serde::Serialize;

use crate::check::{self, Invariant, SHARE};
use crate::failure::Failure;
use crate::fs::{Defect, Fall, Tree};
use crate::machine::Machine;
use crate::record::Record;
use crate::scenario::{Event, Scenario};
use crate::shared::{Shared, lock};
use crate::trace::Trace;
use crate::world::World;

/// Links are up long before this on an empty tree.
const WARM_UP_MAX: Duration = Duration::from_secs(30);
/// Without `converged-within`.
const CONVERGED_WITHIN_DEFAULT: Duration = Duration::from_secs(60);
/// After convergence: time for the last acknowledgements and gossip, then silence.
const SETTLE: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(3);
/// Longer than any `dead-after`.
const PASSED_BY: Duration = Duration::from_secs(15);
/// The same where thousands of runs make up for it.
const SETTLE_BRIEF: Duration = Duration::from_millis(150);
const QUIET_BRIEF: Duration = Duration::from_millis(250);
/// How often convergence is looked at: comparing trees costs.
const LOOK_EVERY: u32 = 20;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub seed: u64,
    pub failure: Option<Failure>,
    pub virtual_ms: u64,
    pub events: u64,
    pub trace: String,
    pub uploads: u64,
    pub lost: u64,
    /// From the last event until all trees were equal and all nodes said so.
    pub converged_ms: Option<u64>,
    /// Bytes written into connections, by directed pair of nodes.
    pub link_bytes: BTreeMap<String, u64>,
    /// How often the engine passed its rare places.
    pub probes: BTreeMap<String, u64>,
    pub calls: BTreeMap<String, u64>,
    /// Deaths of daemons and machines.
    pub deaths: u64,
    /// By node, the kind of each disk operation of its daemon.
    #[serde(skip)]
    pub operations: Vec<Vec<&'static str>>,
    /// The first node's tree at the end.
    #[serde(skip)]
    pub tree: Tree,
    /// If [`Options::record`] asks for it.
    #[serde(skip)]
    pub record: Option<Record>,
}

/// What a run may have beyond its scenario and seed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A defect of all machines, to see that it is noticed (M3).
    pub defect: Option<Defect>,
    /// Machines that fall: which, before which disk operation of its daemon, how.
    pub falls: Vec<(usize, u64, Fall)>,
    /// Watches the silence at the end for a shorter time.
    pub brief: bool,
    /// Keeps what a report needs.
    pub record: bool,
}

/// Runs a scenario once. `text` also gets the trace as text.
pub fn run(scenario: &Scenario, seed: u64, text: Option<Box<dyn Write + Send>>) -> Outcome {
    run_with(scenario, seed, text, &Options::default())
}

/// As [`run`], with [`Options`].
pub fn run_with(
    scenario: &Scenario,
    seed: u64,
    text: Option<Box<dyn Write + Send>>,
    options: &Options,
) -> Outcome {
    let shared = Shared::new(seed, Trace::new(text));
    let mut report = Report::default();
    let mut virtual_ms = 0;
    let mut link_bytes = BTreeMap::new();
    let mut calls = BTreeMap::new();
    let mut deaths = 0;
    let (mut operations, mut tree, mut record) = (Vec::new(), Tree::new(), None);
    let failure = match World::new(scenario, Arc::clone(&shared), options.defect) {
        Err(error) => Some(Failure::new(Invariant::World, 0, format!("cannot be built: {error}"))),
        Ok(mut world) => {
            for (node, number, fall) in &options.falls {
                world.arm(*node, *number, *fall);
            }
            let failure = phases(scenario, &mut world, options, &mut report).err();
            deaths = world.deaths;
            operations = world.operations();
            tree = lock(&world.machines[0].disk).tree(SHARE.as_bytes()).unwrap_or_default();
            record = options.record.then(|| Record::of(&world));
            virtual_ms = world.elapsed().as_millis() as u64;
            for machine in &world.machines {
                for (peer, bytes) in machine.net.stats().sent {
                    link_bytes.insert(format!("{} > {peer}", machine.name), bytes);
                }
                calls.insert(machine.name.clone(), lock(&machine.disk).calls);
            }
            failure
        }
    };
    let (trace, trace_failure) = match shared.trace.finish() {
        Ok(summary) => (summary, None),
        Err(error) => {
            let failure =
                Failure::new(Invariant::Trace, 0, format!("the trace was not written: {error}"));
            (
                crate::trace::Summary { events: shared.trace.events(), hash: "-".into() },
                Some(failure),
            )
        }
    };
    let failure = failure.or(trace_failure);
    let failure = failure.map(|failure| shared.trace.read(|history| failure.with_touched(history)));
    let uploads = lock(&shared.oracle).uploads.len() as u64;
    let probes = lock(&shared.coverage).clone();
    Outcome {
        seed,
        failure,
        virtual_ms,
        events: trace.events,
        trace: trace.hash,
        uploads,
        lost: report.lost,
        converged_ms: report.converged.map(|took| took.as_millis() as u64),
        link_bytes,
        probes,
        calls,
        deaths,
        operations,
        tree,
        record,
    }
}

#[derive(Default)]
struct Report {
    lost: u64,
    converged: Option<Duration>,
}

fn phases(
    scenario: &Scenario,
    world: &mut World,
    options: &Options,
    report: &mut Report,
) -> Result<(), Failure> {
    warm_up(world)?;
    let begin = world.elapsed();
    world.shared.event("-", "phase", format_args!("events"));
    for timed in &scenario.events {
        while world.elapsed() < begin + timed.time {
            world.step()?;
        }
        world.act(&timed.event);
    }
    while world.elapsed() < begin + scenario.ends() {
        world.step()?;
    }
    let dead = &scenario.expect.dead;
    world.heal(dead);
    world.healthy &= dead.is_empty();
    let healed = world.elapsed();
    // Any of these may leave a connection behind that one end, or both, take for whole.
    let half_open = scenario.events.iter().any(|timed| {
        matches!(
            &timed.event,
            Event::CutConnections(_) | Event::Partition(_) | Event::Hold(_) | Event::PowerLoss(_)
        )
    });
    let within = scenario.expect.converged_within.map_or(CONVERGED_WITHIN_DEFAULT, |span| span.0);
    converge(world, dead, healed + within)?;
    report.converged = Some(world.elapsed() - healed);
    world.disarm();
    if !dead.is_empty() {
        silence(world, dead, half_open, options.brief)?;
        world.start_dead(dead);
        let started = world.elapsed();
        converge(world, &[], started + within)?;
    }
    silence(world, &[], half_open, options.brief)?;
    audit(scenario, world, report)?;
    if options.brief { Ok(()) } else { crate::verify::agree(world) }
}

/// The machines that are not `dead`.
fn living(world: &World, dead: &[String]) -> Vec<Arc<Machine>> {
    world.machines.iter().filter(|machine| !dead.contains(&machine.name)).cloned().collect()
}

/// Whether a node has nothing to wait for but the `dead`. It asks the daemons, which is no judgement:
/// the trees are what counts, and whoever says too early that it has converged is found by them.
fn has_converged(machine: &Machine, dead: &[String], at_the_dead: bool) -> bool {
    let only_the_dead = |waiting: &String| {
        dead.iter().any(|name| {
            // As one that is halted it was heard of last.
            let rest = waiting.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(':') || rest.starts_with(" is halted:"))
        }) || at_the_dead
            && (waiting.ends_with(" paths not on disk yet") || waiting.ends_with(" changes behind"))
    };
    machine.status().is_some_and(|(_, status)| {
        status.shares.iter().all(|share| {
            share.converged
                || (!dead.is_empty()
                    && (share.pending == 0 || at_the_dead)
                    && !share.waiting_for.is_empty()
                    && share.waiting_for.iter().all(only_the_dead))
        })
    })
}

fn warm_up(world: &mut World) -> Result<(), Failure> {
    world.ask_for_status(true);
    loop {
        for _ in 0..LOOK_EVERY {
            world.step()?;
        }
        let waiting = world.machines.iter().find(|machine| {
            !machine.status().is_some_and(|(_, status)| {
                status.shares.iter().all(|share| {
                    let linked = share.link.as_ref().is_some_and(|link| !link.bypass);
                    let alone = share.ring.len() == 1;
                    !share.sweeping && (alone || (linked && !share.upstream.is_empty()))
                })
            })
        });
        match waiting {
            None => break,
            Some(machine) if world.elapsed() > WARM_UP_MAX => {
                let sentence = format!(
                    "after {WARM_UP_MAX:?} the links of an idle ring are not up; {}",
                    says(machine)
                );
                return Err(
                    Failure::new(Invariant::WarmUp, world.now_ns(), sentence).on(&machine.name)
                );
            }
            Some(_) => {}
        }
    }
    world.ask_for_status(false);
    Ok(())
}

/// What a node says of itself, in short.
fn says(machine: &Machine) -> String {
    let Some((at_ns, status)) = machine.status() else {
        return "it gives no status".to_owned();
    };
    let at = Duration::from_nanos(at_ns).as_secs_f64();
    let shares: Vec<String> = status
        .shares
        .iter()
        .map(|share| {
            format!(
                "converged {}, waiting for {:?}, link {:?}, upstream {}, unread {}, pending {}, \
                 halted {:?}, problems {}",
                share.converged,
                share.waiting_for,
                share.link,
                share.upstream.len(),
                share.unread,
                share.pending,
                share.halted,
                share.problems.len(),
            )
        })
        .collect();
    format!("at {at:.3} s it said: {}", shares.join("; "))
}

/// Until all who are not `dead` hold the same and say so.
fn converge(world: &mut World, dead: &[String], deadline: Duration) -> Result<(), Failure> {
    world.shared.event("-", "phase", format_args!("converge"));
    world.ask_for_status(true);
    // A large content follows its announcement, and has to come from somebody who lives.
    let at_the_dead = lock(&world.shared.oracle).uploads.iter().any(|upload| {
        upload.size > INLINE_BYTES_MAX && dead.contains(&world.machines[upload.node].name)
    });
    loop {
        for _ in 0..LOOK_EVERY {
            world.step()?;
        }
        let living = living(world, dead);
        // One that is halted is what the others wait for.
        let halted = living.iter().find(|machine| {
            machine
                .status()
                .is_some_and(|(_, status)| status.shares.iter().any(|share| share.halted.is_some()))
        });
        let unconverged = halted
            .or_else(|| living.iter().find(|machine| !has_converged(machine, dead, at_the_dead)));
        let all_say_so =
            world.writers_are_done() && unconverged.is_none() && !world.awaits_anybody();
        let late = world.elapsed() > deadline;
        if all_say_so || late {
            let equal = check::equal(&living, world.now_ns());
            match (equal, unconverged) {
                (Ok(()), None) if all_say_so => return Ok(()),
                (Ok(()), Some(machine)) if late => {
                    let sentence =
                        format!("all trees are equal, but not every node knows: {}", says(machine));
                    let failure = Failure::new(Invariant::L1, world.now_ns(), sentence);
                    return Err(failure.on(&machine.name));
                }
                (Err(failure), Some(machine)) if late => {
                    let node = &machine.name;
                    let sentence = format!("{}; {node}: {}", failure.sentence, says(machine));
                    return Err(Failure { sentence, ..failure });
                }
                (Err(failure), None) if late => {
                    let sentence =
                        format!("{}; and every node says it has converged", failure.sentence);
                    return Err(Failure { sentence, ..failure });
                }
                _ => {}
            }
            if late {
                let sentence = "the web application never finished";
                return Err(Failure::new(Invariant::World, world.now_ns(), sentence));
            }
        }
    }
}

/// `half_open`: connections may have been lost that nobody has noticed yet.
fn silence(
    world: &mut World,
    dead: &[String],
    half_open: bool,
    brief: bool,
) -> Result<(), Failure> {
    let (settle, quiet) = if brief { (SETTLE_BRIEF, QUIET_BRIEF) } else { (SETTLE, QUIET) };
    world.shared.event("-", "phase", format_args!("quiet"));
    // Whoever died last is passed by before it is quiet, and a lost connection noticed.
    let settle = if dead.is_empty() && !half_open { settle } else { settle + PASSED_BY };
    let wait = |world: &mut World, span: Duration| {
        let until = world.elapsed() + span;
        while world.elapsed() < until {
            world.step()?;
        }
        Ok(check::activity(&living(world, dead)))
    };
    let refused = lock(&world.shared.oracle).ledger.was_refused();
    let staged_for = check::staged_for(&world.machines, refused);
    wait(world, staged_for)?;
    let before = wait(world, settle)?;
    let after = wait(world, quiet)?;
    let (living, now_ns) = (living(world, dead), world.now_ns());
    check::quiet(&living, &before, &after, now_ns)?;
    world.bounds.quiet(&living, now_ns)
}

fn audit(scenario: &Scenario, world: &World, report: &mut Report) -> Result<(), Failure> {
    let now_ns = world.now_ns();
    let (shared, machines) = (&world.shared, &world.machines[..]);
    check::equal(machines, now_ns)?;
    let contents = check::contents(shared, machines);
    let allowed = scenario.expect.lost.unwrap_or(0);
    report.lost = check::lost(shared, machines, &contents, now_ns, allowed)?;
    let bandwidth = scenario.network.bandwidth.map_or(u64::MAX, |bandwidth| bandwidth.0);
    let fast = world.healthy && bandwidth >= check::BANDWIDTH_MIN;
    let again = scenario.config.policy == Some(Policy::EditBeatsDelete);
    if let Some(limit) = scenario.config.bandwidth_max {
        check::bandwidth_within(&lock(&shared.frames), limit.0)?;
    }
    check::judge(shared, machines, &contents, now_ns, fast, again)?;
    // A policy makes changes of its own, and sends them.
    let plain = matches!(scenario.config.policy, None | Some(Policy::Younger));
    check::echo(shared, machines, now_ns, world.healthy && plain)?;
    check::leftovers(machines, now_ns)?;
    if let Some(expected) = scenario.expect.conflicts {
        check::conflicts(machines, now_ns, expected)?;
    }
    if let Some(allowed) = scenario.expect.archived {
        check::visible(shared, machines, &contents, allowed, now_ns)?;
    }
    check::won(shared, machines, &contents, &scenario.expect.winners, now_ns)?;
    if let Some(within) = scenario.expect.bypass_within {
        check::bypassed(shared, machines, &world.disturbances, within.0)?;
    }
    if let Some(reaches) = &scenario.expect.reaches {
        check::reached(shared, machines, reaches)?;
    }
    check::flushed(shared, machines, &contents)?;
    check::absent(machines, &scenario.expect.absent, now_ns)?;
    check::passes(&lock(&shared.coverage), &scenario.expect.passes, now_ns)?;
    let files = lock(&machines[0].disk).tree(SHARE.as_bytes()).map_or(0, |tree| tree.len());
    let highest = &world.bounds.highest;
    shared.event("-", "audit", format_args!("{files} paths; at most {highest:?}"));
    Ok(())
}
