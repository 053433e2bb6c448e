//! `explain`: a plan in words, its run as a timeline, and what broke, for a person who has not seen the
//! code.

use std::path::Path;

use chainsync_sim::report::{Filter, Report, timeline};
use chainsync_sim::run::{Options, run_with};
use chainsync_sim::scenario::Scenario;

use super::files::check;

/// Whether all promises were kept.
pub(crate) fn explain(file: &Path) -> anyhow::Result<bool> {
    let scenario = check(file)?;
    let seed = scenario.seed.unwrap_or(1);
    describe(&scenario, seed);
    let options = Options { record: true, ..Options::default() };
    let outcome = run_with(&scenario, seed, None, &options);
    let Some(record) = &outcome.record else { return Ok(outcome.failure.is_none()) };
    let command = format!("chainsync-sim replay {}", file.display());
    let failure = outcome.failure.as_ref();
    let report = Report { scenario: &scenario, seed, failure, command: command.clone(), record };
    // The whole story of the path that broke; of a run without one, everything that mattered.
    let path = failure.and_then(|failure| failure.path.clone());
    match &path {
        Some(path) => println!("\nWhat happened to {path}, and to the nodes:\n"),
        None => println!("\nWhat happened:\n"),
    }
    print!("{}", timeline(&report, &Filter { path, ..Filter::default() }));
    match failure {
        None => println!("\nEvery promise was kept."),
        Some(failure) => {
            println!("\n{failure}");
            println!("\nThe promise: {}", failure.invariant.sentence());
            println!("See all of it: {command} --report report.html");
        }
    }
    Ok(failure.is_none())
}

fn describe(scenario: &Scenario, seed: u64) {
    let names: Vec<&str> = scenario.nodes.iter().map(|name| name.as_str()).collect();
    println!("{}", scenario.about);
    println!("The ring: {}; seed {seed}.", names.join(" -> "));
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for timed in &scenario.events {
        *counts.entry(timed.event.key()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(key, count)| format!("{count} {key}")).collect();
    println!(
        "{} events within {:?}: {}.",
        scenario.events.len(),
        scenario.ends(),
        counts.join(", ")
    );
}
