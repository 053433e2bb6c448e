//! Many uploads as fast as they can be written: from the first write until all are everywhere.

use std::time::Instant;

use anyhow::{Result, anyhow};

use super::{Context, Meter, Scale, Workload};
use crate::hosts::{APOLLO, NAMES, World};
use crate::results::{Measurement, RowInfo};
use crate::systems::limits::Limit;
use crate::tree::{Batch, Upload, verify, wait_everywhere};

pub const ON_ONE: Workload = Workload {
    key: "storm",
    about: "uploads on one node as fast as they can be written",
    rows: &[STORM],
    repeats_max: usize::MAX,
    only_if_named: false,
    run: on_one,
};

pub const ON_ALL: Workload = Workload {
    key: "storm-all",
    about: "the same number, a third on each node at once",
    rows: &[STORM_ALL],
    repeats_max: usize::MAX,
    only_if_named: false,
    run: on_all,
};

const STORM: RowInfo =
    RowInfo { key: "storm", title: "storm on one node", unit: "files/s", higher_is_better: true };
const STORM_ALL: RowInfo = RowInfo {
    key: "storm-all",
    title: "storm on all nodes at once",
    unit: "files/s",
    higher_is_better: true,
};

fn on_one(context: &mut Context) -> Result<()> {
    storm(context, &[APOLLO])
}

fn on_all(context: &mut Context) -> Result<()> {
    storm(context, &[0, 1, 2])
}

fn storm(context: &mut Context, writers: &[usize]) -> Result<()> {
    context.start(&[])?;
    let world = context.world;
    let meter = Meter::start(world)?;
    let began = Instant::now();
    let uploads = write_as_fast_as_possible(world, writers, context.scale.files)?;
    let wrote = began.elapsed();
    let done = wait_everywhere(world, &uploads, context.scale.patience)?;
    let took = (done - began).as_secs_f64();
    let mut beside = meter.stop(world, uploads.len() as u64)?;
    beside.insert("writing_s".to_owned(), wrote.as_secs_f64());
    verify(world, &uploads)?;
    let row = if writers.len() == 1 { &ON_ONE.rows[0] } else { &ON_ALL.rows[0] };
    context.measured(row, uploads.len() as f64 / took, beside);
    Ok(())
}

/// So many files, an equal part on each of the writers.
pub fn write_as_fast_as_possible(
    world: &World,
    writers: &[usize],
    files: u64,
) -> Result<Vec<Upload>> {
    let each = files / writers.len() as u64;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for writer in writers {
            let (root, batch) = (world.share(*writer), Batch::new(NAMES[*writer]));
            threads.push(scope.spawn(move || batch.write_all(&root, 0..each)));
        }
        let mut uploads = Vec::new();
        for thread in threads {
            uploads.extend(thread.join().map_err(|_| anyhow!("a writer panicked"))??);
        }
        Ok(uploads)
    })
}

/// The same files, copied. Written beforehand: a copy has no way to begin with the first of them.
pub fn limit(world: &World, limit: Limit, scale: &Scale) -> Result<Measurement> {
    let uploads = Batch::new(NAMES[APOLLO]).write_all(&world.share(APOLLO), 0..scale.files)?;
    let (copied, synced) = limit.copy(world)?;
    verify(world, &uploads)?;
    let rate = |took: std::time::Duration| scale.files as f64 / took.as_secs_f64();
    let beside = [("files_per_s_synced".to_owned(), rate(synced))].into();
    Ok(Measurement { row: &ON_ONE.rows[0], value: Ok(rate(copied)), beside })
}
