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
//!    Batch, Rows, Recipe, Chunk, Unavailable, Ping ──────▶
//!    ◀──────────── Ack, Rows, WantRecipe, Want, Ping
//! ```
//!
//! Kinds and fields never change their meaning; what changes takes a new protocol number, and the two
//! agree on the greatest they share. Every length and count is held against its limit before anything
//! of that size is allocated; whatever a peer sends, decoding returns an error and never panics. What
//! is decoded holds every promise that the types alone do not make: vectors and targets within their
//! limits, versions that a node can have made, contents where they are said to be.

mod batch;
mod pack;
pub mod verify;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, INLINE_BYTES_MAX};
use crate::bounded;
use crate::gossip::Row;
use crate::hash::ContentHash;
use crate::knowledge::{Knowledge, VECTOR_REPLICAS_MAX, VersionVector};
use crate::name::{NodeName, ShareName};
use crate::path::RelPath;
use crate::recipe::{RECIPE_PART_CHUNKS_MAX, RecipeChunk};
use crate::ring::RING_NODES_MAX;

pub use batch::{Batch, BatchEntry, ContentRef, PassEnd};
pub use pack::{Pack, PackCodec};

/// The protocol numbers this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
pub const PROTOCOL_MAX: u32 = 1;

/// The greatest protocol that two ranges (least, greatest) share. A range that is upside down shares
/// nothing.
pub fn common_protocol(mine: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let (least, greatest) = (mine.0.max(theirs.0), mine.1.min(theirs.1));
    (least <= greatest && mine.0 <= mine.1 && theirs.0 <= theirs.1).then_some(greatest)
}

/// A frame, without its length. A full batch is at most 4 MiB + 1 MiB of contents and 4 MiB of
/// entries; the rest is room for a full pass's list of paths.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// A pack before compression: a full batch whose last content was as large as they get.
pub const PACK_RAW_BYTES_MAX: usize = BATCH_BYTES_MAX + INLINE_BYTES_MAX as usize;
/// Packs of one batch: as many as it has entries, if each came in a batch of its own.
pub const BATCH_PACKS_MAX: usize = BATCH_ENTRIES_MAX;
/// Paths that one batch of a full pass lists: some 4 MiB of usual ones.
pub const HELD_PATHS_MAX: usize = 65_536;
/// Bytes of a large file in one frame: small files wait for no more than this (0.3 s at 1 Mbit/s,
/// 2 ms at 1 Gbit/s).
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// A reason is for people.
pub const REASON_BYTES_MAX: usize = 1024;
/// Replicas under which one node may make changes in one run: the confirmed one and a fresh one for
/// each time that an id was ended. An ended id is no author's any more: its former life made changes
/// that this one lacks.
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
    WantRecipe(WantRecipe),
    Recipe(RecipePart),
    Inspect(verify::Inspect),
    Inspected(verify::Inspected),
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

/// Asks what a content is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantRecipe {
    pub hash: ContentHash,
    /// A path where the asker has seen it announced.
    pub path: RelPath,
}

/// Some of the chunks of a content, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipePart {
    pub hash: ContentHash,
    #[serde(deserialize_with = "bounded::vec::<_, _, RECIPE_PART_CHUNKS_MAX>")]
    pub chunks: Vec<RecipeChunk>,
    /// These are the last ones.
    pub ends: bool,
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
    /// A peer that sends such an entry is broken, and recording it would break us.
    #[error("`{path}`: {what} that no node makes")]
    Entry { path: RelPath, what: &'static str },
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
const WANT_RECIPE: u8 = 11;
const RECIPE: u8 = 12;
const INSPECT: u8 = 32;
const INSPECTED: u8 = 33;

/// What [`Frame::Rows`] is decoded from.
#[derive(Deserialize)]
struct RowsBody(
    #[serde(deserialize_with = "bounded::vec::<_, _, RING_NODES_MAX>")] Vec<(NodeName, Row)>,
);

#[derive(Serialize, Deserialize)]
struct ChunkHeader {
    hash: ContentHash,
    offset: u64,
}

impl Frame {
    /// Appends the frame, with its length, to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        for pack in self.encode_head(out) {
            out.extend_from_slice(&pack);
        }
    }

    /// The same but for what comes last in a batch, its packs: they are most of it, and are returned as
    /// they are.
    pub fn encode_head(&self, out: &mut BytesMut) -> Vec<Bytes> {
        let mut packs = Vec::new();
        let start = out.len();
        out.put_u32(0);
        match self {
            Frame::Hello(hello) => {
                put(out, HELLO, &Hello { row: sendable(&hello.row), ..hello.clone() });
            }
            Frame::Welcome(welcome) => {
                put(out, WELCOME, &Welcome { row: sendable(&welcome.row), ..welcome.clone() });
            }
            Frame::Batch(batch) => {
                batch.encode_head(out);
                packs.extend(batch.packs.iter().map(|pack| pack.data.clone()));
            }
            Frame::Ack(ack) => put(out, ACK, ack),
            Frame::Ping => out.put_u8(PING),
            Frame::Rows(rows) => {
                let rows = rows.iter().map(|(node, row)| (node, sendable(row)));
                put(out, ROWS, &rows.collect::<Vec<_>>());
            }
            Frame::Want(want) => put(out, WANT, want),
            Frame::Chunk(chunk) => {
                assert!(chunk.data.len() <= CHUNK_BYTES_MAX, "a chunk of our own within its bound");
                out.put_u8(CHUNK);
                put_sized(out, &ChunkHeader { hash: chunk.hash, offset: chunk.offset });
                out.extend_from_slice(&chunk.data);
            }
            Frame::WantRecipe(want) => put(out, WANT_RECIPE, want),
            Frame::Recipe(part) => {
                let count = part.chunks.len();
                assert!(count <= RECIPE_PART_CHUNKS_MAX, "a part of our own within its bound");
                put(out, RECIPE, part);
            }
            Frame::Unavailable(hash) => put(out, UNAVAILABLE, hash),
            Frame::Goodbye(reason) => {
                put(out, GOODBYE, clipped(reason));
            }
            Frame::Inspect(inspect) => inspect.encode(out, INSPECT),
            Frame::Inspected(inspected) => inspected.encode(out, INSPECTED),
        }
        let packed: usize = packs.iter().map(Bytes::len).sum();
        let length = out.len() - start - LENGTH_BYTES + packed;
        assert!(length <= FRAME_BYTES_MAX, "a frame of our own within its bound");
        out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        packs
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
                let RowsBody(rows) = whole("Rows", &body)?;
                rows.iter().try_for_each(|(_, row)| check_row("Rows", row))?;
                Frame::Rows(rows)
            }
            WANT => Frame::Want(whole("Want", &body)?),
            CHUNK => {
                let header: ChunkHeader = take_sized("Chunk", &mut body)?;
                check("Chunk", "bytes", body.len(), CHUNK_BYTES_MAX)?;
                Frame::Chunk(Chunk { hash: header.hash, offset: header.offset, data: body })
            }
            WANT_RECIPE => Frame::WantRecipe(whole("WantRecipe", &body)?),
            RECIPE => Frame::Recipe(whole("Recipe", &body)?),
            UNAVAILABLE => Frame::Unavailable(whole("Unavailable", &body)?),
            GOODBYE => {
                let reason: String = whole("Goodbye", &body)?;
                check("Goodbye", "bytes", reason.len(), REASON_BYTES_MAX)?;
                Frame::Goodbye(reason)
            }
            INSPECT => Frame::Inspect(verify::Inspect::decode(&body)?),
            INSPECTED => Frame::Inspected(verify::Inspected::decode(&body)?),
            unknown => return Err(WireError::UnknownKind(unknown)),
        })
    }
}

const LENGTH_BYTES: usize = 4;

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

/// A row as peers accept it: the reason for a halt may name a path and be longer than they take.
fn sendable(row: &Row) -> Row {
    Row { halted: row.halted.as_deref().map(|reason| clipped(reason).to_owned()), ..row.clone() }
}

fn clipped(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

fn check_row(frame: &'static str, row: &Row) -> Result<(), WireError> {
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
