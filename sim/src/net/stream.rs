//! A connection as a daemon has it: authenticated, and looked on by a tap.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::SimNet;
use super::socket::Socket;
use super::tap::Tap;
use crate::shared::lock;

pub struct SimStream {
    socket: Socket,
    net: SimNet,
    peer: String,
    tap: Tap,
}

impl SimStream {
    pub(super) fn new(socket: Socket, net: &SimNet, peer: &str, tap: Tap) -> Self {
        Self { socket, net: net.clone(), peer: peer.to_owned(), tap }
    }

    fn socket(&mut self) -> Pin<&mut Socket> {
        Pin::new(&mut self.socket)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.socket().poll_read(context, buffer))?;
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
        let written = ready!(self.socket().poll_write(context, data))?;
        *lock(&self.net.0.stats).sent.entry(self.peer.clone()).or_default() += written as u64;
        self.tap.wrote(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(context)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.event("closed", format_args!("{} #{}", self.peer, self.tap.connection()));
    }
}
