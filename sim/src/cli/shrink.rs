//! `shrink`: from a plan that fails to the smallest one that breaks the same promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use chainsync_sim::scenario::Scenario;
use chainsync_sim::shrink::{Judge, shrink};
use chainsync_sim::verdict::Told;

use super::child::Children;
use super::files::check;

/// Where what was found is kept for good.
const REGRESSIONS: &str = "scenarios/regressions";

/// Whether it still fails; the path of the small plan.
pub(crate) fn shrink_file(
    file: &Path,
    name: Option<&str>,
    out: Option<&Path>,
) -> anyhow::Result<()> {
    let plan = check(file)?;
    let children = Children::new()?;
    let Some(told) = children.run("first", &plan)?.failure else {
        bail!("{}: this plan passes, so there is nothing to shrink", file.display());
    };
    println!("{}: {}", told.invariant, told.sentence);
    let mut trial = Trial { children, wanted: told, runs: 0, problem: None };
    let mut small = shrink(&plan, &mut trial);
    if let Some(problem) = trial.problem {
        return Err(problem);
    }
    let Some(told) = trial.children.run("last", &small)?.failure else {
        bail!("the small plan passed when it was run again: this is a bug of the simulator");
    };
    small.about = format!("{}\n{}", told.kind(&[]), told.sentence);
    let path = match out {
        Some(out) => out.to_owned(),
        None => path_for(&told, name, file),
    };
    fs::write(&path, small.to_toml()).with_context(|| format!("{}", path.display()))?;
    println!(
        "{} nodes and {} events are left of {} and {} ({} runs): {}",
        small.nodes.len(),
        small.events.len(),
        plan.nodes.len(),
        plan.events.len(),
        trial.runs,
        path.display()
    );
    println!("  reproduce: chainsync-sim replay {}", path.display());
    println!("  then name it after what broke, and tell the story in its `about`");
    Ok(())
}

/// `scenarios/regressions/<invariant>-<name>.toml`.
fn path_for(told: &Told, name: Option<&str>, file: &Path) -> PathBuf {
    let invariant = told.invariant.to_lowercase();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.map_or_else(
        || stem.trim_start_matches(&format!("{invariant}-")).to_owned(),
        str::to_owned,
    );
    Path::new(REGRESSIONS).join(format!("{invariant}-{name}.toml"))
}

struct Trial {
    children: Children,
    wanted: Told,
    runs: usize,
    problem: Option<anyhow::Error>,
}

impl Judge for Trial {
    /// As many at a time as there are cores; the answer is the same as if they ran in order.
    fn first_failing(&mut self, candidates: &[Scenario]) -> Option<usize> {
        if self.problem.is_some() {
            return None;
        }
        self.runs += candidates.len();
        let next = AtomicUsize::new(0);
        let best = AtomicUsize::new(usize::MAX);
        let children = &self.children;
        let wanted = &self.wanted;
        let work = || -> anyhow::Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(plan) = candidates.get(index) else { return Ok(()) };
                if best.load(Ordering::Relaxed) < index || plan.check_simulated().is_err() {
                    continue;
                }
                let failure = children.run(&format!("trial-{index}"), plan)?.failure;
                if failure.is_some_and(|told| told.invariant == wanted.invariant) {
                    best.fetch_min(index, Ordering::Relaxed);
                }
            }
        };
        let threads = super::cores();
        let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
        });
        if let Some(error) = results.into_iter().find_map(Result::err) {
            self.problem = Some(error);
            return None;
        }
        Some(best.into_inner()).filter(|index| *index != usize::MAX)
    }

    fn progress(&mut self, plan: &Scenario) {
        eprintln!(
            "{} nodes, {} events left after {} runs",
            plan.nodes.len(),
            plan.events.len(),
            self.runs
        );
    }
}
