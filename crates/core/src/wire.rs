//! The wire format of a link.
//!
//! A link is one TLS connection, opened by the upstream node. Each side sends frames:
//!
//! ```text
//! frame    u32 length of what follows, big endian │ u8 kind │ body
//! body     postcard (https://postcard.jamesmunns.com/wire-format), except
//! Batch    u32 length of the header, big endian │ header: postcard │ pack 0 │ pack 1 │ …
//! Chunk    u32 length of the header, big endian │ header: postcard │ bytes
//!
//! upstream                                   downstream
//!    Hello ──────────────────────────────────────▶
//!    ◀──────────────────────────── Welcome | Goodbye
//!    Batch, Rows, Chunk, Unavailable, Ping ──────▶
//!    ◀──────────────────── Ack, Rows, Want, Ping
//! ```
//!
//! Kinds and fields never change their meaning; what changes takes a new protocol number, and the two
//! agree on the greatest they share. Every length is checked before anything of that length is
//! allocated; whatever a peer sends, decoding returns an error and never panics.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, INLINE_BYTES_MAX};
use crate::entry::{Entry, Kind, SYMLINK_TARGET_BYTES_MAX};
use crate::gossip::Row;
use crate::hash::ContentHash;
use crate::knowledge::{Knowledge, VECTOR_REPLICAS_MAX, VersionVector};
use crate::name::{NodeName, ShareName};
use crate::path::RelPath;
use crate::ring::RING_NODES_MAX;
use crate::version::Stamp;

/// The protocol numbers this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
pub const PROTOCOL_MAX: u32 = 1;

/// A frame, without its length. A full batch is at most 4 MiB + 1 MiB of contents and 512 entries of
/// at most ~12 KiB (two paths of 4 KiB and vectors); the rest is room.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// A pack before compression: a full batch whose last content was as large as they get.
pub const PACK_RAW_BYTES_MAX: usize = BATCH_BYTES_MAX + INLINE_BYTES_MAX as usize;
/// Packs of one batch: as many as it has entries, if each came in a batch of its own.
pub const BATCH_PACKS_MAX: usize = BATCH_ENTRIES_MAX;
/// Bytes of a large file in one frame: small files wait for no more than this (0.3 s at 1 Mbit/s,
/// 2 ms at 1 Gbit/s).
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// A reason is for people.
pub const REASON_BYTES_MAX: usize = 1024;
/// Replicas under which one node may make changes in one run: a fresh one and the confirmed one,
/// with room for ids that a rollback ended.
pub const AUTHORS_MAX: usize = 16;

/// Everything that crosses a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Batch(Batch),
    Ack(Ack),
    Ping,
    Rows(Vec<(NodeName, Row)>),
    Want(Want),
    Chunk(Chunk),
    Unavailable(ContentHash),
    Goodbye(String),
}

/// The upstream's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol_min: u32,
    pub protocol_max: u32,
    pub share: ShareName,
    pub node: NodeName,
    pub row: Row,
}

/// The downstream's answer: where to begin, and what may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub protocol: u32,
    pub row: Row,
    pub cursor: Cursor,
    /// Tombstones that were dropped everywhere (see `PassEnd::collected`).
    pub collected: VersionVector,
}

/// A place in a node's journal. The tag is that of the commit which made the sequence: a journal that
/// was rolled back and went on does not hold it (PROTOCOL A3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    pub sequence: u64,
    pub tag: u64,
}

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

/// Contents, one behind the other, compressed together. A middle node passes a pack on as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    pub codec: PackCodec,
    /// Length once unpacked.
    pub raw_bytes: u32,
    pub data: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackCodec {
    Raw,
    Zstd,
}

/// Says that a batch is durable here. Sent in the order of the batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub number: u64,
    /// The receiver's knowledge, if the batch changed it: what need not be sent any more.
    pub knowledge: Option<Knowledge>,
}

/// Asks for `length` bytes of a content from `offset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub hash: ContentHash,
    /// A path where the asker has seen it announced.
    pub path: RelPath,
    pub offset: u64,
    pub length: u64,
}

/// A piece of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub hash: ContentHash,
    pub offset: u64,
    pub data: Bytes,
}

#[derive(Debug, Error)]
pub enum WireError {
    #[error("a frame of {0} bytes, more than {FRAME_BYTES_MAX}")]
    FrameTooLong(usize),
    #[error("a frame ends too early")]
    Short,
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    #[error("a malformed {frame} frame")]
    Malformed { frame: &'static str, source: postcard::Error },
    #[error("{rest} bytes too many in a {frame} frame")]
    Trailing { frame: &'static str, rest: usize },
    #[error("a {frame} frame with {count} {what}, more than {max}")]
    TooMany { frame: &'static str, what: &'static str, count: usize, max: usize },
    #[error("`{path}`: its content lies outside its pack")]
    ContentOutside { path: RelPath },
    #[error("`{path}`: a content of {size} bytes inside a batch, more than {INLINE_BYTES_MAX}")]
    InlineTooLong { path: RelPath, size: u64 },
    #[error("`{path}`: a symlink target of {bytes} bytes")]
    Target { path: RelPath, bytes: usize },
    #[error("a pack does not unpack")]
    Unpack(#[source] std::io::Error),
    #[error("a pack unpacks to {found} bytes instead of {expected}")]
    PackLength { expected: usize, found: usize },
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const BATCH: u8 = 3;
const ACK: u8 = 4;
const PING: u8 = 5;
const ROWS: u8 = 6;
const WANT: u8 = 7;
const CHUNK: u8 = 8;
const UNAVAILABLE: u8 = 9;
const GOODBYE: u8 = 10;

#[derive(Serialize, Deserialize)]
struct BatchHeader {
    number: u64,
    entries: Vec<BatchEntry>,
    cursor: Cursor,
    end: Option<PassEnd>,
    held: Vec<RelPath>,
    packs: Vec<PackHeader>,
}

#[derive(Serialize, Deserialize)]
struct PackHeader {
    codec: PackCodec,
    raw_bytes: u32,
    bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct ChunkHeader {
    hash: ContentHash,
    offset: u64,
}

impl Frame {
    /// Appends the frame, with its length, to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32(0);
        match self {
            Frame::Hello(hello) => put(out, HELLO, hello),
            Frame::Welcome(welcome) => put(out, WELCOME, welcome),
            Frame::Batch(batch) => batch.encode(out),
            Frame::Ack(ack) => put(out, ACK, ack),
            Frame::Ping => out.put_u8(PING),
            Frame::Rows(rows) => put(out, ROWS, rows),
            Frame::Want(want) => put(out, WANT, want),
            Frame::Chunk(chunk) => {
                out.put_u8(CHUNK);
                put_sized(out, &ChunkHeader { hash: chunk.hash, offset: chunk.offset });
                out.extend_from_slice(&chunk.data);
            }
            Frame::Unavailable(hash) => put(out, UNAVAILABLE, hash),
            Frame::Goodbye(reason) => {
                let end = reason.floor_char_boundary(REASON_BYTES_MAX);
                put(out, GOODBYE, &reason[..end]);
            }
        }
        let length = out.len() - start - LENGTH_BYTES;
        assert!(length <= FRAME_BYTES_MAX, "a frame of our own within its bound");
        out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    }

    /// Takes one frame off the front of `buffer`; `None` if it is not there whole yet.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(WireError::FrameTooLong(length));
        }
        if buffer.len() < LENGTH_BYTES + length {
            buffer.reserve(LENGTH_BYTES + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        Self::decode_body(buffer.split_to(length).freeze()).map(Some)
    }

    fn decode_body(mut body: Bytes) -> Result<Frame, WireError> {
        if body.is_empty() {
            return Err(WireError::Short);
        }
        let kind = body.get_u8();
        Ok(match kind {
            HELLO => {
                let hello: Hello = whole("Hello", &body)?;
                check_row("Hello", &hello.row)?;
                Frame::Hello(hello)
            }
            WELCOME => {
                let welcome: Welcome = whole("Welcome", &body)?;
                check_row("Welcome", &welcome.row)?;
                check_vector("Welcome", welcome.collected.len())?;
                Frame::Welcome(welcome)
            }
            BATCH => Frame::Batch(Batch::decode(body)?),
            ACK => {
                let ack: Ack = whole("Ack", &body)?;
                check_vector("Ack", ack.knowledge.as_ref().map_or(0, Knowledge::len))?;
                Frame::Ack(ack)
            }
            PING => whole::<()>("Ping", &body).map(|()| Frame::Ping)?,
            ROWS => {
                let rows: Vec<(NodeName, Row)> = whole("Rows", &body)?;
                check("Rows", "rows", rows.len(), RING_NODES_MAX)?;
                rows.iter().try_for_each(|(_, row)| check_row("Rows", row))?;
                Frame::Rows(rows)
            }
            WANT => Frame::Want(whole("Want", &body)?),
            CHUNK => {
                let header: ChunkHeader = take_sized("Chunk", &mut body)?;
                check("Chunk", "bytes", body.len(), CHUNK_BYTES_MAX)?;
                Frame::Chunk(Chunk { hash: header.hash, offset: header.offset, data: body })
            }
            UNAVAILABLE => Frame::Unavailable(whole("Unavailable", &body)?),
            GOODBYE => {
                let reason: String = whole("Goodbye", &body)?;
                check("Goodbye", "bytes", reason.len(), REASON_BYTES_MAX)?;
                Frame::Goodbye(reason)
            }
            unknown => return Err(WireError::UnknownKind(unknown)),
        })
    }
}

const LENGTH_BYTES: usize = 4;

impl Batch {
    fn encode(&self, out: &mut BytesMut) {
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
        for pack in &self.packs {
            out.extend_from_slice(&pack.data);
        }
    }

    fn decode(mut body: Bytes) -> Result<Self, WireError> {
        let header: BatchHeader = take_sized("Batch", &mut body)?;
        check("Batch", "entries", header.entries.len(), BATCH_ENTRIES_MAX)?;
        check("Batch", "packs", header.packs.len(), BATCH_PACKS_MAX)?;
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

impl Pack {
    /// Compresses contents together (2.5 times better than one by one), or leaves them as they are
    /// if that saves less than a sixteenth.
    pub fn compress(raw: Vec<u8>) -> Self {
        let raw_bytes = raw.len() as u32;
        match zstd::bulk::compress(&raw, ZSTD_LEVEL) {
            Ok(packed) if packed.len() < raw.len() - raw.len() / 16 => {
                Self { codec: PackCodec::Zstd, raw_bytes, data: packed.into() }
            }
            _ => Self { codec: PackCodec::Raw, raw_bytes, data: raw.into() },
        }
    }

    fn unpack(&self) -> Result<Bytes, WireError> {
        let expected = self.raw_bytes as usize;
        let raw = match self.codec {
            PackCodec::Raw => self.data.clone(),
            PackCodec::Zstd => {
                zstd::bulk::decompress(&self.data, expected).map_err(WireError::Unpack)?.into()
            }
        };
        if raw.len() == expected {
            Ok(raw)
        } else {
            Err(WireError::PackLength { expected, found: raw.len() })
        }
    }
}

/// Level 1 costs 6 µs for a 5 KB file and level 3 7.3 µs, for a seventh less traffic.
const ZSTD_LEVEL: i32 = 1;

fn put(out: &mut BytesMut, kind: u8, body: &(impl Serialize + ?Sized)) {
    out.put_u8(kind);
    serialize(out, body);
}

fn put_sized(out: &mut BytesMut, header: &impl Serialize) {
    let start = out.len();
    out.put_u32(0);
    serialize(out, header);
    let length = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn serialize(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    // Into memory, from types whose serialization cannot fail: the error has no cause to arise.
    let bytes = postcard::to_allocvec(value).unwrap_or_else(|error| panic!("postcard: {error}"));
    out.extend_from_slice(&bytes);
}

fn whole<T: DeserializeOwned>(frame: &'static str, body: &[u8]) -> Result<T, WireError> {
    let (value, rest) =
        postcard::take_from_bytes(body).map_err(|source| WireError::Malformed { frame, source })?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Trailing { frame, rest: rest.len() }) }
}

fn take_sized<T: DeserializeOwned>(frame: &'static str, body: &mut Bytes) -> Result<T, WireError> {
    if body.len() < LENGTH_BYTES {
        return Err(WireError::Short);
    }
    let length = body.get_u32() as usize;
    if body.len() < length {
        return Err(WireError::Short);
    }
    whole(frame, &body.split_to(length))
}

fn check_row(frame: &'static str, row: &Row) -> Result<(), WireError> {
    check(frame, "authors", row.authors.len(), AUTHORS_MAX)?;
    check(frame, "rows heard", row.heard.len(), RING_NODES_MAX)?;
    check(frame, "bytes of reason", row.halted.as_ref().map_or(0, String::len), REASON_BYTES_MAX)?;
    check_vector(frame, row.knowledge.len().max(row.applied.len()))
}

fn check_vector(frame: &'static str, count: usize) -> Result<(), WireError> {
    check(frame, "replicas", count, VECTOR_REPLICAS_MAX)
}

fn check(
    frame: &'static str,
    what: &'static str,
    count: usize,
    max: usize,
) -> Result<(), WireError> {
    if count > max { Err(WireError::TooMany { frame, what, count, max }) } else { Ok(()) }
}
