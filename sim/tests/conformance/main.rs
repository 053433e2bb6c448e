//! Whether the simulated disk and watcher do what Linux does (M2): one drawn script, two arms.
//!
//! A difference is a bug of the simulation, unless Linux is what surprises: then of the engine.
//!
//! Most scripts run in memory, on tmpfs, some on the file system of the temporary directory.
//! `CHAINSYNC_CONFORMANCE_SCRIPTS` says how many, `CHAINSYNC_CONFORMANCE_SEED` from which seed on,
//! `CHAINSYNC_CONFORMANCE_DIR` where all of them run.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test against the real system"
)]

mod arm;
mod compare;
mod guess;
mod linux;
mod place;
mod script;
mod simulated;
mod tally;

use chainsync_sim::fs::DiskOptions;

use compare::Difference;
use place::Place;
use script::{In, Name, Operation};
use tally::Tally;

/// A directory in the root that scripts do not know: where the Linux arm marks the end of events.
const MARKS: &str = "marks";
/// Of one script.
const OPERATIONS: usize = 50;
/// Most of the time is spent waiting for the host's reader.
const WORKERS: usize = 3;
/// In ci/nightly more.
const SCRIPTS: u64 = 2_000;
/// One script in so many runs on the file system of the temporary directory.
const ON_DISK_ONE_IN: u64 = 10;
/// So many scripts come to everything that is worth coming to.
const SCRIPTS_ENOUGH: u64 = 1_000;

#[test]
fn scripts_do_the_same_on_linux_and_in_the_simulation() {
    // The simulation has none. What a umask takes from a new file the host gives back, and that raises
    // an event.
    rustix::process::umask(rustix::fs::Mode::empty());
    let places = Place::all();
    let (first, scripts) = (number("SEED").unwrap_or(0), number("SCRIPTS").unwrap_or(SCRIPTS));
    let work = &|worker| {
        let mut tally = Tally::default();
        for seed in (first..first + scripts).skip(worker).step_by(WORKERS) {
            let script = script::draw(seed, OPERATIONS);
            let places = if seed % ON_DISK_ONE_IN == 0 { &places[..] } else { &places[..1] };
            for place in places {
                place.check(seed, &script, &DiskOptions::default(), &mut tally);
            }
        }
        tally
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        for worker in workers {
            match worker.join() {
                Ok(of_worker) => tally.add(of_worker),
                Err(report) => std::panic::resume_unwind(report),
            }
        }
    });
    if scripts >= SCRIPTS_ENOUGH {
        tally.demand();
    }
}

/// The limit is the system's, and only root may change it: this fills the queue that there is.
#[test]
fn a_queue_that_is_full_loses_the_same() {
    let Some(watch_queue_max) = queue_max().filter(|max| *max <= QUEUE_EVENTS_MAX) else {
        return eprintln!("skipped: the system's queue of events is too long to be filled here");
    };
    let root = || In::Path(Vec::new());
    let mut script = vec![Operation::Watch { at: Name(Vec::new()) }];
    for (handle, name) in [b"a", b"b"].into_iter().enumerate() {
        let name = Name(name.to_vec());
        script.push(Operation::CreateFile { handle, dir: root(), name, mode: 0o600 });
    }
    script.push(Operation::ReadEvents);
    // Neighbours differ, or they would be merged.
    let modes = (0..watch_queue_max).map(|number| number % 2);
    script.extend(modes.map(|handle| Operation::SetFileMode { handle, mode: 0o600 }));
    let last = Operation::SetFileMode { handle: (watch_queue_max - 1) % 2, mode: 0o600 };
    // Equal to the last that found room, and yet it is lost.
    script.extend([last.clone(), last.clone(), Operation::ReadEvents, last]);
    let options = DiskOptions { watch_queue_max, ..DiskOptions::default() };
    let difference = Place::all()[0].compare(&script, &options, &mut Tally::default());
    if let Some(Difference { operation, what }) = difference {
        // All of it would be too much to read.
        let what: String = what.chars().take(1_000).collect();
        panic!("operation {operation}, {:?}\n{what}", script.get(operation));
    }
}

/// What can be filled in seconds. The kernel's default is 16,384.
const QUEUE_EVENTS_MAX: usize = 40_000;

fn queue_max() -> Option<usize> {
    let max = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").ok()?;
    max.trim().parse().ok()
}

fn number(what: &str) -> Option<u64> {
    let value = std::env::var(format!("CHAINSYNC_CONFORMANCE_{what}")).ok()?;
    Some(value.parse().expect("a number"))
}
