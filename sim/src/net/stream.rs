//! One end of a connection. Reads and writes are split at seeded points, because on a loopback-like
//! network short reads would never happen.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use turmoil::net::TcpStream;

use super::SimNet;
use super::tap::Tap;
use crate::shared::lock;

/// One read or write in four is short, as often as a busy socket's.
const SHORT_ONE_IN: u64 = 4;
/// The longest short read.
const SHORT_READ_BYTES: usize = 1024;
/// What the kernel takes ahead of the wire.
const SEND_AHEAD: Duration = Duration::from_millis(2);

pub struct SimStream {
    /// There until it is dropped.
    tcp: Option<TcpStream>,
    net: SimNet,
    peer: String,
    /// When the wire will have taken what was written.
    free_at: Option<Instant>,
    wait: Option<Pin<Box<Sleep>>>,
    tap: Tap,
}

impl SimStream {
    pub(super) fn new(tcp: TcpStream, net: SimNet, peer: &str, tap: Tap) -> Self {
        Self { tcp: Some(tcp), net, peer: peer.to_owned(), free_at: None, wait: None, tap }
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
        if let Some(bits_per_second) = self.net.0.bits_per_second {
            let nanoseconds = bytes as u64 * 8 * 1_000_000_000 / bits_per_second.max(1);
            let now = Instant::now();
            let from = self.free_at.map_or(now, |free_at| free_at.max(now));
            self.free_at = Some(from + Duration::from_nanos(nanoseconds));
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.net.0.gate.poll_pass(context));
        let short = {
            let mut rng = lock(&self.net.0.rng);
            rng.one_in(SHORT_ONE_IN).then(|| rng.between(1, SHORT_READ_BYTES as u64) as usize)
        };
        let Some(short) = short.filter(|short| *short < buffer.remaining()) else {
            let before = buffer.filled().len();
            ready!(self.tcp().poll_read(context, buffer))?;
            let read = buffer.filled().len() - before;
            self.tap.read(read);
            return Poll::Ready(Ok(()));
        };
        let mut scratch = [0; SHORT_READ_BYTES];
        let mut limited = ReadBuf::new(&mut scratch[..short]);
        ready!(self.tcp().poll_read(context, &mut limited))?;
        buffer.put_slice(limited.filled());
        self.tap.read(limited.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.net.0.gate.poll_pass(context));
        ready!(self.poll_wire(context));
        let length = {
            let mut rng = lock(&self.net.0.rng);
            match rng.one_in(SHORT_ONE_IN) && data.len() > 1 {
                true => rng.between(1, data.len() as u64) as usize,
                false => data.len(),
            }
        };
        let written = ready!(self.tcp().poll_write(context, &data[..length]))?;
        self.occupy_wire(written);
        *lock(&self.net.0.stats).sent.entry(self.peer.clone()).or_default() += written as u64;
        self.tap.wrote(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.net.0.gate.poll_pass(context));
        self.tcp().poll_shutdown(context)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.event("closed", format_args!("{} #{}", self.peer, self.tap.connection()));
        if let Some(tcp) = self.tcp.take() {
            self.net.0.gate.close(tcp);
        }
    }
}
