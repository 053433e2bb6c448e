//! An onlooker at one end of a connection: decodes what the daemon there writes, with the codec of
//! the daemons, and notes when the other end has read it.
//!
//! It sits above TLS, changes nothing and holds nothing up. What it cannot decode is an event of the
//! trace, and from then on it is blind in that direction.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use chainsync_core::ContentHash;
use chainsync_core::entry::Kind;
use chainsync_core::wire::{BatchEntry, ContentRef, Frame, WireError};

use crate::frames::{EntryRecord, FrameRecord};
use crate::shared::{Shared, lock};

pub(super) struct Tap {
    shared: Arc<Shared>,
    connection: u64,
    /// Whose end this is.
    node: String,
    peer: String,
    /// Whether this end opened the connection.
    opener: bool,
    /// What was written and is no whole frame yet.
    buffer: BytesMut,
    blind: bool,
    frames_written: u64,
    bytes_written: u64,
    bytes_read: u64,
}

impl Tap {
    pub(super) fn new(
        shared: &Arc<Shared>,
        connection: u64,
        node: &str,
        peer: &str,
        opener: bool,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            connection,
            node: node.to_owned(),
            peer: peer.to_owned(),
            opener,
            buffer: BytesMut::new(),
            blind: false,
            frames_written: 0,
            bytes_written: 0,
            bytes_read: 0,
        }
    }

    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    /// The daemon at this end has written this.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        self.bytes_written += bytes.len() as u64;
        if self.blind {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        loop {
            let digest = self.digest();
            let before = self.buffer.len();
            match Frame::decode(&mut self.buffer) {
                Ok(Some(frame)) => {
                    self.note_sent(&frame, before - self.buffer.len(), digest.unwrap_or_default());
                }
                Ok(None) => return,
                Err(error) => return self.go_blind(&error),
            }
        }
    }

    /// The daemon at this end has read so many bytes.
    pub(super) fn read(&mut self, bytes: usize) {
        self.bytes_read += bytes as u64;
        let now_ns = self.shared.step_ns();
        let frames = &mut *lock(&self.shared.frames);
        while let Some(frame) =
            frames.received(self.connection, !self.opener, self.bytes_read, now_ns)
        {
            let detail = format_args!("{}", Named { frame, verb: "from", node: &self.peer });
            self.shared.event(&self.node, "got", detail);
        }
    }

    /// Of the frame at the front of the buffer, if it is whole: the trace holds every byte.
    fn digest(&self) -> Option<Digest> {
        let length = u32::from_be_bytes(*self.buffer.first_chunk()?) as usize;
        let frame = self.buffer.get(..LENGTH_BYTES.checked_add(length)?)?;
        blake3::hash(frame).as_bytes().first_chunk().copied()
    }

    fn note_sent(&mut self, frame: &Frame, bytes: usize, digest: Digest) {
        let record = self.record(frame, bytes as u64);
        let ends_at = self.bytes_written - self.buffer.len() as u64;
        let named = Named { frame: &record, verb: "to", node: &self.peer };
        let digest = u32::from_be_bytes(digest);
        let detail = format_args!("{named}{}; {bytes} bytes {digest:08x}", record.carries());
        self.shared.event(&self.node, "frame", detail);
        lock(&self.shared.frames).sent(record, self.opener, ends_at);
        self.frames_written += 1;
    }

    fn record(&self, frame: &Frame, bytes: u64) -> FrameRecord {
        let mut record = FrameRecord {
            connection: self.connection,
            from: self.node.clone(),
            to: self.peer.clone(),
            place: self.frames_written,
            kind: kind(frame),
            sent_ns: self.shared.step_ns(),
            received_ns: None,
            bytes,
            batch: None,
            entries: Vec::new(),
            ends_pass: false,
            content: content(frame),
            reason: None,
        };
        match frame {
            Frame::Batch(batch) => {
                record.batch = Some(batch.number);
                record.entries = batch.entries.iter().map(entry).collect();
                record.ends_pass = batch.end.is_some();
            }
            Frame::Ack(ack) => record.batch = Some(ack.number),
            Frame::Goodbye(reason) => record.reason = Some(reason.clone()),
            _ => {}
        }
        record
    }

    fn go_blind(&mut self, error: &WireError) {
        self.blind = true;
        let held = self.buffer.remaining();
        self.buffer = BytesMut::new();
        let detail = format_args!("to {}: {error}; {held} bytes are left", self.peer);
        self.shared.event(&self.node, "garbled", detail);
    }
}

/// The length before a frame.
const LENGTH_BYTES: usize = 4;

/// The beginning of a hash: enough to tell two runs apart.
type Digest = [u8; 4];

/// A frame by kind and number.
struct Named<'a> {
    frame: &'a FrameRecord,
    verb: &'a str,
    node: &'a str,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.frame.kind)?;
        if let Some(batch) = self.frame.batch {
            write!(f, " {batch}")?;
        }
        write!(f, " {} {}", self.verb, self.node)
    }
}

fn entry(entry: &BatchEntry) -> EntryRecord {
    let kind = match &entry.entry.kind {
        Kind::File { .. } => "file",
        Kind::Dir { .. } => "dir",
        Kind::Symlink { .. } => "symlink",
        Kind::Tombstone { .. } => "tombstone",
    };
    EntryRecord {
        path: entry.entry.path.as_bytes().to_vec(),
        kind,
        hash: entry.entry.kind.content().map(|(hash, _)| hash),
        inline: matches!(entry.content, ContentRef::Inline { .. }),
    }
}

fn content(frame: &Frame) -> Option<ContentHash> {
    match frame {
        Frame::Want(want) => Some(want.hash),
        Frame::Chunk(chunk) => Some(chunk.hash),
        Frame::Unavailable(hash) => Some(*hash),
        Frame::WantRecipe(want) => Some(want.hash),
        Frame::Recipe(part) => Some(part.hash),
        _ => None,
    }
}

fn kind(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "Hello",
        Frame::Welcome(_) => "Welcome",
        Frame::Batch(_) => "Batch",
        Frame::Ack(_) => "Ack",
        Frame::Ping => "Ping",
        Frame::Rows(_) => "Rows",
        Frame::Want(_) => "Want",
        Frame::Chunk(_) => "Chunk",
        Frame::Unavailable(_) => "Unavailable",
        Frame::Goodbye(_) => "Goodbye",
        Frame::WantRecipe(_) => "WantRecipe",
        Frame::Recipe(_) => "Recipe",
        Frame::Inspect(_) => "Inspect",
        Frame::Inspected(_) => "Inspected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;
    use chainsync_core::wire::Ack;

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    }

    fn two_ends() -> (Arc<Shared>, Tap, Tap) {
        let shared = Shared::new(1, Trace::new(None));
        let connection = lock(&shared.frames).open("apollo", "hermes", 0);
        let near = Tap::new(&shared, connection, "apollo", "hermes", true);
        let far = Tap::new(&shared, connection, "hermes", "apollo", false);
        (shared, near, far)
    }

    fn events(shared: &Shared) -> Vec<String> {
        shared.trace.read(|history| {
            let all = history.events();
            all.map(|event| format!("{} {} {}", event.node, event.kind, event.detail)).collect()
        })
    }

    #[test]
    fn a_frame_is_noted_with_its_last_byte_whatever_the_pieces() {
        let (shared, mut near, mut far) = two_ends();
        let bytes = encoded(&[Frame::Ping, Frame::Ack(Ack { number: 7, knowledge: None })]);
        for (second, byte) in (1_u64..).zip(&bytes) {
            shared.set_step_ns(second * 1_000_000_000);
            near.wrote(&[*byte]);
        }
        shared.set_step_ns(50_000_000_000);
        far.read(bytes.len() - 1);
        {
            let frames = lock(&shared.frames);
            let [ping, ack] = &frames.sent[..] else { panic!("{frames:?}") };
            assert_eq!((ping.kind, ping.sent_ns, ping.bytes), ("Ping", 5_000_000_000, 5));
            assert_eq!(ping.received_ns, Some(50_000_000_000));
            assert_eq!((ack.kind, ack.batch, ack.place), ("Ack", Some(7), 1));
            assert_eq!((ack.sent_ns, ack.received_ns), (bytes.len() as u64 * 1_000_000_000, None));
        }
        far.read(1);
        assert_eq!(lock(&shared.frames).sent[1].received_ns, Some(50_000_000_000));
        let events = events(&shared);
        assert!(events[1].starts_with("apollo frame Ack 7 to hermes; 7 bytes "), "{events:?}");
        assert_eq!(events[3], "hermes got Ack 7 from apollo");
    }

    #[test]
    fn what_cannot_be_decoded_is_an_event_and_the_other_direction_goes_on() {
        let (shared, mut near, mut far) = two_ends();
        near.wrote(&[0, 0, 0, 2, 99, 0]);
        near.wrote(&encoded(&[Frame::Ping]));
        near.wrote(&[0xff; 8]);
        far.wrote(&encoded(&[Frame::Ping]));
        near.read(5);
        far.read(1_000);
        let events = events(&shared);
        assert_eq!(events.len(), 3, "{events:?}");
        assert!(events[0].starts_with("apollo garbled to hermes: "), "{events:?}");
        assert_eq!(events[2], "apollo got Ping from hermes");
    }
}
