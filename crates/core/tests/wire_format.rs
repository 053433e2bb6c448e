//! Pins the bytes of the wire format: `wire_format.txt` holds one example of each frame, and of each
//! kind of entry, in hexadecimal. A difference breaks every ring that is updated node by node: it
//! takes a new protocol number, not a new file.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use chainsync_core::entry::{Entry, Kind, Owner};
use chainsync_core::gossip::{Row, RowId};
use chainsync_core::knowledge::Recorded;
use chainsync_core::recipe::RecipeChunk;
use chainsync_core::version::{Dot, ReplicaId, Stamp, Version};
use chainsync_core::wire::verify::{Bucket, Digests, Doubt, Inspect, Inspected, Listed, Question};
use chainsync_core::wire::{
    Ack, Batch, BatchEntry, Chunk, ContentRef, Cursor, Frame, Hello, Pack, PackCodec, PassEnd,
    RecipePart, Want, WantRecipe, Welcome,
};
use chainsync_core::{ContentHash, NodeName, RelPath, ShareName, VersionVector};

#[test]
fn the_wire_format_is_as_it_was() {
    let mut expected = String::new();
    for (name, frame) in examples() {
        let mut buffer = BytesMut::new();
        frame.encode(&mut buffer);
        let hex = data_encoding::HEXLOWER.encode(&buffer);
        expected.push_str(&format!("{name} {hex}\n"));
        assert_eq!(Frame::decode(&mut buffer).unwrap(), Some(frame), "{name}");
    }
    let pinned = include_str!("wire_format.txt");
    for (now, was) in expected.lines().zip(pinned.lines()) {
        assert_eq!(now, was, "the encoding changed");
    }
    assert!(expected == pinned, "frames came or went; all of them now:\n{expected}");
}

const ONE: ReplicaId = ReplicaId(0x0123_4567_89ab_cdef);
const TWO: ReplicaId = ReplicaId(2);

fn examples() -> Vec<(&'static str, Frame)> {
    let node = |name| NodeName::new(name).unwrap();
    let hash = ContentHash::of(b"content");
    let cursor = Cursor { sequence: 300, tag: u64::MAX };
    let collected: VersionVector = [(ONE, 7)].into_iter().collect();
    let data = Bytes::from_static(b"content");
    let chunks = vec![RecipeChunk { bytes: 7, hash }];
    vec![
        (
            "hello",
            Frame::Hello(Hello {
                protocol_min: 1,
                protocol_max: 1,
                share: ShareName::new("images").unwrap(),
                node: node("apollo"),
                row: row(),
            }),
        ),
        (
            "welcome",
            Frame::Welcome(Welcome {
                protocol: 1,
                row: row(),
                cursor,
                collected: collected.clone(),
            }),
        ),
        (
            "batch",
            Frame::Batch(Batch {
                number: 1,
                entries: entries(),
                cursor,
                end: None,
                held: vec![],
                packs: packs(),
            }),
        ),
        (
            "batch-end",
            Frame::Batch(Batch {
                number: 2,
                entries: Vec::new(),
                cursor,
                end: Some(PassEnd {
                    knowledge: row().knowledge,
                    collected,
                    collected_stamp: Some(Stamp::imported(5, TWO)),
                    full: true,
                }),
                held: vec![path("a"), path("a/b")],
                packs: Vec::new(),
            }),
        ),
        ("ack", Frame::Ack(Ack { number: 300, knowledge: Some(row().knowledge) })),
        ("ping", Frame::Ping),
        ("rows", Frame::Rows(vec![(node("chronos"), row())])),
        ("want", Frame::Want(Want { hash, path: path("a/b"), offset: 1 << 20, length: 1 << 18 })),
        ("chunk", Frame::Chunk(Chunk { hash, offset: 1 << 20, data })),
        ("unavailable", Frame::Unavailable(hash)),
        ("goodbye", Frame::Goodbye("another share".to_owned())),
        ("want-recipe", Frame::WantRecipe(WantRecipe { hash, path: path("a/b") })),
        ("recipe", Frame::Recipe(RecipePart { hash, chunks, ends: true })),
        ("inspect digests", inspect(Question::Digests { buckets: 300, deep: true })),
        (
            "inspect list",
            inspect(Question::List { buckets: 300, wanted: vec![0, 299], deep: false }),
        ),
        ("inspected digests", Frame::Inspected(Inspected::Digests(digests()))),
        ("inspected entries", Frame::Inspected(Inspected::Entries(listed()))),
        ("inspected end", Frame::Inspected(Inspected::End)),
    ]
}

fn inspect(question: Question) -> Frame {
    Frame::Inspect(Inspect {
        protocol_min: 1,
        protocol_max: 1,
        share: ShareName::new("images").unwrap(),
        node: NodeName::new("apollo").unwrap(),
        question,
    })
}

/// The hash of what is published in a bucket is part of the format too.
fn digests() -> Digests {
    let mut bucket = Bucket::default();
    for Listed { path, kind } in listed() {
        bucket.add(&path, &kind);
    }
    Digests {
        buckets: vec![bucket, Bucket::default()],
        knowledge: [(ONE, 7)].into_iter().collect(),
        doubts: vec![Doubt { path: path("d/0"), what: "differs".to_owned() }],
        more_doubts: true,
        halted: Some("paused".to_owned()),
    }
}

fn listed() -> Vec<Listed> {
    let entries = entries().into_iter();
    entries.map(|BatchEntry { entry, .. }| Listed { path: entry.path, kind: entry.kind }).collect()
}

fn path(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn row() -> Row {
    let recorded = |counter, tag| Recorded { counter, tag };
    Row {
        id: RowId { run: 1_700_000_000_000, number: 3 },
        revision: 4,
        authors: vec![ONE],
        knowledge: [(ONE, recorded(300, 9)), (TWO, recorded(1, u64::MAX))].into_iter().collect(),
        applied: [(ONE, 299)].into_iter().collect(),
        pending: 1,
        problems: 2,
        conflicts: 3,
        unread: true,
        passing: false,
        halted: Some("the root is empty".to_owned()),
        successor: Some(NodeName::new("hermes").unwrap()),
        heard: BTreeMap::from([(NodeName::new("hermes").unwrap(), RowId { run: 8, number: 9 })]),
    }
}

fn entries() -> Vec<BatchEntry> {
    let owner = Some(Owner { uid: 33, gid: 1000 });
    let file = |content: &[u8]| Kind::File {
        size: content.len() as u64,
        hash: ContentHash::of(content),
        mode: 0o644,
        mtime_ns: -1_700_000_000_123_456_789,
        owner,
    };
    let target = vec![0xff, b'/', b'x'];
    let kinds = [
        (file(b"content"), ContentRef::Inline { pack: 1, offset: 3 }),
        (file(b"another"), ContentRef::Announced),
        (file(b""), ContentRef::None),
        (Kind::Dir { mode: 0o1777, owner: None }, ContentRef::None),
        (Kind::Symlink { target }, ContentRef::None),
        (Kind::Tombstone { mode: Some(0o755), owner }, ContentRef::None),
        (Kind::Tombstone { mode: None, owner: None }, ContentRef::None),
    ];
    let entry = |(index, (kind, content))| {
        let counter = index as u64 + 1;
        let stamp = Stamp { counter: 1, ..Stamp::made(1_700_000_000_000 + counter, ONE) };
        let past = [(TWO, counter)].into_iter().collect();
        let version = Version { stamp, dot: Dot { replica: ONE, counter }, past };
        let path = RelPath::new(format!("d/{index}").as_bytes()).unwrap();
        BatchEntry { entry: Entry { path, kind, version }, content }
    };
    kinds.into_iter().enumerate().map(entry).collect()
}

/// Not compressed here: another release of zstd may compress otherwise.
fn packs() -> Vec<Pack> {
    vec![
        Pack { codec: PackCodec::Zstd, raw_bytes: 5000, data: Bytes::from_static(b"squeezed") },
        Pack { codec: PackCodec::Raw, raw_bytes: 10, data: Bytes::from_static(b"...content") },
    ]
}
