//! The binary `chainsync-sim`: runs scenarios in the simulation.
#![allow(
    clippy::disallowed_methods,
    reason = "the command line reads scenario files and measures real time"
)]

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chainsync_sim::run::{Outcome, run};
use chainsync_sim::scenario::{Backend, Scenario};
use chainsync_sim::shared::lock;
use clap::{Parser, Subcommand};

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
    let mut text: Option<Box<dyn Write + Send>> = None;
    if let Some(path) = trace {
        let file = fs::File::create(path).with_context(|| format!("{}", path.display()))?;
        text = Some(Box::new(BufWriter::new(file)));
    }
    let begun = Instant::now();
    let outcome = run(&scenario, seed, text);
    print(&outcome, begun.elapsed(), &scenario.file, json);
    Ok(outcome.failure.is_none())
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
