//! Everything that is asked for, in random order, and what came out of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::args::Args;
use crate::hosts::{World, world};
use crate::machine::{busy, machine, own};
use crate::report;
use crate::results::{Measurement, Results, SystemInfo};
use crate::systems::limits::{self, Limit};
use crate::systems::{self, System};
use crate::workloads::{self, Context, Scale, Workload};
use chainsync_hosts::shell::interrupted;

/// Before anything is known of how long a run takes.
const JOB_GUESS: Duration = Duration::from_secs(12);
const SHOWN_LOG_LINES: usize = 8;

/// One workload with one system, once.
#[derive(Clone, Copy)]
struct Job {
    workload: usize,
    subject: Subject,
}

#[derive(Clone, Copy)]
enum Subject {
    System(usize),
    Limit(Limit),
}

/// Whether everything that was asked for was measured.
pub fn run(args: &Args) -> Result<bool> {
    if args.list {
        list();
        return Ok(true);
    }
    let results = match &args.from {
        Some(file) => serde_json::from_str(&std::fs::read_to_string(file)?)?,
        None => measure(args)?,
    };
    report::write(args, &results)?;
    ensure!(!interrupted(), "interrupted; what was measured is in the table, no file was written");
    Ok(!results.failed())
}

fn list() {
    for workload in &workloads::ALL {
        let asked = if workload.only_if_named { " (only if named by --only)" } else { "" };
        println!("{:10} {}{asked}", workload.key, workload.about);
    }
    println!("\nsystems: {}", crate::args::SYSTEMS.join(", "));
}

fn measure(args: &Args) -> Result<Results> {
    // SAFETY: geteuid has no conditions.
    ensure!(unsafe { libc::geteuid() } == 0, "network namespaces and disks need root");
    let mut scale = if args.quick { Scale::quick() } else { Scale::full() };
    scale.files = args.files.unwrap_or(scale.files);
    let binary = binary(args)?;
    let mut systems = systems::all(&binary);
    systems.retain(|system| args.wants(system.key()));
    let limits: Vec<Limit> = limits::ALL.into_iter().filter(|one| args.wants(one.key())).collect();

    let mut results = Results {
        date: jiff::Zoned::now().strftime("%Y-%m-%d").to_string(),
        command: command(),
        machine: machine(),
        settings: vec![scale.describe(), disks(args)],
        systems: Vec::new(),
        rows: Vec::new(),
    };
    for system in &systems {
        results.systems.push(SystemInfo {
            key: system.key().to_owned(),
            title: system.title().to_owned(),
            versions: system.versions().with_context(|| format!("{}: version", system.key()))?,
            configuration: String::new(),
        });
    }
    for limit in &limits {
        results.systems.push(SystemInfo {
            key: limit.key().to_owned(),
            title: limit.title().to_owned(),
            versions: vec![limit.version()?],
            configuration: limit.command().to_owned(),
        });
    }

    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let jobs = plan(args, systems.len(), &limits, &mut random);
    results.settings.push(repetitions(args));
    let mut world = world(args.one_image, args.wants_large_disks(), args.keep)?;
    let mut clock = Clock::new(jobs.len());
    let before = (busy(), own());
    for (number, job) in jobs.iter().enumerate() {
        let workload = &workloads::ALL[job.workload];
        let key = match job.subject {
            Subject::System(index) => systems[index].key(),
            Subject::Limit(limit) => limit.key(),
        };
        clock.announce(number, workload.key, key);
        let began = Instant::now();
        let measured = match job.subject {
            Subject::Limit(limit) => one_limit(&mut world, limit, &scale, workload),
            Subject::System(index) => {
                let system = &mut *systems[index];
                let seed = random.random();
                let (measured, configuration) = one(&mut world, system, workload, &scale, seed);
                if !configuration.is_empty() {
                    results.systems[index].configuration =
                        configuration.replace(&world.everywhere().display().to_string(), "/srv");
                }
                measured
            }
        };
        if interrupted() {
            results.settings.push("interrupted: not everything was measured".to_owned());
            break;
        }
        clock.ended(workload.key, key, began.elapsed());
        for measurement in measured {
            say(&measurement);
            results.add(key, measurement);
        }
        eprintln!("  took {:.0} s", began.elapsed().as_secs_f64());
    }
    world.stop()?;
    let others = (busy() - before.0).saturating_sub(own() - before.1).saturating_sub(world.cpu()?);
    results.settings.push(beside(others, clock.began.elapsed(), results.machine.cores));
    let order: Vec<_> = workloads::ALL.iter().flat_map(|one| one.rows).map(|row| row.key).collect();
    results.sort_rows(&order);
    eprintln!("the whole took {}", minutes(clock.began.elapsed()));
    Ok(results)
}

/// The repetitions one after the other, each in an order of its own.
fn plan(args: &Args, systems: usize, limits: &[Limit], random: &mut ChaCha8Rng) -> Vec<Job> {
    let mut jobs = Vec::new();
    for repetition in 0..args.repeat() {
        let mut round = Vec::new();
        for (index, workload) in workloads::ALL.iter().enumerate() {
            if !args.wants_workload(workload) || repetition >= workload.repeats_max {
                continue;
            }
            let job = |subject| Job { workload: index, subject };
            round.extend((0..systems).map(Subject::System).map(job));
            if workload.key == workloads::ALL[0].key {
                round.extend(limits.iter().copied().map(Subject::Limit).map(job));
            }
        }
        for last in (1..round.len()).rev() {
            round.swap(last, random.random_range(0..=last));
        }
        jobs.extend(round);
    }
    jobs
}

/// One run; what could not be measured is a failure that says why.
fn one(
    world: &mut World,
    system: &mut dyn System,
    workload: &Workload,
    scale: &Scale,
    seed: u64,
) -> (Vec<Measurement>, String) {
    let mut configuration = String::new();
    let prepared = world.fresh().and_then(|()| {
        configuration = system.configure(world)?;
        Ok(())
    });
    let random = ChaCha8Rng::seed_from_u64(seed);
    let mut context = Context { world, system, scale, random, measured: Vec::new() };
    let ended = prepared.and_then(|()| (workload.run)(&mut context));
    let mut measured = context.measured;
    if let Err(error) = ended
        && !interrupted()
    {
        eprintln!("  failed: {error:#}");
        show_logs(world);
        measured.extend(missing(workload, &measured, &format!("{error:#}")));
    }
    if let Err(error) = world.stop() {
        eprintln!("  {error:#}");
    }
    (measured, configuration)
}

fn one_limit(
    world: &mut World,
    limit: Limit,
    scale: &Scale,
    workload: &Workload,
) -> Vec<Measurement> {
    let measured = world.fresh().and_then(|()| workloads::limit(world, limit, scale));
    measured
        .map(|one| vec![one])
        .unwrap_or_else(|error| missing(workload, &[], &format!("{error:#}")))
}

fn missing(workload: &Workload, measured: &[Measurement], why: &str) -> Vec<Measurement> {
    let lacking = workload.rows.iter().filter(|row| measured.iter().all(|one| one.row != *row));
    let failure = |row| Measurement { row, value: Err(why.to_owned()), beside: BTreeMap::new() };
    lacking.map(failure).collect()
}

fn show_logs(world: &World) {
    for host in &world.hosts {
        let text = std::fs::read_to_string(&host.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..] {
            eprintln!("    {}: {line}", host.name);
        }
    }
}

fn say(measurement: &Measurement) {
    let row = measurement.row;
    match &measurement.value {
        Ok(value) => eprintln!("  {}: {} {}", row.title, report::number(*value), row.unit),
        Err(_) => eprintln!("  {}: failed", row.title),
    }
}

/// How far it is, and how long the rest takes.
struct Clock {
    began: Instant,
    jobs: usize,
    done: usize,
    known: BTreeMap<String, Duration>,
}

impl Clock {
    fn new(jobs: usize) -> Self {
        Self { began: Instant::now(), jobs, done: 0, known: BTreeMap::new() }
    }

    fn announce(&self, number: usize, workload: &str, system: &str) {
        let average = match self.done {
            0 => JOB_GUESS,
            done => self.began.elapsed() / done as u32,
        };
        let left = average * (self.jobs - number) as u32;
        let known = self.known.get(&format!("{workload} {system}"));
        let known = known.map(|took| format!(", took {} s before", took.as_secs()));
        eprintln!(
            "run {} of {}: {workload}, {system} (about {} left{})",
            number + 1,
            self.jobs,
            minutes(left),
            known.unwrap_or_default()
        );
    }

    fn ended(&mut self, workload: &str, system: &str, took: Duration) {
        self.done += 1;
        self.known.insert(format!("{workload} {system}"), took);
    }
}

fn minutes(duration: Duration) -> String {
    format!("{}:{:02} min", duration.as_secs() / 60, duration.as_secs() % 60)
}

fn binary(args: &Args) -> Result<PathBuf> {
    let beside = || -> Result<PathBuf> {
        let this = std::env::current_exe()?;
        Ok(this.parent().unwrap_or(Path::new(".")).join("chainsync"))
    };
    let path = args.binary.clone().map_or_else(beside, Ok)?;
    path.canonicalize().with_context(|| format!("there is no chainsync at {}", path.display()))
}

/// As somebody would type it, without the paths of this machine.
fn command() -> String {
    let mut words = vec!["ci/bench".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        match word.split_once('=').map_or(&*word, |(name, _)| name) {
            "--binary" | "--json" | "--svg" | "--markdown" => {
                // Its value is either part of it or the next word.
                let _ = if word.contains('=') { None } else { arguments.next() };
            }
            _ => words.push(word),
        }
    }
    words.join(" ")
}

fn disks(args: &Args) -> String {
    let disks =
        if args.one_image { "one ext4 image for all hosts" } else { "one ext4 image per host" };
    format!("{disks}, journaled, made anew for each run, on a loop device")
}

/// Somebody else's work is in all the figures: whoever reads them has to know.
fn beside(others: Duration, took: Duration, cores: usize) -> String {
    let part = others.as_secs_f64() / took.as_secs_f64() / cores as f64;
    format!(
        "whatever else ran on the machine (disks and making them included) used {:.0} % of its CPU time",
        part * 100.0
    )
}

fn repetitions(args: &Args) -> String {
    let fewer: Vec<_> = workloads::ALL
        .iter()
        .filter(|one| one.repeats_max < args.repeat() && args.wants_workload(one))
        .map(|one| format!("{} {}", one.key, one.repeats_max))
        .collect();
    let fewer = if fewer.is_empty() { String::new() } else { format!(" ({})", fewer.join(", ")) };
    format!("repetitions: {}{fewer}, in an order drawn from seed {}", args.repeat(), args.seed)
}
