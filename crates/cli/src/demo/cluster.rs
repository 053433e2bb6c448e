//! Three real daemons on loopback: child processes of this executable, with configurations, keys,
//! sockets, shares and logs below one directory.
//!
//! Invariants: a child is signalled by its own pid only; no child outlives the [`Cluster`], also
//! when the demo panics or is killed; every wait is bounded and says what it waited for.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chainsync_engine::{FlushReport, Status};
use chainsync_host::PrivateKey;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::Trouble;
use crate::control::Client;

pub(super) const NODES: [&str; 3] = ["apollo", "chronos", "hermes"];
/// An empty ring starts in milliseconds; a busy machine with cold files may take longer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The daemon itself gives up draining after 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Set by Ctrl-C and SIGTERM; every wait looks at it.
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(super) struct Cluster {
    /// In ring order.
    daemons: Vec<Daemon>,
}

pub(super) struct Daemon {
    pub(super) name: &'static str,
    config: PathBuf,
    /// What is replicated.
    pub(super) share: PathBuf,
    pub(super) archive: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Writes everything that three daemons need below `directory`, and starts none.
    pub(super) fn prepare(directory: &Path) -> Result<Self, Trouble> {
        let mut keys = Vec::new();
        for _ in NODES {
            keys.push(PrivateKey::generate().map_err(|error| Trouble::new("make a key", error))?);
        }
        let mut nodes = String::new();
        let addresses = free_addresses().map_err(|error| Trouble::new("find free ports", error))?;
        for ((name, key), address) in NODES.iter().zip(&keys).zip(&addresses) {
            let id = key.public_id();
            // Writing to a String cannot fail.
            let _ =
                write!(nodes, "\n[nodes.{name}]\naddress = \"{address}\"\nid      = \"{id}\"\n");
        }
        let mut daemons = Vec::new();
        for ((name, key), address) in NODES.into_iter().zip(&keys).zip(&addresses) {
            let daemon = Daemon::new(directory, name);
            daemon.write(key, address, &nodes).map_err(|error| Trouble::new(name, error))?;
            daemons.push(daemon);
        }
        Ok(Self { daemons })
    }

    pub(super) fn daemons(&self) -> &[Daemon] {
        &self.daemons
    }

    pub(super) fn index(&self, name: &str) -> usize {
        // Names come from NODES, or from an argument that was checked against it.
        self.daemons.iter().position(|daemon| daemon.name == name).expect("one of three")
    }

    pub(super) fn daemon(&mut self, name: &str) -> &mut Daemon {
        let index = self.index(name);
        &mut self.daemons[index]
    }

    /// Starts all, then waits until each answers.
    pub(super) fn start(&mut self) -> Result<(), Trouble> {
        for daemon in &mut self.daemons {
            daemon.spawn()?;
        }
        self.daemons.iter_mut().try_for_each(Daemon::wait_until_it_answers)
    }

    /// Waits until every node says that everybody has its changes; the reports that say otherwise
    /// when the time is over.
    pub(super) fn flush(&self, patience: Duration) -> Result<Vec<FlushReport>, Trouble> {
        let deadline = Instant::now() + patience;
        let mut lacking = Vec::new();
        for daemon in &self.daemons {
            let left = deadline.saturating_duration_since(Instant::now());
            lacking
                .extend(daemon.flush(left, false)?.into_iter().filter(|report| !report.complete));
        }
        Ok(lacking)
    }

    /// Stops every daemon, politely at first.
    pub(super) fn stop(&mut self) {
        for daemon in &self.daemons {
            daemon.signal(Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for daemon in &mut self.daemons {
            daemon.reap(deadline);
        }
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &Path> {
        self.daemons.iter().map(|daemon| &*daemon.log)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Daemon {
    fn new(directory: &Path, name: &'static str) -> Self {
        let home = directory.join(name);
        Self {
            name,
            config: home.join("chainsync.toml"),
            share: home.join("share"),
            archive: home.join("state/archive"),
            socket: home.join("control.sock"),
            log: home.join("log"),
            child: None,
        }
    }

    fn write(
        &self,
        key: &PrivateKey,
        address: &SocketAddr,
        nodes: &str,
    ) -> Result<(), anyhow::Error> {
        std::fs::create_dir_all(&self.share)?;
        let home = self.config.parent().unwrap_or(Path::new("/"));
        let key_file = home.join("node.key");
        key.write_new(&key_file)?;
        // A path as a TOML string: JSON's escapes are a subset of TOML's.
        let quoted = |path: &Path| serde_json::to_string(&path.display().to_string());
        let text = format!(
            "node   = \"{}\"\nkey    = {}\nstate  = {}\nlisten = \"{address}\"\nsocket = {}\n{nodes}\n\
             [shares.uploads]\npath = {}\nring = {NODES:?}\n",
            self.name,
            quoted(&key_file)?,
            quoted(&home.join("state"))?,
            quoted(&self.socket)?,
            quoted(&self.share)?,
        );
        std::fs::write(&self.config, text)?;
        Ok(())
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    pub(super) fn status(&self) -> Result<Status, Trouble> {
        let error = |error| Trouble::new(format!("ask {} for its status", self.name), error);
        self.client().status(None).map_err(error)
    }

    pub(super) fn flush(
        &self,
        patience: Duration,
        live: bool,
    ) -> Result<Vec<FlushReport>, Trouble> {
        let error = |error| Trouble::new(format!("ask {} to flush", self.name), error);
        self.client().flush(None, patience, live).map_err(error)
    }

    pub(super) fn spawn(&mut self) -> Result<(), Trouble> {
        self.start_child().map_err(|error| Trouble::new(format!("start {}", self.name), error))
    }

    fn start_child(&mut self) -> Result<(), std::io::Error> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--config"]).arg(&self.config);
        // The terminal's Ctrl-C is for the demo, which then stops its daemons in order.
        command.process_group(0);
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let me = rustix::process::getpid();
        // SAFETY: between fork and exec only two system calls are made, nothing is allocated and no
        // lock is taken.
        unsafe {
            command.pre_exec(move || {
                // A demo that is killed cannot stop its daemons: the kernel does it then. The
                // signal belongs to the thread that forks, and this is the main thread.
                set_parent_process_death_signal(Some(Signal::KILL))?;
                match getppid() {
                    Some(parent) if parent == me => Ok(()),
                    _ => Err(std::io::ErrorKind::Interrupted.into()),
                }
            });
        }
        self.child = Some(command.spawn()?);
        Ok(())
    }

    pub(super) fn wait_until_it_answers(&mut self) -> Result<(), Trouble> {
        let what = format!("{} answers", self.name);
        wait(&what, START_TIMEOUT, || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                let end = format!("it ended ({status}): {}", last_line(&self.log));
                return Err(Trouble::new(format!("start {}", self.name), end));
            }
            Ok(Client::new(&self.socket).status(None).ok())
        })
        .map(drop)
    }

    /// SIGKILL, and the moment before it.
    pub(super) fn kill(&mut self) -> Instant {
        let moment = Instant::now();
        self.signal(Signal::KILL);
        self.reap(moment + STOP_TIMEOUT);
        moment
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(pid) = pid {
            // It may have ended by itself; its zombie keeps the pid ours.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end; SIGKILL when the deadline has passed.
    fn reap(&mut self, deadline: Instant) {
        let Some(mut child) = self.child.take() else { return };
        while let Ok(None) = child.try_wait() {
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Polls until there is something, bounded.
pub(super) fn wait<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Trouble>,
) -> Result<T, Trouble> {
    let deadline = Instant::now() + patience;
    loop {
        check_interrupted()?;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Trouble::new(
                format!("wait until {what}"),
                format!("not within {patience:?}"),
            ));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

pub(super) fn check_interrupted() -> Result<(), Trouble> {
    match INTERRUPTED.load(Ordering::Relaxed) {
        true => Err(Trouble::new("run the demo", "interrupted")),
        false => Ok(()),
    }
}

/// Held together until all are known, so that no two are equal.
fn free_addresses() -> std::io::Result<Vec<SocketAddr>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = NODES.iter().map(bind).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("its log is empty").to_owned()
}
