//! What crossed the wire, frame by frame, as an onlooker decodes it (net/tap.rs): for checkers and
//! reports. No daemon is asked.

use chainsync_core::ContentHash;

/// All frames of a run, in the order in which they were sent.
#[derive(Debug, Default)]
pub struct Frames {
    pub sent: Vec<FrameRecord>,
}

/// One frame in one direction of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameRecord {
    /// Counts the connections of the run.
    pub connection: u64,
    /// Node names.
    pub from: String,
    pub to: String,
    /// The frame's place in this direction of its connection, from 0.
    pub place: u64,
    /// As `wire::Frame` calls it: `Batch`, `Ack`, `Rows`, ...
    pub kind: &'static str,
    /// When its last byte was written; virtual nanoseconds.
    pub sent_ns: u64,
    /// When its last byte was read by the peer.
    pub received_ns: Option<u64>,
    pub bytes: u64,
    /// The number of a batch or of the batch that an acknowledgement is about.
    pub batch: Option<u64>,
    /// The entries of a batch.
    pub entries: Vec<EntryRecord>,
    /// Of a batch: whether it ends a pass.
    pub ends_pass: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecord {
    pub path: Vec<u8>,
    /// `file`, `dir`, `symlink` or `tombstone`.
    pub kind: &'static str,
    /// Of a file.
    pub hash: Option<ContentHash>,
    /// Whether its content travels in the batch.
    pub inline: bool,
}
