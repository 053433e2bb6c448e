//! What the pure rules cost. Rules are measured one call at a time, so the time is that of one path;
//! batches are measured whole, and `thrpt` says how many of their files a second is.
//!
//! No I/O, one thread: what differs between two runs is the machine, then the code.

#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chainsync_core::batch::BatchBuilder;
use chainsync_core::decide::decide;
use chainsync_core::entry::{Entry, Kind, merge};
use chainsync_core::hints::{Hints, Urgency};
use chainsync_core::knowledge::Recorded;
use chainsync_core::wire::{Batch, Cursor, Frame};
use chainsync_core::{
    ContentHash, Dot, FileType, Identity, Knowledge, Published, Record, RelPath, ReplicaId, Stamp,
    Stat, Version, VersionVector,
};
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

criterion_main!(benches);

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = rules, knowledge, batches, hash, hints
}

/// Entries of one batch, and bytes of each content: what a page of a web application takes.
const FILES: usize = 500;
const CONTENT_BYTES: usize = 5 << 10;
/// Hints of a large release that is moved in.
const HINTS: usize = 10_000;
/// Paths that the rules are asked about in turn: more than a predictor of branches remembers.
const CASES: u64 = 4096;
const DEVICE: u64 = 1;

/// What is known of a path, what its disk shows, and what a peer sent.
struct Case {
    record: Option<Record>,
    disk: Option<Stat>,
    incoming: Entry,
}

fn rules(criterion: &mut Criterion) {
    let cases: Vec<Case> = (0..CASES).map(case).collect();
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(1));
    group.bench_function("merge", |bencher| {
        let mut cases = cases.iter().cycle();
        bencher.iter(|| {
            let Case { record, incoming, .. } = cases.next().unwrap();
            let known = record.as_ref().map(|record| (&record.kind, &record.version));
            black_box(merge(known, (&incoming.kind, &incoming.version)))
        });
    });
    group.bench_function("decide", |bencher| {
        let mut cases = cases.iter().cycle();
        bencher.iter(|| {
            let Case { record, disk, incoming } = cases.next().unwrap();
            black_box(decide(record.as_ref(), disk.as_ref(), Some(incoming), DEVICE))
        });
    });
    group.finish();
}

/// A quarter each: new here, newer than what is here, older, and neither having seen the other.
fn case(number: u64) -> Case {
    let path = path(number);
    let [first, second] = [1, 2].map(|step| ReplicaId(number % 3 + step));
    let old = version(first, number + 1, number, VersionVector::new());
    let past = if number % 4 == 3 { VersionVector::new() } else { old.as_past() };
    let new = version(second, number + 1, number + 1, past);
    let entry = |version: Version| {
        let kind = file(ContentHash::of(&version.dot.replica.0.to_le_bytes()));
        Entry { path: path.clone(), kind, version }
    };
    let [known, incoming] = match number % 4 {
        2 => [new, old],
        _ => [old, new],
    };
    if number.is_multiple_of(4) {
        return Case { record: None, disk: None, incoming: entry(incoming) };
    }
    let (stat, known) = (stat(number), entry(known));
    let mut record = Record::new(&known, number);
    let identity = Some(Identity::of(&stat, i128::MAX, 0));
    record.publish(Published { kind: known.kind, version: known.version, identity });
    Case { record: Some(record), disk: Some(stat), incoming: entry(incoming) }
}

fn stat(inode: u64) -> Stat {
    Stat {
        file_type: FileType::File,
        device: DEVICE,
        inode,
        links: 1,
        size: CONTENT_BYTES as u64,
        mode: 0o644,
        uid: 33,
        gid: 33,
        mtime_ns: 1_700_000_000_000_000_000,
        ctime_ns: 1_700_000_000_000_000_000,
    }
}

fn knowledge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("knowledge");
    group.throughput(Throughput::Elements(1));
    for members in [3, 12] {
        let [mine, theirs] = [0, 1].map(|whose| known_by(members, whose));
        // Half of them are known.
        let dot = |number: u64| Dot { replica: replica(number, members), counter: number % 10_000 };
        let dots: Vec<Dot> = (0..CASES).map(|number| dot(number * 7919)).collect();
        group.bench_function(format!("covers, {members} members"), |bencher| {
            let mut dots = dots.iter().cycle();
            bencher.iter(|| black_box(mine.covers(dots.next().unwrap())));
        });
        group.bench_function(format!("join, {members} members"), |bencher| {
            let join = |known: &mut Knowledge| known.join(&theirs);
            bencher.iter_batched_ref(|| mine.clone(), join, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// About 5,000 changes of each member; the two that are joined differ in every one.
fn known_by(members: u64, whose: u64) -> Knowledge {
    let recorded = |member: u64| Recorded { counter: 5000 + (member + whose) % 2, tag: member };
    (0..members).map(|member| (replica(member, members), recorded(member))).collect()
}

/// Ids are random.
fn replica(number: u64, members: u64) -> ReplicaId {
    ReplicaId((number % members + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of 500 files of 5 KiB");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(FILES as u64));
    for (name, content) in [("random", random as fn(u64) -> Bytes), ("text", text)] {
        let files: Vec<(Entry, Bytes)> =
            (0..FILES as u64).map(|number| known_file(number, content(number))).collect();
        let build = |files: Vec<(Entry, Bytes)>| {
            let mut builder = BatchBuilder::default();
            for (entry, content) in files {
                builder.push(entry, Some(&content));
            }
            builder.finish()
        };
        group.bench_function(format!("build, {name}"), |bencher| {
            bencher.iter_batched(|| files.clone(), build, BatchSize::LargeInput);
        });
        let (entries, packs) = build(files);
        let cursor = Cursor { sequence: 1, tag: 1 };
        let batch = Batch { number: 1, entries, cursor, end: None, held: Vec::new(), packs };
        let frame = Frame::Batch(batch.clone());
        let encoded = encode(&frame);
        group.bench_function(format!("encode, {name}"), |bencher| {
            bencher.iter_with_large_drop(|| encode(&frame));
        });
        group.bench_function(format!("decode, {name}"), |bencher| {
            let arrived = || encoded.clone();
            let decode = |mut buffer: BytesMut| Frame::decode(&mut buffer).unwrap();
            bencher.iter_batched(arrived, decode, BatchSize::LargeInput);
        });
        group.bench_function(format!("unpack and verify, {name}"), |bencher| {
            bencher.iter(|| verify(&batch));
        });
    }
    group.finish();
}

fn encode(frame: &Frame) -> BytesMut {
    let mut buffer = BytesMut::new();
    frame.encode(&mut buffer);
    buffer
}

/// As a receiver does before it stages anything.
fn verify(batch: &Batch) {
    let unpacked = batch.unpack().unwrap();
    for entry in &batch.entries {
        let content = entry.content_in(&unpacked).unwrap();
        assert_eq!(entry.entry.kind.content().unwrap().0, ContentHash::of(&content));
    }
}

fn hash(criterion: &mut Criterion) {
    let content = random(0);
    let mut group = criterion.benchmark_group("content hash");
    group.throughput(Throughput::Bytes(CONTENT_BYTES as u64));
    group.bench_function("5 KiB", |bencher| bencher.iter(|| ContentHash::of(black_box(&content))));
    group.finish();
}

fn hints(criterion: &mut Criterion) {
    let paths: Vec<RelPath> = (0..HINTS as u64).map(path).collect();
    let mut group = criterion.benchmark_group("hints");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(HINTS as u64));
    group.bench_function("add and take 10,000 paths", |bencher| {
        let add_and_take = |paths: Vec<RelPath>| {
            let mut hints = Hints::default();
            for path in paths {
                hints.add(path, Urgency::Finished);
            }
            hints.take(usize::MAX)
        };
        bencher.iter_batched(|| paths.clone(), add_and_take, BatchSize::LargeInput);
    });
    group.finish();
}

/// A file that its author has changed once before.
fn known_file(number: u64, content: Bytes) -> (Entry, Bytes) {
    let past = [(ReplicaId(1), number + 1)].into_iter().collect();
    let version = version(ReplicaId(2), number + 1, number, past);
    (Entry { path: path(number), kind: file(ContentHash::of(&content)), version }, content)
}

fn file(hash: ContentHash) -> Kind {
    let mtime_ns = 1_700_000_000_000_000_000;
    Kind::File { size: CONTENT_BYTES as u64, hash, mode: 0o644, mtime_ns, owner: None }
}

fn version(replica: ReplicaId, counter: u64, later_ms: u64, past: VersionVector) -> Version {
    let stamp = Stamp::made(1_700_000_000_000 + later_ms, replica);
    Version { stamp, dot: Dot { replica, counter }, past }
}

/// A hundred files a directory. Not in their order, as events are not.
fn path(number: u64) -> RelPath {
    let number = number.wrapping_mul(7919) % HINTS as u64;
    RelPath::new(format!("site/{:02}/page-{number:05}.html", number % 100)).unwrap()
}

fn random(number: u64) -> Bytes {
    let mut content = vec![0; CONTENT_BYTES];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
    content.into()
}

/// A page: the same words in another order each time.
fn text(number: u64) -> Bytes {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut page = format!("<!doctype html>\n<title>Page {number}</title>\n<p>");
    for byte in random(number) {
        page.push_str(words[usize::from(byte) % words.len()]);
        page.push_str(if byte < 16 { "</p>\n<p class=\"article\">" } else { " " });
    }
    page.truncate(CONTENT_BYTES);
    page.into()
}

const WORDS: &str = "the of file server <em>ring</em> and balancer article a directory upload to every \
    node in <b>archive</b> change is version that with reader content request";
