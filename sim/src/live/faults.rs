//! What a scenario does to real hosts. No fault is replaced by another: what cannot be done here is
//! refused before anything begins.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use chainsync_hosts::shell::output;
use toml::Spanned;

use super::ring::Ring;
use crate::field::audit::Happened;
use crate::field::record::now_ms;
use crate::scenario::{
    CutConnectionsEvent, Direction, Event, FlushEvent, NoticedBy, PartitionEvent, Scenario,
};

/// A service manager starts what has failed again after so long.
const RESTART_AFTER: Duration = Duration::from_secs(1);
const TABLE: &str = "chainsync_live";

/// Why real hosts cannot do an event.
pub(super) fn check(event: &Event) -> Result<(), &'static str> {
    match event {
        Event::PowerLoss(_) => {
            Err("this machine's memory stays; virtual machines can (`ci/vm`, `nix flake check`)")
        }
        Event::Clock(_) => Err("all hosts have the clock of this machine"),
        Event::Hold(_) => Err("the kernel has no netem here; `partition` loses what is sent"),
        Event::DiskFault(_) => Err("the device does not fail when told to"),
        Event::Quota(_) => Err("the daemons run as root"),
        Event::WatchOverflow(_) | Event::WatchLimit(_) => {
            Err("the limits of inotify are those of this machine")
        }
        Event::Crash(death) if death.before_operation.is_some() => {
            Err("only the simulation knows the number of an operation")
        }
        _ => Ok(()),
    }
}

pub(super) struct Faults<'a> {
    ring: &'a Ring,
    scenario: &'a Scenario,
    /// Daemons that are to run.
    wanted: BTreeSet<usize>,
    stopped: BTreeSet<usize>,
    unmounted: BTreeSet<usize>,
    /// When a daemon was last seen to have ended by itself.
    failed: Vec<Option<Instant>>,
    happened: Vec<Happened>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(scenario: &'a Scenario, ring: &'a Ring) -> Self {
        let hosts = ring.names.len();
        Self {
            ring,
            scenario,
            wanted: (0..hosts).collect(),
            stopped: BTreeSet::new(),
            unmounted: BTreeSet::new(),
            failed: vec![None; hosts],
            happened: Vec::new(),
        }
    }

    pub(super) fn happened(&self) -> Vec<Happened> {
        self.happened.clone()
    }

    /// Starts daemons again that have ended by themselves, as a service manager does.
    pub(super) fn supervise(&mut self) -> Result<()> {
        for host in self.wanted.clone() {
            if self.ring.world.is_running(host) {
                self.failed[host] = None;
            } else if self.failed[host].get_or_insert_with(Instant::now).elapsed() >= RESTART_AFTER
            {
                self.failed[host] = None;
                self.ring.start(host)?;
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, host: usize) -> Result<()> {
        self.wanted.insert(host);
        self.failed[host] = None;
        self.ring.start(host)
    }

    pub(super) fn happens(&mut self, number: usize, event: &Event) -> Result<()> {
        let ring = self.ring;
        let named = event.nodes().first().and_then(|name| self.host(name));
        // Events without a node do not look at it.
        let host = named.unwrap_or(0);
        match event {
            Event::Crash(_) => {
                self.wanted.remove(&host);
                self.stopped.remove(&host);
                ring.world.kill(host)?;
            }
            Event::Start(_) => self.start(host)?,
            Event::Restart(_) => {
                self.wanted.remove(&host);
                ring.world.terminate(host)?;
                self.start(host)?;
            }
            Event::Stop(_) => {
                self.stopped.insert(host);
                ring.world.signal(host, libc::SIGSTOP);
            }
            Event::Continue(_) => {
                self.stopped.remove(&host);
                ring.world.signal(host, libc::SIGCONT);
            }
            Event::Partition(partition) => self.partition(partition)?,
            Event::CutConnections(cut) => self.cut(cut)?,
            Event::Heal(_) => self.heal(),
            Event::DiskFull(_) => fill(&ring.ballast(host))?,
            Event::DiskFree(_) => fs::remove_file(ring.ballast(host))?,
            Event::UnmountRoot(_) => {
                self.unmounted.insert(host);
                ring.unmount_share(host)?;
            }
            Event::MountRoot(_) => {
                self.unmounted.remove(&host);
                ring.mount_share(host)?;
            }
            Event::WipeIndex(_) => fs::remove_dir_all(ring.state(host).join("files"))?,
            Event::SaveIndex(_) => {
                let saved = ring.saved(host);
                if saved.exists() {
                    fs::remove_dir_all(&saved)?;
                }
                fs::create_dir(&saved)?;
                copy(&ring.state(host).join("files"), &saved.join("state"))?;
                copy(&ring.share(host), &saved.join("root"))?;
            }
            Event::RestoreIndex(_) => {
                let state = ring.state(host).join("files");
                fs::remove_dir_all(&state)?;
                copy(&ring.saved(host).join("state"), &state)?;
            }
            Event::RestoreFiles(_) => {
                for entry in fs::read_dir(ring.share(host))? {
                    let entry = entry?;
                    match entry.file_type()?.is_dir() {
                        true => fs::remove_dir_all(entry.path())?,
                        false => fs::remove_file(entry.path())?,
                    }
                }
                copy(&ring.saved(host).join("root").join("."), &ring.share(host))?;
            }
            Event::Reload(reload) => {
                let names = |ring: &Vec<Spanned<String>>| {
                    ring.iter().map(|name| name.get_ref().clone()).collect::<Vec<_>>()
                };
                let members = reload.ring.as_ref().map_or_else(|| ring.names.clone(), names);
                ring.configure(host, &members)?;
                ring.world.signal(host, libc::SIGHUP);
            }
            Event::Flush(flush) => self.flush(host, flush)?,
            // What applications do, and what `check` has refused.
            _ => return Ok(()),
        }
        self.happened.push(Happened { event: number, at_ms: now_ms() });
        Ok(())
    }

    /// Everything works again.
    pub(super) fn heal_all(&mut self) -> Result<()> {
        self.heal();
        for host in std::mem::take(&mut self.stopped) {
            self.ring.world.signal(host, libc::SIGCONT);
        }
        for host in std::mem::take(&mut self.unmounted) {
            self.ring.mount_share(host)?;
        }
        for host in 0..self.ring.names.len() {
            if self.ring.ballast(host).exists() {
                fs::remove_file(self.ring.ballast(host))?;
            }
            if !self.wanted.contains(&host) {
                self.start(host)?;
            }
        }
        Ok(())
    }

    fn host(&self, name: &Spanned<String>) -> Option<usize> {
        self.ring.names.iter().position(|known| known == name.get_ref())
    }

    fn pairs(&self, between: &(Vec<Spanned<String>>, Vec<Spanned<String>>)) -> Vec<(usize, usize)> {
        let hosts = |names: &[Spanned<String>]| {
            names.iter().filter_map(|name| self.host(name)).collect::<Vec<_>>()
        };
        let (left, right) = (hosts(&between.0), hosts(&between.1));
        left.iter().flat_map(|one| right.iter().map(move |other| (*one, *other))).collect()
    }

    fn partition(&self, partition: &PartitionEvent) -> Result<()> {
        for (one, other) in self.pairs(&partition.between) {
            if partition.direction != Direction::Backward {
                self.deafen(other, one)?;
            }
            if partition.direction != Direction::Forward {
                self.deafen(one, other)?;
            }
        }
        Ok(())
    }

    /// What comes from the other host is lost, and nobody is told.
    fn deafen(&self, host: usize, to: usize) -> Result<()> {
        let source = self.ring.world.hosts[to].address.clone();
        self.rule(host, "input", &format!("ip saddr {source} drop"))
    }

    /// Connections that exist are forgotten by what is between them: an end that is told is told by a
    /// reset when it sends next; what comes for one that is not is lost.
    fn cut(&self, cut: &CutConnectionsEvent) -> Result<()> {
        for (first, second) in self.pairs(&cut.between) {
            for (port, other_port) in self.connections(first, second)? {
                for (host, to, is_told, ports) in [
                    (first, second, cut.noticed_by != NoticedBy::Second, (port, other_port)),
                    (second, first, cut.noticed_by != NoticedBy::First, (other_port, port)),
                ] {
                    let address = &self.ring.world.hosts[to].address;
                    let (here, there) = ports;
                    let fate = if is_told { "reject with tcp reset" } else { "drop" };
                    self.rule(
                        host,
                        "input",
                        &format!("ip saddr {address} tcp sport {there} tcp dport {here} drop"),
                    )?;
                    self.rule(
                        host,
                        "output",
                        &format!("ip daddr {address} tcp sport {here} tcp dport {there} {fate}"),
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Ports on both ends.
    fn connections(&self, host: usize, to: usize) -> Result<Vec<(u16, u16)>> {
        let address = &self.ring.world.hosts[to].address;
        let text = self.ring.world.inside(
            host,
            "ss",
            &["--no-header", "--tcp", "--numeric", "state", "established", "dst", address],
        )?;
        let port = |end: &str| end.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let ends = text.lines().map(|line| {
            let mut ends = line.split_whitespace().skip(2);
            ends.next().and_then(port).zip(ends.next().and_then(port))
        });
        Ok(ends.flatten().collect())
    }

    fn rule(&self, host: usize, chain: &str, rule: &str) -> Result<()> {
        let nft = |command: &str| self.ring.world.inside(host, "nft", &[command]);
        nft(&format!("add table inet {TABLE}"))?;
        nft(&format!(
            "add chain inet {TABLE} {chain} {{ type filter hook {chain} priority filter; }}"
        ))?;
        nft(&format!("add rule inet {TABLE} {chain} {rule}")).map(drop)
    }

    fn heal(&self) {
        for host in 0..self.ring.names.len() {
            // Most have no such table.
            let _ = self.ring.world.inside(host, "nft", &[&format!("delete table inet {TABLE}")]);
        }
    }

    fn flush(&self, host: usize, flush: &FlushEvent) -> Result<()> {
        let complete = self.ring.flush(host, flush.within.0, flush.live)?;
        if let Some(expected) = flush.complete {
            ensure!(
                complete == expected,
                "{}: `flush` on {} says {complete}, not {expected}",
                self.scenario.file.display(),
                self.ring.names[host]
            );
        }
        Ok(())
    }
}

/// Takes all the room that there is.
fn fill(ballast: &Path) -> Result<()> {
    let path = ballast.display().to_string();
    // In ever smaller pieces: the file system keeps some for its own tables.
    for size in ["64M", "1M", "4K"] {
        for number in 0..100_000_u32 {
            let offset = fs::metadata(ballast).map_or(0, |found| found.len());
            let offset = offset.to_string();
            if output("fallocate", &["--offset", &offset, "--length", size, &path]).is_err() {
                break;
            }
            if number == 99_999 {
                bail!("{path}: it does not get full");
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output("cp", &["--archive", &from.display().to_string(), &to.display().to_string()]).map(drop)
}
