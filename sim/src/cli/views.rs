//! How a run is shown: a line, JSON, a trace, a timeline, a page; and what the daemons log.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use chainsync_sim::report::{self, Filter, Report};
use chainsync_sim::run::Outcome;
use chainsync_sim::scenario::Scenario;
use clap::Args;

#[derive(Args, Clone, Default)]
pub(crate) struct Views {
    /// Writes what happened, one event a line
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Writes one HTML page about what happened
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Prints what mattered, one event a line, one column a node
    #[arg(long, conflicts_with = "json")]
    pub timeline: bool,
    /// In the timeline: only events that touch this path, faults and phases
    #[arg(long, requires = "timeline")]
    pub path: Option<String>,
    /// In the timeline: only events on this node, and those of the world
    #[arg(long, requires = "timeline")]
    pub node: Option<String>,
    /// In the timeline: every event
    #[arg(long, requires = "timeline")]
    pub every_event: bool,
    /// Also prints what the daemons log, as in `debug` or `chainsync_engine::link=trace`
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

impl Views {
    /// Whether anything is asked for that only a simulated run has.
    pub(crate) fn simulated(&self) -> bool {
        self.trace.is_some() || self.record() || self.log.is_some()
    }

    /// Whether a record of the run is needed.
    pub(crate) fn record(&self) -> bool {
        self.timeline || self.report.is_some()
    }

    /// The daemons' log on standard error. Without times: those of this machine mean nothing there.
    pub(crate) fn show_log(&self) {
        let Some(filter) = &self.log else { return };
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let log = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        log.with_writer(std::io::stderr).init();
    }

    /// Everything that was asked for, when the run is over.
    pub(crate) fn show(
        &self,
        scenario: &Scenario,
        outcome: &Outcome,
        took: Duration,
    ) -> anyhow::Result<()> {
        if self.json {
            print_json(outcome, took)
        } else {
            print_line(outcome, took)
        }
        let command = command(scenario, outcome.seed);
        if let Some(failure) = &outcome.failure {
            eprintln!("{failure}\n  reproduce: {command} --trace trace.txt");
        }
        let Some(record) = &outcome.record else { return Ok(()) };
        let failure = outcome.failure.as_ref();
        let input = Report { scenario, seed: outcome.seed, failure, command, record };
        if self.timeline {
            let (path, node) = (self.path.clone(), self.node.clone());
            let filter = Filter { every_event: self.every_event, path, node };
            print!("{}", report::timeline(&input, &filter));
        }
        if let Some(path) = &self.report {
            let page = report::html(&input);
            fs::write(path, page).with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }
}

/// The one command that shows a run again.
fn command(scenario: &Scenario, seed: u64) -> String {
    let file = scenario.file.display();
    match scenario.seed == Some(seed) {
        true => format!("chainsync-sim replay {file}"),
        false => format!("chainsync-sim run {file} --seed {seed}"),
    }
}

fn print_json(outcome: &Outcome, took: Duration) {
    let mut value = serde_json::to_value(outcome).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("wall_ms".to_owned(), (took.as_millis() as u64).into());
    }
    println!("{value}");
}

fn print_line(outcome: &Outcome, took: Duration) {
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
