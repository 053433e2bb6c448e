//! Nothing happens: what it costs.

use anyhow::Result;

use super::{Context, Meter, Workload};
use crate::hosts::NAMES;
use crate::results::RowInfo;
use crate::tree::{Batch, fill};
use chainsync_hosts::shell::sleep;

pub const IDLE: Workload = Workload {
    key: "idle",
    about: "CPU and traffic while nothing changes",
    rows: &[
        RowInfo {
            key: "idle-cpu",
            title: "idle: CPU of a node",
            unit: "% of a core",
            higher_is_better: false,
        },
        RowInfo {
            key: "idle-traffic",
            title: "idle: sent by the node that sends most",
            unit: "B/s",
            higher_is_better: false,
        },
    ],
    repeats_max: 1,
    only_if_named: false,
    run,
};

fn run(context: &mut Context) -> Result<()> {
    let files = fill(context.world, &Batch::new("old"), context.scale.changed)?;
    context.start(&files)?;
    let meter = Meter::start(context.world)?;
    sleep(context.scale.idle)?;
    let beside = meter.stop(context.world, 0)?;
    let seconds = context.scale.idle.as_secs_f64();
    let of = |what: &str| beside.get(what).copied().unwrap_or(f64::NAN);
    let percent = of("cpu_s") / seconds / NAMES.len() as f64 * 100.0;
    let traffic = of("sent_bytes_most") / seconds;
    context.measured(&IDLE.rows[0], percent, beside);
    context.measured(&IDLE.rows[1], traffic, Default::default());
    Ok(())
}
