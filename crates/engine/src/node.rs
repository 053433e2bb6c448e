//! A running node: its shares, its listener, and the handle through which it is asked.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::wire::Frame;
use chainsync_core::{NodeId, ShareName};
use chainsync_env::{Env, Listener, Net};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::NodeConfig;
use crate::link::LinkError;
use crate::link::connection::FrameReader;
use crate::link::receive::{
    APPLY_QUEUE_MAX, Arrived, Chain, Greeted, apply, refuse, serve, shares_protocol,
};
use crate::share::Share;
use crate::signal;
use crate::status::{FlushReport, Status};
use crate::{large, link, recover, tasks};

/// How long a connection may take to say who it is and what it wants.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Connections being greeted or served: every member of every share may try a few at once.
const CONNECTIONS_MAX: usize = 1024;
/// After `accept` failed (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A started node: its shares are open, its listener is bound.
pub struct Node<E: Env> {
    shared: Arc<Shared<E>>,
    listener: <E::Net as Net>::Listener,
    apply: BTreeMap<ShareName, mpsc::Receiver<Arrived>>,
}

struct Shared<E: Env> {
    env: E,
    config: NodeConfig,
    shares: Vec<Arc<Share<E>>>,
    apply: BTreeMap<ShareName, mpsc::Sender<Arrived>>,
    started_ms: u64,
    stop: signal::Sender<bool>,
}

/// Asks a running node, and stops it. Cheap to clone; once the node has ended, its answers are the
/// last ones.
#[derive(Clone)]
pub struct Handle {
    asked: Arc<dyn Asked>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("share `{share}`: {reason}")]
    Share { share: ShareName, reason: String },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
}

impl<E: Env> Node<E> {
    /// Opens the shares and the listener. Nothing moves before [`run`](Node::run).
    pub async fn start(env: E, config: NodeConfig) -> Result<Self, StartError> {
        let listener = env
            .net()
            .listen(&config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen.clone(), source })?;
        let mut shares = Vec::new();
        let mut senders = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        for share in &config.shares {
            let (opener, node, about) = (env.clone(), config.clone(), share.clone());
            let open = env.blocking(move || recover::open(&opener, &node, &about));
            let opened = open.await?;
            let peers = config.nodes.clone();
            let (heartbeat, dead_after) = (config.heartbeat, config.dead_after);
            let share = Share::new(
                env.clone(),
                config.node.clone(),
                share.clone(),
                peers,
                heartbeat,
                dead_after,
                opened,
            );
            let (sender, receiver) = mpsc::channel(APPLY_QUEUE_MAX);
            senders.insert(share.config.name.clone(), sender);
            receivers.insert(share.config.name.clone(), receiver);
            shares.push(Arc::new(share));
        }
        let started_ms = u64::try_from(env.wall_ns() / 1_000_000).unwrap_or(0);
        let stop = signal::Sender::new(false);
        let shared = Shared { env, config, shares, apply: senders, started_ms, stop };
        Ok(Self { shared: Arc::new(shared), listener, apply: receivers })
    }

    pub fn handle(&self) -> Handle {
        Handle { asked: self.shared.clone() }
    }

    /// Runs until [`Handle::stop`], then lets the work at hand finish. A task that panics ends the
    /// node with that panic.
    pub async fn run(self) {
        let Self { shared, listener, mut apply } = self;
        let mut stop = shared.stop.subscribe();
        let mut joined = JoinSet::new();
        for share in &shared.shares {
            joined.spawn(tasks::ingest(share.clone()));
            joined.spawn(tasks::keep(share.clone()));
            joined.spawn(large::digest::run(share.clone()));
            joined.spawn(large::pull::run(share.clone()));
            if let Some(arrived) = apply.remove(&share.config.name) {
                joined.spawn(apply_when_ready(share.clone(), arrived));
            }
            joined.spawn(link_when_ready(share.clone()));
        }
        joined.spawn(listen(shared.clone(), listener));
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                ended = joined.join_next() => match ended {
                    Some(Err(error)) if error.is_panic() => {
                        std::panic::resume_unwind(error.into_panic());
                    }
                    // No task ends by itself while the node runs.
                    Some(_) => {}
                    None => break,
                },
            }
        }
        for share in &shared.shares {
            // Whoever holds the gate finishes what it is doing.
            let _gate = share.gate.lock().await;
            let worker = share.clone();
            if let Err(error) = shared.env.blocking(move || worker.note_watching()).await {
                tracing::error!(error = %Chain(&error), "the index is in trouble");
            }
        }
        joined.shutdown().await;
        tracing::info!(node = %shared.config.node, "stopped");
    }
}

async fn link_when_ready<E: Env>(share: Arc<Share<E>>) {
    let mut ready = share.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    link::manage::manage(share).await;
}

async fn apply_when_ready<E: Env>(share: Arc<Share<E>>, arrived: mpsc::Receiver<Arrived>) {
    let mut ready = share.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    apply(share, arrived).await;
}

/// Accepts connections for ever.
async fn listen<E: Env>(shared: Arc<Shared<E>>, mut listener: <E::Net as Net>::Listener) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            biased;
            incoming = listener.accept() => match incoming {
                Ok(incoming) if connections.len() < CONNECTIONS_MAX => {
                    number += 1;
                    connections.spawn(greet(shared.clone(), incoming, number));
                }
                Ok(_) => tracing::warn!("too many connections: one refused"),
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

type Incoming<E> = <<<E as Env>::Net as Net>::Listener as Listener>::Incoming;

async fn greet<E: Env>(shared: Arc<Shared<E>>, incoming: Incoming<E>, number: u64) {
    match timeout(GREETING_MAX, read_hello::<E>(&shared, incoming)).await {
        Ok(Ok((share, apply, greeted))) => {
            let from = greeted.hello.node.clone();
            let end = serve(share.clone(), greeted, apply, number).await;
            tracing::info!(share = %share.config.name, %from, reason = %end, "upstream left");
        }
        Ok(Err(error)) => tracing::info!(error = %Chain(&error), "connection refused"),
        Err(_) => tracing::info!("a connection said nothing"),
    }
}

type Invited<E> = (Arc<Share<E>>, mpsc::Sender<Arrived>, Greeted<E>);

async fn read_hello<E: Env>(
    shared: &Shared<E>,
    incoming: Incoming<E>,
) -> Result<Invited<E>, LinkError> {
    let (id, stream) = <<E::Net as Net>::Listener as Listener>::authenticate(incoming).await?;
    let (reader, writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader);
    let Frame::Hello(hello) = reader.next(|_| ()).await? else {
        return Err(LinkError::Protocol("it did not say hello"));
    };
    let found = shared.shares.iter().find(|share| share.config.name == hello.share);
    let apply = shared.apply.get(&hello.share).cloned();
    let refusal = refusal(shared, found.map(AsRef::as_ref), &hello, id);
    let greeted = Greeted { reader, writer, hello };
    match (found, apply, refusal) {
        (Some(share), Some(apply), None) => Ok((share.clone(), apply, greeted)),
        (_, _, refusal) => {
            let reason = refusal.unwrap_or_else(|| "no such share".to_owned());
            refuse(greeted, &reason).await;
            Err(LinkError::Goodbye(reason))
        }
    }
}

/// Why a caller is not let in: a peer may only speak as itself, and for shares whose ring names it.
fn refusal<E: Env>(
    shared: &Shared<E>,
    share: Option<&Share<E>>,
    hello: &chainsync_core::wire::Hello,
    id: NodeId,
) -> Option<String> {
    let node = &hello.node;
    match shared.config.nodes.get(node) {
        Some(peer) if peer.id == id && *node != shared.config.node => {}
        _ => return Some(format!("`{node}` is not the node with this key here")),
    }
    let Some(share) = share else {
        return Some(format!("there is no share `{}` here", hello.share));
    };
    if !share.config.ring.contains(node) {
        return Some(format!("`{node}` is not in the ring of `{}` here", hello.share));
    }
    if !shares_protocol(hello) {
        return Some("no common protocol version: update the older node".to_owned());
    }
    if !*share.ready.borrow() {
        return Some("not ready: still looking at its tree".to_owned());
    }
    share.board.halted().map(|reason| format!("halted: {reason}"))
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a handle asks, without the node's type parameter.
trait Asked: Send + Sync {
    fn status(&self, share: Option<&ShareName>) -> Option<Status>;
    fn flush<'a>(
        &'a self,
        share: Option<&'a ShareName>,
        timeout: Duration,
        live: bool,
    ) -> Answer<'a, Option<Vec<FlushReport>>>;
    fn stop(&self);
}

impl<E: Env> Shared<E> {
    fn asked_for(&self, name: Option<&ShareName>) -> Option<Vec<Arc<Share<E>>>> {
        let chosen = |share: &&Arc<Share<E>>| name.is_none_or(|name| share.config.name == *name);
        let shares: Vec<_> = self.shares.iter().filter(chosen).cloned().collect();
        (name.is_none() || !shares.is_empty()).then_some(shares)
    }
}

impl<E: Env> Asked for Shared<E> {
    fn status(&self, share: Option<&ShareName>) -> Option<Status> {
        Some(Status {
            node: self.config.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            shares: self.asked_for(share)?.iter().map(|share| share.status()).collect(),
        })
    }

    fn flush<'a>(
        &'a self,
        share: Option<&'a ShareName>,
        timeout: Duration,
        live: bool,
    ) -> Answer<'a, Option<Vec<FlushReport>>> {
        Box::pin(async move {
            let shares = self.asked_for(share)?;
            let reports = shares.iter().map(|share| share.flush(timeout, live));
            Some(futures_util::future::join_all(reports).await)
        })
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Handle {
    /// All shares, or the one that is named; `None` if there is no such share.
    pub async fn status(&self, share: Option<&ShareName>) -> Option<Status> {
        self.asked.status(share)
    }

    /// Waits until every member has durably applied what was changed here before the call, or until
    /// the timeout. One report a share; `None` if there is no such share.
    pub async fn flush(
        &self,
        share: Option<&ShareName>,
        timeout: Duration,
        live: bool,
    ) -> Option<Vec<FlushReport>> {
        self.asked.flush(share, timeout, live).await
    }

    /// Begins an orderly stop: [`Node::run`] returns soon.
    pub fn stop(&self) {
        self.asked.stop();
    }
}
