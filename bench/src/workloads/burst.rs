//! More than can be carried: 20,000 uploads a second for ten seconds. Nothing may be dropped, memory
//! stays bounded, and the operator is told how much there is to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{Context, Meter, Workload};
use crate::hosts::APOLLO;
use crate::results::RowInfo;
use crate::systems::{Backlog, rest};
use crate::tree::{Batch, Upload, verify, wait_everywhere};
use chainsync_hosts::shell::{check_interrupted, sleep};

pub const BURST: Workload = Workload {
    key: "burst",
    about: "200,000 uploads on one node within ten seconds",
    rows: &[RowInfo {
        key: "burst",
        title: "burst of 200,000 files: until all are everywhere, after the last upload",
        unit: "s",
        higher_is_better: false,
    }],
    repeats_max: 1,
    only_if_named: true,
    run,
};

const FILES: u64 = 200_000;
const WITHIN: Duration = Duration::from_secs(10);
/// Written without a pause in between.
const TOGETHER: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(1800);
const ASK_INTERVAL: Duration = Duration::from_millis(500);

fn run(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    let world = context.world;
    world.forget_peak_memory()?;
    let meter = Meter::start(world)?;
    let done = AtomicBool::new(false);
    let (uploads, wrote, took, told) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(context, &done));
        let carried = carry(context);
        done.store(true, Ordering::Relaxed);
        let told = asking.join().map_err(|_| anyhow!("asking panicked"))??;
        let (uploads, wrote, took) = carried?;
        anyhow::Ok((uploads, wrote, took, told))
    })?;
    let mut beside = meter.stop(world, FILES)?;
    verify(world, &uploads)?;
    rest(world)?;
    beside.insert("memory_after_mib".to_owned(), world.memory() as f64 / 1048576.0);
    beside.insert("writing_s".to_owned(), wrote.as_secs_f64());
    beside.insert("backlog_most".to_owned(), told.changes as f64);
    beside.insert("seconds_left_most".to_owned(), told.seconds_left.unwrap_or(0) as f64);
    context.measured(&BURST.rows[0], took.as_secs_f64(), beside);
    Ok(())
}

/// Writes the burst and waits until it is everywhere.
fn carry(context: &Context) -> Result<(Vec<Upload>, Duration, Duration)> {
    let (root, batch) = (context.world.share(APOLLO), Batch::new("burst"));
    let began = Instant::now();
    let mut uploads = Vec::new();
    while (uploads.len() as u64) < FILES {
        check_interrupted()?;
        let next = uploads.len() as u64;
        let due = WITHIN.mul_f64(next as f64 / FILES as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        uploads.extend(batch.write_all(&root, next..next + TOGETHER)?);
    }
    let wrote = began.elapsed();
    let done = wait_everywhere(context.world, &uploads, PATIENCE)?;
    Ok((uploads, wrote, (done - began).saturating_sub(wrote)))
}

/// The most that the writing host ever said about what is left to do.
fn ask(context: &Context, done: &AtomicBool) -> Result<Backlog> {
    let mut most = Backlog::default();
    while !done.load(Ordering::Relaxed) {
        if let Some(told) = context.system.backlog(context.world, APOLLO)? {
            most.changes = most.changes.max(told.changes);
            most.seconds_left = most.seconds_left.max(told.seconds_left);
        }
        sleep(ASK_INTERVAL)?;
    }
    Ok(most)
}
