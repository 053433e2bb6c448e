//! Runs made by hand, for the tests of the report.

use chainsync_core::ContentHash;

use crate::failure::Failure;
use crate::frames::{EntryRecord, FrameRecord};
use crate::fs::{Content, Leaf, Tree};
use crate::history::History;
use crate::oracle::Upload;
use crate::record::Record;
use crate::scenario::Scenario;

use super::Report;

pub(super) struct Sample {
    pub scenario: Scenario,
    pub failure: Option<Failure>,
    pub record: Record,
}

const NODES: &str = r#"
about = "A sample <b>made</b> by hand"
on    = ["sim"]
nodes = ["apollo", "chronos", "hermes"]
"#;

const MILLISECOND: u64 = 1_000_000;

impl Sample {
    pub(super) fn report(&self) -> Report<'_> {
        Report {
            scenario: &self.scenario,
            seed: 7,
            failure: self.failure.as_ref(),
            command: "chainsync-sim run x.toml --seed 7".into(),
            record: &self.record,
        }
    }

    fn of(events: &str, lines: &[(u64, &str, &str, &str)]) -> Self {
        let scenario = Scenario::parse("x.toml", &format!("{NODES}{events}")).unwrap();
        let mut history = History::default();
        for (at_ms, node, kind, detail) in lines {
            history.push(at_ms * MILLISECOND, node, kind, format_args!("{detail}"));
        }
        let record = Record { history, trees: vec![Tree::new(); 3], ..Record::default() };
        Self { scenario, failure: None, record }
    }

    /// One upload arrives cut on the second node; another one has been sent and never arrives.
    pub(super) fn torn() -> Self {
        let mut sample = Self::of(
            "",
            &[
                (1, "-", "phase", "events"),
                (5, "apollo", "app", "upload a/one 5120"),
                (6, "apollo", "watch", "Finished a/one"),
                (8, "apollo", "app", "upload b two 7"),
                (11, "chronos", "write", "/srv/files/.chainsync/staging/9-0 5120"),
                (4_012, "chronos", "rename", "/srv/files/.chainsync/staging/9-0 /srv/files/a/one"),
            ],
        );
        let sentence =
            "the daemon published 5119 bytes that are no complete version <anybody> wrote";
        let failure = Failure::new(crate::check::Invariant::S1, 4_012 * MILLISECOND, sentence);
        sample.failure = Some(failure.on("chronos").at_path(b"a/one"));
        let entry = |path: &[u8]| EntryRecord {
            path: path.to_vec(),
            kind: "file",
            hash: None,
            inline: true,
        };
        sample.record.frames = vec![
            frame(1, 7, Some(10), vec![entry(b"a/one")]),
            frame(2, 9, None, vec![entry(b"b two"), entry(b"c")]),
        ];
        let whole = Content::new(vec![b'x'; 5_120]);
        let torn = Content::new(vec![b'x'; 5_119]);
        sample.record.trees[0].insert(b"a/one".to_vec(), file(&whole));
        sample.record.trees[1].insert(b"a/one".to_vec(), file(&torn));
        sample.record.uploads = vec![
            upload(b"a/one", ContentHash::of(&whole), 5 * MILLISECOND),
            upload(b"b two", ContentHash::of(b"seven"), 8 * MILLISECOND),
        ];
        sample
    }

    /// One fault after the other.
    pub(super) fn faults() -> Self {
        let events = r#"
            at = [
                { time = "1s", stop = { node = "chronos" } },
                { time = "2s", crash = { node = "chronos" } },
                { time = "2500ms", partition = { between = [["apollo"], ["hermes"]] } },
                { time = "3s", heal = {} },
                { time = "3500ms", disk-full = { node = "hermes" } },
                { time = "3600ms", crash = { node = "apollo", before-operation = 9, back-after = "9s" } },
                { time = "4s", start = { node = "chronos" } },
            ]
        "#;
        Self::of(
            events,
            &[
                (1_000, "-", "event", "stop chronos"),
                (2_000, "-", "event", "crash chronos"),
                (2_500, "-", "event", "partition apollo hermes"),
                (3_000, "-", "event", "heal "),
                (3_500, "-", "event", "disk-full hermes"),
                (3_600, "-", "event", "crash apollo"),
                (4_000, "-", "event", "start chronos"),
                (4_000, "chronos", "start", "3"),
                (5_000, "-", "heal", ""),
                (6_000, "apollo", "fall", "before operation 9, rename"),
            ],
        )
    }

    /// A ring at rest with this many files uploaded one after the other, the last of which fails.
    pub(super) fn long(files: usize) -> Self {
        let mut sample = Self::of("", &[]);
        let Record { history, .. } = &mut sample.record;
        for number in 0..files {
            let at = number as u64 * MILLISECOND;
            let path = format!("d{:03}/apollo-1-{number}", number % 50);
            history.push(at, "apollo", "app", format_args!("upload {path} 5120"));
            for node in ["chronos", "hermes"] {
                let own = format!("/srv/files/.chainsync/staging/9-{number}");
                history.push(at, node, "sync", format_args!("{own}"));
                history.push(at, node, "rename", format_args!("{own} /srv/files/{path}"));
            }
        }
        let path = format!("d{:03}/apollo-1-{}", (files - 1) % 50, files - 1);
        let failure = Failure::new(
            crate::check::Invariant::L1,
            files as u64 * MILLISECOND,
            "the trees differ",
        );
        sample.failure = Some(failure.on("hermes").at_path(path.as_bytes()));
        sample
    }
}

fn frame(
    batch: u64,
    sent_ms: u64,
    received: Option<u64>,
    entries: Vec<EntryRecord>,
) -> FrameRecord {
    FrameRecord {
        connection: 1,
        from: "apollo".into(),
        to: "chronos".into(),
        place: batch,
        kind: "Batch",
        sent_ns: sent_ms * MILLISECOND,
        received_ns: received.map(|at_ms| at_ms * MILLISECOND),
        bytes: 5_200,
        batch: Some(batch),
        entries,
        ends_pass: true,
        content: None,
        reason: None,
    }
}

pub(super) fn file(content: &Content) -> Leaf {
    Leaf::File { content: Content::clone(content), mode: 0o644, mtime_ns: 1 }
}

fn upload(path: &[u8], hash: ContentHash, at_ns: u64) -> Upload {
    Upload {
        node: 0,
        path: path.to_vec(),
        named_on: 0,
        named_elsewhere: false,
        hash,
        size: 5_120,
        versions: 1,
        finished_ns: Some(at_ns),
        replaced: false,
        excused: false,
        published_ns: vec![None; 3],
    }
}
