//! TCP with TLS on top: the authenticated streams between nodes.
//!
//! No pools, no reconnecting, no deadlines and no keepalive: the engine's heartbeats notice a
//! silent peer sooner than TCP would.

use std::io;

use chainsync_core::NodeId;
use chainsync_env::{Listener, Net, Peer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

use crate::tls::{self, TlsConfig, TlsStream};

/// Connects and listens as one node.
#[derive(Debug, Clone)]
pub struct HostNet {
    tls: TlsConfig,
}

impl HostNet {
    pub fn new(tls: TlsConfig) -> Self {
        Self { tls }
    }
}

/// Listens on one address.
#[derive(Debug)]
pub struct HostListener {
    listener: TcpListener,
    tls: TlsConfig,
}

/// A connection before its handshake.
#[derive(Debug)]
pub struct HostIncoming {
    stream: TcpStream,
    tls: TlsConfig,
}

#[derive(Debug, Error)]
#[error("cannot listen on `{address}`: {source}")]
struct ListenError {
    address: String,
    source: io::Error,
}

#[derive(Debug, Error)]
#[error("cannot connect to {} at `{}`: {source}", .peer.name, .peer.address)]
struct ConnectError {
    peer: Peer,
    source: io::Error,
}

impl Net for HostNet {
    type Stream = TlsStream<TcpStream>;
    type Listener = HostListener;

    async fn connect(&self, peer: &Peer) -> io::Result<Self::Stream> {
        let connect = async {
            // Resolves the name anew each time: a node may have moved.
            let stream = TcpStream::connect(&peer.address).await?;
            stream.set_nodelay(true)?;
            tls::connect(&self.tls, stream, peer.id).await
        };
        connect.await.map_err(|source| {
            io::Error::new(source.kind(), ConnectError { peer: peer.clone(), source })
        })
    }

    async fn listen(&self, address: &str) -> io::Result<HostListener> {
        let listener = TcpListener::bind(address).await.map_err(|source| {
            let address = address.to_owned();
            io::Error::new(source.kind(), ListenError { address, source })
        })?;
        Ok(HostListener { listener, tls: self.tls.clone() })
    }
}

impl Listener for HostListener {
    type Stream = TlsStream<TcpStream>;
    type Incoming = HostIncoming;

    fn address(&self) -> io::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    async fn accept(&mut self) -> io::Result<HostIncoming> {
        let (stream, _) = self.listener.accept().await?;
        Ok(HostIncoming { stream, tls: self.tls.clone() })
    }

    async fn authenticate(incoming: HostIncoming) -> io::Result<(NodeId, Self::Stream)> {
        incoming.stream.set_nodelay(true)?;
        tls::accept(&incoming.tls, incoming.stream).await
    }
}
