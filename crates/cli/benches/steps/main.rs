//! What the steps of a node cost on a real disk: ingest, apply, index commit. `thrpt` is files a
//! second; the node, its watcher and its disk are the production ones.
//!
//! Everything happens in a new directory below `$TMPDIR`. That should be on a journaled file system
//! (ext4 with its journal, XFS): others have slow ways of their own.
//!
//! Measured is how long it takes until something is so: the pauses with which the engine spares a
//! busy node (10 ms between two looks) are part of it.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a bench plays the application, whose files and clock are real; one that panics has failed"
)]

mod env;
mod site;
mod upstream;

use std::time::{Duration, Instant};

use chainsync_engine::Durability;
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use tokio::runtime::Runtime;

use crate::site::{ALONE, DIRECTORIES, Place, Site, Tree, WITH_UPSTREAM};
use crate::upstream::{Upstream, What};

criterion_main!(benches);

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    targets = ingest, apply, index_commit
}

/// Files that an application makes at a time.
const INGESTED: usize = 1000;
/// Entries of a batch.
const APPLIED: usize = 500;

const DURABILITIES: [(&str, Durability); 2] =
    [("durable", Durability::Batch), ("not durable", Durability::None)];

fn ingest(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let start = |place| runtime.block_on(Site::start(place, ALONE, Durability::Batch));
    let mut group = criterion.benchmark_group("ingest 1,000 files of 5 KiB");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(INGESTED as u64));

    // One node for all samples; none if the bench is not asked for.
    let mut started = None;
    // The writing is part of it: both go on at the same time.
    group.bench_function("written in place", |bencher| {
        let (site, tree) = started.get_or_insert_with(|| {
            let site = start(Place::new());
            let tree = Tree::new(site.place().share());
            (site, tree)
        });
        bencher.iter_custom(|times| {
            total(times, || {
                let began = Instant::now();
                tree.write_some(INGESTED);
                runtime.block_on(site.flush());
                began.elapsed()
            })
        });
    });
    if let Some((site, _)) = started {
        runtime.block_on(site.stop());
    }

    let mut started = None;
    group.bench_function("moved in as a directory", |bencher| {
        let site = started.get_or_insert_with(|| start(Place::new()));
        bencher.iter_custom(|times| {
            total(times, || {
                let release = site.place().write_release(INGESTED);
                let began = Instant::now();
                release.move_into(&site.place().share());
                runtime.block_on(site.flush());
                began.elapsed()
            })
        });
    });
    if let Some(site) = started {
        runtime.block_on(site.stop());
    }

    group.bench_function("there at the first start", |bencher| {
        bencher.iter_custom(|times| {
            total(times, || {
                let place = Place::new();
                Tree::new(place.share()).write_some(INGESTED);
                let began = Instant::now();
                let site = start(place);
                let took = began.elapsed();
                runtime.block_on(site.stop());
                took
            })
        });
    });
    group.finish();
}

fn apply(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("apply 500 files of 5 KiB");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(APPLIED as u64));
    for (name, durability) in DURABILITIES {
        let what = (What::Files, durability);
        let acknowledged = format!("acknowledged, {name}");
        send_batches(&mut group, &runtime, &acknowledged, what, |took| took.acknowledged);
        let published = format!("published, {name}");
        send_batches(&mut group, &runtime, &published, what, |took| took.published);
    }
    group.finish();
}

/// Deletions of what was never here: they are recorded like everything else and touch no file, so
/// that what is left of the acknowledgement is the commit.
fn index_commit(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("index commit of 500 records");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(APPLIED as u64));
    for (name, durability) in DURABILITIES {
        let what = (What::Deletions, durability);
        send_batches(&mut group, &runtime, name, what, |took| took.acknowledged);
    }
    group.finish();
}

fn send_batches(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    (what, durability): (What, Durability),
    measured: fn(Took) -> Duration,
) {
    let mut started = None;
    group.bench_function(name, |bencher| {
        let ring = started.get_or_insert_with(|| Ring::start(runtime, durability));
        bencher.iter_custom(|times| total(times, || measured(ring.send(what))));
    });
    if let Some(ring) = started {
        ring.stop();
    }
}

fn total(times: u64, mut once: impl FnMut() -> Duration) -> Duration {
    (0..times).map(|_| once()).sum()
}

/// A node, and the bench as its upstream.
struct Ring<'a> {
    runtime: &'a Runtime,
    site: Site,
    upstream: Upstream,
}

/// Since the batch was sent.
struct Took {
    acknowledged: Duration,
    published: Duration,
}

impl<'a> Ring<'a> {
    fn start(runtime: &'a Runtime, durability: Durability) -> Self {
        let (site, upstream) = runtime.block_on(async {
            let site = Site::start(Place::new(), WITH_UPSTREAM, durability).await;
            let mut upstream = Upstream::greet(site.connect().await).await;
            // The directories into which everything goes.
            let directories = upstream.next(What::Directories, DIRECTORIES);
            upstream.send(directories).await;
            site.published().await;
            (site, upstream)
        });
        Self { runtime, site, upstream }
    }

    fn send(&mut self, what: What) -> Took {
        let Self { runtime, site, upstream } = self;
        let batch = upstream.next(what, APPLIED);
        runtime.block_on(async {
            let began = Instant::now();
            upstream.send(batch).await;
            let acknowledged = began.elapsed();
            site.published().await;
            let published = began.elapsed();
            // The node looks at what it wrote itself; the next batch is not to wait for that.
            site.quiet().await;
            Took { acknowledged, published }
        })
    }

    fn stop(self) {
        self.runtime.block_on(self.site.stop());
    }
}
