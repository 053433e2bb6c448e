//! `crash-everywhere`: a death at every disk operation, on the command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::bail;
use chainsync_sim::everywhere::{Baseline, Case, Fault};
use chainsync_sim::scenario::Scenario;
use chainsync_sim::shared::lock;
use clap::ValueEnum as _;

use super::files::{check, create};

/// Which deaths are wanted; empty means all.
pub(crate) struct Wanted {
    pub nodes: Vec<String>,
    pub faults: Vec<Fault>,
    pub operation: Option<u64>,
}

impl Wanted {
    fn cases(&self, scenario: &Scenario, baseline: &Baseline) -> anyhow::Result<Vec<Case>> {
        let names: Vec<&str> = scenario.nodes.iter().map(|name| name.as_str()).collect();
        if let Some(stranger) = self.nodes.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("there is no node `{stranger}`; nodes are {}", names.join(", "));
        }
        let mut cases = Vec::new();
        for (node, name) in names.iter().enumerate() {
            if !self.nodes.is_empty() && !self.nodes.iter().any(|wanted| wanted == name) {
                continue;
            }
            for fault in Fault::value_variants() {
                if self.faults.is_empty() || self.faults.contains(fault) {
                    cases.extend(baseline.cases(node, *fault));
                }
            }
        }
        cases.retain(|case| self.operation.is_none_or(|wanted| case.operation == wanted));
        if cases.is_empty() {
            bail!("no daemon makes such an operation: `--json` shows how many there are");
        }
        Ok(cases)
    }
}

/// Failures after which it is enough.
const FAILURES_MAX: usize = 10;

/// Whether all promises were kept at every death. In one process, unlike seeds: the order in which a
/// killed daemon's tasks are dropped may differ when one case is run alone, and what a case tests,
/// the disk at the moment of death, does not depend on it.
pub(crate) fn crash_everywhere(
    file: &Path,
    wanted: &Wanted,
    seed: u64,
    trace: Option<&Path>,
    json: bool,
) -> anyhow::Result<bool> {
    let scenario = check(file)?;
    let begun = Instant::now();
    let baseline = Baseline::of(&scenario, seed)
        .map_err(|failure| anyhow::anyhow!("undisturbed, the scenario fails already: {failure}"))?;
    let cases = wanted.cases(&scenario, &baseline)?;
    let text = Mutex::new(trace.map(create).transpose()?);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if lock(&failures).len() >= FAILURES_MAX {
                return;
            }
            let text = lock(&text).take();
            let outcome = baseline.run(&scenario, seed, *case, text);
            if let Some(failure) = outcome.failure {
                let node = &scenario.nodes[case.node];
                let call = baseline.operations[case.node][case.operation as usize - 1];
                let (operation, fault) = (case.operation, case.fault);
                let mut failures = lock(&failures);
                eprintln!("{node}, {fault} before operation {operation} ({call}): {failure}");
                eprintln!(
                    "  reproduce: chainsync-sim crash-everywhere {} --seed {seed} --node {node} \
                     --fault {fault} --operation {operation} --trace trace.txt",
                    scenario.file.display()
                );
                failures.push((*case, failure));
            }
        }
    };
    let threads = super::cores();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(work);
        }
    });
    let failures = lock(&failures);
    let counts: BTreeMap<&str, usize> = scenario
        .nodes
        .iter()
        .map(|name| name.as_str())
        .zip(baseline.operations.iter().map(Vec::len))
        .collect();
    let runs = next.into_inner().min(cases.len());
    let wall_ms = begun.elapsed().as_millis() as u64;
    if json {
        let value = serde_json::json!({
            "seed": seed, "operations": counts, "cases": cases.len(), "runs": runs,
            "failures": &*failures, "wall_ms": wall_ms,
        });
        println!("{value}");
    } else {
        let counts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!(
            "seed {seed}: {} operations ({}), {runs} of {} deaths run, {} failed, {wall_ms} ms",
            baseline.operations.iter().map(Vec::len).sum::<usize>(),
            counts.join(", "),
            cases.len(),
            failures.len(),
        );
    }
    Ok(failures.is_empty())
}
