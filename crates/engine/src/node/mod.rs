//! A running node: its shares, its listener, and the handle through which it is asked.

mod listening;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainsync_core::ShareName;
use chainsync_env::{Env, Net};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use listening::listen;

use crate::ask::Commands;
use crate::config::{NodeConfig, ShareConfig};
use crate::link::applier::{APPLY_QUEUE_MAX, Arrived, apply};
use crate::link::receive::Chain;
use crate::reload::{ReloadError, Reloaded};
use crate::settings::Settings;
use crate::share::{Share, lock};
use crate::signal;
use crate::status::{FlushReport, RefusedReload, ShareStatus, Status};
use crate::{collect, large, link, open, tasks};

/// A started node: its shares are open, its listener is bound.
pub struct Node<E: Env> {
    shared: Arc<Shared<E>>,
    listener: <E::Net as Net>::Listener,
    opened: Vec<OpenShare<E>>,
    reloads: mpsc::Receiver<ReloadRequest>,
}

pub(crate) struct Shared<E: Env> {
    pub(crate) env: E,
    pub(crate) config: Mutex<Arc<NodeConfig>>,
    /// Those that run, with the way to their applier.
    pub(crate) shares: Mutex<Vec<Running<E>>>,
    /// Those that could not begin, and why.
    halted: Mutex<Vec<(ShareName, String)>>,
    started_ms: u64,
    stop: signal::Sender<bool>,
    reloads: mpsc::Sender<ReloadRequest>,
    refused: Mutex<Option<RefusedReload>>,
}

type Running<E> = (Arc<Share<E>>, mpsc::Sender<Arrived>);

/// A share that is open and does not run yet.
pub(crate) struct OpenShare<E: Env> {
    pub(crate) share: Arc<Share<E>>,
    released: oneshot::Receiver<()>,
}

struct ReloadRequest {
    config: NodeConfig,
    answer: oneshot::Sender<Result<Reloaded, ReloadError>>,
}

/// A second one waits for the first.
const RELOADS_MAX: usize = 2;

/// Asks a running node, and stops it. Cheap to clone; once the node has ended, its answers are the
/// last ones.
#[derive(Clone)]
pub struct Handle {
    pub(crate) asked: Arc<dyn Asked>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("share `{share}`: {reason}")]
    Share { share: ShareName, reason: String },
    /// It may be the wrong tree: a guard keeps it from being taken for an empty one. Only this share
    /// cannot go on: others do, if there are any.
    #[error("share `{share}`: {reason}")]
    Guard { share: ShareName, reason: String },
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
        let started_ms = u64::try_from(env.wall_ns() / 1_000_000).unwrap_or(0);
        let (sender, reloads) = mpsc::channel(RELOADS_MAX);
        let shared = Shared {
            env,
            config: Mutex::new(Arc::new(config.clone())),
            shares: Mutex::default(),
            halted: Mutex::default(),
            started_ms,
            stop: signal::Sender::new(false),
            reloads: sender,
            refused: Mutex::default(),
        };
        let mut opened = Vec::new();
        let mut halted = Vec::new();
        for share in &config.shares {
            match shared.open(&config, share).await {
                Ok(share) => opened.push(share),
                Err(StartError::Guard { share, reason }) => halted.push((share, reason)),
                Err(error) => return Err(error),
            }
        }
        // A node that could do nothing at all had better say so than run.
        if opened.is_empty() && !halted.is_empty() {
            let (share, reason) = halted.swap_remove(0);
            return Err(StartError::Guard { share, reason });
        }
        shared.set_halted(halted);
        Ok(Self { shared: Arc::new(shared), listener, opened, reloads })
    }

    pub fn handle(&self) -> Handle {
        Handle { asked: self.shared.clone() }
    }

    /// Runs until [`Handle::stop`], then lets the work at hand finish. A task that panics ends the
    /// node with that panic; an index that its disk refused something ends it too, so that whoever
    /// starts it again opens the index afresh.
    pub async fn run(self) {
        let Self { shared, listener, opened, mut reloads } = self;
        let mut stop = shared.stop.subscribe();
        let mut tasks = Tasks::default();
        for share in opened {
            shared.begin(share, &mut tasks);
        }
        tasks.joined.spawn(listen(shared.clone(), listener));
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                // The sender lives as long as the node.
                Some(ReloadRequest { config, answer }) = reloads.recv() => {
                    let result = shared.reload(config, &mut tasks).await;
                    // Whoever asked may be gone: it happened all the same.
                    let _ = answer.send(result);
                }
                share = shared.until_an_index_fails() => {
                    tracing::error!(%share, "the disk refused the index something: ending, to be started again");
                    break;
                }
                ended = tasks.joined.join_next() => match ended {
                    Some(Err(error)) if error.is_panic() => {
                        std::panic::resume_unwind(error.into_panic());
                    }
                    // No task ends by itself while the node runs.
                    Some(_) => {}
                    None => break,
                },
            }
        }
        for share in &shared.shares() {
            // Whoever holds the gate finishes what it is doing.
            let _gate = share.gate.lock().await;
            let worker = share.clone();
            if let Err(error) = shared.env.blocking(move || worker.note_watching()).await {
                tracing::error!(error = %Chain(&error), "the index is in trouble");
            }
        }
        tasks.joined.shutdown().await;
        tracing::info!(node = %shared.config().node, "stopped");
    }
}

/// The tasks of a running node, by share.
#[derive(Default)]
pub(crate) struct Tasks {
    joined: JoinSet<()>,
    of_share: BTreeMap<ShareName, (Vec<AbortHandle>, oneshot::Receiver<()>)>,
}

impl Tasks {
    /// Ends a share's tasks. What is returned ends when nobody uses the share any more.
    pub(crate) fn abort(&mut self, share: &ShareName) -> Option<oneshot::Receiver<()>> {
        let (handles, released) = self.of_share.remove(share)?;
        for handle in handles {
            handle.abort();
        }
        Some(released)
    }
}

async fn link_when_ready<E: Env>(share: Arc<Share<E>>) {
    let mut ready = share.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    loop {
        share.until_moving().await;
        tokio::select! {
            biased;
            () = share.until_stopped() => {}
            () = link::manage::manage(share.clone()) => {}
        }
    }
}

async fn apply_when_ready<E: Env>(share: Arc<Share<E>>, arrived: mpsc::Receiver<Arrived>) {
    let mut ready = share.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    apply(share, arrived).await;
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a handle asks, without the node's type parameter.
pub(crate) trait Asked: Commands {
    fn status(&self, share: Option<&ShareName>) -> Option<Status>;
    fn flush<'a>(
        &'a self,
        share: Option<&'a ShareName>,
        timeout: Duration,
        live: bool,
    ) -> Answer<'a, Option<Vec<FlushReport>>>;
    fn reload(&self, config: NodeConfig) -> Answer<'_, Result<Reloaded, ReloadError>>;
    fn note_refused(&self, reason: String);
    fn stop(&self);
}

impl<E: Env> Shared<E> {
    pub(crate) fn config(&self) -> Arc<NodeConfig> {
        lock(&self.config).clone()
    }

    /// Those that run.
    pub(crate) fn shares(&self) -> Vec<Arc<Share<E>>> {
        lock(&self.shares).iter().map(|(share, _)| share.clone()).collect()
    }

    fn find(&self, name: &ShareName) -> Option<Running<E>> {
        lock(&self.shares).iter().find(|(share, _)| share.config.name == *name).cloned()
    }

    pub(crate) fn set_halted(&self, halted: Vec<(ShareName, String)>) {
        for (share, reason) in &halted {
            tracing::error!(%share, reason, "the share is halted: it does not start");
        }
        *lock(&self.halted) = halted;
    }

    /// Opens one share. Nothing moves before [`begin`](Self::begin).
    pub(crate) async fn open(
        &self,
        config: &NodeConfig,
        share: &ShareConfig,
    ) -> Result<OpenShare<E>, StartError> {
        let settings = Settings::new(config, share).map_err(|error| StartError::Share {
            share: share.name.clone(),
            reason: format!("exclude: {error}"),
        })?;
        let (opener, node, about) = (self.env.clone(), config.clone(), share.clone());
        let open = self.env.blocking(move || open::open(&opener, &node, &about));
        let opened = open.await?;
        let (share, released) =
            Share::new(self.env.clone(), config.node.clone(), share, settings, opened);
        let paused = share.index.is_paused().map_err(|error| StartError::Share {
            share: share.config.name.clone(),
            reason: Chain(&error).to_string(),
        })?;
        if paused {
            tracing::warn!(share = %share.config.name, "paused: `chainsync resume` goes on");
            share.board.pause();
        }
        Ok(OpenShare { share: Arc::new(share), released })
    }

    /// Starts a share's tasks and lets its upstreams in.
    pub(crate) fn begin(&self, open: OpenShare<E>, tasks: &mut Tasks) {
        let OpenShare { share, released } = open;
        let (sender, arrived) = mpsc::channel(APPLY_QUEUE_MAX);
        let handles = vec![
            tasks.joined.spawn(tasks::ingest(share.clone())),
            tasks.joined.spawn(tasks::keep(share.clone())),
            tasks.joined.spawn(collect::run(share.clone())),
            tasks.joined.spawn(large::digest::run(share.clone())),
            tasks.joined.spawn(large::queue::run(share.clone())),
            tasks.joined.spawn(apply_when_ready(share.clone(), arrived)),
            tasks.joined.spawn(link_when_ready(share.clone())),
        ];
        tasks.of_share.insert(share.config.name.clone(), (handles, released));
        lock(&self.shares).push((share, sender));
    }

    /// The share of which it is.
    async fn until_an_index_fails(&self) -> ShareName {
        let shares = self.shares();
        let failures = shares.iter().map(|share| {
            Box::pin(async {
                share.index.until_failed().await;
                share.config.name.clone()
            })
        });
        let failures: Vec<_> = failures.collect();
        if failures.is_empty() {
            // Halted shares only.
            return std::future::pending().await;
        }
        futures_util::future::select_all(failures).await.0
    }

    pub(crate) fn asked_for(&self, name: Option<&ShareName>) -> Option<Vec<Arc<Share<E>>>> {
        let chosen = |share: &&Arc<Share<E>>| name.is_none_or(|name| share.config.name == *name);
        let shares: Vec<_> = self.shares().iter().filter(chosen).cloned().collect();
        (name.is_none() || !shares.is_empty()).then_some(shares)
    }
}

impl<E: Env> Shared<E> {
    fn halted_of(&self, name: Option<&ShareName>) -> Vec<(ShareName, String)> {
        let mut halted = lock(&self.halted).clone();
        halted.retain(|(share, _)| name.is_none_or(|name| share == name));
        halted
    }

    fn status_of(&self, name: Option<&ShareName>) -> Option<Vec<ShareStatus>> {
        let halted = self.halted_of(name);
        let mut shares = match self.asked_for(name) {
            Some(shares) => shares.iter().map(|share| share.status()).collect(),
            None if halted.is_empty() => return None,
            None => Vec::new(),
        };
        let config = self.config();
        for (name, reason) in halted {
            let share = config.shares.iter().find(|share| share.name == name);
            shares.extend(share.map(|share| ShareStatus::not_started(share, reason)));
        }
        Some(shares)
    }
}

impl<E: Env> Asked for Shared<E> {
    fn status(&self, share: Option<&ShareName>) -> Option<Status> {
        Some(Status {
            node: self.config().node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            shares: self.status_of(share)?,
            refused_reload: lock(&self.refused).clone(),
        })
    }

    fn flush<'a>(
        &'a self,
        share: Option<&'a ShareName>,
        timeout: Duration,
        live: bool,
    ) -> Answer<'a, Option<Vec<FlushReport>>> {
        Box::pin(async move {
            let halted = self.halted_of(share);
            let shares = match self.asked_for(share) {
                None if halted.is_empty() => return None,
                shares => shares.unwrap_or_default(),
            };
            let reports = shares.iter().map(|share| share.flush(timeout, live));
            let mut reports = futures_util::future::join_all(reports).await;
            let me = self.config().node.clone();
            reports.extend(halted.iter().map(|(name, why)| FlushReport::halted(name, &me, why)));
            Some(reports)
        })
    }

    fn reload(&self, config: NodeConfig) -> Answer<'_, Result<Reloaded, ReloadError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let request = ReloadRequest { config, answer };
            let sent = self.reloads.send(request).await;
            let result = match sent {
                Ok(()) => answered.await.unwrap_or(Err(ReloadError::Stopping)),
                Err(_) => Err(ReloadError::Stopping),
            };
            match &result {
                Ok(_) => *lock(&self.refused) = None,
                Err(error) => self.note_refused(Chain(error).to_string()),
            }
            result
        })
    }

    fn note_refused(&self, reason: String) {
        // It quotes a file, and will be shown on a terminal.
        let reason = reason.replace(char::is_control, " ");
        let at_ms = u64::try_from(self.env.wall_ns() / 1_000_000).unwrap_or(0);
        *lock(&self.refused) = Some(RefusedReload { at_ms, reason });
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

    /// Takes over a new configuration while the node runs. If it is refused, the one before goes on
    /// untouched, and `status` says so until one is accepted.
    pub async fn reload(&self, config: NodeConfig) -> Result<Reloaded, ReloadError> {
        self.asked.reload(config).await
    }

    /// Shows in `status` that a configuration was refused before it came here.
    pub fn note_refused_reload(&self, reason: String) {
        self.asked.note_refused(reason);
    }

    /// Begins an orderly stop: [`Node::run`] returns soon.
    pub fn stop(&self) {
        self.asked.stop();
    }
}
