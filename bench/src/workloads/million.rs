//! A tree of a million files on every host: starts, lag, memory, and a host that joins empty.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::lag::{Sampler, sample_for_a_while};
use super::storm;
use super::{Context, Meter, Workload};
use crate::hosts::{APOLLO, HERMES, World};
use crate::results::RowInfo;
use crate::systems::{rest, settle};
use crate::tree::{Batch, Pending, Upload, fill, verify, wait, wait_everywhere};
use chainsync_hosts::shell::sleep;

pub const MILLION: Workload = Workload {
    key: "million",
    about: "1,000,000 files in 10,000 directories: starts, lag, storm, memory, a host that joins empty",
    rows: &[
        seconds(
            "million-start",
            "a million files: first start, until files of all hosts are everywhere",
        ),
        RowInfo {
            key: "million-memory",
            title: "a million files: memory of a host's daemons, idle",
            unit: "MiB",
            higher_is_better: false,
        },
        RowInfo {
            key: "million-lag",
            title: "a million files: lag, idle (p50)",
            unit: "ms",
            higher_is_better: false,
        },
        RowInfo {
            key: "million-storm",
            title: "a million files: storm on one node",
            unit: "files/s",
            higher_is_better: true,
        },
        seconds(
            RESTART,
            "a million files: restart, until what was changed meanwhile is everywhere",
        ),
        seconds(RESTART_KILLED, "a million files: the same after SIGKILL"),
        seconds("million-join", "a million files: a host joins empty, until it has all"),
    ],
    repeats_max: 1,
    only_if_named: true,
    run,
};

const RESTART: &str = "million-restart";
const RESTART_KILLED: &str = "million-restart-killed";
const FILES: u64 = 1_000_000;
const DIRECTORIES: u64 = 10_000;
/// Changed while the daemon is away, each in another directory: all are there only when all of the
/// tree has been looked at.
const CHANGED: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(1800);
/// Of those that a joining host received, one in so many is read.
const CHECKED_EVERY: usize = 100;

const fn seconds(key: &'static str, title: &'static str) -> RowInfo {
    RowInfo { key, title, unit: "s", higher_is_better: false }
}

fn row(key: &str) -> Result<&'static RowInfo> {
    MILLION.rows.iter().find(|row| row.key == key).context("no such row")
}

fn run(context: &mut Context) -> Result<()> {
    let world = context.world;
    let began = Instant::now();
    let old = Batch { directories: DIRECTORIES, ..Batch::new("old") };
    let uploads = fill(world, &old, FILES)?;
    eprintln!("  filled after {:.0} s", began.elapsed().as_secs_f64());

    let began = Instant::now();
    crate::systems::launch(context.system, world, &uploads, PATIENCE)?;
    let took = began.elapsed().as_secs_f64();
    settle(world)?;
    let peak = [("peak_memory_mib".to_owned(), mib(world.peak_memory()))].into();
    context.measured(row("million-start")?, took, peak);

    let mut sampler = Sampler::new(world, "idle", context.scale.patience);
    let meter = Meter::start(world)?;
    sample_for_a_while(context, &mut sampler)?;
    let beside = meter.stop(world, 0)?;
    verify(world, &sampler.uploads)?;
    sampler.hand_over(context, row("million-lag")?, beside);
    rest(world)?;
    let after_start = mib(world.memory());

    world.forget_peak_memory()?;
    let (rate, beside) = storm::measure(context, &[APOLLO])?;
    context.measured(row("million-storm")?, rate, beside);
    settle(world)?;

    restart(context, row(RESTART)?)?;
    restart(context, row(RESTART_KILLED)?)?;
    rest(world)?;
    let after_restart = mib(world.memory());
    let beside = [("after_restart".to_owned(), after_restart)].into();
    context.measured(row("million-memory")?, after_start.max(after_restart), beside);

    join(context, &uploads)
}

fn restart(context: &mut Context, row: &'static RowInfo) -> Result<()> {
    let world = context.world;
    match row.key {
        RESTART_KILLED => world.kill(APOLLO)?,
        _ => world.terminate(APOLLO)?,
    }
    let batch = Batch { directories: DIRECTORIES, ..Batch::new(row.key) };
    let mut changed = Vec::new();
    for number in 0..CHANGED {
        changed.push(batch.write(&world.share(APOLLO), number * (DIRECTORIES / CHANGED))?);
    }
    let find = find(world)?.min(find(world)?);
    let began = Instant::now();
    context.system.start(world, APOLLO)?;
    let done = wait_everywhere(world, &changed, PATIENCE)?;
    verify(world, &changed)?;
    let beside = [("find_s".to_owned(), find.as_secs_f64())].into();
    context.measured(row, (done - began).as_secs_f64(), beside);
    Ok(())
}

/// What the tree can be looked at in: warm, when the second call is the quicker one.
fn find(world: &World) -> Result<Duration> {
    let mut command = Command::new("find");
    command
        .arg(world.share(APOLLO))
        .args(["-printf", "%s %T@\n"])
        .stdout(File::create("/dev/null")?);
    let began = Instant::now();
    ensure!(command.status()?.success(), "find failed");
    Ok(began.elapsed())
}

/// Hermes gets a new machine: its key and its configuration are all it has.
fn join(context: &mut Context, uploads: &[Upload]) -> Result<()> {
    let (world, share) = (context.world, context.world.share(HERMES));
    world.terminate(HERMES)?;
    let state = world.hosts[HERMES].disk.join("state");
    let before = world.hosts[HERMES].disk.join("before");
    std::fs::create_dir(&before)?;
    std::fs::rename(&share, before.join("share"))?;
    std::fs::rename(&state, before.join("state"))?;
    std::fs::create_dir(&share)?;
    std::fs::create_dir(&state)?;
    // Nothing but chainsync has one.
    if before.join("state/node.key").exists() {
        std::fs::rename(before.join("state/node.key"), state.join("node.key"))?;
    }
    let mut pending = [Pending::new(world, HERMES, uploads)];
    world.forget_peak_memory()?;
    let meter = Meter::start(world)?;
    let began = Instant::now();
    context.system.start(world, HERMES)?;
    let done = wait(&mut pending, PATIENCE)?;
    let took = (done - began).as_secs_f64();
    let beside = meter.stop(world, uploads.len() as u64)?;
    let some: Vec<_> = uploads.iter().step_by(CHECKED_EVERY).cloned().collect();
    verify(world, &some)?;
    sleep(Duration::from_secs(1))?;
    context.measured(row("million-join")?, took, beside);
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}
