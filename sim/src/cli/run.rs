//! `run`: one seed of a scenario, or many.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use chainsync_sim::live;
use chainsync_sim::run::{Options, run_with};
use chainsync_sim::scenario::Backend;
use chainsync_sim::shared::lock;

use super::files::{check, create, load};
use super::views::Views;

/// The seed of a run for which neither the command line nor the file names one.
const SEED_DEFAULT: u64 = 1;

/// Whether all promises were kept.
pub(crate) fn run_seed(file: &Path, seed: Option<u64>, views: &Views) -> anyhow::Result<bool> {
    let scenario = check(file)?;
    let seed = seed.or(scenario.seed).unwrap_or(SEED_DEFAULT);
    let text = views.trace.as_deref().map(create).transpose()?;
    views.show_log();
    let begun = Instant::now();
    let options = Options { record: views.record(), ..Options::default() };
    let outcome = run_with(&scenario, seed, text, &options);
    views.show(&scenario, &outcome, begun.elapsed())?;
    Ok(outcome.failure.is_none())
}

/// With real daemons. Whether all promises were kept, as far as they can be seen from outside.
pub(crate) fn run_live(
    file: &Path,
    seed: Option<u64>,
    binary: Option<PathBuf>,
    keep: bool,
    json: bool,
) -> anyhow::Result<bool> {
    let scenario = load(file)?;
    if !scenario.on.contains(&Backend::Live) {
        bail!("{}: this scenario is not for real hosts (`on` lacks \"live\")", file.display());
    }
    let binary = match binary {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("chainsync"),
    };
    chainsync_hosts::shell::catch_signals();
    let seed = seed.or(scenario.seed).unwrap_or(SEED_DEFAULT);
    let outcome = live::run(&scenario, seed, &binary, keep)?;
    if json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        let verdict = if outcome.failure.is_some() { "FAILED" } else { "passed" };
        let converged = match outcome.converged_ms {
            Some(milliseconds) => format!("converged in {milliseconds} ms"),
            None => "not converged".to_owned(),
        };
        println!(
            "seed {seed:<6} {verdict}  {:>7.3} s real  {:>6} uploads  {:>6} files  {} lost  {converged}",
            outcome.real_ms as f64 / 1000.0,
            outcome.uploads,
            outcome.files,
            outcome.lost,
        );
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("{failure}");
    }
    Ok(outcome.failure.is_none())
}

/// Runs one process a seed, as many at a time as there are cores.
///
/// Processes, because tokio numbers its tasks for the whole process and drops them, when a daemon is
/// killed, in an order that depends on the numbers: what ran before in the process would show.
pub(crate) fn run_seeds(file: &Path, (from, to): (u64, u64), json: bool) -> anyhow::Result<bool> {
    check(file)?;
    let program = std::env::current_exe().context("the path of this program")?;
    let next = AtomicU64::new(from);
    let stop_at = AtomicU64::new(to);
    let problem = Mutex::new(None);
    let printing = Mutex::new(());
    let threads = super::cores() as u64;
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
