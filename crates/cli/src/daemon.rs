//! `run`: the daemon. Starts the node and its control socket, tells systemd how it is doing, and
//! stops in order on SIGTERM or SIGINT; a second signal ends it at once. SIGHUP reloads.
//!
//! A panic anywhere in the node ends the process: systemd restarts it, and recovery is made for it.

use std::path::Path;
use std::time::Duration;

use chainsync_engine::{Handle, Node, StartError};
use chainsync_host::tls::TlsConfig;
use chainsync_host::{HostEnv, PrivateKey, memory};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::args;
use crate::config::{self, Config, Open};
use crate::control::{BindError, Server};
use crate::failure::{Exit, Failure};
use crate::logging;
use crate::reload::Reloader;
use crate::system;

/// Draining means: what is in flight is applied and committed. Longer than that and it hangs.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &args::Run) -> Result<Exit, Failure> {
    let (config, warnings) = config::load(&options.config, Open::All)?;
    logging::start(options.log.as_deref())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    memory::share_one_heap();
    // One thread for what waits, as in the simulation: links and gossip are a twentieth of the work, and
    // handing them from core to core costs more than a second one gains. Disk work has threads of its own.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().map_err(|error| {
        Failure::new(Exit::Refused, error, "the system gives no threads: look at its limits")
    })?;
    system::raise_descriptors();
    system::refuse_owner(&config)?;
    let tls = tls(&config)?;
    let result = runtime.block_on(serve(&options.config, tls, config));
    // What is still running here did not stop when asked; the process does not wait for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// This node's key; only the other nodes may connect.
fn tls(config: &Config) -> Result<TlsConfig, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, error, "`chainsync check` explains the configuration")
    };
    let key = PrivateKey::load(&config.key, config.key_access).map_err(|error| broken(&error))?;
    let peers = config.node.nodes.values().filter(|peer| peer.name != config.node.node);
    TlsConfig::new(&key, peers.map(|peer| peer.id)).map_err(|error| broken(&error))
}

async fn serve(file: &Path, tls: TlsConfig, config: Config) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let (name, shares) = (config.node.node.clone(), config.node.shares.len());
    let node = Node::start(HostEnv::new(tls.clone()), config.node).await.map_err(start_failure)?;
    let handle = node.handle();
    // After the node: its lock on the index decides which of two daemons is the one.
    let server = Server::bind(&config.socket).map_err(bind_failure)?;
    tracing::info!(node = %name, shares, socket = %config.socket.display(), "started");
    notify(&[NotifyState::Ready]);

    let reloader = Reloader {
        file: file.to_owned(),
        handle: handle.clone(),
        tls,
        key: config.key,
        socket: config.socket,
    };
    let mut reloading = Reloading::default();

    let node = node.run();
    let control = server.run(handle.clone());
    let watchdog = watchdog(handle.clone());
    let give_back = memory::give_back_at_rest();
    tokio::pin!(node, control, watchdog, give_back);
    loop {
        tokio::select! {
            biased;
            wish = signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => reloading.ask(&reloader),
            },
            () = reloading.ended() => reloading.next(&reloader),
            () = &mut node => {
                tracing::error!("the node has ended by itself");
                return Ok(Exit::No);
            }
            () = &mut control => {}
            () = &mut watchdog => {}
            () = &mut give_back => {}
        }
    }
    tracing::info!("stopping: what is in flight is finished first");
    notify(&[NotifyState::Stopping]);
    handle.stop();
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, node);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            biased;
            wish = signals.next() => if wish == Wish::Stop {
                tracing::warn!("stopped at once, as asked twice");
                return Ok(Exit::No);
            },
            result = &mut drained => {
                if result.is_err() {
                    tracing::error!("not drained after {DRAIN_TIMEOUT:?}; stopped anyway");
                    return Ok(Exit::No);
                }
                tracing::info!("stopped");
                return Ok(Exit::Good);
            }
            // Whoever asks while it drains gets an answer.
            () = &mut control => {}
        }
    }
}

/// A reload runs beside the node: it is the node that carries it out.
#[derive(Default)]
struct Reloading {
    task: Option<JoinHandle<()>>,
    /// SIGHUP came meanwhile: the file may have changed after it was read.
    again: bool,
}

impl Reloading {
    fn ask(&mut self, reloader: &Reloader) {
        if self.task.is_some() {
            self.again = true;
            return;
        }
        // What systemd waits for with Type=notify-reload; a plain Type=notify ignores it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no monotonic clock for systemd"),
        }
        self.task = Some(tokio::spawn(reloader.clone().reload()));
    }

    /// Waits for the reload under way; for ever if there is none.
    async fn ended(&mut self) {
        match &mut self.task {
            // A panic in it was logged by the runtime, and changed nothing here.
            Some(task) => drop(task.await),
            None => std::future::pending().await,
        }
    }

    fn next(&mut self, reloader: &Reloader) {
        self.task = None;
        notify(&[NotifyState::Ready]);
        if std::mem::take(&mut self.again) {
            self.ask(reloader);
        }
    }
}

fn start_failure(error: StartError) -> Failure {
    if let StartError::Guard { .. } = &error {
        let next = "mount the file system and start again; if the directory was replaced on purpose, \
             move the index in the state directory away: the tree is then imported afresh";
        return Failure::new(Exit::Refused, error, next);
    }
    let next = match &error {
        StartError::Listen { .. } => "is another daemon running? `listen` must be free and local",
        _ => {
            "correct what it names, then start again; `chainsync check` explains the configuration"
        }
    };
    Failure::new(Exit::Usage, error, next)
}

fn bind_failure(error: BindError) -> Failure {
    let next = match &error {
        BindError::Taken(_) => "stop the other daemon, or give this one another `socket`",
        BindError::NotASocket(_) => "move the file away, or choose another `socket`",
        BindError::Io { .. } => {
            "its directory must exist and belong to the user that runs the daemon \
             (RuntimeDirectory=chainsync in a systemd unit)"
        }
    };
    Failure::new(Exit::Usage, error, next)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Refused, error, "the system refuses signal handlers")
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// Tells systemd that the node lives, as long as it answers: a hung node is to be restarted.
async fn watchdog(handle: Handle) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        // Half of the limit, as sd_watchdog_enabled(3) recommends.
        tokio::time::sleep(limit / 2).await;
        handle.status(None).await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Without systemd there is nobody to tell, and that is no error.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
