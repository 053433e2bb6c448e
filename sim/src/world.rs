//! The world of one run: turmoil's network, the machines, and what the scenario does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use chainsync_core::{NodeName, Ring};

use crate::check::{Bounds, Disturbance, Flush, Invariant, SHARE, STATE};
use crate::config::node_config;
use crate::failure::Failure;
use crate::fs::{Defect, DiskOptions, Fall, Loss};
use crate::machine::Machine;
use crate::net::NetOptions;
use crate::rng::Stream;
use crate::scenario::{Direction, Event, Keeps, NoticedBy, Scenario, Span};
use crate::shared::{EPOCH_NS, Shared, lock};
use crate::watch;
use crate::workload;

/// turmoil's clock advances by this much at a time.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Connections that may wait to be accepted: beyond it turmoil panics instead of dropping a SYN.
const TCP_CAPACITY: usize = 4_096;
/// Every failed connect leaks a port in turmoil, and running out of them panics: give it all.
const PORTS: std::ops::RangeInclusive<u16> = 10_000..=65_535;
/// An orderly stop that takes longer has failed.
const STOP_MAX: Duration = Duration::from_secs(30);
/// `RestartSec` of the daemon's unit: what ends with an error is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// A run beyond this is stuck in the runner itself.
const RUN_MAX: Duration = Duration::from_secs(24 * 3_600);
/// What a disk has left when it is "full".
const FULL_BYTES: u64 = 0;

pub struct World {
    pub shared: Arc<Shared>,
    pub machines: Vec<Arc<Machine>>,
    /// All of them.
    ring: Ring,
    sim: turmoil::Sim<'static>,
    /// Directed pairs of nodes between which nothing passes, by the scenario's will.
    cut: BTreeSet<(usize, usize)>,
    /// The same in turmoil, dead machines included.
    applied: BTreeSet<(usize, usize)>,
    held: BTreeSet<(usize, usize)>,
    /// Machines without power.
    off: BTreeSet<usize>,
    restarting: BTreeMap<usize, Duration>,
    /// When those that died come back by themselves.
    back: BTreeMap<usize, Duration>,
    /// Of each machine's disk.
    capacity_bytes: Vec<u64>,
    storms: usize,
    pub deaths: u64,
    pub disturbances: Vec<Disturbance>,
    /// Whether anything but uploads has happened.
    pub healthy: bool,
    pub bounds: Bounds,
}

impl World {
    pub fn new(
        scenario: &Scenario,
        shared: Arc<Shared>,
        defect: Option<Defect>,
    ) -> std::io::Result<Self> {
        let epoch = Duration::from_nanos(u64::try_from(EPOCH_NS).unwrap_or(0));
        let mut builder = turmoil::Builder::new();
        builder
            .epoch(SystemTime::UNIX_EPOCH + epoch)
            .simulation_duration(RUN_MAX)
            .tick_duration(TICK)
            .tcp_capacity(TCP_CAPACITY)
            .ephemeral_ports(PORTS)
            .rng_seed(Stream::new(shared.seed, "turmoil", "").draw());
        let latency = scenario.network.latency;
        builder.min_message_latency(latency.map_or(Duration::ZERO, |latency| latency.from));
        builder.max_message_latency(latency.map_or(TICK, |latency| latency.to));
        let mut sim = builder.build();

        let names = scenario.nodes.iter().map(ToString::to_string).collect();
        lock(&shared.oracle).node_names = names;
        let (mut machines, mut capacity_bytes) = (Vec::new(), Vec::new());
        for (index, name) in scenario.nodes.iter().enumerate() {
            let knobs = scenario.knobs(name.as_str());
            let drawn = DiskOptions::draw(shared.seed, name.as_str(), &knobs);
            let options = DiskOptions { defect, ..drawn };
            capacity_bytes.push(options.capacity_bytes);
            shared.event(
                name.as_str(),
                "knobs",
                format_args!("ctime {} queue {}", options.ctime_coarse_ns, options.watch_queue_max),
            );
            let config = node_config(scenario, name);
            let network = NetOptions::of(&scenario.network);
            let machine = Machine::new(&shared, index, config, options, network);
            {
                let mut disk = lock(&machine.disk);
                disk.install_dir(STATE.as_bytes(), 0o700)?;
                disk.install_share(SHARE.as_bytes())?;
                if has_own_root(scenario, name) {
                    disk.install_mount(SHARE.as_bytes())?;
                }
            }
            machine.want();
            let host = Arc::clone(&machine);
            sim.host(name.as_str(), move || Arc::clone(&host).live());
            machines.push(machine);
        }
        Ok(Self {
            shared,
            machines,
            ring: Ring::new(scenario.nodes.clone()).expect("the scenario's parser checked it"),
            sim,
            cut: BTreeSet::new(),
            applied: BTreeSet::new(),
            held: BTreeSet::new(),
            off: BTreeSet::new(),
            restarting: BTreeMap::new(),
            back: BTreeMap::new(),
            capacity_bytes,
            storms: 0,
            deaths: 0,
            disturbances: Vec::new(),
            healthy: true,
            bounds: Bounds::default(),
        })
    }

    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    pub fn now_ns(&self) -> u64 {
        self.sim.elapsed().as_nanos() as u64
    }

    /// One tick of everything.
    pub fn step(&mut self) -> Result<(), Failure> {
        self.shared.set_step_ns(self.now_ns());
        for machine in &self.machines {
            let now = self.shared.step_ns();
            lock(&machine.disk).run_writers(now);
            if !machine.is_frozen() {
                watch::deliver(&machine.disk);
            }
        }
        self.finish_restarts()?;
        self.bring_back();
        self.sim.step().map_err(|error| {
            Failure::new(
                Invariant::Daemon,
                self.shared.step_ns(),
                format!("a daemon failed: {error}"),
            )
        })?;
        if let Some(failure) = lock(&self.shared.oracle).failures.first() {
            return Err(failure.clone());
        }
        self.bury_the_fallen();
        let now_ns = self.now_ns();
        self.bounds.look(&self.machines, now_ns)?;
        self.bring_back_the_refused()
    }

    pub fn ask_for_status(&self, ask: bool) {
        for machine in &self.machines {
            machine.ask.store(ask, Ordering::Relaxed);
            machine.forget_status();
        }
    }

    pub fn writers_are_done(&self) -> bool {
        self.machines.iter().all(|machine| !lock(&machine.disk).has_jobs())
    }

    fn index(&self, name: &str) -> usize {
        // The scenario's parser has checked every name.
        self.machines.iter().position(|machine| machine.name == name).unwrap_or(0)
    }

    fn group(&self, names: &[toml::Spanned<String>]) -> Vec<usize> {
        names.iter().map(|name| self.index(name.get_ref())).collect()
    }

    fn powered(&self, names: &[toml::Spanned<String>]) -> Vec<usize> {
        let mut nodes = self.group(names);
        nodes.retain(|node| !self.off.contains(node));
        nodes
    }

    /// Does one event.
    pub fn act(&mut self, event: &Event) {
        let now_ns = self.now_ns();
        self.shared.set_step_ns(now_ns);
        let names: Vec<&str> = event.nodes().iter().map(|name| name.get_ref().as_str()).collect();
        self.shared.event("-", "event", format_args!("{} {}", event.key(), names.join(" ")));
        let node = names.first().map_or(0, |name| self.index(name));
        let machine = Arc::clone(&self.machines[node]);
        self.healthy &= is_workload(event);
        if is_workload(event) && names.len() == 1 && self.off.contains(&node) {
            // Nobody is at work on a machine without power: the balancer sends them elsewhere.
            return;
        }
        match event {
            Event::Storm(storm) => {
                self.storms += 1;
                for node in self.powered(&storm.nodes) {
                    let disk = &mut *lock(&self.machines[node].disk);
                    workload::storm(disk, self.storms, now_ns, storm.into());
                }
            }
            Event::Churn(churn) => {
                self.storms += 1;
                for node in self.powered(&churn.nodes) {
                    let disk = &mut *lock(&self.machines[node].disk);
                    workload::churn(disk, self.storms, now_ns, churn.into());
                }
            }
            Event::Write(write) | Event::Overwrite(write) => {
                let disk = &mut *lock(&machine.disk);
                workload::write(disk, now_ns, write);
            }
            Event::Delete(delete) => {
                workload::delete(&mut lock(&machine.disk), now_ns, delete.path.get_ref());
            }
            Event::Rename(rename) => {
                let (from, to) = (rename.from.get_ref(), rename.to.get_ref());
                workload::rename(&mut lock(&machine.disk), now_ns, from, to);
            }
            Event::Mkdir(mkdir) => {
                workload::make_dir(&mut lock(&machine.disk), now_ns, mkdir.path.get_ref());
            }
            Event::Symlink(symlink) => {
                let (path, target) = (symlink.path.get_ref(), symlink.target.as_bytes());
                workload::symlink(&mut lock(&machine.disk), now_ns, path, target);
            }
            Event::Chmod(chmod) => {
                let (path, mode) = (chmod.path.get_ref(), chmod.mode);
                workload::chmod(&mut lock(&machine.disk), now_ns, path, mode);
            }
            Event::Crash(death) => {
                self.die(node, None, death.before_operation, death.back_after);
            }
            Event::PowerLoss(death) => {
                let loss = match death.keeps {
                    Keeps::Nothing => Loss::Strict,
                    Keeps::Some => Loss::Scattered,
                    Keeps::Journal => Loss::Journal,
                };
                self.die(node, Some(loss), death.before_operation, death.back_after);
            }
            Event::Restart(_) if machine.is_wanted() => {
                machine.stop();
                self.restarting.insert(node, self.elapsed() + STOP_MAX);
            }
            Event::Start(_) => self.start(node),
            Event::Partition(partition) => {
                let (left, right) =
                    (self.group(&partition.between.0), self.group(&partition.between.1));
                for (from, to) in pairs(&left, &right) {
                    if partition.direction != Direction::Backward {
                        self.cut.insert((from, to));
                    }
                    if partition.direction != Direction::Forward {
                        self.cut.insert((to, from));
                    }
                }
                self.apply_cuts();
                self.disturbed("the network was cut".to_owned());
            }
            Event::Hold(hold) => {
                let (left, right) = (self.group(&hold.between.0), self.group(&hold.between.1));
                for (from, to) in pairs(&left, &right) {
                    self.held.insert((from, to));
                    self.sim.hold(self.name(from), self.name(to));
                }
            }
            Event::CutConnections(cut) => {
                let (left, right) = (self.group(&cut.between.0), self.group(&cut.between.1));
                for (one, other) in pairs(&left, &right) {
                    let both = cut.noticed_by == NoticedBy::Both;
                    if cut.noticed_by != NoticedBy::Second {
                        self.machines[one].net.lose_connections(self.name(other), both);
                    }
                    if cut.noticed_by != NoticedBy::First {
                        self.machines[other].net.lose_connections(self.name(one), both);
                    }
                }
            }
            Event::Heal(_) => self.heal_network(),
            Event::DiskFull(_) => lock(&machine.disk).options.capacity_bytes = FULL_BYTES,
            Event::DiskFree(_) => {
                lock(&machine.disk).options.capacity_bytes = self.capacity_bytes[node];
            }
            Event::DiskFault(fault) => lock(&machine.disk).add_fault(fault.fault(now_ns)),
            Event::Quota(quota) => {
                lock(&machine.disk).options.quota_bytes = quota.bytes.map(|size| size.0);
            }
            Event::Clock(clock) => {
                let drift = clock.drift.unwrap_or(0);
                lock(&machine.disk).set_clock(clock.skew.as_nanos(), drift);
            }
            Event::WatchOverflow(_) => lock(&machine.disk).kernel.overflow(now_ns),
            Event::WatchLimit(limit) => {
                lock(&machine.disk).options.watches_max =
                    usize::try_from(limit.watches).unwrap_or(usize::MAX);
            }
            // It died at an operation, and came back, after the plan was made.
            Event::WipeIndex(_)
            | Event::SaveIndex(_)
            | Event::RestoreIndex(_)
            | Event::RestoreFiles(_)
                if machine.is_wanted() => {}
            Event::Restart(_) => {}
            // A new index would take the mount point for an empty share, as it has to.
            Event::WipeIndex(_) if lock(&machine.disk).is_share_away() => {}
            Event::WipeIndex(_) => machine.wipe_index(),
            Event::SaveIndex(_) => machine.save_index(),
            Event::RestoreIndex(_) => {
                // The parser has checked that something was saved before.
                let _ = machine.restore_index();
            }
            Event::RestoreFiles(_) => {
                if let Err(error) = machine.restore_files() {
                    let detail = format_args!("{}: {error}", machine.name);
                    self.shared.event("-", "not-restored", detail);
                }
            }
            Event::Stop(_) if machine.is_wanted() => self.stop(node),
            Event::Stop(_) => {}
            Event::Continue(_) => self.go_on(node),
            Event::UnmountRoot(_) => lock(&machine.disk).unmount_share(),
            Event::MountRoot(_) => lock(&machine.disk).mount_share(),
            Event::Reload(reload) => {
                let named = reload.ring.as_ref().map(|ring| {
                    ring.iter().filter_map(|name| NodeName::new(name.get_ref()).ok()).collect()
                });
                let ring = named.and_then(|ring| Ring::new(ring).ok());
                machine.set_ring(ring.as_ref().unwrap_or(&self.ring));
            }
            Event::Flush(flush) if machine.is_wanted() => {
                let (within, live) = (flush.within.0, flush.live);
                let expected = flush.complete;
                let ring = machine.ring();
                let nodes = ring.iter().flat_map(Ring::nodes).map(ToString::to_string);
                let members = nodes.collect();
                machine.flush(Flush { asked_ns: now_ns, members, within, live, expected });
            }
            Event::Flush(_) => {}
        }
    }

    /// Ends every fault: the network is whole, every daemon runs, every disk has room. Only the nodes
    /// that are to stay `dead` do not run: one that still does is killed.
    pub fn heal(&mut self, dead: &[String]) {
        self.shared.set_step_ns(self.now_ns());
        self.shared.event("-", "heal", format_args!(""));
        self.heal_network();
        for node in 0..self.machines.len() {
            let machine = Arc::clone(&self.machines[node]);
            lock(&machine.disk).options.capacity_bytes = self.capacity_bytes[node];
            lock(&machine.disk).options.watches_max = DiskOptions::default().watches_max;
            lock(&machine.disk).end_faults();
            lock(&machine.disk).mount_share();
            if machine.ring().is_some_and(|ring| ring != self.ring) {
                machine.set_ring(&self.ring);
            }
            if dead.contains(&machine.name) {
                self.back.remove(&node);
                if machine.is_wanted() || machine.is_running() {
                    self.crash(node);
                }
                continue;
            }
            if machine.is_frozen() {
                self.go_on(node);
            }
            let comes_back = self.restarting.contains_key(&node) || self.back.contains_key(&node);
            if !self.machines[node].is_wanted() && !comes_back {
                self.start(node);
            }
        }
    }

    /// Starts the nodes that have stayed dead.
    pub fn start_dead(&mut self, dead: &[String]) {
        self.shared.set_step_ns(self.now_ns());
        for name in dead {
            self.shared.event("-", "event", format_args!("start {name}"));
            self.start(self.index(name));
        }
    }

    /// Sets a trap on a machine: it falls before the `number`th disk operation of its daemon,
    /// counted from its first boot on.
    pub fn arm(&mut self, node: usize, number: u64, fall: Fall) {
        self.healthy = false;
        lock(&self.machines[node].disk).fall_before(number, fall);
    }

    /// From here on nobody falls any more.
    pub fn disarm(&mut self) {
        for machine in &self.machines {
            lock(&machine.disk).disarm();
        }
    }

    /// Whether a machine is down that will come back by itself.
    pub fn awaits_anybody(&self) -> bool {
        !self.back.is_empty()
    }

    /// How many disk operations each daemon has made, and of what kind each was.
    pub fn operations(&self) -> Vec<Vec<&'static str>> {
        let of = |machine: &Arc<Machine>| lock(&machine.disk).operations().to_vec();
        self.machines.iter().map(of).collect()
    }

    fn die(
        &mut self,
        node: usize,
        loss: Option<Loss>,
        before_operation: Option<NonZeroU64>,
        back_after: Option<Span>,
    ) {
        let back_after = back_after.map(|span| span.0);
        if let (Some(number), Some(back_after)) = (before_operation, back_after) {
            let made = lock(&self.machines[node].disk).operations().len() as u64;
            self.arm(node, made + number.get(), Fall { loss, back_after });
            return;
        }
        match loss {
            None => self.crash(node),
            Some(loss) => self.power_loss(node, loss),
        }
        if let Some(back_after) = back_after {
            self.back.insert(node, self.elapsed() + back_after);
        }
    }

    /// A daemon that fell in this tick is ended, as its disk says how.
    fn bury_the_fallen(&mut self) {
        for node in 0..self.machines.len() {
            let fallen = lock(&self.machines[node].disk).fallen.take();
            let Some(fall) = fallen else { continue };
            match fall.loss {
                None => self.crash(node),
                Some(loss) => self.power_loss(node, loss),
            }
            self.back.insert(node, self.elapsed() + fall.back_after);
        }
    }

    fn bring_back(&mut self) {
        let now = self.elapsed();
        let due = self.back.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node);
        for node in due.collect::<Vec<_>>() {
            self.back.remove(&node);
            self.start(node);
        }
    }

    /// A daemon may end by itself only if its disk refused it something: systemd starts it again.
    fn bring_back_the_refused(&mut self) -> Result<(), Failure> {
        for node in 0..self.machines.len() {
            let machine = &self.machines[node];
            if !machine.is_wanted() || machine.is_running() {
                continue;
            }
            if !machine.was_refused() {
                let sentence = "the daemon ended by itself";
                return Err(
                    Failure::new(Invariant::Daemon, self.now_ns(), sentence).on(&machine.name)
                );
            }
            machine.gave_up();
            self.deaths += 1;
            self.disturbed(format!("{} gave up", self.name(node)));
            self.back.insert(node, self.elapsed() + RESTART_PAUSE);
        }
        Ok(())
    }

    /// SIGSTOP: for its peers no better than a death.
    fn stop(&mut self, node: usize) {
        self.machines[node].freeze();
        self.disturbed(format!("{} hung", self.name(node)));
    }

    fn go_on(&mut self, node: usize) {
        self.machines[node].thaw();
    }

    fn crash(&mut self, node: usize) {
        self.restarting.remove(&node);
        self.back.remove(&node);
        self.machines[node].crash();
        self.sim.crash(self.machines[node].name.as_str());
        self.deaths += 1;
        self.disturbed(format!("{} died", self.name(node)));
    }

    /// Silence first, so that no peer hears of it; then the daemon's memory, then the disk's.
    fn power_loss(&mut self, node: usize, loss: Loss) {
        self.restarting.remove(&node);
        self.back.remove(&node);
        self.off.insert(node);
        self.apply_cuts();
        self.machines[node].power_loss(loss);
        self.sim.crash(self.machines[node].name.as_str());
        self.deaths += 1;
        self.disturbed(format!("{} died", self.name(node)));
    }

    /// Starts a daemon that is down; one may have come back by itself before it is its turn.
    fn start(&mut self, node: usize) {
        if self.machines[node].is_wanted() {
            return;
        }
        self.off.remove(&node);
        self.back.remove(&node);
        self.apply_cuts();
        self.machines[node].want();
        self.sim.bounce(self.machines[node].name.as_str());
    }

    fn finish_restarts(&mut self) -> Result<(), Failure> {
        let restarting = self.restarting.iter().map(|(node, deadline)| (*node, *deadline));
        for (node, deadline) in restarting.collect::<Vec<_>>() {
            if !self.machines[node].is_running() {
                self.restarting.remove(&node);
                self.start(node);
            } else if self.elapsed() > deadline {
                let sentence = format!("the daemon did not stop within {STOP_MAX:?}");
                let name = &self.machines[node].name;
                return Err(Failure::new(Invariant::Daemon, self.now_ns(), sentence).on(name));
            }
        }
        Ok(())
    }

    /// Notes who still reaches whom.
    fn disturbed(&mut self, what: String) {
        let lives =
            |node: &usize| self.machines[*node].is_wanted() && !self.machines[*node].is_frozen();
        let living = (0..self.machines.len()).filter(lives).collect();
        let parts = crate::check::parts(living, &self.cut);
        self.disturbances.push(Disturbance { at_ns: self.now_ns(), what, parts });
    }

    fn heal_network(&mut self) {
        self.cut.clear();
        self.apply_cuts();
        for (left, right) in std::mem::take(&mut self.held) {
            self.sim.release(self.name(left), self.name(right));
        }
    }

    /// Brings turmoil's partitions to what the scenario and dead machines ask for.
    fn apply_cuts(&mut self) {
        let nodes = 0..self.machines.len();
        let mut wanted = self.cut.clone();
        for off in &self.off {
            for other in nodes.clone().filter(|other| other != off) {
                wanted.extend([(*off, other), (other, *off)]);
            }
        }
        for (from, to) in wanted.difference(&self.applied) {
            self.sim.partition_oneway(self.name(*from), self.name(*to));
        }
        for (from, to) in self.applied.difference(&wanted) {
            self.sim.repair_oneway(self.name(*from), self.name(*to));
        }
        self.applied = wanted;
    }

    fn name(&self, node: usize) -> &str {
        &self.machines[node].name
    }
}

/// Whether the share of a node is a file system of its own.
fn has_own_root(scenario: &Scenario, node: &NodeName) -> bool {
    scenario.events.iter().any(|timed| match &timed.event {
        Event::UnmountRoot(event) => event.node.get_ref() == node.as_str(),
        _ => false,
    })
}

fn pairs(left: &[usize], right: &[usize]) -> Vec<(usize, usize)> {
    left.iter().flat_map(|from| right.iter().map(|to| (*from, *to))).collect()
}

fn is_workload(event: &Event) -> bool {
    matches!(
        event,
        Event::Storm(_)
            | Event::Write(_)
            | Event::Overwrite(_)
            | Event::Delete(_)
            | Event::Rename(_)
            | Event::Mkdir(_)
            | Event::Symlink(_)
            | Event::Chmod(_)
            | Event::Churn(_)
            | Event::Flush(_)
    )
}
