//! The command line: what it takes, and which file does it.

mod child;
mod coverage;
mod everywhere;
mod explain;
mod files;
mod host;
mod run;
mod search;
mod shrink;
mod twice;
mod views;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chainsync_sim::everywhere::Fault;
use chainsync_sim::plan::{NODES_MAX, Shape};
use chainsync_sim::scenario::Span;
use clap::{Args, Parser, Subcommand, ValueEnum};

use everywhere::Wanted;
use search::Search;
use views::Views;

/// Runs chainsync in a simulated world: scenarios, searches, replays.
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
        /// The seed of the run; without it, the file's, or 1
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Many seeds, `1..1000` (the last one excluded); ends at the first failure
        #[arg(long, value_parser = parse_seeds, conflicts_with_all = ["trace", "report", "timeline"])]
        seeds: Option<(u64, u64)>,
        /// Where: in the simulation, or with real daemons on this machine (needs root)
        #[arg(long, value_enum, default_value_t = On::Sim)]
        on: On,
        /// With `--on live`: the chainsync to run [default: the one beside this program]
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// With `--on live`: leaves disks and logs for a look
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        views: Views,
    },
    /// Draws plans, runs each one and looks for one that fails: exit 0 if none did
    Search(SearchArguments),
    /// Runs a plan as it was found: the same run, bit by bit
    Replay {
        /// The plan: a scenario file with a seed
        plan: PathBuf,
        #[command(flatten)]
        views: Views,
    },
    /// Tells what a plan does, what came of it, and what led to the failure
    Explain {
        /// The plan: a scenario file with a seed
        plan: PathBuf,
    },
    /// Makes a plan that fails as small as it gets, and writes it to `scenarios/regressions/`
    Shrink {
        /// The plan: a scenario file with a seed
        plan: PathBuf,
        /// What to call it, after the invariant
        #[arg(long)]
        name: Option<String>,
        /// The file to write instead
        #[arg(long, conflicts_with = "name")]
        out: Option<PathBuf>,
    },
    /// Prints the plan of a seed
    Plan {
        seed: u64,
        #[command(flatten)]
        shape: ShapeArguments,
    },
    /// Searches, and shows how often plans reach the places that the engine marks: exit 1 if one was
    /// never reached
    Coverage(SearchArguments),
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
    /// What a host of a ring does when a scenario runs on real machines
    #[command(subcommand)]
    Host(host::Task),
    /// Lists the scenarios
    List {
        #[arg(default_value = "scenarios")]
        directory: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Sim,
    Live,
}

#[derive(Args)]
struct SearchArguments {
    /// How many plans
    #[arg(long, conflicts_with = "time")]
    seeds: Option<u64>,
    /// For how long, as in `10m` or `90s`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Does not end at the first failure; failures of one kind are counted
    #[arg(long)]
    keep_going: bool,
    /// Goes on until this invariant is broken, as in `S3`; other failures are counted
    #[arg(long, value_name = "INVARIANT", conflicts_with = "keep_going")]
    until: Option<String>,
    /// Where plans that fail are written
    #[arg(long, default_value = "target/plans")]
    out: PathBuf,
    /// One JSON object, at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shape: ShapeArguments,
}

#[derive(Args)]
struct ShapeArguments {
    /// How many nodes a plan has, both included; 2 to 7
    #[arg(long, value_name = "RANGE", default_value = "3..5", value_parser = parse_range)]
    nodes: (u64, u64),
    /// How many operations of the web application
    #[arg(long, value_name = "RANGE", default_value = "50..500", value_parser = parse_range)]
    operations: (u64, u64),
    /// How many faults
    #[arg(long, value_name = "RANGE", default_value = "0..10", value_parser = parse_range)]
    faults: (u64, u64),
    /// Every plan has what is hard to bring together: the same names written everywhere, files here
    /// and directories there, a policy, indexes that are rolled back
    #[arg(long)]
    clashes: bool,
}

/// How many runs go on side by side.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// Without `--seeds` and `--for`.
const SEEDS_DEFAULT: u64 = 100;

pub(crate) fn main() -> ExitCode {
    // clap ends with 2 by itself for a wrong command line.
    match done(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether the answer is yes.
fn done(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run { file, seed, seeds, on: On::Sim, views, .. } => match seeds {
            Some(seeds) => run::run_seeds(&file, seeds, views.json),
            None => run::run_seed(&file, seed, &views),
        },
        Command::Run { file, seed, seeds, on: On::Live, binary, keep, views } => {
            anyhow::ensure!(seeds.is_none(), "--seeds: one run at a time with `--on live`");
            anyhow::ensure!(!views.simulated(), "--on live has a verdict and --json, no trace");
            run::run_live(&file, seed, binary, keep, views.json)
        }
        Command::Search(arguments) => {
            let found = arguments.search()?.run(arguments.json)?;
            search::print(&found, arguments.json);
            Ok(found.failures.is_empty())
        }
        Command::Replay { plan, views } => run::run_seed(&plan, None, &views),
        Command::Explain { plan } => explain::explain(&plan),
        Command::Shrink { plan, name, out } => {
            shrink::shrink_file(&plan, name.as_deref(), out.as_deref())?;
            Ok(true)
        }
        Command::Plan { seed, shape } => {
            print!("{}", chainsync_sim::plan::draw(seed, shape.shape()?).to_toml());
            Ok(true)
        }
        Command::Coverage(arguments) => {
            let search = Search { keep_going: true, ..arguments.search()? };
            let found = search.run(arguments.json)?;
            Ok(coverage::print(&found, arguments.json) && found.failures.is_empty())
        }
        Command::CrashEverywhere { file, node, fault, operation, seed, trace, json } => {
            let wanted = Wanted { nodes: node, faults: fault, operation };
            everywhere::crash_everywhere(&file, &wanted, seed, trace.as_deref(), json)
        }
        Command::Twice(twice) => twice.run(),
        Command::Host(task) => host::done(task),
        Command::List { directory } => files::list(&directory).map(|()| true),
    }
}

impl SearchArguments {
    fn search(&self) -> anyhow::Result<Search> {
        Ok(Search {
            from: self.from,
            seeds: self.seeds.or(self.time.is_none().then_some(SEEDS_DEFAULT)),
            time: self.time,
            keep_going: self.keep_going,
            until: self.until.clone(),
            shape: self.shape.shape()?,
            out: self.out.clone(),
        })
    }
}

impl ShapeArguments {
    fn shape(&self) -> anyhow::Result<Shape> {
        anyhow::ensure!(
            self.nodes.0 >= 2 && self.nodes.1 <= NODES_MAX,
            "--nodes: a plan has 2 to {NODES_MAX} nodes, not {} to {}",
            self.nodes.0,
            self.nodes.1
        );
        let (operations, faults) = (self.operations, self.faults);
        Ok(Shape { nodes: self.nodes, operations, faults, clashes: self.clashes })
    }
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once("..").and_then(|(from, to)| {
        let range = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?);
        (range.0 <= range.1).then_some(range)
    });
    parsed.ok_or_else(|| format!("`{text}` is no range: write `1..1000`"))
}

/// The last one is excluded, as in Rust.
fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = parse_range(text)?;
    if from == to { Err(format!("`{text}` holds no seed")) } else { Ok((from, to)) }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let text = text.strip_suffix('m').map_or(text.to_owned(), |minutes| format!("{minutes}min"));
    text.parse::<Span>().map(|Span(span)| span).map_err(|error| error.to_string())
}
