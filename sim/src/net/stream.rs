//! A connection as a daemon has it: authenticated, and looked on by a tap, which sees what the
//! daemon writes and reads, above TLS if there is any.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::SimNet;
use super::tap::Tap;
use crate::shared::lock;

/// A socket, or TLS over one.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for T {}

pub struct SimStream {
    carrier: Box<dyn Carrier>,
    net: SimNet,
    peer: String,
    tap: Tap,
}

impl SimStream {
    pub(super) fn new(carrier: Box<dyn Carrier>, net: &SimNet, peer: &str, tap: Tap) -> Self {
        Self { carrier, net: net.clone(), peer: peer.to_owned(), tap }
    }

    fn carrier(&mut self) -> Pin<&mut Box<dyn Carrier>> {
        Pin::new(&mut self.carrier)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // TLS may hold what has been decrypted: a stopped daemon reads nothing of it.
        ready!(self.net.0.gate.poll_pass(context));
        let before = buffer.filled().len();
        ready!(self.carrier().poll_read(context, buffer))?;
        self.tap.read(buffer.filled().len() - before);
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
        let written = ready!(self.carrier().poll_write(context, data))?;
        *lock(&self.net.0.stats).sent.entry(self.peer.clone()).or_default() += written as u64;
        self.tap.wrote(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier().poll_shutdown(context)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.event("closed", format_args!("{} #{}", self.peer, self.tap.connection()));
    }
}
