//! The bench as the node before the benched one: says Hello, sends batches, waits to be acknowledged.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use chainsync_core::batch::BatchBuilder;
use chainsync_core::gossip::{Row, RowId};
use chainsync_core::knowledge::Recorded;
use chainsync_core::wire::{Batch, Cursor, Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN, PassEnd};
use chainsync_core::{
    ContentHash, Dot, Entry, Kind, NodeName, RelPath, ReplicaId, ShareName, Stamp, Version,
    VersionVector,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::site;

/// What a batch is made of.
#[derive(Clone, Copy)]
pub enum What {
    Directories,
    /// New ones.
    Files,
    /// Of files that never came to the node.
    Deletions,
}

pub struct Upstream {
    stream: DuplexStream,
    buffer: BytesMut,
    /// Batches and changes so far.
    batches: u64,
    changes: u64,
    files: usize,
}

const REPLICA: ReplicaId = ReplicaId(1);

impl Upstream {
    pub async fn greet(stream: DuplexStream) -> Self {
        let buffer = BytesMut::new();
        let mut upstream = Self { stream, buffer, batches: 0, changes: 0, files: 0 };
        let row = Row { id: RowId { run: 1, number: 1 }, ..Row::default() };
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            share: ShareName::new(site::SHARE).unwrap(),
            node: NodeName::new(site::UPSTREAM).unwrap(),
            row,
        };
        upstream.say(&encode(&Frame::Hello(hello))).await;
        let answer = upstream.hear().await;
        assert!(matches!(answer, Frame::Welcome(_)), "{answer:?}");
        upstream
    }

    /// The next batch, a pass of its own, as it goes over the wire.
    pub fn next(&mut self, what: What, count: usize) -> Bytes {
        let mut builder = BatchBuilder::default();
        for _ in 0..count {
            let (entry, content) = self.next_change(what);
            builder.push(entry, content.as_ref());
        }
        self.batches += 1;
        let (entries, packs) = builder.finish();
        assert_eq!(entries.len(), count, "all in one batch");
        // Any tag will do, as long as it is the same wherever the change is named.
        let recorded = Recorded { counter: self.changes, tag: self.changes };
        let end = PassEnd {
            knowledge: [(REPLICA, recorded)].into_iter().collect(),
            collected: VersionVector::new(),
            collected_stamp: None,
            full: false,
        };
        encode(&Frame::Batch(Batch {
            number: self.batches,
            entries,
            cursor: Cursor { sequence: self.changes, tag: self.changes },
            end: Some(end),
            held: Vec::new(),
            packs,
        }))
    }

    fn next_change(&mut self, what: What) -> (Entry, Option<Bytes>) {
        self.changes += 1;
        self.files += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let (path, kind, content) = match what {
            What::Directories => {
                (site::directory(self.files), Kind::Dir { mode: 0o755, owner: None }, None)
            }
            What::Files => {
                let content = Bytes::from(site::content(self.files));
                let kind = Kind::File {
                    size: content.len() as u64,
                    hash: ContentHash::of(&content),
                    mode: 0o644,
                    mtime_ns: i128::try_from(now.as_nanos()).unwrap(),
                    owner: None,
                };
                (site::file(self.files), kind, Some(content))
            }
            What::Deletions => {
                (site::file(self.files), Kind::Tombstone { mode: Some(0o644), owner: None }, None)
            }
        };
        let stamp = Stamp::made(u64::try_from(now.as_millis()).unwrap(), REPLICA);
        let dot = Dot { replica: REPLICA, counter: self.changes };
        let version = Version { stamp, dot, past: VersionVector::new() };
        (Entry { path: RelPath::new(path).unwrap(), kind, version }, content)
    }

    /// Sends a batch, and waits until it is acknowledged.
    pub async fn send(&mut self, batch: Bytes) {
        self.say(&batch).await;
        loop {
            match self.hear().await {
                Frame::Ack(ack) if ack.number == self.batches => return,
                Frame::Rows(_) | Frame::Ping => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn say(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).await.unwrap();
    }

    async fn hear(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer).unwrap() {
                return frame;
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "hung up");
        }
    }
}

fn encode(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes.freeze()
}
