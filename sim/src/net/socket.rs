//! One end of a simulated TCP connection, below whatever runs over it: bandwidth, short reads and
//! writes, connections that the network loses.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use turmoil::net::TcpStream;

use super::SimNet;
use crate::shared::lock;

/// The longest short read.
const SHORT_READ_BYTES: usize = 1024;
/// What the kernel takes ahead of the wire.
const SEND_AHEAD: Duration = Duration::from_millis(2);

pub struct Socket {
    /// There until it is dropped.
    tcp: Option<TcpStream>,
    net: SimNet,
    connection: u64,
    fate: Arc<Fate>,
    /// When the wire will have taken what was written.
    free_at: Option<Instant>,
    wait: Option<Pin<Box<Sleep>>>,
}

/// What the network has done to a connection, as one end is told.
#[derive(Default)]
pub(super) struct Fate(Mutex<FateInner>);

#[derive(Default)]
struct FateInner {
    reset: Option<Reset>,
    /// Whoever waits for the end: one reads, one writes.
    waiting: [Option<Waker>; 2],
}

/// A connection that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// The other end hears of it.
    Heard,
    /// The other end goes on believing in it: nothing reaches it any more, not even an end.
    Unheard,
}

impl Fate {
    /// Ends the connection for this end.
    pub(super) fn reset(&self, reset: Reset) {
        let waiting = {
            let mut inner = lock(&self.0);
            inner.reset.get_or_insert(reset);
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn is(&self) -> Option<Reset> {
        lock(&self.0).reset
    }

    fn check(&self) -> io::Result<()> {
        match self.is() {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// `Pending`, with the task woken when the connection is reset.
    fn wait<T>(&self, side: Side, context: &Context<'_>) -> Poll<T> {
        let waiting = &mut lock(&self.0).waiting[side as usize];
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waiting = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream, net: &SimNet, peer: &str, connection: u64) -> Self {
        let fate = net.enter(connection, peer);
        Self { tcp: Some(tcp), net: net.clone(), connection, fate, free_at: None, wait: None }
    }

    fn tcp(&mut self) -> Pin<&mut TcpStream> {
        // Only `drop` takes it.
        Pin::new(self.tcp.as_mut().expect("a stream that is in use has not been dropped"))
    }

    /// With a bandwidth, waits until the wire is at most [`SEND_AHEAD`] behind.
    fn poll_wire(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(free_at) = self.free_at
            && free_at > Instant::now() + SEND_AHEAD
        {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(free_at - SEND_AHEAD)));
            ready!(wait.as_mut().poll(context));
        }
        self.wait = None;
        Poll::Ready(())
    }

    fn occupy_wire(&mut self, bytes: usize) {
        if let Some(bits_per_second) = self.net.0.options.bits_per_second {
            let nanoseconds = bytes as u64 * 8 * 1_000_000_000 / bits_per_second.max(1);
            let now = Instant::now();
            let from = self.free_at.map_or(now, |free_at| free_at.max(now));
            self.free_at = Some(from + Duration::from_nanos(nanoseconds));
        }
    }

    /// The length of a short read or write of at most `bytes`; mostly `None`.
    fn short(&self, bytes: usize) -> Option<usize> {
        let one_in = self.net.0.options.split;
        let mut rng = lock(&self.net.0.rng);
        let short = one_in > 0 && rng.one_in(one_in) && bytes > 1;
        short.then(|| rng.between(1, bytes as u64) as usize)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.net.0.gate.poll_pass(context));
        self.fate.check()?;
        let Some(short) = self.short(SHORT_READ_BYTES).filter(|short| *short < buffer.remaining())
        else {
            return match self.tcp().poll_read(context, buffer) {
                Poll::Pending => self.fate.wait(Side::Read, context),
                ready => ready,
            };
        };
        let mut scratch = [0; SHORT_READ_BYTES];
        let mut limited = ReadBuf::new(&mut scratch[..short]);
        match self.tcp().poll_read(context, &mut limited) {
            Poll::Pending => return self.fate.wait(Side::Read, context),
            Poll::Ready(result) => result?,
        }
        buffer.put_slice(limited.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.net.0.gate.poll_pass(context));
        self.fate.check()?;
        if self.poll_wire(context).is_pending() {
            return self.fate.wait(Side::Write, context);
        }
        let length = self.short(data.len()).unwrap_or(data.len());
        match self.tcp().poll_write(context, &data[..length]) {
            Poll::Pending => self.fate.wait(Side::Write, context),
            Poll::Ready(written) => {
                let written = written?;
                self.occupy_wire(written);
                Poll::Ready(Ok(written))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.net.0.gate.poll_pass(context));
        self.fate.check()?;
        self.tcp().poll_shutdown(context)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.leave(self.connection);
        let Some(tcp) = self.tcp.take() else { return };
        match self.fate.is() {
            Some(Reset::Unheard) => self.net.0.gate.bury(tcp),
            Some(Reset::Heard) | None => self.net.0.gate.close(tcp),
        }
    }
}
