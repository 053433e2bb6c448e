//! `--on live`: a scenario with real daemons on this machine. Three hosts in network namespaces, each
//! with a disk image of its own; real inotify, real TCP, real time. The same files, the same uploads
//! and the same verdict as in the simulation, as far as it can be seen from outside.

#![allow(
    clippy::disallowed_methods,
    reason = "the determinism rules are for the simulation: these hosts are real"
)]

mod faults;
mod ring;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chainsync_hosts::shell::{check_interrupted, sleep};
use serde::Serialize;

use crate::failure::Failure;
use crate::field::application::carry_out;
use crate::field::audit::{self, Happened, Host, Run};
use crate::field::record::{self, Recorder, now_ms};
use crate::field::script::script;
use crate::field::tree::Tree;
use crate::scenario::{Event, Scenario, TimedEvent};

use faults::Faults;
use ring::Ring;

/// Links are up long before this on an empty tree.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Without `converged-within`.
const CONVERGED_WITHIN_DEFAULT: Duration = Duration::from_secs(60);
/// After that nothing is sent any more, and nothing written.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(5);

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub seed: u64,
    pub failure: Option<Failure>,
    pub real_ms: u64,
    pub uploads: u64,
    pub files: u64,
    pub lost: u64,
    /// From the last event until all nodes said that everybody has everything.
    pub converged_ms: Option<u64>,
}

/// What is missing for a run on this machine; said before anything begins.
pub fn check(scenario: &Scenario) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "`--on live` needs root: it makes network namespaces, control groups, loop devices and mounts"
    );
    for program in ["ip", "nft", "mkfs.ext4", "losetup", "mount", "fallocate"] {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
        });
        ensure!(
            found,
            "`--on live` needs `{program}`: apt install iproute2 nftables e2fsprogs util-linux"
        );
    }
    let file = scenario.file.display();
    audit::check(scenario).map_err(|reason| anyhow::anyhow!("{file}: {reason}"))?;
    for timed in &scenario.events {
        faults::check(&timed.event).map_err(|reason| {
            anyhow::anyhow!("{file}: real hosts cannot do `{}`: {reason}", timed.event.key())
        })?;
    }
    Ok(())
}

/// Runs a scenario. `binary`: the `chainsync` of all hosts. An error is this machine's; a broken promise
/// is in the outcome.
pub fn run(scenario: &Scenario, seed: u64, binary: &Path, keep: bool) -> Result<Outcome> {
    check(scenario)?;
    let began = Instant::now();
    let ring = Ring::new(scenario, binary, keep)?;
    let mut outcome = Outcome {
        seed,
        failure: None,
        real_ms: 0,
        uploads: 0,
        files: 0,
        lost: 0,
        converged_ms: None,
    };
    let result = phases(scenario, seed, &ring, &mut outcome);
    outcome.real_ms = began.elapsed().as_millis() as u64;
    match result {
        Ok(()) => {}
        Err(error) => match error.downcast::<Broken>() {
            Ok(Broken(failure)) => outcome.failure = Some(*failure),
            Err(error) => {
                ring.show_logs();
                return Err(error);
            }
        },
    }
    if outcome.failure.is_some() {
        ring.show_logs();
    }
    Ok(outcome)
}

/// A promise was broken.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0)]
struct Broken(Box<Failure>);

fn phases(scenario: &Scenario, seed: u64, ring: &Ring, outcome: &mut Outcome) -> Result<()> {
    for host in 0..scenario.nodes.len() {
        ring.start(host)?;
    }
    wait_until(READY_WITHIN, "an idle ring is complete", || ring.complete())?;

    let began_ms = now_ms();
    let mut faults = Faults::new(scenario, ring);
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for (host, node) in scenario.nodes.iter().enumerate() {
            let steps = script(scenario, seed, node.as_str());
            let recorder = Recorder::create(&ring.record(host))?;
            let root = ring.share(host);
            writers.push(scope.spawn(move || carry_out(&root, &steps, Duration::ZERO, &recorder)));
        }
        let played = play(scenario, &mut faults);
        for writer in writers {
            let wrote = writer.join().unwrap_or_else(|_| Err(std::io::Error::other("a panic")));
            wrote.context("the web application")?;
        }
        played
    })?;
    faults.heal_all()?;

    let within = scenario.expect.converged_within.map_or(CONVERGED_WITHIN_DEFAULT, |span| span.0);
    let healed = Instant::now();
    let converged = wait_until(within, "all members have everything", || {
        faults.supervise()?;
        ring.complete()
    });
    let converged = converged.map(|took| took.as_millis() as u64);
    if converged.is_ok() {
        quiet(ring)?;
    }
    outcome.converged_ms = converged.as_ref().ok().copied();

    let mut hosts = BTreeMap::new();
    for (host, node) in scenario.nodes.iter().enumerate() {
        let tree = Tree::of(&ring.share(host), &ring.state(host))?;
        let record = record::read(&ring.record(host))?;
        hosts.insert(node.to_string(), Host { record, tree, conflicts: ring.conflicts(host).ok() });
    }
    let happened: Vec<Happened> = faults.happened();
    let run = Run { scenario, seed, began_ms, happened, hosts };
    match (audit::audit(&run), converged) {
        (Ok(found), Ok(_)) => {
            (outcome.uploads, outcome.files, outcome.lost) =
                (found.uploads, found.files, found.lost);
            Ok(())
        }
        (Err(failure), _) => bail!(Broken(Box::new(failure))),
        (Ok(_), Err(error)) => {
            let sentence = format!("all trees are equal, but {error}; {}", ring.waiting_for());
            let at_ns = healed.elapsed().as_nanos() as u64;
            bail!(Broken(Box::new(Failure::new(crate::check::Invariant::L1, at_ns, sentence))))
        }
    }
}

/// All events but the uploads, each at its time.
fn play(scenario: &Scenario, faults: &mut Faults<'_>) -> Result<()> {
    let began = Instant::now();
    let mut back: Vec<(Duration, usize)> = Vec::new();
    let mut events = scenario.events.iter().enumerate().peekable();
    let ends = scenario.ends();
    loop {
        check_interrupted()?;
        let now = began.elapsed();
        let due = |timed: &TimedEvent| timed.time <= now;
        while let Some((number, timed)) = events.next_if(|(_, timed)| due(timed)) {
            if let Some((node, after)) = comes_back(&timed.event) {
                let host = scenario.nodes.iter().position(|known| known.as_str() == node);
                back.extend(host.map(|host| (timed.time + after, host)));
            }
            faults.happens(number, &timed.event)?;
        }
        let (now_due, later) = back.into_iter().partition(|(at, _)| *at <= now);
        back = later;
        for (_, host) in now_due as Vec<(Duration, usize)> {
            faults.start(host)?;
        }
        faults.supervise()?;
        if events.peek().is_none() && back.is_empty() && now >= ends {
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
}

fn comes_back(event: &Event) -> Option<(&str, Duration)> {
    match event {
        Event::Crash(death) => {
            death.back_after.map(|after| (death.node.get_ref().as_str(), after.0))
        }
        _ => None,
    }
}

/// L2: no batches any more.
fn quiet(ring: &Ring) -> Result<()> {
    sleep(Duration::from_secs(1))?;
    let before = ring.batches_sent()?;
    sleep(QUIET)?;
    let after = ring.batches_sent()?;
    if before != after {
        let sentence =
            format!("batches are sent when all have everything: {before:?}, then {after:?}");
        bail!(Broken(Box::new(Failure::new(crate::check::Invariant::L2, 0, sentence))));
    }
    Ok(())
}

/// How long it took.
fn wait_until(
    within: Duration,
    what: &str,
    mut so: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let began = Instant::now();
    while !so()? {
        ensure!(began.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(20))?;
    }
    Ok(began.elapsed())
}
