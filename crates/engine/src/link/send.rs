//! The upstream's side of a link: reads the journal in passes and keeps several batches under way.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use chainsync_core::batch::BATCH_BYTES_MAX;
use chainsync_core::gossip::ReceiverKnows;
use chainsync_core::wire::{Batch, Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Welcome};
use chainsync_core::{Knowledge, NodeName};
use chainsync_env::{Env, Net, Point};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::LinkError;
use super::connection::{
    Encoded, FrameReader, OUTBOX_FRAMES_MAX, RowsSent, encode, write_all, write_frame,
};
use super::give::{ASKED_MAX, Asked, BULK_FRAMES_MAX, give};
use super::holdings::{self, Asking, Holdings};
use super::pace::Pace;
use super::pass::{Pass, Step};
use crate::board;
use crate::index::cursor_position;
use crate::share::{Share, ShareError, lock};
use crate::signal;

/// Batches under way. Enough to keep the receiver busy while acknowledgements travel.
const WINDOW_BATCHES: usize = 6;
/// Bytes under way: bounds what a slow successor costs its upstream.
const WINDOW_BYTES: usize = 12 << 20;

type Stream<E> = <<E as Env>::Net as Net>::Stream;

/// A link whose ends have greeted each other.
pub struct Link<E: Env> {
    to: NodeName,
    reader: FrameReader<ReadHalf<Stream<E>>>,
    writer: WriteHalf<Stream<E>>,
    welcome: Welcome,
}

impl<E: Env> Link<E> {
    pub async fn open(share: Arc<Share<E>>, to: &NodeName) -> Result<Self, LinkError> {
        let settings = share.settings();
        let Some(peer) = settings.peers.get(to) else {
            return Err(LinkError::Protocol("no address for this node"));
        };
        let stream = share.env.net().connect(peer).await?;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(reader);
        let row = share.board.my_row().ok_or(LinkError::Protocol("not ready"))?;
        let hello = Frame::Hello(Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            share: share.config.name.clone(),
            node: share.me.clone(),
            row,
        });
        let bytes = write_frame(&mut writer, &hello).await?;
        share.count_sent(to, bytes);
        let frame = reader.next(|bytes| share.count_received(to, bytes)).await?;
        match frame {
            Frame::Welcome(welcome)
                if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&welcome.protocol) =>
            {
                Ok(Self { to: to.clone(), reader, writer, welcome })
            }
            Frame::Goodbye(reason) => Err(LinkError::Goodbye(reason)),
            _ => Err(LinkError::Protocol("it did not welcome")),
        }
    }
}

/// Serves a link until it fails, or until it is told to close and everything sent is acknowledged.
pub async fn serve<E: Env>(
    share: Arc<Share<E>>,
    link: Link<E>,
    first_pass: signal::Sender<bool>,
    closing: signal::Receiver<bool>,
) -> LinkError {
    let Link { to, reader, writer, welcome } = link;
    let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let counting = (share.clone(), to.clone());
    let (bulk, bulk_frames) = mpsc::channel(BULK_FRAMES_MAX);
    let (asked, requests) = mpsc::channel(ASKED_MAX);
    let limiting = counting.clone();
    let limit = move || limiting.0.bandwidth_to(&limiting.1);
    let write = write_all(writer, frames, bulk_frames, limit, move |bytes| {
        counting.0.count_sent(&counting.1, bytes);
    });
    let give = give(share.clone(), requests, bulk);
    let outbox = Outbox { frames: outbox, asked };
    let sender = Sender::new(share, to, reader, welcome, outbox, first_pass, closing);
    let work = async {
        match sender {
            Ok(sender) => sender.run().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        biased;
        end = work => end,
        end = write => match end {
            Err(error) => error,
            // The outbox closes only when `work` has ended, and then that branch was taken.
            Ok(()) => pending().await,
        },
        end = give => match end {
            Err(error) => error,
            // So do the requests.
            Ok(()) => pending().await,
        },
    }
}

/// What was asked for; never, if nothing was.
async fn answer(asking: &mut Option<Asking>) -> Holdings {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

/// Ways out of a [`Sender`]: to the peer, and to whoever answers its requests for contents.
struct Outbox {
    frames: mpsc::Sender<Encoded>,
    asked: mpsc::Sender<Asked>,
}

/// A batch that is not acknowledged.
struct InFlight {
    number: u64,
    bytes: usize,
    /// Whether it ends a pass.
    ends: bool,
    /// Up to where it brings the journal.
    position: u64,
}

struct Sender<E: Env> {
    share: Arc<Share<E>>,
    /// On the board, until this is dropped.
    id: board::LinkId,
    to: NodeName,
    reader: FrameReader<ReadHalf<Stream<E>>>,
    outbox: Outbox,
    knows: ReceiverKnows,
    rows_sent: RowsSent,
    pass: Option<Pass>,
    position: u64,
    /// The knowledge that the last finished pass carried.
    told: Option<Knowledge>,
    number: u64,
    in_flight: VecDeque<InFlight>,
    pace: Pace,
    /// While the receiver is asked what it has already, no pass begins.
    asking: Option<Asking>,
    /// As long as the connection lives: what others hold under the same names passes through here
    /// later.
    holdings: Arc<Holdings>,
    first_pass: signal::Sender<bool>,
    closing: signal::Receiver<bool>,
    said: Instant,
}

impl<E: Env> Drop for Sender<E> {
    fn drop(&mut self) {
        self.share.board.drop_link(self.id);
    }
}

impl<E: Env> Sender<E> {
    fn new(
        share: Arc<Share<E>>,
        to: NodeName,
        mut reader: FrameReader<ReadHalf<Stream<E>>>,
        welcome: Welcome,
        outbox: Outbox,
        first_pass: signal::Sender<bool>,
        closing: signal::Receiver<bool>,
    ) -> Result<Self, LinkError> {
        let index = share.index.read().map_err(ShareError::from)?;
        let position = match cursor_position(&index, welcome.cursor).map_err(ShareError::from)? {
            Some(position) => position,
            None => {
                share.env.probe(Point::CursorUnknown);
                tracing::info!(%to, cursor = welcome.cursor.sequence, "cursor unknown: reading the whole journal");
                0
            }
        };
        let asking = holdings::ask(&share, &to, position, &welcome.row.knowledge);
        let mut knows = ReceiverKnows::default();
        knows.hear_row(&welcome.row);
        let mut rows_sent = RowsSent::default();
        rows_sent.hear(&share.board, vec![(to.clone(), welcome.row)]);
        reader.listen_anew();
        let id = share.board.open_link();
        Ok(Self {
            share,
            id,
            to,
            reader,
            outbox,
            knows,
            rows_sent,
            pass: None,
            position,
            told: None,
            number: 0,
            in_flight: VecDeque::new(),
            pace: Pace::new(position),
            asking,
            holdings: Arc::default(),
            first_pass,
            closing,
            said: Instant::now(),
        })
    }

    async fn run(mut self) -> LinkError {
        let mut journal = self.share.journal_moved.subscribe();
        let mut rows = self.share.board.rows_moved.subscribe();
        journal.mark_changed();
        rows.mark_changed();
        loop {
            self.note();
            let room = self.has_room();
            let more = self.asking.is_none() && (self.pass.is_some() || self.has_news());
            if *self.closing.borrow() && self.pass.is_none() && self.in_flight.is_empty() {
                let _ = self
                    .outbox
                    .frames
                    .try_send(encode(&Frame::Goodbye("a nearer successor is back".into())));
                return LinkError::Closed;
            }
            let share = self.share.clone();
            let to = self.to.clone();
            let silent = self.reader.silent_at(self.share.dead_after());
            let beat = self.said + self.share.heartbeat();
            let asking = &mut self.asking;
            let step = tokio::select! {
                biased;
                held = answer(asking) => {
                    (self.asking, self.holdings) = (None, Arc::new(held));
                    Ok(())
                }
                frame = self.reader.next(|bytes| share.count_received(&to, bytes)) => match frame {
                    Ok(frame) => self.hear(frame),
                    Err(error) => Err(error),
                },
                _ = sleep_until(silent) => self.reader.check_silence(self.share.dead_after()),
                _ = rows.changed() => {
                    if let Some(frame) = self.rows_sent.news(&self.share.board.rows()) {
                        self.say(&frame);
                    }
                    Ok(())
                }
                _ = sleep_until(beat) => {
                    self.say(&Frame::Ping);
                    self.rest();
                    Ok(())
                }
                () = std::future::ready(()), if room && more => self.send().await,
                _ = journal.changed() => Ok(()),
                _ = self.closing.changed() => Ok(()),
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    fn note(&self) {
        let link = board::Link {
            to: self.to.clone(),
            position: self.position,
            in_flight: self.in_flight.len() as u64,
            pace: self.pace,
            sending: self.pass.is_some() || !self.in_flight.is_empty(),
        };
        self.share.board.note_link(self.id, link);
    }

    /// There was nothing to say for a while.
    fn rest(&self) {
        if self.pass.is_none() && self.in_flight.is_empty() && !self.has_news() {
            lock(&self.share.contents).clear();
        }
    }

    fn has_room(&self) -> bool {
        let bytes: usize = self.in_flight.iter().map(|batch| batch.bytes).sum();
        self.in_flight.len() < WINDOW_BATCHES && bytes < WINDOW_BYTES
    }

    /// Whether a new pass is due.
    fn has_news(&self) -> bool {
        let state = self.share.index.state();
        !*self.closing.borrow()
            && (state.head > self.position || self.told.as_ref() != Some(&state.knowledge))
    }

    /// Sends the next batch of the pass, beginning one if none is open.
    async fn send(&mut self) -> Result<(), LinkError> {
        let share = self.share.clone();
        let knows = self.knows.clone();
        let holdings = self.holdings.clone();
        let position = self.position;
        let bytes_max = self.batch_bytes_max();
        let pass = self.pass.take();
        let told = if pass.is_none() { self.told.clone() } else { None };
        let job = self.share.env.blocking(move || -> Result<_, ShareError> {
            let mut pass = match pass {
                Some(pass) => pass,
                None => Pass::open(&share, position, &knows, told.as_ref())?,
            };
            let step = pass.next(&share, &knows, &holdings, bytes_max)?;
            Ok((pass, step))
        });
        let (pass, step) = job.await?;
        self.position = pass.position();
        let Step::Send(piece) = step else {
            self.pass = Some(pass);
            return Ok(());
        };
        let ends = piece.end.is_some();
        match &piece.end {
            Some(end) => self.told = Some(end.knowledge.clone()),
            None => self.pass = Some(pass),
        }
        self.number += 1;
        let entries = piece.entries.len() as u64;
        let contents = piece.entries.iter().filter(|entry| {
            matches!(entry.content, chainsync_core::wire::ContentRef::Inline { .. })
        });
        let contents = contents.count() as u64;
        let frame = encode(&Frame::Batch(Batch {
            number: self.number,
            entries: piece.entries,
            cursor: piece.cursor,
            end: piece.end,
            held: piece.held,
            packs: piece.packs,
        }));
        self.share.board.count(|counters| {
            counters.batches_sent += 1;
            counters.entries_sent += entries;
            counters.contents_sent += contents;
        });
        if self.in_flight.is_empty() {
            self.pace.begin();
        }
        let (number, bytes, position) = (self.number, frame.len(), self.position);
        self.in_flight.push_back(InFlight { number, bytes, ends, position });
        self.said = Instant::now();
        // Never full: the window is smaller than the outbox, and the rest yields to it.
        self.outbox.frames.send(frame).await.map_err(|_| LinkError::Closed)
    }

    /// A batch is on its way for half a second at a limit: what comes behind it waits no longer.
    fn batch_bytes_max(&self) -> usize {
        let limit = self.share.bandwidth_to(&self.to);
        limit.and_then(|limit| usize::try_from(limit / 2).ok()).unwrap_or(BATCH_BYTES_MAX)
    }

    fn hear(&mut self, frame: Frame) -> Result<(), LinkError> {
        match frame {
            Frame::Ack(ack) => {
                let Some(batch) = self.in_flight.pop_front() else {
                    return Err(LinkError::Protocol("an acknowledgement of nothing"));
                };
                if batch.number != ack.number {
                    return Err(LinkError::Protocol("an acknowledgement out of order"));
                }
                if let Some(knowledge) = &ack.knowledge {
                    self.knows.hear_knowledge(knowledge);
                }
                self.pace.acknowledged(batch.position);
                if batch.ends {
                    self.first_pass.send_replace(true);
                }
            }
            Frame::Rows(rows) => {
                for (node, row) in &rows {
                    if *node == self.to {
                        self.knows.hear_row(row);
                    }
                }
                self.rows_sent.hear(&self.share.board, rows);
            }
            Frame::Want(want) => self.ask(Asked::Range(want))?,
            Frame::WantRecipe(want) => self.ask(Asked::Recipe(want))?,
            Frame::Ping => {}
            Frame::Goodbye(reason) => return Err(LinkError::Goodbye(reason)),
            _ => return Err(LinkError::Protocol("a frame that only an upstream sends")),
        }
        Ok(())
    }

    fn ask(&self, request: Asked) -> Result<(), LinkError> {
        let asked = self.outbox.asked.try_send(request);
        asked.map_err(|_| LinkError::Protocol("too many requests for contents at a time"))
    }

    /// Sends a small frame, unless the peer does not take any: then it will be found silent.
    fn say(&mut self, frame: &Frame) {
        self.said = Instant::now();
        let _ = self.outbox.frames.try_send(encode(frame));
    }
}
