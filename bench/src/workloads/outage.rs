//! The middle node loses its daemons for a while in the middle of a steady storm: when do the
//! others agree, and when has it caught up?

use std::time::{Duration, Instant};

use anyhow::Result;

use super::lag::{STEADY_RATE, during_steady_storm};
use super::{Context, Meter, Workload};
use crate::hosts::{APOLLO, CHRONOS, HERMES};
use crate::results::RowInfo;
use crate::tree::{Pending, verify, wait};
use chainsync_hosts::shell::sleep;

pub const OUTAGE: Workload = Workload {
    key: "outage",
    about: "the middle node is away for a while during a steady storm",
    rows: &[
        RowInfo {
            key: "outage-others",
            title: "middle node away: others agree, after the last upload",
            unit: "s",
            higher_is_better: false,
        },
        RowInfo {
            key: "outage-catch-up",
            title: "middle node away: it has caught up, after its start",
            unit: "s",
            higher_is_better: false,
        },
    ],
    repeats_max: 2,
    only_if_named: false,
    run,
};

/// The storm is there before the outage begins, and ends before it does.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER_STORM: Duration = Duration::from_secs(2);

fn run(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    let (world, patience) = (context.world, context.scale.patience);
    let meter = Meter::start(world)?;
    let outage = context.scale.outage;
    let uploads = during_steady_storm(world, STEADY_RATE, || {
        sleep(BEFORE)?;
        world.kill(CHRONOS)?;
        sleep(outage - AFTER_STORM)
    })?;
    let ended = Instant::now();
    let mut pending: Vec<_> =
        [APOLLO, HERMES].map(|host| Pending::new(world, host, &uploads)).into();
    // Whether they agree without it, while it is still away.
    let alone = wait(&mut pending, AFTER_STORM).is_ok();
    sleep(AFTER_STORM.saturating_sub(ended.elapsed()))?;
    let started = Instant::now();
    context.system.start(world, CHRONOS)?;
    pending.push(Pending::new(world, CHRONOS, &uploads));
    let all = wait(&mut pending, patience);
    if let Some(done) = others_of(&pending) {
        let beside = [("without_the_middle".to_owned(), f64::from(u8::from(alone)))].into();
        context.measured(
            &OUTAGE.rows[0],
            done.saturating_duration_since(ended).as_secs_f64(),
            beside,
        );
    }
    all?;
    let beside = meter.stop(world, uploads.len() as u64)?;
    verify(world, &uploads)?;
    let caught_up = pending[2].done.unwrap_or(started);
    context.measured(&OUTAGE.rows[1], (caught_up - started).as_secs_f64(), beside);
    Ok(())
}

/// When both of the others had everything.
fn others_of(all: &[Pending]) -> Option<Instant> {
    all[0].done.zip(all[1].done).map(|(one, other)| one.max(other))
}
