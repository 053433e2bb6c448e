//! Many uploads as fast as they can be written: from the first write until all are everywhere.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::{Context, Meter, Scale, Workload};
use crate::hosts::{APOLLO, NAMES, World};
use crate::results::{Measurement, RowInfo};
use crate::systems::limits::Limit;
use crate::tree::{Batch, Upload, put, verify, wait_everywhere};

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
    let (rate, beside) = measure(context, writers)?;
    let row = if writers.len() == 1 { &ON_ONE.rows[0] } else { &ON_ALL.rows[0] };
    context.measured(row, rate, beside);
    Ok(())
}

/// Times one, an equal part on each of the writers: files a second, and what else there is to say.
pub fn measure(context: &Context, writers: &[usize]) -> Result<(f64, BTreeMap<String, f64>)> {
    let world = context.world;
    let each = context.scale.files / writers.len() as u64;
    // Beforehand: an application gets its uploads from somewhere, too.
    let prepared: Vec<_> =
        writers.iter().map(|writer| Batch::new(NAMES[*writer]).prepare(0..each)).collect();
    let meter = Meter::start(world)?;
    let began = Instant::now();
    write_as_fast_as_possible(world, writers, &prepared)?;
    let wrote = began.elapsed();
    let uploads: Vec<_> = prepared.into_iter().flatten().map(|(upload, _)| upload).collect();
    let done = wait_everywhere(world, &uploads, context.scale.patience)?;
    let mut beside = meter.stop(world, uploads.len() as u64)?;
    beside.insert("writing_s".to_owned(), wrote.as_secs_f64());
    verify(world, &uploads)?;
    Ok((uploads.len() as f64 / (done - began).as_secs_f64(), beside))
}

/// What is prepared for each of the writers, all at once.
fn write_as_fast_as_possible(
    world: &World,
    writers: &[usize],
    prepared: &[Vec<(Upload, Vec<u8>)>],
) -> Result<()> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (writer, files) in writers.iter().zip(prepared) {
            let root = world.share(*writer);
            threads.push(scope.spawn(move || {
                files.iter().try_for_each(|(upload, content)| put(&root, &upload.path, content))
            }));
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        Ok(())
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
