//! One large file: alone, with an edit in its middle, and with uploads beside it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::lag::Sampler;
use super::{Context, Meter, Workload};
use crate::hosts::{APOLLO, NAMES};
use crate::results::RowInfo;
use crate::systems::settle;
use crate::tree::{Batch, Upload, hash, verify, wait_everywhere};
use chainsync_hosts::shell::{check_interrupted, sleep};

pub const ALONE: Workload = Workload {
    key: "big",
    about: "one large file, then 1 MiB changed in its middle",
    rows: &[
        RowInfo {
            key: "big",
            title: "one large file, alone",
            unit: "MiB/s",
            higher_is_better: true,
        },
        RowInfo {
            key: "big-edit",
            title: "1 MiB changed in the middle of it",
            unit: "s",
            higher_is_better: false,
        },
    ],
    repeats_max: 2,
    only_if_named: false,
    run: alone,
};

pub const BESIDE: Workload = Workload {
    key: "beside",
    about: "uploads while a large file is on its way",
    rows: &[
        RowInfo {
            key: "beside",
            title: "lag of uploads beside a large file (p50)",
            unit: "ms",
            higher_is_better: false,
        },
        RowInfo {
            key: "big-beside",
            title: "a large file with uploads beside it",
            unit: "MiB/s",
            higher_is_better: true,
        },
    ],
    repeats_max: 2,
    only_if_named: false,
    run: beside,
};

const MIB: usize = 1 << 20;
const NAME: &str = "big.iso";
/// The edit's own.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Between two uploads beside the large file.
const PAUSE: Duration = Duration::from_millis(50);

fn alone(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    let (world, mib) = (context.world, context.scale.big_mib);
    let meter = Meter::start(world)?;
    let began = Instant::now();
    let upload = write_big(&world.share(APOLLO), mib)?;
    let done = wait_everywhere(world, std::slice::from_ref(&upload), context.scale.patience)?;
    let beside = meter.stop(world, 0)?;
    verify(world, std::slice::from_ref(&upload))?;
    context.measured(&ALONE.rows[0], mib as f64 / (done - began).as_secs_f64(), beside);
    settle(world)?;

    // Not at a border of anybody's blocks.
    let at = (mib / 2) * MIB as u64 + 12_345;
    let edit = Batch { size: MIB, ..Batch::new("edit") }.content(0);
    let meter = Meter::start(world)?;
    let began = Instant::now();
    let file = File::options().write(true).open(world.share(APOLLO).join(NAME))?;
    file.write_all_at(&edit, at)?;
    drop(file);
    for (host, name) in NAMES.iter().enumerate() {
        let path = world.share(host).join(NAME);
        while !holds(&path, &edit, at) {
            check_interrupted()?;
            if began.elapsed() > context.scale.patience {
                bail!("not within {:?}: {name} has the content before", context.scale.patience);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
    let took = began.elapsed().as_secs_f64();
    let beside = meter.stop(world, 0)?;
    let mut hashes = (0..NAMES.len()).map(|host| hash(&world.share(host).join(NAME)));
    let first = hashes.next().ok_or_else(|| anyhow!("no host"))??;
    for other in hashes {
        anyhow::ensure!(other? == first, "the edited file is not the same everywhere");
    }
    context.measured(&ALONE.rows[1], took, beside);
    Ok(())
}

fn beside(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    let (world, mib) = (context.world, context.scale.big_mib);
    let mut sampler = Sampler::new(world, "small", context.scale.patience);
    let meter = Meter::start(world)?;
    let began = Instant::now();
    let (upload, done) = std::thread::scope(|scope| {
        let big = scope.spawn(|| {
            let upload = write_big(&world.share(APOLLO), mib)?;
            let one = std::slice::from_ref(&upload);
            let done = wait_everywhere(world, one, context.scale.patience)?;
            anyhow::Ok((upload, done))
        });
        let mut trouble = Ok(());
        // At least one, however quick the large file was.
        while trouble.is_ok() && (!big.is_finished() || sampler.lags.is_empty()) {
            trouble = sampler.sample().and_then(|()| sleep(PAUSE));
        }
        let done = big.join().map_err(|_| anyhow!("the writer panicked"))?;
        trouble.and(done)
    })?;
    let used = meter.stop(world, 0)?;
    verify(world, std::slice::from_ref(&upload))?;
    verify(world, &sampler.uploads)?;
    sampler.hand_over(context, &BESIDE.rows[0], used.clone());
    context.measured(&BESIDE.rows[1], mib as f64 / (done - began).as_secs_f64(), used);
    Ok(())
}

fn write_big(root: &Path, mib: u64) -> Result<Upload> {
    use std::io::Write;
    let mut file = File::create(root.join(NAME))?;
    let mut hasher = blake3::Hasher::new();
    let batch = Batch { size: MIB, ..Batch::new("big") };
    for index in 0..mib {
        let block = batch.content(index);
        hasher.update(&block);
        file.write_all(&block)?;
    }
    Ok(Upload { path: NAME.to_owned(), size: mib * MIB as u64, hash: hasher.finalize() })
}

fn holds(path: &Path, content: &[u8], at: u64) -> bool {
    // The end of it: who writes in place writes that last.
    let tail = &content[content.len() - 4096..];
    let mut found = vec![0; tail.len()];
    let Ok(file) = File::open(path) else { return false };
    let at = at + (content.len() - tail.len()) as u64;
    file.read_exact_at(&mut found, at).is_ok() && found == tail
}
