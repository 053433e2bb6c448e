//! What crossed the wire, frame by frame, as an onlooker decodes it (net/tap.rs): for checkers and
//! reports. No daemon is asked.

use std::collections::VecDeque;
use std::fmt;

use chainsync_core::ContentHash;

use crate::trace::Shown;

/// All connections and frames of a run.
#[derive(Debug, Default)]
pub struct Frames {
    /// By number.
    pub connections: Vec<ConnectionRecord>,
    /// In the order in which they were sent. Only appended to: places in it are kept.
    pub sent: Vec<FrameRecord>,
}

/// A connection that was made, whether or not its ends accepted each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// The node that opened it.
    pub from: String,
    pub to: String,
    pub opened_ns: u64,
    /// Of either direction, the opener's first: frames that were written and not read yet.
    under_way: [VecDeque<UnderWay>; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    /// Bytes of its direction up to its last one.
    ends_at: u64,
    /// Its place in `Frames::sent`.
    index: usize,
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
    /// When its last byte was read by the peer. `None`: it never was.
    pub received_ns: Option<u64>,
    pub bytes: u64,
    /// The number of a batch or of the batch that an acknowledgement is about.
    pub batch: Option<u64>,
    /// The entries of a batch.
    pub entries: Vec<EntryRecord>,
    /// Of a batch: whether it ends a pass.
    pub ends_pass: bool,
    /// Of what asks for a large content or brings it.
    pub content: Option<ContentHash>,
    /// Of a goodbye.
    pub reason: Option<String>,
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

impl Frames {
    /// A new connection's number.
    pub(crate) fn open(&mut self, from: &str, to: &str, opened_ns: u64) -> u64 {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.connections.push(ConnectionRecord {
            from,
            to,
            opened_ns,
            under_way: Default::default(),
        });
        self.connections.len() as u64 - 1
    }

    /// The node that opened a connection.
    pub(crate) fn opener(&self, connection: u64) -> Option<String> {
        let connection = self.connections.get(usize::try_from(connection).ok()?)?;
        Some(connection.from.clone())
    }

    /// Notes a frame whose last byte has been written, `ends_at` bytes into its direction.
    pub(crate) fn sent(&mut self, frame: FrameRecord, by_opener: bool, ends_at: u64) {
        let index = self.sent.len();
        if let Some(connection) = self.connections.get_mut(frame.connection as usize) {
            connection.under_way[usize::from(!by_opener)].push_back(UnderWay { ends_at, index });
        }
        self.sent.push(frame);
    }

    /// The next frame of a direction of which so many bytes have been read, if it was read whole.
    pub(crate) fn received(
        &mut self,
        connection: u64,
        by_opener: bool,
        bytes: u64,
        now_ns: u64,
    ) -> Option<&FrameRecord> {
        let under_way =
            &mut self.connections.get_mut(connection as usize)?.under_way[usize::from(!by_opener)];
        let first = *under_way.front().filter(|first| first.ends_at <= bytes)?;
        under_way.pop_front();
        let frame = self.sent.get_mut(first.index)?;
        frame.received_ns = Some(now_ns);
        Some(frame)
    }
}

impl FrameRecord {
    /// What it carries, in few words.
    pub fn carries(&self) -> Carries<'_> {
        Carries(self)
    }
}

/// Shows what a frame carries, beyond its kind and number; nothing for most.
pub struct Carries<'a>(&'a FrameRecord);

impl fmt::Display for Carries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FrameRecord { kind, entries, ends_pass, content, reason, .. } = self.0;
        if *kind == "Batch" {
            write!(
                f,
                ": {} {}",
                entries.len(),
                if entries.len() == 1 { "entry" } else { "entries" }
            )?;
            let mut separator = ", ";
            for entry in entries.iter().take(PATHS_SHOWN_MAX) {
                write!(f, "{separator}{}", Shown(&entry.path))?;
                separator = " ";
            }
            if let more @ 1.. = entries.len().saturating_sub(PATHS_SHOWN_MAX) {
                write!(f, " and {more} more")?;
            }
            if *ends_pass {
                f.write_str(", ends a pass")?;
            }
        }
        if let Some(content) = content {
            // The first bytes, as `Debug` has them.
            write!(f, ": content {content:?}")?;
        }
        if let Some(reason) = reason {
            write!(f, ": {}", Shown(reason.as_bytes()))?;
        }
        Ok(())
    }
}

/// A line of the trace is to be read; all entries are in the record.
const PATHS_SHOWN_MAX: usize = 5;
