//! The binary `chainsync-sim`: runs scenarios in the simulation.
#![allow(
    clippy::disallowed_methods,
    reason = "the command line reads scenario files and measures real time"
)]

mod twice;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chainsync_sim::everywhere::{Baseline, Case, Fault};
use chainsync_sim::run::{Outcome, run};
use chainsync_sim::scenario::{Backend, Scenario};
use chainsync_sim::shared::lock;
use clap::{Parser, Subcommand, ValueEnum as _};

/// Runs chainsync's scenarios in a simulated world.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a scenario: exit 0 if every promise was kept, 1 if not, 2 if the scenario is wrong
    Run {
        /// The scenario file, or the name of one in `scenarios/`
        file: PathBuf,
        /// The seed of the run
        #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
        seed: u64,
        /// Many seeds, `1..1000` (the last one excluded); ends at the first failure
        #[arg(long, value_parser = parse_seeds)]
        seeds: Option<(u64, u64)>,
        /// Writes what happened, one event a line
        #[arg(long, conflicts_with = "seeds")]
        trace: Option<PathBuf>,
        /// One JSON object a seed
        #[arg(long)]
        json: bool,
    },
    /// Runs a scenario once for each disk operation of each node, and kills the node just there
    CrashEverywhere {
        /// The scenario file, or the name of one in `scenarios/`; the shorter, the better
        file: PathBuf,
        /// Only this node; may be given more than once
        #[arg(long)]
        node: Vec<String>,
        /// Only this way to die; may be given more than once
        #[arg(long, value_enum)]
        fault: Vec<Fault>,
        /// Only before this operation
        #[arg(long)]
        operation: Option<u64>,
        /// The seed of all runs
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Writes what happened in the last run, one event a line
        #[arg(long, requires = "operation")]
        trace: Option<PathBuf>,
        /// One JSON object, at the end
        #[arg(long)]
        json: bool,
    },
    /// Runs scenarios twice, in two processes each, and compares the traces line by line (M1)
    Twice(twice::Twice),
    /// Lists the scenarios
    List {
        #[arg(default_value = "scenarios")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    // clap ends with 2 by itself for a wrong command line.
    match Arguments::parse().command {
        Command::Run { file, seed, seeds, trace, json } => {
            let result = match seeds {
                Some(seeds) => run_seeds(&file, seeds, json),
                None => run_seed(&file, seed, trace.as_deref(), json),
            };
            match result {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(error) => usage_error(&error),
            }
        }
        Command::CrashEverywhere { file, node, fault, operation, seed, trace, json } => {
            let wanted = Wanted { nodes: node, faults: fault, operation };
            match crash_everywhere(&file, &wanted, seed, trace.as_deref(), json) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(error) => usage_error(&error),
            }
        }
        Command::Twice(twice) => match twice.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => usage_error(&error),
        },
        Command::List { directory } => match list(&directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => usage_error(&error),
        },
    }
}

fn usage_error(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::from(2)
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once("..").and_then(|(from, to)| {
        let range = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?);
        (range.0 < range.1).then_some(range)
    });
    parsed.ok_or_else(|| format!("`{text}` is no range of seeds: write `1..1000`"))
}

/// Whether all promises were kept.
fn run_seed(file: &Path, seed: u64, trace: Option<&Path>, json: bool) -> anyhow::Result<bool> {
    let scenario = check(file)?;
    let text = trace.map(create).transpose()?;
    let begun = Instant::now();
    let outcome = run(&scenario, seed, text);
    print(&outcome, begun.elapsed(), &scenario.file, json);
    Ok(outcome.failure.is_none())
}

fn create(path: &Path) -> anyhow::Result<Box<dyn Write + Send>> {
    let file = fs::File::create(path).with_context(|| format!("{}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Which deaths are wanted; empty means all.
struct Wanted {
    nodes: Vec<String>,
    faults: Vec<Fault>,
    operation: Option<u64>,
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
fn crash_everywhere(
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
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
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

/// Runs one process a seed, as many at a time as there are cores.
///
/// Processes, because tokio numbers its tasks for the whole process and drops them, when a daemon is
/// killed, in an order that depends on the numbers: what ran before in the process would show.
fn run_seeds(file: &Path, (from, to): (u64, u64), json: bool) -> anyhow::Result<bool> {
    check(file)?;
    let program = std::env::current_exe().context("the path of this program")?;
    let next = AtomicU64::new(from);
    let stop_at = AtomicU64::new(to);
    let problem = Mutex::new(None);
    let printing = Mutex::new(());
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= stop_at.load(Ordering::Relaxed) {
                return;
            }
            let mut command = process::Command::new(&program);
            command.arg("run").arg(file).args(["--seed", &seed.to_string()]);
            let output = command.args(json.then_some("--json")).output();
            let _guard = lock(&printing);
            match output {
                Ok(output) => {
                    print!("{}", String::from_utf8_lossy(&output.stdout));
                    eprint!("{}", String::from_utf8_lossy(&output.stderr));
                    if !output.status.success() {
                        stop_at.fetch_min(seed, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    stop_at.fetch_min(seed, Ordering::Relaxed);
                    lock(&problem).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(to - from) {
            scope.spawn(work);
        }
    });
    match problem.into_inner().unwrap_or_default() {
        Some(error) => Err(error).context("a seed cannot be run"),
        None => Ok(stop_at.into_inner() == to),
    }
}

/// Loads a scenario and refuses what the simulation cannot do.
fn check(file: &Path) -> anyhow::Result<Scenario> {
    let scenario = load(file)?;
    if !scenario.on.contains(&Backend::Sim) {
        bail!("{}: this scenario is not for the simulation (`on` lacks \"sim\")", file.display());
    }
    scenario.check_simulated()?;
    Ok(scenario)
}

fn print(outcome: &Outcome, took: Duration, file: &Path, json: bool) {
    if json {
        let mut value = serde_json::to_value(outcome).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("wall_ms".to_owned(), (took.as_millis() as u64).into());
        }
        println!("{value}");
    } else {
        let verdict = if outcome.failure.is_some() { "FAILED" } else { "passed" };
        let converged = match outcome.converged_ms {
            Some(milliseconds) => format!("converged in {milliseconds} ms"),
            None => "not converged".to_owned(),
        };
        println!(
            "seed {:<6} {verdict}  {:>7.3} s virtual  {:>5} ms wall  {:>6} events  {}  {converged}",
            outcome.seed,
            outcome.virtual_ms as f64 / 1000.0,
            took.as_millis(),
            outcome.events,
            outcome.trace,
        );
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("{failure}");
        let (file, seed) = (file.display(), outcome.seed);
        eprintln!("  reproduce: chainsync-sim run {file} --seed {seed} --trace trace.txt");
    }
}

fn load(file: &Path) -> anyhow::Result<Scenario> {
    let mut path = file.to_owned();
    if !path.exists() && path.components().count() == 1 && path.extension().is_none() {
        path = Path::new("scenarios").join(file).with_extension("toml");
    }
    let source = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    Ok(Scenario::parse(path, &source)?)
}

fn list(directory: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("{}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let scenario = load(&path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let refused =
            if scenario.check_simulated().is_err() { " (not in the simulation)" } else { "" };
        println!("{name:<24} {}{refused}", scenario.headline());
    }
    Ok(())
}
