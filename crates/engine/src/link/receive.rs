//! The downstream's side of links: greets whoever comes, hands batches to the applier (`applier`), and
//! acknowledges.

use std::future::pending;
use std::sync::Arc;

use chainsync_core::wire::{self, Batch, Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Welcome};
use chainsync_core::{ContentHash, NodeId, NodeName};
use chainsync_env::{Env, Net};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::LinkError;
use super::applier::{Arrived, Reply};
use super::connection::{
    Encoded, FrameReader, OUTBOX_FRAMES_MAX, RowsSent, encode, write_all, write_frame,
};
use super::progress::Progress;
use crate::board::Upstream;
use crate::large::queue::Delivered;
use crate::share::{Share, ShareError, lock};

type Stream<E> = <<E as Env>::Net as Net>::Stream;

/// A connection whose Hello has been read.
pub struct Greeted<E: Env> {
    pub reader: FrameReader<ReadHalf<Stream<E>>>,
    pub writer: WriteHalf<Stream<E>>,
    pub hello: Hello,
    /// Who it proved to be.
    pub id: NodeId,
}

/// Refuses a connection, with the reason.
pub async fn refuse<E: Env>(mut greeted: Greeted<E>, reason: &str) {
    let _ = write_frame(&mut greeted.writer, &Frame::Goodbye(reason.to_owned())).await;
}

/// Serves one upstream until its connection ends.
pub async fn serve<E: Env>(
    share: Arc<Share<E>>,
    greeted: Greeted<E>,
    apply: mpsc::Sender<Arrived>,
    connection: u64,
) -> LinkError {
    let Greeted { reader, writer, hello, id } = greeted;
    let from = hello.node.clone();
    let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let counting = (share.clone(), from.clone());
    // A receiver has nothing large to say.
    let (_, bulk) = mpsc::channel(1);
    let write = write_all(
        writer,
        frames,
        bulk,
        || None,
        move |bytes| counting.0.count_sent(&counting.1, bytes),
    );
    let upstream = Upstream { since_ms: share.now_ms(), connection, mid_pass: false };
    share.board.set_upstream(&from, upstream);
    lock(&share.outboxes).insert(from.clone(), (connection, outbox.clone()));
    let work = receive(share.clone(), reader, (hello, id), outbox, apply, upstream);
    let end = tokio::select! {
        biased;
        end = work => end,
        end = write => match end {
            Err(error) => error,
            Ok(()) => pending().await,
        },
    };
    forget_upstream(&share, &from, connection);
    end
}

/// The connection of an upstream is gone.
pub fn forget_upstream<E: Env>(share: &Share<E>, from: &NodeName, connection: u64) {
    share.board.drop_upstream(from, connection);
    let mut outboxes = lock(&share.outboxes);
    if outboxes.get(from).is_some_and(|(held, _)| *held == connection) {
        outboxes.remove(from);
    }
}

async fn receive<E: Env>(
    share: Arc<Share<E>>,
    reader: FrameReader<ReadHalf<Stream<E>>>,
    (hello, id): (Hello, NodeId),
    outbox: mpsc::Sender<Encoded>,
    apply: mpsc::Sender<Arrived>,
    upstream: Upstream,
) -> LinkError {
    let (reply, replies) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let progress = Arc::<Progress>::default();
    {
        let mut all = lock(&share.progress);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&progress));
    }
    let mut receiver = Receiver {
        from: hello.node.clone(),
        id,
        share,
        reader,
        outbox,
        apply,
        upstream,
        rows_sent: RowsSent::default(),
        progress,
        reply,
        waiting: None,
        said: Instant::now(),
    };
    match receiver.welcome(hello).await {
        Ok(()) => receiver.run(replies).await,
        Err(error) => error,
    }
}

struct Receiver<E: Env> {
    from: NodeName,
    id: NodeId,
    share: Arc<Share<E>>,
    reader: FrameReader<ReadHalf<Stream<E>>>,
    outbox: mpsc::Sender<Encoded>,
    apply: mpsc::Sender<Arrived>,
    upstream: Upstream,
    rows_sent: RowsSent,
    progress: Arc<Progress>,
    reply: mpsc::Sender<Reply>,
    /// A batch that the applier has no room for yet. Nothing more is read meanwhile.
    waiting: Option<Batch>,
    said: Instant,
}

impl<E: Env> Receiver<E> {
    async fn welcome(&mut self, hello: Hello) -> Result<(), LinkError> {
        let index = self.share.index.read().map_err(ShareError::from)?;
        let cursor = index.cursor(&self.from).map_err(ShareError::from)?;
        let row = self.share.board.my_row().ok_or(LinkError::Protocol("not ready"))?;
        let protocol = common_protocol((hello.protocol_min, hello.protocol_max))
            .ok_or(LinkError::Protocol("no common version"))?;
        let collected = index.state().collected.clone();
        // Its first pass begins when it has been welcomed.
        self.progress.begin(&hello.row);
        let welcome = Frame::Welcome(Welcome { protocol, row, cursor, collected });
        self.outbox.send(encode(&welcome)).await.map_err(|_| LinkError::Closed)?;
        self.rows_sent.hear(&self.share.board, vec![(self.from.clone(), hello.row)]);
        Ok(())
    }

    async fn run(mut self, mut replies: mpsc::Receiver<Reply>) -> LinkError {
        let mut rows = self.share.board.rows_moved.subscribe();
        rows.mark_changed();
        let mut settings = self.share.settings_moved.subscribe();
        settings.mark_changed();
        let apply = self.apply.clone();
        loop {
            let share = self.share.clone();
            let from = self.from.clone();
            // While we do not read, silence is our own.
            let silent = match self.waiting {
                Some(_) => Instant::now() + self.share.dead_after(),
                None => self.reader.silent_at(self.share.dead_after()),
            };
            let beat = self.said + self.share.heartbeat();
            let step = tokio::select! {
                biased;
                _ = settings.changed() => match self.share.settings().parted(&self.from, self.id) {
                    Some(reason) => {
                        let _ = self.say(&Frame::Goodbye(reason.clone())).await;
                        Err(LinkError::Parted(reason))
                    }
                    None => Ok(()),
                },
                reply = replies.recv() => match reply {
                    Some(Reply::Acknowledge(ack)) => self.say(&Frame::Ack(ack)).await,
                    Some(Reply::End(reason)) => {
                        let _ = self.say(&Frame::Goodbye(reason.clone())).await;
                        Err(LinkError::Goodbye(reason))
                    }
                    None => Err(LinkError::Closed),
                },
                permit = apply.reserve(), if self.waiting.is_some() => match permit {
                    Ok(permit) => {
                        if let Some(batch) = self.waiting.take() {
                            permit.send(Arrived {
                                from: self.from.clone(),
                                batch,
                                progress: self.progress.clone(),
                                reply: self.reply.clone(),
                            });
                        }
                        self.reader.listen_anew();
                        Ok(())
                    }
                    Err(_) => Err(LinkError::Closed),
                },
                frame = self.reader.next(|bytes| share.count_received(&from, bytes)),
                    if self.waiting.is_none() => match frame {
                        Ok(frame) => self.hear(frame).await,
                        Err(error) => Err(error),
                    },
                _ = sleep_until(silent) => self.reader.check_silence(self.share.dead_after()),
                _ = rows.changed() => match self.rows_sent.news(&self.share.board.rows()) {
                    Some(frame) => self.say(&frame).await,
                    None => Ok(()),
                },
                _ = sleep_until(beat) => self.say(&Frame::Ping).await,
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    async fn hear(&mut self, frame: Frame) -> Result<(), LinkError> {
        match frame {
            Frame::Batch(batch) => {
                self.share.board.count(|counters| counters.batches_received += 1);
                let mid_pass = batch.end.is_none();
                if mid_pass != self.upstream.mid_pass {
                    self.upstream.mid_pass = mid_pass;
                    self.share.board.set_upstream(&self.from, self.upstream);
                }
                self.progress.expect(&batch);
                self.waiting = Some(batch);
            }
            Frame::Rows(rows) => {
                if let Some((_, row)) = rows.iter().find(|(node, _)| *node == self.from) {
                    self.progress.hear(row);
                }
                self.rows_sent.hear(&self.share.board, rows);
            }
            Frame::Recipe(part) => {
                let hash = part.hash;
                self.deliver(&hash, Delivered::Recipe(part))?;
            }
            Frame::Chunk(chunk) => {
                let hash = chunk.hash;
                self.deliver(&hash, Delivered::Chunk(chunk))?;
            }
            Frame::Unavailable(hash) => self.deliver(&hash, Delivered::Unavailable)?,
            Frame::Ping => {}
            Frame::Goodbye(reason) => return Err(LinkError::Goodbye(reason)),
            _ => return Err(LinkError::Protocol("a frame that only a downstream sends")),
        }
        Ok(())
    }

    fn deliver(&self, hash: &ContentHash, delivered: Delivered) -> Result<(), LinkError> {
        let connection = self.upstream.connection;
        self.share.pulls.deliver(connection, hash, delivered).map_err(LinkError::Protocol)
    }

    async fn say(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.said = Instant::now();
        match self.outbox.try_send(encode(frame)) {
            Ok(()) => Ok(()),
            // The peer takes nothing: it will be found silent. An acknowledgement may wait for it.
            Err(mpsc::error::TrySendError::Full(bytes)) => match frame {
                Frame::Ack(_) => self.outbox.send(bytes).await.map_err(|_| LinkError::Closed),
                _ => Ok(()),
            },
            Err(mpsc::error::TrySendError::Closed(_)) => Err(LinkError::Closed),
        }
    }
}

impl<E: Env> Share<E> {
    pub fn count_sent(&self, peer: &NodeName, bytes: u64) {
        self.board.count(|counters| {
            *counters.link_bytes_sent.entry(peer.to_string()).or_default() += bytes;
        });
    }

    pub fn count_received(&self, peer: &NodeName, bytes: u64) {
        self.board.count(|counters| {
            *counters.link_bytes_received.entry(peer.to_string()).or_default() += bytes;
        });
    }
}

/// An error with its causes, on one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

/// The protocol to speak with a peer: the greatest that both know.
pub fn common_protocol(theirs: (u32, u32)) -> Option<u32> {
    wire::common_protocol((PROTOCOL_MIN, PROTOCOL_MAX), theirs)
}

/// Why there is none, with both sides' versions, for whoever reads the log of either.
pub fn no_common_protocol(me: &NodeName, peer: &NodeName, (min, max): (u32, u32)) -> String {
    let range = |min: u32, max: u32| match min == max {
        true => format!("protocol {min}"),
        false => format!("protocols {min} to {max}"),
    };
    let theirs = range(min, max);
    let mine = range(PROTOCOL_MIN, PROTOCOL_MAX);
    let older = if max < PROTOCOL_MIN { peer } else { me };
    format!("`{peer}` speaks {theirs}, `{me}` speaks {mine}: update chainsync on `{older}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_share_no_protocol_are_told_both_sides() {
        assert_eq!(common_protocol((PROTOCOL_MIN, PROTOCOL_MAX + 5)), Some(PROTOCOL_MAX));
        assert_eq!(common_protocol((0, PROTOCOL_MIN)), Some(PROTOCOL_MIN));
        let (next, last) = (PROTOCOL_MAX + 1, PROTOCOL_MAX + 2);
        assert_eq!(common_protocol((next, last)), None);
        let [me, peer] = ["apollo", "chronos"].map(|name| NodeName::new(name).unwrap());
        let newer = no_common_protocol(&me, &peer, (next, last));
        assert!(newer.contains(&format!("`chronos` speaks protocols {next} to {last}")), "{newer}");
        assert!(newer.contains("`apollo` speaks protocol"), "{newer}");
        assert!(newer.ends_with("update chainsync on `apollo`"), "{newer}");
        let older = no_common_protocol(&me, &peer, (0, PROTOCOL_MIN - 1));
        assert!(older.ends_with("update chainsync on `chronos`"), "{older}");
    }
}
