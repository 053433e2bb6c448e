//! One upload at a time: from its close on apollo until its content can be read on both others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use rand::RngExt as _;

use super::{Context, Meter, Workload};
use crate::hosts::{APOLLO, CHRONOS, HERMES, NAMES, World};
use crate::results::RowInfo;
use crate::systems::settle;
use crate::tree::{Batch, Upload, fill, verify, wait_everywhere};
use chainsync_hosts::shell::{check_interrupted, sleep};

pub const EMPTY: Workload = Workload {
    key: "lag",
    about: "one upload at a time in an empty tree, idle and during a steady storm",
    rows: &[
        row("lag", "lag in an empty tree, idle (p50)"),
        row("lag-storm", "lag in an empty tree, steady storm (p50)"),
    ],
    repeats_max: usize::MAX,
    only_if_named: false,
    run: empty,
};

pub const FILLED: Workload = Workload {
    key: "lag-tree",
    about: "the same in a tree with many files",
    rows: &[
        row("lag-tree", "lag in a filled tree, idle (p50)"),
        row("lag-tree-storm", "lag in a filled tree, steady storm (p50)"),
    ],
    repeats_max: usize::MAX,
    only_if_named: false,
    run: filled,
};

pub const HALF: Workload = Workload {
    key: "lag-half",
    about: "the same beside a storm at half of what chainsync carries: no peer could",
    rows: &[row("lag-half", "lag beside 2,500 uploads a second (p50)")],
    repeats_max: 1,
    only_if_named: true,
    run: half,
};

/// Between two looks of the reader.
const LOOK_INTERVAL: Duration = Duration::from_micros(150);
/// What every system can carry for ever: the slowest makes 140.
pub const STEADY_RATE: u32 = 100;
/// Half of what chainsync carries on two cores.
const HALF_RATE: u32 = 2500;
const SAMPLES_MIN: usize = 3;
/// Drawn, so that nobody's delay of a second is met at the same place each time.
const PAUSE_MS: std::ops::Range<u64> = 30..130;
/// Until the steady storm is steady.
const WARM_UP: Duration = Duration::from_millis(1000);

const fn row(key: &'static str, title: &'static str) -> RowInfo {
    RowInfo { key, title, unit: "ms", higher_is_better: false }
}

fn empty(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    phases(context, &EMPTY.rows[0], &EMPTY.rows[1])
}

fn filled(context: &mut Context) -> Result<()> {
    let files = fill(context.world, &Batch::new("old"), context.scale.tree)?;
    context.start(&files)?;
    phases(context, &FILLED.rows[0], &FILLED.rows[1])
}

fn half(context: &mut Context) -> Result<()> {
    context.start(&[])?;
    stormy(context, HALF_RATE, &HALF.rows[0])
}

fn phases(context: &mut Context, idle: &'static RowInfo, storm: &'static RowInfo) -> Result<()> {
    let world = context.world;
    let mut sampler = Sampler::new(world, "idle", context.scale.patience);
    let meter = Meter::start(world)?;
    sample_for_a_while(context, &mut sampler)?;
    let beside = meter.stop(world, 0)?;
    verify(world, &sampler.uploads)?;
    sampler.hand_over(context, idle, beside);
    settle(world)?;
    stormy(context, STEADY_RATE, storm)
}

fn stormy(context: &mut Context, rate: u32, row: &'static RowInfo) -> Result<()> {
    let world = context.world;
    let mut sampler = Sampler::new(world, "stormy", context.scale.patience);
    let meter = Meter::start(world)?;
    let uploads = during_steady_storm(world, rate, || {
        sleep(WARM_UP)?;
        sample_for_a_while(context, &mut sampler)
    })?;
    let beside = meter.stop(world, uploads.len() as u64)?;
    wait_everywhere(world, &uploads, context.scale.patience)?;
    verify(world, &uploads)?;
    verify(world, &sampler.uploads)?;
    sampler.hand_over(context, row, beside);
    Ok(())
}

pub fn sample_for_a_while(context: &mut Context, sampler: &mut Sampler) -> Result<()> {
    let until = Instant::now() + context.scale.lag;
    while Instant::now() < until || sampler.lags.len() < SAMPLES_MIN {
        sampler.sample()?;
        sleep(Duration::from_millis(context.random.random_range(PAUSE_MS)))?;
    }
    Ok(())
}

/// What was uploaded on apollo, so many a second, while `work` was done.
pub fn during_steady_storm(
    world: &World,
    rate: u32,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<Upload>> {
    let steady = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| steady_storm(world, rate, &steady));
        let worked = work();
        steady.store(false, Ordering::Relaxed);
        let uploads = storm.join().map_err(|_| anyhow!("the storm panicked"))??;
        worked.map(|()| uploads)
    })
}

fn steady_storm(world: &World, rate: u32, steady: &AtomicBool) -> Result<Vec<Upload>> {
    let (root, batch) = (world.share(APOLLO), Batch::new("steady"));
    let began = Instant::now();
    let mut uploads = Vec::new();
    for index in 0.. {
        let due = Duration::from_secs(1) / rate * index;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if !steady.load(Ordering::Relaxed) {
            break;
        }
        uploads.push(batch.write(&root, u64::from(index))?);
    }
    Ok(uploads)
}

/// Writes on apollo and reads on the others.
pub struct Sampler {
    root: PathBuf,
    others: [(usize, PathBuf); 2],
    batch: Batch,
    patience: Duration,
    /// Of the slower one of the others, in milliseconds.
    pub lags: Vec<f64>,
    pub uploads: Vec<Upload>,
}

impl Sampler {
    pub fn new(world: &World, label: &str, patience: Duration) -> Self {
        Self {
            root: world.share(APOLLO),
            others: [CHRONOS, HERMES].map(|host| (host, world.share(host))),
            batch: Batch::new(label),
            patience,
            lags: Vec::new(),
            uploads: Vec::new(),
        }
    }

    pub fn sample(&mut self) -> Result<()> {
        let index = self.uploads.len() as u64;
        let path = self.batch.path(index);
        let content = self.batch.content(index);
        let upload = crate::tree::write(&self.root, &path, &content)?;
        let closed = Instant::now();
        self.uploads.push(upload);
        let mut waiting: Vec<_> =
            self.others.iter().map(|(host, root)| (*host, root.join(&path))).collect();
        let mut found = vec![0; content.len() + 1];
        while !waiting.is_empty() {
            waiting.retain(|(_, path)| !holds(path, &content, &mut found));
            if waiting.is_empty() {
                break;
            }
            check_interrupted()?;
            if closed.elapsed() >= self.patience {
                let (host, _) = waiting[0];
                bail!("not within {:?}: {} has no {path}", self.patience, NAMES[host]);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.lags.push(closed.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    pub fn hand_over(
        mut self,
        context: &mut Context,
        row: &'static RowInfo,
        mut beside: BTreeMap<String, f64>,
    ) {
        self.lags.sort_by(f64::total_cmp);
        let percent = |percent| crate::stats::percentile(&self.lags, percent).unwrap_or(f64::NAN);
        beside.insert("samples".to_owned(), self.lags.len() as f64);
        beside.insert("p99".to_owned(), percent(99.0));
        beside.insert("worst".to_owned(), percent(100.0));
        context.measured(row, percent(50.0), beside);
    }
}

fn holds(path: &std::path::Path, content: &[u8], buffer: &mut [u8]) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut filled = 0;
    loop {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => return buffer[..filled] == *content,
            Ok(read) => filled += read,
            Err(_) => return false,
        }
        if filled == buffer.len() {
            return false;
        }
    }
}
