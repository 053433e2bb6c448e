//! Authenticated byte streams between nodes.

use std::future::Future;
use std::io;

use chainsync_core::{NodeId, NodeName};
use tokio::io::{AsyncRead, AsyncWrite};

/// Where a peer is, and who has to answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: NodeName,
    /// `host:port`; a name is resolved at each connection.
    pub address: String,
    pub id: NodeId,
}

/// Connects and listens. Both ends of every stream have proved their ids before it is handed out.
/// Nothing here has a deadline: the engine sets its own.
pub trait Net: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    type Listener: Listener<Stream = Self::Stream>;

    fn connect(&self, peer: &Peer) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    fn listen(&self, address: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send;
}

/// Accepts connections in two steps, so that a slow handshake holds nobody up.
pub trait Listener: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A connection that has not proved who it is.
    type Incoming: Send + 'static;

    /// The address it listens on, with the real port.
    fn address(&self) -> io::Result<String>;

    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Incoming>> + Send;

    /// Completes the handshake. An unknown id is an error.
    fn authenticate(
        incoming: Self::Incoming,
    ) -> impl Future<Output = io::Result<(NodeId, Self::Stream)>> + Send;
}
