//! `search`: plans drawn from one seed after the other, each run once, until one fails or the time is
//! up. `coverage` is the same with its eyes on rare places.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use chainsync_sim::plan::{Shape, draw};
use chainsync_sim::scenario::Scenario;
use chainsync_sim::shared::lock;
use chainsync_sim::verdict::{Told, Verdict};

use super::child::Children;

/// How often the progress is told: on a terminal, and in a log.
const PROGRESS_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// Kinds of failures after which `--keep-going` has enough to think about.
const KINDS_MAX: usize = 50;

/// How far a search goes.
pub(crate) struct Search {
    pub from: u64,
    pub seeds: Option<u64>,
    pub time: Option<Duration>,
    pub keep_going: bool,
    /// Ends with the first failure of this invariant; others are counted.
    pub until: Option<String>,
    pub shape: Shape,
    /// Where plans that fail are kept.
    pub out: PathBuf,
}

/// What a search came to.
pub(crate) struct Found {
    pub plans: u64,
    pub took: Duration,
    pub virtual_ms: u64,
    pub events: u64,
    pub probes: BTreeMap<String, (u64, u64)>,
    pub failures: Vec<Kind>,
}

/// Failures that are most likely one.
pub(crate) struct Kind {
    pub kind: String,
    pub count: u64,
    pub seed: u64,
    pub told: Told,
    pub plan: PathBuf,
}

impl Search {
    pub(crate) fn run(&self, quiet: bool) -> anyhow::Result<Found> {
        let children = Children::new()?;
        let begun = Instant::now();
        let next = AtomicU64::new(self.from);
        let end = self.seeds.map_or(u64::MAX, |seeds| self.from.saturating_add(seeds));
        let enough = AtomicBool::new(false);
        let found = Mutex::new(Found {
            plans: 0,
            took: Duration::ZERO,
            virtual_ms: 0,
            events: 0,
            probes: BTreeMap::new(),
            failures: Vec::new(),
        });
        let problem = Mutex::new(None);
        let told = Mutex::new(begun);
        let work = || {
            while !enough.load(Ordering::Relaxed)
                && self.time.is_none_or(|time| begun.elapsed() < time)
            {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let plan = draw(seed, self.shape);
                let result = children
                    .run(&format!("plan-{seed}"), &plan)
                    .and_then(|verdict| self.note(&mut lock(&found), seed, &plan, verdict));
                match result {
                    Ok(true) => {}
                    Ok(false) => enough.store(true, Ordering::Relaxed),
                    Err(error) => {
                        lock(&problem).get_or_insert(error);
                        enough.store(true, Ordering::Relaxed);
                    }
                }
                if !quiet {
                    progress(&lock(&found), begun, &mut lock(&told), seed);
                }
            }
        };
        let threads = super::cores();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        if let Some(error) = lock(&problem).take() {
            return Err(error);
        }
        if !quiet && std::io::stderr().is_terminal() {
            eprintln!();
        }
        let mut found = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        found.took = begun.elapsed();
        Ok(found)
    }

    /// Whether to go on.
    fn note(
        &self,
        found: &mut Found,
        seed: u64,
        plan: &Scenario,
        verdict: Verdict,
    ) -> anyhow::Result<bool> {
        found.plans += 1;
        found.virtual_ms += verdict.virtual_ms;
        found.events += verdict.events;
        for (point, times) in verdict.probes {
            let (runs, passes) = found.probes.entry(point).or_default();
            (*runs, *passes) = (*runs + 1, *passes + times);
        }
        let Some(told) = verdict.failure else { return Ok(true) };
        let nodes: Vec<&str> = plan.nodes.iter().map(|name| name.as_str()).collect();
        let kind = told.kind(&nodes);
        let wanted = self.until.as_ref().is_none_or(|until| *until == told.invariant);
        match found.failures.iter_mut().find(|known| known.kind == kind) {
            Some(known) => known.count += 1,
            None => {
                let plan = keep(&self.out, seed, plan, &told)?;
                found.failures.push(Kind { kind, count: 1, seed, told, plan });
            }
        }
        let ends = wanted && !self.keep_going;
        Ok(!ends && found.failures.len() < KINDS_MAX)
    }
}

/// Writes a failing plan down.
fn keep(out: &Path, seed: u64, plan: &Scenario, told: &Told) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    let path = out.join(format!("{}-{seed}.toml", told.invariant.to_lowercase()));
    fs::write(&path, plan.to_toml()).with_context(|| format!("{}", path.display()))?;
    Ok(path)
}

fn progress(found: &Found, begun: Instant, told: &mut Instant, seed: u64) {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { PROGRESS_EVERY.0 } else { PROGRESS_EVERY.1 };
    if told.elapsed() < every {
        return;
    }
    *told = Instant::now();
    let line = format!("{}, at seed {seed}", summary(found, begun.elapsed()));
    if terminal { eprint!("\r{line}\x1b[K") } else { eprintln!("{line}") }
}

pub(crate) fn summary(found: &Found, took: Duration) -> String {
    let per_minute = found.plans as f64 * 60.0 / took.as_secs_f64().max(0.001);
    let failures: u64 = found.failures.iter().map(|kind| kind.count).sum();
    let failures = match found.failures.len() {
        0 => "no failure".to_owned(),
        kinds => format!("{failures} failed in {kinds} ways"),
    };
    format!(
        "{} plans in {:.0} s ({per_minute:.0} a minute, {:.1} h of virtual time): {failures}",
        found.plans,
        took.as_secs_f64(),
        found.virtual_ms as f64 / 3_600_000.0,
    )
}

/// The kinds of failures, what each says, and what to do next.
pub(crate) fn print(found: &Found, json: bool) {
    if json {
        let failures: Vec<serde_json::Value> = found
            .failures
            .iter()
            .map(|kind| {
                serde_json::json!({
                    "kind": kind.kind, "count": kind.count, "seed": kind.seed,
                    "invariant": kind.told.invariant, "sentence": kind.told.sentence,
                    "at_ns": kind.told.at_ns, "node": kind.told.node, "path": kind.told.path,
                    "plan": kind.plan,
                })
            })
            .collect();
        let value = serde_json::json!({
            "plans": found.plans, "wall_ms": found.took.as_millis() as u64,
            "virtual_ms": found.virtual_ms, "events": found.events, "failures": failures,
        });
        println!("{value}");
        return;
    }
    for kind in &found.failures {
        let Kind { told, plan, .. } = kind;
        let plan = plan.display();
        println!("{} ({} times, first with seed {})", kind.kind, kind.count, kind.seed);
        println!("  {}", told.sentence);
        let at = Duration::from_nanos(told.at_ns).as_secs_f64();
        let node = told.node.as_ref().map(|node| format!(", on {node}")).unwrap_or_default();
        let path = told.path.as_ref().map(|path| format!(", path {path}")).unwrap_or_default();
        println!("  first at {at:.6} s{node}{path}");
        for line in &told.touched {
            println!("    {line}");
        }
        println!("  reproduce: chainsync-sim replay {plan}");
        println!("  make it small: chainsync-sim shrink {plan}");
        println!("  understand it: chainsync-sim explain {plan}");
    }
    println!("{}", summary(found, found.took));
}
