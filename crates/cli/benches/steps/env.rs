//! The world of a benched node: the host's, but for the network, which is a pipe to the bench.

use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use chainsync_core::NodeId;
use chainsync_env::{Env, Listener, Net, Peer, Point, StorageBackend, WatchError, WatchSink};
use chainsync_host::tls::TlsConfig;
use chainsync_host::{HostEnv, HostVfs, HostWatch, PrivateKey};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

#[derive(Clone)]
pub struct BenchEnv {
    host: HostEnv,
    net: Arc<Pipes>,
}

/// Whoever connects, with the id that counts as proved.
type Incoming = (NodeId, DuplexStream);
pub type Callers = mpsc::Sender<Incoming>;

impl BenchEnv {
    /// The world, and the way to connect to whoever listens in it.
    pub fn new() -> (Self, Callers) {
        let (callers, incoming) = mpsc::channel(1);
        // Of no use: nothing connects by way of the host.
        let key = PrivateKey::generate().unwrap();
        let host = HostEnv::new(TlsConfig::new(&key, []).unwrap());
        let net = Arc::new(Pipes { incoming: Mutex::new(Some(incoming)) });
        (Self { host, net }, callers)
    }
}

impl Env for BenchEnv {
    type Vfs = HostVfs;
    type Watch = HostWatch;
    type Net = Pipes;

    fn open_root(&self, path: &Path) -> io::Result<HostVfs> {
        self.host.open_root(path)
    }

    fn create_state_dir(&self, path: &Path) -> io::Result<()> {
        self.host.create_state_dir(path)
    }

    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        self.host.open_storage(path)
    }

    fn watch(&self, root: &Path, sink: WatchSink) -> Result<HostWatch, WatchError> {
        self.host.watch(root, sink)
    }

    fn net(&self) -> &Pipes {
        &self.net
    }

    fn wall_ns(&self) -> i128 {
        self.host.wall_ns()
    }

    fn random_u64(&self) -> u64 {
        self.host.random_u64()
    }

    async fn blocking<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        self.host.blocking(work).await
    }

    fn probe(&self, point: Point) {
        self.host.probe(point);
    }
}

/// One listener, and nobody to connect to.
pub struct Pipes {
    incoming: Mutex<Option<mpsc::Receiver<Incoming>>>,
}

pub struct PipeListener {
    incoming: mpsc::Receiver<Incoming>,
}

impl Net for Pipes {
    type Stream = DuplexStream;
    type Listener = PipeListener;

    async fn connect(&self, _: &Peer) -> io::Result<DuplexStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    async fn listen(&self, _: &str) -> io::Result<PipeListener> {
        let taken = self.incoming.lock().unwrap_or_else(PoisonError::into_inner).take();
        let incoming = taken.ok_or(io::ErrorKind::AddrInUse)?;
        Ok(PipeListener { incoming })
    }
}

impl Listener for PipeListener {
    type Stream = DuplexStream;
    type Incoming = Incoming;

    fn address(&self) -> io::Result<String> {
        Ok("pipe".to_owned())
    }

    async fn accept(&mut self) -> io::Result<Incoming> {
        match self.incoming.recv().await {
            Some(incoming) => Ok(incoming),
            None => pending().await,
        }
    }

    async fn authenticate(incoming: Incoming) -> io::Result<Incoming> {
        Ok(incoming)
    }
}
