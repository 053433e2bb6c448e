//! One machine: its disk, its index files, its network card, and the daemon that lives on it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainsync_core::Ring;
use chainsync_engine::answers::VerifyReport;
use chainsync_engine::{Handle, Node, NodeConfig, Status};

use crate::check::{Flush, Flushed, Invariant, SHARE};
use crate::env::SimEnv;
use crate::failure::Failure;
use crate::fs::{Disk, DiskOptions, Loss, Saved, SharedDisk, SharedStorages, Tree};
use crate::gate::{Gate, State};
use crate::ledger::IncidentKind;
use crate::net::{NetOptions, SimNet};
use crate::rng::Stream;
use crate::shared::{Shared, lock};

/// How often a node is asked for its status while somebody waits for it.
const STATUS_EVERY: Duration = Duration::from_millis(20);
/// Within this `verify` answers, or names who did not.
const VERIFY_MAX: Duration = Duration::from_secs(60);

enum Order {
    Reload,
    /// Contents too, if it is to be deep.
    Verify(bool),
    Flush(Flush),
}

pub struct Machine {
    pub name: String,
    pub index: usize,
    pub shared: Arc<Shared>,
    pub disk: SharedDisk,
    pub storages: SharedStorages,
    pub net: SimNet,
    pub gate: Arc<Gate>,
    /// What is left of unsynced pages of the index after a power loss.
    scatter: Mutex<Stream>,
    pub random: Mutex<Stream>,
    pub(crate) latency: Mutex<Latency>,
    config: Mutex<NodeConfig>,
    /// What an operator wants of the daemon.
    orders: Mutex<Vec<Order>>,
    answers: Mutex<Vec<Flushed>>,
    life: Mutex<Life>,
    /// Whether the status is wanted.
    pub ask: AtomicBool,
    verified: Mutex<Option<Vec<VerifyReport>>>,
}

pub(crate) struct Latency {
    pub rng: Stream,
    pub carried_ns: u64,
}

/// The state of the daemon on it.
#[derive(Default)]
struct Life {
    /// Whether there is power and the daemon is meant to run.
    wanted: bool,
    running: bool,
    /// The present daemon began without its root.
    rootless: bool,
    handle: Option<Handle>,
    status: Option<(u64, Status)>,
    saved: Option<Saved>,
    /// What was in the share when the index was saved.
    saved_files: Option<Tree>,
    /// Lives so far; more than one, and the counters have begun anew.
    starts: u64,
}

impl Machine {
    pub fn new(
        shared: &Arc<Shared>,
        index: usize,
        config: NodeConfig,
        options: DiskOptions,
        network: NetOptions,
    ) -> Arc<Self> {
        let name = config.node.to_string();
        let known: BTreeSet<String> = config.nodes.keys().map(ToString::to_string).collect();
        let random = Stream::new(shared.seed, "random", &name);
        let latency = Latency { rng: Stream::new(shared.seed, "latency", &name), carried_ns: 0 };
        let disk = Disk::new(Arc::clone(shared), &name, index, options);
        let gate = Arc::clone(&disk.gate);
        Arc::new(Self {
            index,
            shared: Arc::clone(shared),
            disk: disk.shared(),
            storages: SharedStorages::default(),
            net: SimNet::new(shared, &name, known, network, Arc::clone(&gate)),
            gate,
            scatter: Mutex::new(Stream::new(shared.seed, "scatter", &name)),
            random: Mutex::new(random),
            latency: Mutex::new(latency),
            config: Mutex::new(config),
            orders: Mutex::default(),
            answers: Mutex::default(),
            life: Mutex::default(),
            ask: AtomicBool::new(false),
            verified: Mutex::default(),
            name,
        })
    }

    /// The daemon, from start to end: what turmoil runs on the host, once per start.
    pub async fn live(self: Arc<Self>) -> turmoil::Result {
        let process = {
            let mut life = lock(&self.life);
            if !life.wanted {
                return Ok(());
            }
            life.starts += 1;
            life.running = true;
            self.gate.reset();
            lock(&self.disk).new_process()
        };
        let _kept = self.gate.until_death();
        self.shared.event(&self.name, "start", format_args!("{process}"));
        self.note(IncidentKind::Started);
        let env = SimEnv::new(Arc::clone(&self), process);
        // It may come back while the daemon is about to say so.
        lock(&self.life).rootless = lock(&self.disk).is_share_away();
        let config = lock(&self.config).clone();
        let node = match Node::start(env, config).await {
            Ok(node) => node,
            // It fell while it started.
            Err(_) if !lock(&self.disk).is_current(process) => return Ok(()),
            Err(error) if self.was_refused() => {
                self.shared.event(&self.name, "refused", format_args!("{error}"));
                lock(&self.life).running = false;
                return Ok(());
            }
            Err(error) => {
                let reason = std::error::Error::source(&error).map(|source| format!(": {source}"));
                let reason = reason.unwrap_or_default();
                return Err(format!("{} does not start: {error}{reason}", self.name).into());
            }
        };
        let handle = node.handle();
        {
            let mut life = lock(&self.life);
            life.handle = Some(handle.clone());
            // Told to stop while it opened its files.
            if !life.wanted {
                handle.stop();
            }
        }
        tokio::select! {
            biased;
            () = node.run() => {}
            () = Arc::clone(&self).report(&handle) => {}
        }
        let mut life = lock(&self.life);
        (life.running, life.handle) = (false, None);
        self.shared.event(&self.name, "end", format_args!("{process}"));
        self.note(IncidentKind::Ended);
        Ok(())
    }

    async fn report(self: Arc<Self>, handle: &Handle) {
        loop {
            tokio::time::sleep(STATUS_EVERY).await;
            self.gate.close_kept();
            let orders = std::mem::take(&mut *lock(&self.orders));
            for order in orders {
                match order {
                    Order::Reload => self.reload_now(handle).await,
                    Order::Verify(deep) => {
                        if let Ok(reports) = handle.verify(None, deep, VERIFY_MAX).await {
                            *lock(&self.verified) = Some(reports);
                        }
                    }
                    Order::Flush(flush) => {
                        tokio::spawn(Arc::clone(&self).flush_now(handle.clone(), flush));
                    }
                }
            }
            if self.ask.load(Ordering::Relaxed)
                && let Some(status) = handle.status(None).await
            {
                let guarded = |reason: &String| reason.contains("--accept-deletes");
                if status.shares.iter().any(|share| share.halted.as_ref().is_some_and(guarded)) {
                    self.accept_deletes(handle).await;
                }
                lock(&self.life).status = Some((self.shared.step_ns(), status));
            }
        }
    }

    async fn reload_now(&self, handle: &Handle) {
        let config = lock(&self.config).clone();
        if let Err(error) = handle.reload(config).await {
            let now_ns = self.shared.step_ns();
            let sentence = format!("a good configuration was refused: {error}");
            let failure = Failure::new(Invariant::Daemon, now_ns, sentence).on(&self.name);
            lock(&self.shared.oracle).failures.push(failure);
        }
    }

    async fn flush_now(self: Arc<Self>, handle: Handle, flush: Flush) {
        let Some(reports) = handle.flush(None, flush.within, flush.live).await else { return };
        for report in reports {
            let lacking: Vec<String> = report.lacking.iter().map(|it| it.node.clone()).collect();
            let detail = format_args!("{} lacking {lacking:?}", report.complete);
            self.shared.event(&self.name, "flushed", detail);
            lock(&self.answers).push(Flushed {
                asked: flush.clone(),
                node: self.index,
                answered_ns: self.shared.step_ns(),
                complete: report.complete,
                reasons: report
                    .lacking
                    .iter()
                    .map(|it| format!("{}: {}", it.node, it.reason))
                    .collect(),
                left_out: report.left_out.into_iter().map(|it| it.node).collect(),
            });
        }
    }

    /// A guard asks before it deletes much. What was deleted was deleted by the application, so the
    /// operator says yes; if it was not, the checkers see that it goes.
    async fn accept_deletes(&self, handle: &Handle) {
        if let Ok(reports) = handle.resume(None, true).await {
            self.shared.event(
                &self.name,
                "operator",
                format_args!("accept-deletes {}", reports.len()),
            );
        }
    }

    /// Whether the disk refused the present daemon anything: a daemon that ends or does not start
    /// because of that is right to.
    pub fn was_refused(&self) -> bool {
        let rootless = lock(&self.life).rootless;
        let disk = lock(&self.disk);
        rootless || disk.has_refused() || disk.is_share_away()
    }

    // What the runner does to it.

    /// Edits its configuration, and tells the daemon.
    pub fn set_ring(&self, ring: &Ring) {
        for share in &mut lock(&self.config).shares {
            share.ring = ring.clone();
        }
        lock(&self.orders).push(Order::Reload);
    }

    pub fn ring(&self) -> Option<Ring> {
        lock(&self.config).shares.first().map(|share| share.ring.clone())
    }

    pub fn flush(&self, flush: Flush) {
        lock(&self.orders).push(Order::Flush(flush));
    }

    /// What `flush` has answered so far.
    pub fn flushed(&self) -> Vec<Flushed> {
        lock(&self.answers).clone()
    }

    pub fn want(&self) {
        lock(&self.life).wanted = true;
    }

    /// kill -9: the disk stays as it is, memory is gone. Called before the tasks are dropped, so
    /// that nothing they do while being dropped reaches the world.
    pub fn crash(&self) {
        self.note(IncidentKind::Died);
        self.die();
        let mut disk = lock(&self.disk);
        disk.new_process();
        disk.kernel.power_loss();
    }

    /// The power goes: what was not synced is gone as well, or most of it.
    pub fn power_loss(&self, loss: Loss) {
        self.die();
        self.note(IncidentKind::LostPower);
        lock(&self.storages).power_loss(loss, &mut lock(&self.scatter));
        lock(&self.disk).power_loss(loss);
    }

    /// The daemon has ended by itself: what it had open is closed.
    pub fn gave_up(&self) {
        self.crash();
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.gate.set(State::Stopped);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.gate.set(State::Runs);
    }

    pub fn is_frozen(&self) -> bool {
        self.gate.state() == State::Stopped
    }

    /// Tells the ledger.
    pub(crate) fn note(&self, kind: IncidentKind) {
        let now = lock(&self.disk).now_ns();
        lock(&self.shared.oracle).ledger.happened(now, self.index, kind);
    }

    /// Whatever it was before, stopped or fallen: its kernel closes its connections now. After a
    /// power loss no packet leaves the machine any more.
    fn die(&self) {
        self.gate.set(State::Killed);
        lock(&self.storages).crash();
        // Whoever asked is told nothing; the next daemon reads its configuration by itself.
        lock(&self.orders).clear();
        let mut life = lock(&self.life);
        (life.wanted, life.running, life.handle, life.status) = (false, false, None, None);
    }

    /// Asks the daemon to end in good order.
    pub fn stop(&self) {
        let handle = {
            let mut life = lock(&self.life);
            life.wanted = false;
            life.handle.clone()
        };
        if let Some(handle) = handle {
            handle.stop();
        }
    }

    pub fn is_running(&self) -> bool {
        lock(&self.life).running
    }

    pub fn is_wanted(&self) -> bool {
        lock(&self.life).wanted
    }

    pub fn starts(&self) -> u64 {
        lock(&self.life).starts
    }

    /// The last status and when it was given.
    pub fn status(&self) -> Option<(u64, Status)> {
        lock(&self.life).status.clone()
    }

    /// Has the daemon compare the ring's trees.
    pub fn ask_to_verify(&self, deep: bool) {
        lock(&self.orders).push(Order::Verify(deep));
    }

    /// Its answer, once.
    pub fn verified(&self) -> Option<Vec<VerifyReport>> {
        lock(&self.verified).take()
    }

    pub fn forget_status(&self) {
        lock(&self.life).status = None;
    }

    pub fn wipe_index(&self) {
        self.note(IncidentKind::IndexLost);
        lock(&self.storages).wipe();
    }

    pub fn save_index(&self) {
        self.note(IncidentKind::IndexSaved);
        let saved = lock(&self.storages).save();
        let files = lock(&self.disk).tree(SHARE.as_bytes()).ok();
        let life = &mut *lock(&self.life);
        (life.saved, life.saved_files) = (Some(saved), files);
    }

    /// Puts the share's files back to what they were when the index was saved.
    pub fn restore_files(&self) -> std::io::Result<()> {
        let files = lock(&self.life).saved_files.clone();
        match files {
            Some(files) => lock(&self.disk).restore_tree(&files),
            None => Ok(()),
        }
    }

    /// False if nothing was saved.
    pub fn restore_index(&self) -> bool {
        match &lock(&self.life).saved {
            Some(saved) => {
                lock(&self.storages).restore(saved);
                self.note(IncidentKind::IndexRestored);
                true
            }
            None => false,
        }
    }
}
