//! Grouping entries into batches: consecutive entries of a pass, sent, applied and acknowledged
//! together.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::entry::{Entry, Kind};
use crate::hash::ContentHash;
use crate::wire::{BatchEntry, ContentRef, Pack};

/// Entries of one batch. From 500 on, one `syncfs` per batch costs no less per file (measured on
/// ext4 and XFS); fewer keep the delay of a batch short.
pub const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of contents in one batch: what a 1 Gbit link carries in 35 ms.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes of the entries themselves. 512 usual ones take 60 KiB; the longest there can be, with two
/// paths of 4 KiB and a past of 4,096 replicas, 90 KiB each.
pub const BATCH_ENTRY_BYTES_MAX: usize = 4 << 20;
/// Contents up to this size travel inside a batch.
pub const INLINE_BYTES_MAX: u64 = 1 << 20;

/// Collects entries until a batch is full.
#[derive(Debug)]
pub struct BatchBuilder {
    entries_max: usize,
    bytes_max: usize,
    entries: Vec<BatchEntry>,
    entry_bytes: usize,
    content: Vec<u8>,
    /// Where a content lies in `content`.
    held: BTreeMap<ContentHash, u32>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new(BATCH_ENTRIES_MAX)
    }
}

impl BatchBuilder {
    /// Batches of at most this many entries, and of [`BATCH_ENTRIES_MAX`] at the very most.
    pub fn new(entries_max: usize) -> Self {
        Self {
            entries_max: entries_max.clamp(1, BATCH_ENTRIES_MAX),
            bytes_max: BATCH_BYTES_MAX,
            entries: Vec::new(),
            entry_bytes: 0,
            content: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// With at most this many bytes of contents, and [`BATCH_BYTES_MAX`] at the very most. A single
    /// content may have more.
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max.min(BATCH_BYTES_MAX);
        self
    }

    /// Makes room for so many bytes of contents, as the batch before had: nothing moves while it grows.
    pub fn room_for(mut self, bytes: usize) -> Self {
        self.content.reserve(bytes.min(BATCH_BYTES_MAX));
        self
    }

    /// Bytes of contents so far.
    pub fn content_bytes(&self) -> usize {
        self.content.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether an entry with `content_bytes` more has to go into the next batch.
    pub fn is_full_for(&self, content_bytes: usize) -> bool {
        self.entries.len() >= self.entries_max
            || self.entry_bytes >= BATCH_ENTRY_BYTES_MAX
            || (!self.entries.is_empty() && self.content.len() + content_bytes > self.bytes_max)
    }

    /// Whether a content is in the batch.
    pub fn holds(&self, hash: &ContentHash) -> bool {
        self.held.contains_key(hash)
    }

    /// Adds an entry, with its content if there is one to send and it is not in the batch already.
    pub fn push(&mut self, entry: Entry, content: Option<&Bytes>) {
        let content = match (content, entry.kind.content()) {
            (Some(bytes), Some((hash, size))) => {
                assert_eq!(bytes.len() as u64, size, "the content of {} as announced", entry.path);
                assert!(size <= INLINE_BYTES_MAX, "the content of {} is small", entry.path);
                let offset = *self.held.entry(hash).or_insert_with(|| {
                    // At most BATCH_BYTES_MAX + INLINE_BYTES_MAX: fits.
                    let offset = self.content.len() as u32;
                    self.content.extend_from_slice(bytes);
                    offset
                });
                ContentRef::Inline { pack: 0, offset }
            }
            (None, Some((hash, _))) => match self.held.get(&hash) {
                Some(offset) => ContentRef::Inline { pack: 0, offset: *offset },
                None => ContentRef::Announced,
            },
            (_, None) => ContentRef::None,
        };
        self.entry_bytes += entry_bytes(&entry);
        self.entries.push(BatchEntry { entry, content });
    }

    /// The entries and the packed contents, ready to send.
    pub fn finish(self) -> (Vec<BatchEntry>, Vec<Pack>) {
        let packs =
            if self.content.is_empty() { Vec::new() } else { vec![Pack::compress(self.content)] };
        (self.entries, packs)
    }
}

/// About what an entry takes in a batch, rather more than less.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    let target_bytes = match &entry.kind {
        Kind::Symlink { target } => target.len(),
        _ => 0,
    };
    entry.path.as_bytes().len() + target_bytes + PAST_BYTES * entry.version.past.len() + FIXED_BYTES
}

/// A replica and a counter, ten bytes each at most.
const PAST_BYTES: usize = 20;
/// Hash, sizes, times, owner, stamp and dot at their longest.
const FIXED_BYTES: usize = 160;
