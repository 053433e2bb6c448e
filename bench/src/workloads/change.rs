//! In a tree that is equal everywhere: a fifth is written anew, then half is deleted.

use std::time::Instant;

use anyhow::Result;

use super::{Context, Meter, Workload};
use crate::hosts::APOLLO;
use crate::results::RowInfo;
use crate::systems::settle;
use crate::tree::{Batch, Pending, Upload, fill, on_all_hosts, verify, wait};

pub const CHANGE: Workload = Workload {
    key: "change",
    about: "20 % of a tree overwritten, then half of it deleted",
    rows: &[
        RowInfo {
            key: "overwrite",
            title: "overwrite 20 % of a tree",
            unit: "files/s",
            higher_is_better: true,
        },
        RowInfo {
            key: "delete",
            title: "delete half of a tree",
            unit: "files/s",
            higher_is_better: true,
        },
    ],
    repeats_max: 2,
    only_if_named: false,
    run,
};

fn run(context: &mut Context) -> Result<()> {
    let world = context.world;
    let old = Batch::new("old");
    let files = fill(world, &old, context.scale.changed)?;
    context.start(&files)?;
    let root = world.share(APOLLO);

    let meter = Meter::start(world)?;
    let began = Instant::now();
    // Another size: then a look need not read the content to see which version is there.
    let new = Batch { size: old.size + 1, ..Batch::new("new") };
    let overwritten = (0..context.scale.changed)
        .step_by(5)
        .map(|index| crate::tree::write(&root, &old.path(index), &new.content(index)))
        .collect::<std::io::Result<Vec<_>>>()?;
    let mut pending = on_all_hosts(|host| Pending::overwritten(world, host, &overwritten));
    let done = wait(&mut pending, context.scale.patience)?;
    let beside = meter.stop(world, overwritten.len() as u64)?;
    verify(world, &overwritten)?;
    let rate = overwritten.len() as f64 / (done - began).as_secs_f64();
    context.measured(&CHANGE.rows[0], rate, beside);
    settle(world)?;

    // In all directories, some that were written anew and some that were not.
    let deleted: Vec<Upload> = files.iter().take(files.len() / 2).cloned().collect();
    let meter = Meter::start(world)?;
    let began = Instant::now();
    for upload in &deleted {
        std::fs::remove_file(root.join(&upload.path))?;
    }
    let mut pending = on_all_hosts(|host| Pending::gone(world, host, &deleted));
    let done = wait(&mut pending, context.scale.patience)?;
    let beside = meter.stop(world, deleted.len() as u64)?;
    let left = files[files.len() / 2..].iter();
    let untouched: Vec<_> =
        left.filter(|one| overwritten.iter().all(|two| two.path != one.path)).cloned().collect();
    verify(world, &untouched)?;
    let rate = deleted.len() as f64 / (done - began).as_secs_f64();
    context.measured(&CHANGE.rows[1], rate, beside);
    Ok(())
}
