//! A batch: its header, its packs behind it, and what must hold of its entries.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{
    BATCH, BATCH_ENTRIES_MAX, BATCH_PACKS_MAX, Cursor, HELD_PATHS_MAX, PACK_RAW_BYTES_MAX, Pack,
    PackCodec, WireError, check, check_vector, put_sized, take_sized,
};
use crate::batch::{INLINE_BYTES_MAX, entry_bytes};
use crate::bounded;
use crate::entry::{Entry, Kind, MODE_MASK, SYMLINK_TARGET_BYTES_MAX};
use crate::knowledge::{Knowledge, VersionVector};
use crate::path::RelPath;
use crate::version::{Stamp, WALL_MS_MAX};

/// Consecutive entries of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Counts the batches of a connection, from 1.
    pub number: u64,
    pub entries: Vec<BatchEntry>,
    /// Where a later connection goes on once this batch is applied.
    pub cursor: Cursor,
    /// On the last batch of a pass.
    pub end: Option<PassEnd>,
    /// In a full pass: paths that the sender holds (PROTOCOL A7).
    pub held: Vec<RelPath>,
    pub packs: Vec<Pack>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchEntry {
    pub entry: Entry,
    pub content: ContentRef,
}

/// Where the content of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentRef {
    /// It has none.
    None,
    /// In this batch: `size` bytes from `offset` of the unpacked pack.
    Inline { pack: u32, offset: u32 },
    /// To be asked for by its hash with [`Want`].
    Announced,
}

/// What only the last batch of a pass may say (PROTOCOL A1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassEnd {
    /// The sender's knowledge in the snapshot that the pass read.
    pub knowledge: Knowledge,
    /// The dots of tombstones that every member had applied and the sender dropped.
    pub collected: VersionVector,
    /// No change at a path without an entry takes a smaller stamp.
    pub collected_stamp: Option<Stamp>,
    /// Whether this was a full pass.
    pub full: bool,
}

#[derive(Serialize, Deserialize)]
struct BatchHeader {
    number: u64,
    #[serde(deserialize_with = "bounded::vec::<_, _, BATCH_ENTRIES_MAX>")]
    entries: Vec<BatchEntry>,
    cursor: Cursor,
    end: Option<PassEnd>,
    #[serde(deserialize_with = "bounded::vec::<_, _, HELD_PATHS_MAX>")]
    held: Vec<RelPath>,
    #[serde(deserialize_with = "bounded::vec::<_, _, BATCH_PACKS_MAX>")]
    packs: Vec<PackHeader>,
}

#[derive(Serialize, Deserialize)]
struct PackHeader {
    codec: PackCodec,
    raw_bytes: u32,
    bytes: u32,
}

/// What is around the entries of a batch, rather more than less.
const HEADER_BYTES: usize = 1024;

impl Batch {
    /// All but the packs, which come behind it.
    pub(super) fn encode_head(&self, out: &mut BytesMut) {
        // Once, and not each time it turns out to be too small.
        let entries: usize = self.entries.iter().map(|entry| entry_bytes(&entry.entry)).sum();
        out.reserve(entries + HEADER_BYTES);
        out.put_u8(BATCH);
        let packs = self.packs.iter().map(|pack| PackHeader {
            codec: pack.codec,
            raw_bytes: pack.raw_bytes,
            bytes: pack.data.len() as u32,
        });
        put_sized(
            out,
            &BatchHeader {
                number: self.number,
                // A shallow copy: paths are shared, vectors are short.
                entries: self.entries.clone(),
                cursor: self.cursor,
                end: self.end.clone(),
                held: self.held.clone(),
                packs: packs.collect(),
            },
        );
    }

    pub(super) fn decode(mut body: Bytes) -> Result<Self, WireError> {
        let header: BatchHeader = take_sized("Batch", &mut body)?;
        if let Some(end) = &header.end {
            check_vector("Batch", end.knowledge.len().max(end.collected.len()))?;
        }
        let mut packs = Vec::with_capacity(header.packs.len());
        for pack in &header.packs {
            check("Batch", "bytes in a pack", pack.raw_bytes as usize, PACK_RAW_BYTES_MAX)?;
            if body.len() < pack.bytes as usize {
                return Err(WireError::Short);
            }
            let data = body.split_to(pack.bytes as usize);
            packs.push(Pack { codec: pack.codec, raw_bytes: pack.raw_bytes, data });
        }
        if !body.is_empty() {
            return Err(WireError::Trailing { frame: "Batch", rest: body.len() });
        }
        header.entries.iter().try_for_each(|entry| entry.check(&packs))?;
        Ok(Self {
            number: header.number,
            entries: header.entries,
            cursor: header.cursor,
            end: header.end,
            held: header.held,
            packs,
        })
    }

    /// Unpacks the contents; an entry's is then found by [`BatchEntry::content_in`].
    pub fn unpack(&self) -> Result<Vec<Bytes>, WireError> {
        let total: usize = self.packs.iter().map(|pack| pack.raw_bytes as usize).sum();
        // Many small packs are fine, many large ones would be a bomb.
        check("Batch", "bytes in all packs", total, 2 * PACK_RAW_BYTES_MAX)?;
        self.packs.iter().map(Pack::unpack).collect()
    }
}

impl BatchEntry {
    fn check(&self, packs: &[Pack]) -> Result<(), WireError> {
        let path = || self.entry.path.clone();
        check_vector("Batch", self.entry.version.past.len())?;
        self.entry.check().map_err(|what| WireError::Entry { path: path(), what })?;
        if (self.content == ContentRef::None) != self.entry.kind.content().is_none() {
            return Err(WireError::Entry { path: path(), what: "a kind and a content" });
        }
        if let Kind::Symlink { target } = &self.entry.kind
            && (target.is_empty() || target.len() > SYMLINK_TARGET_BYTES_MAX || target.contains(&0))
        {
            return Err(WireError::Target { path: path(), bytes: target.len() });
        }
        let ContentRef::Inline { pack, offset } = self.content else { return Ok(()) };
        let size = self.entry.kind.content().map_or(0, |(_, size)| size);
        if size > INLINE_BYTES_MAX {
            return Err(WireError::InlineTooLong { path: path(), size });
        }
        let inside = packs
            .get(pack as usize)
            .is_some_and(|pack| u64::from(offset) + size <= u64::from(pack.raw_bytes));
        if inside { Ok(()) } else { Err(WireError::ContentOutside { path: path() }) }
    }

    /// The content of this entry among the unpacked packs of its batch, not yet held against its
    /// hash.
    pub fn content_in(&self, unpacked: &[Bytes]) -> Option<Bytes> {
        let ContentRef::Inline { pack, offset } = self.content else { return None };
        let (_, size) = self.entry.kind.content()?;
        let (from, to) = (offset as usize, offset as usize + usize::try_from(size).ok()?);
        let pack = unpacked.get(pack as usize)?;
        (to <= pack.len()).then(|| pack.slice(from..to))
    }
}

impl Entry {
    /// What about it no node can have made.
    fn check(&self) -> Result<(), &'static str> {
        let stamp = &self.version.stamp;
        // Dots are counted from 1: every vector would cover a dot 0.
        if self.version.dot.counter == 0 || self.version.past.covers(&self.version.dot) {
            return Err("a dot");
        }
        if stamp.wall_ms > WALL_MS_MAX {
            return Err("a stamp");
        }
        let mode = match &self.kind {
            Kind::File { mode, mtime_ns, .. } => {
                if i64::try_from(mtime_ns.div_euclid(NS_PER_S)).is_err() {
                    return Err("a time");
                }
                Some(*mode)
            }
            Kind::Dir { mode, .. } => Some(*mode),
            Kind::Tombstone { mode, .. } => *mode,
            Kind::Symlink { .. } => None,
        };
        if mode.is_some_and(|mode| mode & !MODE_MASK != 0) { Err("a mode") } else { Ok(()) }
    }
}

/// Linux keeps times as 64 bit of seconds and the nanoseconds within.
const NS_PER_S: i128 = 1_000_000_000;
