//! Frames over a byte stream, counted, and the rows that every connection passes on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chainsync_core::NodeName;
use chainsync_core::gossip::{RowId, Rows};
use chainsync_core::wire::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::LinkError;
use super::throttle::{PIECE_BYTES, Throttle};
use crate::board::Board;

/// Frames that wait to be written. Batches are bounded by the window; the rest is small.
pub const OUTBOX_FRAMES_MAX: usize = 64;

/// Takes frames off a stream. Dropping a `next` that is under way loses nothing.
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    heard: Instant,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(stream: R) -> Self {
        let buffer = BytesMut::with_capacity(READ_BYTES);
        Self { stream, buffer, heard: Instant::now() }
    }

    /// Nobody has read for a while: the silence was our own.
    pub fn listen_anew(&mut self) {
        self.heard = Instant::now();
    }

    /// When the peer will have been silent for so long. Part of a frame is a sign of life: a slow link
    /// takes its time for a whole one.
    pub fn silent_at(&self, dead_after: Duration) -> Instant {
        self.heard + dead_after
    }

    /// An error once the peer has been silent for so long.
    pub fn check_silence(&self, dead_after: Duration) -> Result<(), LinkError> {
        match self.silent_at(dead_after) > Instant::now() {
            true => Ok(()),
            false => Err(LinkError::Silent(dead_after)),
        }
    }

    /// The next frame and the bytes that were read on the way to it.
    pub async fn next(&mut self, count: impl Fn(u64)) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                self.heard = Instant::now();
                return Ok(frame);
            }
            self.buffer.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(LinkError::Closed),
                Ok(read) => {
                    self.heard = Instant::now();
                    count(read as u64);
                }
                // TLS's word for a peer that ended without taking leave.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(LinkError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A TLS record holds 16 KiB: room for a few.
const READ_BYTES: usize = 64 << 10;

/// Writes what comes out of an outbox, until it is closed; what is in `bulk` only while the outbox is
/// empty, so that nothing small waits for more than one large frame. `limit`: bytes a second.
pub async fn write_all<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut outbox: mpsc::Receiver<Encoded>,
    mut bulk: mpsc::Receiver<Encoded>,
    limit: impl Fn() -> Option<u64>,
    count: impl Fn(u64),
) -> Result<(), LinkError> {
    let mut throttle = Throttle::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = outbox.recv() => match frame {
                Some(frame) => frame,
                None => break,
            },
            Some(frame) = bulk.recv() => frame,
        };
        for part in frame.parts() {
            match limit() {
                None => stream.write_all(part).await?,
                Some(limit) => {
                    for piece in part.chunks(PIECE_BYTES) {
                        throttle.wait(piece.len(), limit).await;
                        stream.write_all(piece).await?;
                        stream.flush().await?;
                    }
                }
            }
        }
        count(frame.len() as u64);
        if outbox.is_empty() {
            stream.flush().await?;
        }
    }
    stream.flush().await?;
    stream.shutdown().await?;
    Ok(())
}

/// A frame as it is sent. What a batch carries is not copied once more.
pub struct Encoded {
    head: Bytes,
    packs: Vec<Bytes>,
}

impl Encoded {
    pub fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.head).chain(self.packs.iter().map(|pack| &**pack))
    }
}

pub fn encode(frame: &Frame) -> Encoded {
    let mut head = BytesMut::new();
    let packs = frame.encode_head(&mut head);
    Encoded { head: head.freeze(), packs }
}

pub async fn write_frame<W: AsyncWrite + Unpin>(
    stream: &mut W,
    frame: &Frame,
) -> Result<u64, LinkError> {
    let frame = encode(frame);
    for part in frame.parts() {
        stream.write_all(part).await?;
    }
    stream.flush().await?;
    Ok(frame.len() as u64)
}

/// Which rows the other end of a connection has.
#[derive(Debug, Default)]
pub struct RowsSent(BTreeMap<NodeName, (RowId, u64)>);

impl RowsSent {
    /// The rows that it does not have, as a frame; they count as sent from now on.
    pub fn news(&mut self, rows: &Rows) -> Option<Frame> {
        let news: Vec<_> = rows
            .iter()
            .filter(|(node, row)| self.0.get(node).is_none_or(|sent| *sent < row.age()))
            .map(|(node, row)| (node.clone(), row.clone()))
            .collect();
        for (node, row) in &news {
            self.0.insert(node.clone(), row.age());
        }
        (!news.is_empty()).then_some(Frame::Rows(news))
    }

    /// Takes in rows from the other end.
    pub fn hear(&mut self, board: &Board, rows: Vec<(NodeName, chainsync_core::gossip::Row)>) {
        for (node, row) in rows {
            // Its own row a node tells in any case: the order between that and its batches matters.
            if !board.is_mine(&node) {
                let age = row.age();
                let sent = self.0.entry(node.clone()).or_insert(age);
                *sent = (*sent).max(age);
            }
            board.hear(&node, row);
        }
    }
}
