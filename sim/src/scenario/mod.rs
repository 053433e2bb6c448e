//! The scenario file: nodes, workload, faults, expectations (DESIGN.md, section 7).
//!
//! Unknown keys are errors; every error has file, line and column. What is parsed here has been
//! checked: names are known, paths are paths, every table holds one event.

mod config;
mod disk;
mod error;
mod event;
mod machine;
mod timeline;
mod units;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use chainsync_core::{NodeName, RelPath, Ring};
use chainsync_env::Point;
use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use config::{Config, Durability, Expect, Network, Reaches};
pub use disk::{DiskFaultEvent, QuotaEvent};
pub use error::ScenarioError;
pub use event::*;
pub use machine::MachineKnobs;
use timeline::Timeline;
pub use units::{Bandwidth, SignedSpan, Size, Span, SpanRange, UnitError};

/// A checked scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub file: PathBuf,
    pub about: String,
    pub on: Vec<Backend>,
    /// Of a plan: the seed of whatever the file leaves open.
    pub seed: Option<u64>,
    /// In ring order.
    pub nodes: Vec<NodeName>,
    pub config: Config,
    pub network: Network,
    /// What all machines are like, and single ones; the rest is drawn.
    pub machine: MachineKnobs,
    pub machines: BTreeMap<String, MachineKnobs>,
    /// In order of time.
    pub events: Vec<TimedEvent>,
    pub expect: Expect,
    source: String,
}

#[derive(Debug, Clone)]
pub struct TimedEvent {
    pub time: Duration,
    pub event: Event,
    /// Its place in the file.
    span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    Sim,
    Live,
    Vm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    about: String,
    on: Vec<Backend>,
    seed: Option<u64>,
    nodes: Spanned<Vec<Spanned<String>>>,
    config: Option<Spanned<Config>>,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    machine: MachineKnobs,
    #[serde(default)]
    machines: BTreeMap<Spanned<String>, MachineKnobs>,
    #[serde(default)]
    at: Vec<Spanned<event::At>>,
    expect: Option<Spanned<Expect>>,
}

impl Scenario {
    pub fn parse(file: impl Into<PathBuf>, source: &str) -> Result<Self, ScenarioError> {
        let file = file.into();
        let error = |span, message: String| ScenarioError::at(&file, source, span, message);
        let raw: Raw = toml::from_str(source)
            .map_err(|problem| error(problem.span().unwrap_or(0..0), problem.message().into()))?;
        let mut nodes = Vec::new();
        for name in raw.nodes.get_ref() {
            let parsed = NodeName::new(name.get_ref());
            nodes.push(parsed.map_err(|problem| error(name.span(), problem.to_string()))?);
        }
        Ring::new(nodes.clone()).map_err(|problem| error(raw.nodes.span(), problem.to_string()))?;
        let mut machines = BTreeMap::new();
        for (name, knobs) in raw.machines {
            check_name(&name, &nodes, &error)?;
            machines.insert(name.into_inner(), knobs);
        }
        let mut events = Vec::new();
        for at in raw.at {
            let span = at.span();
            let at = at.into_inner();
            let time = at.time.0;
            let mut found = at.events();
            let Some(event) = found.pop().filter(|_| found.is_empty()) else {
                let message = match found.first() {
                    None => "this has a time but no event".to_owned(),
                    Some(first) => {
                        format!("this has more than one event, `{}` among them", first.key())
                    }
                };
                return Err(error(span, message));
            };
            check_event(&event, &nodes, &error)?;
            events.push(TimedEvent { time, event, span });
        }
        let config =
            checked(raw.config, &error, |config: &Config| check_known(&config.prefer, &nodes))?;
        let expect = checked(raw.expect, &error, |expect: &Expect| {
            check_dead(&expect.dead, &nodes)?;
            check_known(expect.winners.values(), &nodes)?;
            check_known(expect.reaches.iter().flat_map(|reaches| &reaches.nodes), &nodes)?;
            check_passes(&expect.passes)
        })?;
        events.sort_by_key(|event| event.time);
        Ok(Self {
            about: raw.about,
            on: raw.on,
            seed: raw.seed,
            nodes,
            config,
            network: raw.network,
            machine: raw.machine,
            machines,
            events,
            expect,
            source: source.to_owned(),
            file,
        })
    }

    /// Whether the simulation can do all of it; the error names the first event that it cannot.
    pub fn check_simulated(&self) -> Result<(), ScenarioError> {
        let mut timeline = Timeline::default();
        for TimedEvent { event, span, .. } in &self.events {
            let refusal = match event.simulated() {
                Err(reason) => {
                    Some(format!("the simulation cannot do `{}`: {reason}", event.key()))
                }
                Ok(()) => timeline.follow(event).err(),
            };
            if let Some(message) = refusal {
                return Err(ScenarioError::at(&self.file, &self.source, span.clone(), message));
            }
        }
        Ok(())
    }

    /// A scenario that was made, not read: everything in it is as the parser would have it.
    pub fn made(about: String, seed: u64, nodes: Vec<NodeName>) -> Self {
        Self {
            file: PathBuf::new(),
            about,
            on: vec![Backend::Sim],
            seed: Some(seed),
            nodes,
            config: Config::default(),
            network: Network::default(),
            machine: MachineKnobs::default(),
            machines: BTreeMap::new(),
            events: Vec::new(),
            expect: Expect::default(),
            source: String::new(),
        }
    }

    /// Adds an event; they stay in order of time.
    pub fn add(&mut self, time: Duration, event: Event) {
        let place = self.events.partition_point(|timed| timed.time <= time);
        self.events.insert(place, TimedEvent { time, event, span: 0..0 });
    }

    /// Removes what makes no sense at its time, as the start of a daemon that runs.
    pub fn drop_impossible(&mut self) {
        let mut timeline = Timeline::default();
        self.events.retain(|timed| timeline.follow(&timed.event).is_ok());
    }

    /// What a node's machine is like, as far as the scenario says.
    pub fn knobs(&self, node: &str) -> MachineKnobs {
        self.machines.get(node).map_or_else(|| self.machine.clone(), |own| own.or(&self.machine))
    }

    /// When the last event is over.
    pub fn ends(&self) -> Duration {
        let end = |timed: &TimedEvent| timed.time + timed.event.lasts();
        self.events.iter().map(end).max().unwrap_or_default()
    }

    /// The first line of `about`.
    pub fn headline(&self) -> &str {
        self.about.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
    }
}

/// A table, or what it is without one.
fn checked<T: Default>(
    table: Option<Spanned<T>>,
    error: &dyn Fn(Range<usize>, String) -> ScenarioError,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, ScenarioError> {
    let Some(table) = table else { return Ok(T::default()) };
    check(table.get_ref()).map_err(|message| error(table.span(), message))?;
    Ok(table.into_inner())
}

fn check_known<'a>(
    names: impl IntoIterator<Item = &'a String>,
    nodes: &[NodeName],
) -> Result<(), String> {
    let is_known = |name: &String| nodes.iter().any(|node| node.as_str() == name);
    match names.into_iter().find(|name| !is_known(name)) {
        Some(unknown) => {
            let known: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            Err(format!("there is no node `{unknown}`; nodes are {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

fn check_dead(dead: &[String], nodes: &[NodeName]) -> Result<(), String> {
    check_known(dead, nodes)?;
    if !dead.is_empty() && nodes.iter().all(|node| dead.iter().any(|name| name == node.as_str())) {
        return Err("`dead` names every node: somebody has to be left".to_owned());
    }
    Ok(())
}

fn check_passes(passes: &BTreeMap<String, u64>) -> Result<(), String> {
    let marks: Vec<String> = Point::ALL.iter().map(|point| format!("{point:?}")).collect();
    match passes.keys().find(|mark| !marks.contains(mark)) {
        Some(unknown) => {
            Err(format!("there is no mark `{unknown}`; marks are {}", marks.join(", ")))
        }
        None => Ok(()),
    }
}

fn check_name(
    name: &Spanned<String>,
    nodes: &[NodeName],
    error: &dyn Fn(Range<usize>, String) -> ScenarioError,
) -> Result<(), ScenarioError> {
    check_known([name.get_ref()], nodes).map_err(|message| error(name.span(), message))
}

fn check_event(
    event: &Event,
    nodes: &[NodeName],
    error: &dyn Fn(Range<usize>, String) -> ScenarioError,
) -> Result<(), ScenarioError> {
    for name in event.nodes() {
        check_name(name, nodes, error)?;
    }
    if let Event::Reload(ReloadEvent { node, ring: Some(ring) }) = event
        && !ring.iter().any(|name| name.get_ref() == node.get_ref())
    {
        let message = format!("the ring of `{}` has to name it, too", node.get_ref());
        return Err(error(node.span(), message));
    }
    for path in event.paths() {
        if let Err(problem) = RelPath::new(path.get_ref()) {
            return Err(error(path.span(), format!("not a path in a share: {problem}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
about = """Chronos loses power in the middle of a storm and comes back.
Shows the bypass."""
on    = ["sim", "live", "vm"]
nodes = ["apollo", "chronos", "hermes"]

[config]
durability = "batch"

[network]
latency   = "200us..5ms"
bandwidth = "1Gbit"

[[at]]
time       = "2s"
power-loss = { node = "chronos" }

[[at]]
time  = "0s"
storm = { nodes = ["apollo"], files = 2000, size = "5KiB", directories = 50, over = "4s" }

[[at]]
time = "3s"
partition = { between = [["apollo"], ["chronos", "hermes"]], direction = "both" }

[expect]
bypass-within    = "10s"
converged-within = "20s"
lost             = 0
"#;

    fn message(source: &str) -> String {
        Scenario::parse("x.toml", source).unwrap_err().to_string()
    }

    #[test]
    fn the_example_of_the_design_parses() {
        let scenario = Scenario::parse("x.toml", EXAMPLE).unwrap();
        let keys: Vec<&str> = scenario.events.iter().map(|timed| timed.event.key()).collect();
        assert_eq!(keys, ["storm", "power-loss", "partition"]);
        assert_eq!(scenario.ends(), Duration::from_secs(4));
        assert_eq!(
            scenario.headline(),
            "Chronos loses power in the middle of a storm and comes back."
        );
        assert_eq!(scenario.check_simulated(), Ok(()));
    }

    #[test]
    fn every_error_names_file_line_and_column() {
        for (from, to, place, word) in [
            ("lost             = 0", "loss = 0", "x.toml:29:1", "unknown field `loss`"),
            ("\"4s\" }", "\"4 parsecs\" }", "x.toml:20:", "`4 parsecs` is no duration"),
            ("[\"apollo\"], files", "[\"zeus\"], files", "x.toml:20:20", "no node `zeus`"),
            ("{ node = \"chronos\" }", "{ nodes = 1 }", "x.toml:16:16", "unknown field `nodes`"),
            ("\"hermes\"]\n", "\"apollo\"]\n", "x.toml:5:9", "names `apollo` twice"),
            (
                "time = \"3s\"\npartition",
                "time = \"3s\"\nheal = {}\npartition",
                "x.toml:22:1",
                "more than one event",
            ),
            ("power-loss = { node = \"chronos\" }", "", "x.toml:14:1", "no event"),
            (
                "power-loss = {",
                "reload = { ring = [\"apollo\", \"hermes\"],",
                "x.toml:16:",
                "the ring of `chronos` has to name it",
            ),
            ("lost             = 0", "dead = [\"zeus\"]", "x.toml:26:", "no node `zeus`"),
            ("lost             = 0", "winners = { a = \"zeus\" }", "x.toml:26:", "no node `zeus`"),
            ("durability = \"batch\"", "prefer = \"zeus\"", "x.toml:7:", "no node `zeus`"),
            (
                "durability = \"batch\"",
                "policy = \"older\"",
                "x.toml:8:",
                "unknown variant `older`",
            ),
            (
                "lost             = 0",
                "dead = [\"hermes\", \"apollo\", \"chronos\"]",
                "x.toml:26:",
                "somebody has to be left",
            ),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let message = message(&EXAMPLE.replacen(from, to, 1));
            assert!(message.contains(place) && message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_node_cannot_die_twice_or_be_operated_on_while_it_lives() {
        for (from, to, word) in [
            (
                "partition = { between = [[\"apollo\"], [\"chronos\", \"hermes\"]], direction = \"both\" }",
                "crash = { node = \"chronos\" }",
                "does not run",
            ),
            ("power-loss = {", "start = {", "runs already"),
            ("power-loss = {", "wipe-index = {", "while the daemon of `chronos` runs"),
            (
                "partition = { between = [[\"apollo\"], [\"chronos\", \"hermes\"]], direction = \"both\" }",
                "restore-index = { node = \"chronos\" }",
                "was saved",
            ),
            ("power-loss = {", "continue = {", "is not stopped"),
            (
                "power-loss = { node = \"chronos\" }",
                "crash = { node = \"chronos\", before-operation = 7 }",
                "needs `back-after`",
            ),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let source = EXAMPLE.replace(from, to);
            let error = Scenario::parse("x.toml", &source).unwrap().check_simulated();
            let message = error.unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
