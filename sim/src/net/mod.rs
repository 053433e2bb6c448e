//! The simulated network: turmoil's TCP, plain with ids instead of keys, or with the TLS of the host.
//!
//! A connection begins with the ids of both ends; an id that nobody configured is refused, as the
//! TLS of the host does. All connections of a run are numbered, and both ends know the number, so
//! that an onlooker (tap.rs) sees what one end wrote and when the other one read it.

mod keys;
mod socket;
mod stream;
mod tap;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use chainsync_core::NodeId;
use chainsync_env::{Listener, Net, Peer};
use chainsync_host::tls::{self, TlsConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turmoil::net::{TcpListener, TcpStream};

use crate::gate::Gate;
use crate::rng::Stream;
use crate::scenario::{Bandwidth, Network};
use crate::shared::{Shared, lock};

pub use keys::node_id;
use socket::{Fate, Reset, Socket};
use stream::Carrier;
pub use stream::SimStream;
use tap::Tap;

/// `cs1` and 52 characters.
const ID_BYTES: usize = 55;

/// What the network of a run is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetOptions {
    pub bits_per_second: Option<u64>,
    /// Of so many reads or writes one is short; 0: none.
    pub split: u64,
    pub tls: bool,
}

/// As often as a busy socket's.
const SPLIT_DEFAULT: u64 = 4;

impl Default for NetOptions {
    fn default() -> Self {
        Self { bits_per_second: None, split: SPLIT_DEFAULT, tls: false }
    }
}

impl NetOptions {
    pub fn of(network: &Network) -> Self {
        Self {
            bits_per_second: network.bandwidth.map(|Bandwidth(bits)| bits),
            split: network.split.unwrap_or(SPLIT_DEFAULT),
            tls: network.tls,
        }
    }
}

/// What a node's connections did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetStats {
    pub connects: u64,
    pub accepts: u64,
    pub refused: u64,
    /// Bytes written, by peer.
    pub sent: BTreeMap<String, u64>,
}

#[derive(Clone)]
pub struct SimNet(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    node: String,
    id: NodeId,
    known: BTreeMap<NodeId, String>,
    options: NetOptions,
    tls: Option<TlsConfig>,
    gate: Arc<Gate>,
    rng: Mutex<Stream>,
    stats: Mutex<NetStats>,
    /// This end of each connection that is open, by number; and whose the other end is.
    open: Mutex<BTreeMap<u64, (String, Arc<Fate>)>>,
}

impl SimNet {
    pub fn new(
        shared: &Arc<Shared>,
        node: &str,
        known: BTreeSet<String>,
        options: NetOptions,
        gate: Arc<Gate>,
    ) -> Self {
        let tls = options.tls.then(|| keys::tls_config(node, &known));
        Self(Arc::new(Inner {
            shared: Arc::clone(shared),
            node: node.to_owned(),
            id: node_id(node),
            known: known.into_iter().map(|name| (node_id(&name), name)).collect(),
            options,
            tls,
            gate,
            rng: Mutex::new(Stream::new(shared.seed, "chunker", node)),
            stats: Mutex::default(),
            open: Mutex::default(),
        }))
    }

    pub fn stats(&self) -> NetStats {
        lock(&self.0.stats).clone()
    }

    fn event(&self, kind: &str, detail: std::fmt::Arguments<'_>) {
        self.0.shared.event(&self.0.node, kind, detail);
    }

    /// The network loses this node's connections with `peer`, which only this end is told.
    /// `other_end_hears`: the other end is to be told as well, by another call.
    pub fn lose_connections(&self, peer: &str, other_end_hears: bool) {
        let reset = if other_end_hears { Reset::Heard } else { Reset::Unheard };
        let open = lock(&self.0.open).clone();
        for (connection, (_, fate)) in open.iter().filter(|(_, (name, _))| name == peer) {
            self.event("lost", format_args!("{peer} #{connection}"));
            fate.reset(reset);
        }
    }

    fn enter(&self, connection: u64, peer: &str) -> Arc<Fate> {
        let fate = Arc::<Fate>::default();
        lock(&self.0.open).insert(connection, (peer.to_owned(), Arc::clone(&fate)));
        fate
    }

    fn leave(&self, connection: u64) {
        lock(&self.0.open).remove(&connection);
    }

    fn stream(
        &self,
        carrier: Box<dyn Carrier>,
        peer: &str,
        connection: u64,
        opener: bool,
    ) -> SimStream {
        let tap = Tap::new(&self.0.shared, connection, &self.0.node, peer, opener);
        SimStream::new(carrier, self, peer, tap)
    }

    /// Makes sure that the node at the other end is this one.
    async fn greet(&self, mut socket: Socket, expected: NodeId) -> io::Result<Box<dyn Carrier>> {
        if let Some(config) = &self.0.tls {
            return Ok(Box::new(tls::connect(config, socket, expected).await?));
        }
        socket.write_all(self.0.id.to_string().as_bytes()).await?;
        if read_id(&mut socket).await? != expected {
            return Err(refused("another node answers at this address"));
        }
        Ok(Box::new(socket))
    }

    /// Finds out who has connected, and lets in whom it knows.
    async fn admit(&self, mut socket: Socket) -> io::Result<(NodeId, Box<dyn Carrier>)> {
        if let Some(config) = &self.0.tls {
            let (id, stream) = tls::accept(config, socket).await?;
            return Ok((id, Box::new(stream)));
        }
        let id = read_id(&mut socket).await?;
        if !self.0.known.contains_key(&id) {
            return Err(refused("the id is not configured"));
        }
        socket.write_all(self.0.id.to_string().as_bytes()).await?;
        Ok((id, Box::new(socket)))
    }
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason.to_owned())
}

impl Net for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;

    async fn connect(&self, peer: &Peer) -> io::Result<SimStream> {
        self.0.gate.pass().await;
        lock(&self.0.stats).connects += 1;
        self.event("connect", format_args!("{}", peer.name));
        let mut tcp = TcpStream::connect(peer.address.as_str()).await?;
        self.0.gate.pass().await;
        let opened_ns = self.0.shared.step_ns();
        let connection =
            lock(&self.0.shared.frames).open(&self.0.node, peer.name.as_str(), opened_ns);
        tcp.write_u64(connection).await?;
        let socket = Socket::new(tcp, self, peer.name.as_str(), connection);
        let carrier = self.greet(socket, peer.id).await?;
        self.event("connected", format_args!("{} #{connection}", peer.name));
        Ok(self.stream(carrier, peer.name.as_str(), connection, true))
    }

    async fn listen(&self, address: &str) -> io::Result<SimListener> {
        let listener = TcpListener::bind(address).await?;
        Ok(SimListener { listener, net: self.clone() })
    }
}

async fn read_id(socket: &mut Socket) -> io::Result<NodeId> {
    let mut bytes = [0; ID_BYTES];
    socket.read_exact(&mut bytes).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("not a node id"))?;
    NodeId::parse(text).map_err(|_| refused("not a node id"))
}

pub struct SimListener {
    listener: TcpListener,
    net: SimNet,
}

/// An accepted connection that has not said who it is.
pub struct Incoming {
    tcp: TcpStream,
    net: SimNet,
}

impl Listener for SimListener {
    type Stream = SimStream;
    type Incoming = Incoming;

    fn address(&self) -> io::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    async fn accept(&mut self) -> io::Result<Incoming> {
        let (tcp, _) = self.listener.accept().await?;
        self.net.0.gate.pass().await;
        Ok(Incoming { tcp, net: self.net.clone() })
    }

    async fn authenticate(Incoming { mut tcp, net }: Incoming) -> io::Result<(NodeId, SimStream)> {
        let connection = tcp.read_u64().await?;
        let opener = lock(&net.0.shared.frames).opener(connection);
        let opener = opener.ok_or_else(|| refused("not a connection of this run"))?;
        let socket = Socket::new(tcp, &net, &opener, connection);
        let (id, carrier) = net.admit(socket).await.inspect_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                lock(&net.0.stats).refused += 1;
                net.event("refused", format_args!("{opener} #{connection}: {error}"));
            }
        })?;
        let Some(name) = net.0.known.get(&id).cloned() else {
            return Err(refused("the id is not configured"));
        };
        lock(&net.0.stats).accepts += 1;
        net.event("accepted", format_args!("{name} #{connection}"));
        Ok((id, net.stream(carrier, &name, connection, false)))
    }
}
