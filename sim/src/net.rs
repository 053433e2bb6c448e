//! The simulated network: turmoil's TCP, plain, with ids instead of keys.
//!
//! A connection begins with the ids of both ends; an id that nobody configured is refused, as the
//! TLS of the host does. Reads and writes are split at seeded points, because on a loopback-like
//! network short reads would never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chainsync_core::NodeId;
use chainsync_env::{Listener, Net, Peer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use turmoil::net::{TcpListener, TcpStream};

use crate::gate::Gate;
use crate::rng::Stream;
use crate::shared::{Shared, lock};

/// `cs1` and 52 characters.
const ID_BYTES: usize = 55;
/// One read or write in four is short, as often as a busy socket's.
const SHORT_ONE_IN: u64 = 4;
/// The longest short read.
const SHORT_READ_BYTES: usize = 1024;
/// What the kernel takes ahead of the wire.
const SEND_AHEAD: Duration = Duration::from_millis(2);

/// The id that a node of this name has in every run.
pub fn node_id(name: &str) -> NodeId {
    NodeId::of_public_key(format!("simulated key of {name}").as_bytes())
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
    bits_per_second: Option<u64>,
    gate: Arc<Gate>,
    rng: Mutex<Stream>,
    stats: Mutex<NetStats>,
}

impl SimNet {
    pub fn new(
        shared: &Arc<Shared>,
        node: &str,
        known: BTreeSet<String>,
        bits_per_second: Option<u64>,
        gate: Arc<Gate>,
    ) -> Self {
        Self(Arc::new(Inner {
            shared: Arc::clone(shared),
            node: node.to_owned(),
            id: node_id(node),
            known: known.into_iter().map(|name| (node_id(&name), name)).collect(),
            bits_per_second,
            gate,
            rng: Mutex::new(Stream::new(shared.seed, "chunker", node)),
            stats: Mutex::default(),
        }))
    }

    pub fn stats(&self) -> NetStats {
        lock(&self.0.stats).clone()
    }

    fn event(&self, kind: &str, detail: std::fmt::Arguments<'_>) {
        self.0.shared.event(&self.0.node, kind, detail);
    }

    fn stream(&self, tcp: TcpStream, peer: &str) -> SimStream {
        SimStream {
            tcp: Some(tcp),
            net: self.clone(),
            peer: peer.to_owned(),
            free_at: None,
            wait: None,
        }
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
        tcp.write_all(self.0.id.to_string().as_bytes()).await?;
        let answered = read_id(&mut tcp).await?;
        if answered != peer.id {
            return Err(refused("another node answers at this address"));
        }
        self.event("connected", format_args!("{}", peer.name));
        Ok(self.stream(tcp, peer.name.as_str()))
    }

    async fn listen(&self, address: &str) -> io::Result<SimListener> {
        let listener = TcpListener::bind(address).await?;
        Ok(SimListener { listener, net: self.clone() })
    }
}

async fn read_id(tcp: &mut TcpStream) -> io::Result<NodeId> {
    let mut bytes = [0; ID_BYTES];
    tcp.read_exact(&mut bytes).await?;
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
        let id = read_id(&mut tcp).await?;
        net.0.gate.pass().await;
        let Some(name) = net.0.known.get(&id).cloned() else {
            lock(&net.0.stats).refused += 1;
            net.event("refused", format_args!("{id}"));
            return Err(refused("the id is not configured"));
        };
        tcp.write_all(net.0.id.to_string().as_bytes()).await?;
        lock(&net.0.stats).accepts += 1;
        net.event("accepted", format_args!("{name}"));
        Ok((id, net.stream(tcp, &name)))
    }
}

pub struct SimStream {
    /// There until it is dropped.
    tcp: Option<TcpStream>,
    net: SimNet,
    peer: String,
    /// When the wire will have taken what was written.
    free_at: Option<Instant>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
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
            return self.tcp().poll_read(context, buffer);
        };
        let mut scratch = [0; SHORT_READ_BYTES];
        let mut limited = ReadBuf::new(&mut scratch[..short]);
        ready!(self.tcp().poll_read(context, &mut limited))?;
        buffer.put_slice(limited.filled());
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
        let hash = blake3::hash(&data[..written]);
        let hash = &hash.to_hex()[..8];
        self.net.event("send", format_args!("{} {written} {hash}", self.peer));
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
        self.net.event("closed", format_args!("{}", self.peer));
        if let Some(tcp) = self.tcp.take() {
            self.net.0.gate.close(tcp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;
    use chainsync_core::NodeName;

    fn peer(name: &str, id_of: &str) -> Peer {
        let address = format!("{name}:7420");
        Peer { name: NodeName::new(name).unwrap(), address, id: node_id(id_of) }
    }

    /// Two hosts echo a megabyte; the hash of what happened.
    fn echo(seed: u64) -> (String, NetStats) {
        const BYTES: usize = 1 << 20;
        let shared = Shared::new(seed, Trace::new(None));
        let mut sim = turmoil::Builder::new().tcp_capacity(1024).rng_seed(seed).build();
        let known: BTreeSet<String> = ["apollo", "hermes"].map(String::from).into();
        let server = SimNet::new(&shared, "hermes", known.clone(), None, Arc::default());
        let client = SimNet::new(&shared, "apollo", known, Some(100_000_000), Arc::default());
        let stranger = SimNet::new(&shared, "zeus", BTreeSet::new(), None, Arc::default());
        let stats = client.clone();
        sim.host("hermes", move || {
            let server = server.clone();
            async move {
                let mut listener = server.listen("0.0.0.0:7420").await?;
                loop {
                    let incoming = listener.accept().await?;
                    let Ok((id, stream)) = SimListener::authenticate(incoming).await else {
                        continue;
                    };
                    assert_eq!(id, node_id("apollo"));
                    tokio::task::spawn_local(async move {
                        let (mut reader, mut writer) = tokio::io::split(stream);
                        tokio::io::copy(&mut reader, &mut writer).await
                    });
                }
            }
        });
        sim.client("apollo", async move {
            let refused = client.connect(&peer("hermes", "zeus")).await;
            assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::PermissionDenied);
            let begun = Instant::now();
            let stream = client.connect(&peer("hermes", "hermes")).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let sent: Vec<u8> = (0..BYTES).map(|index| (index / 251) as u8).collect();
            let copy = sent.clone();
            let sending = tokio::task::spawn_local(async move { writer.write_all(&copy).await });
            let mut received = vec![0; BYTES];
            reader.read_exact(&mut received).await?;
            sending.await??;
            assert!(received == sent, "the bytes came back changed");
            // A megabyte over 100 Mbit/s takes 84 ms on the wire.
            assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
            Ok(())
        });
        sim.client("zeus", async move {
            assert!(stranger.connect(&peer("hermes", "hermes")).await.is_err());
            Ok(())
        });
        sim.run().unwrap();
        let stats = stats.stats();
        drop(sim);
        (shared.trace.finish().unwrap().hash, stats)
    }

    #[test]
    fn streams_arrive_whole_and_the_same_way_each_time() {
        let (hash, stats) = echo(1);
        assert_eq!(stats.connects, 2);
        assert_eq!(stats.sent.get("hermes"), Some(&(1 << 20)));
        assert_eq!(echo(1), (hash.clone(), stats));
        assert_ne!(echo(2).0, hash);
    }
}
