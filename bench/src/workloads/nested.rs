//! Directories in directories, each with a file that is written the moment it is there: where
//! watchers lose files.

use std::time::Instant;

use anyhow::Result;

use super::{Context, Meter, Workload};
use crate::hosts::APOLLO;
use crate::results::RowInfo;
use crate::tree::{Batch, verify, wait_everywhere};

pub const NESTED: Workload = Workload {
    key: "nested",
    about: "a burst of nested directories with a file in each",
    rows: &[RowInfo {
        key: "nested",
        title: "burst of nested directories",
        unit: "directories/s",
        higher_is_better: true,
    }],
    repeats_max: usize::MAX,
    only_if_named: false,
    run,
};

const DEPTH: u64 = 5;

fn run(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    let (world, batch) = (context.world, Batch::new("nested"));
    let root = world.share(APOLLO);
    let meter = Meter::start(world)?;
    let began = Instant::now();
    let mut uploads = Vec::new();
    let mut path = String::new();
    for index in 0..context.scale.nested {
        path = match index % DEPTH {
            0 => format!("tree-{index}"),
            level => format!("{path}/level-{level}"),
        };
        std::fs::create_dir(root.join(&path))?;
        uploads.push(crate::tree::write(&root, &format!("{path}/file"), &batch.content(index))?);
    }
    let done = wait_everywhere(world, &uploads, context.scale.patience)?;
    let beside = meter.stop(world, uploads.len() as u64)?;
    verify(world, &uploads)?;
    let rate = uploads.len() as f64 / (done - began).as_secs_f64();
    context.measured(&NESTED.rows[0], rate, beside);
    Ok(())
}
