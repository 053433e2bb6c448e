//! The daemons of a live run: their hosts, their configuration, and what they say.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chainsync_hosts::shell::{output, output_of};
use chainsync_hosts::{Disks, World, WorldOptions};
use serde_json::Value;

use crate::scenario::Scenario;

const PORT: u16 = 7420;
/// Of a host: share, state, what a scenario saves. Sparse.
const IMAGE_SIZE: &str = "2G";
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
const SHOWN_LOG_LINES: usize = 20;

pub(super) struct Ring {
    pub world: World,
    pub names: Vec<String>,
    binary: PathBuf,
    ids: Vec<String>,
    /// Keys of the configuration that the scenario sets.
    config: toml::Table,
}

impl Ring {
    pub(super) fn new(scenario: &Scenario, binary: &Path, keep: bool) -> Result<Self> {
        let binary = binary.canonicalize().with_context(|| {
            format!("there is no chainsync at {}: cargo build --release", binary.display())
        })?;
        let names: Vec<String> = scenario.nodes.iter().map(ToString::to_string).collect();
        let mut world = World::new(&WorldOptions {
            names: names.clone(),
            purpose: "live",
            disks: Disks::OneEach,
            size: IMAGE_SIZE,
            one_path: false,
            keep,
        })?;
        world.fresh()?;
        let mut config = toml::Table::try_from(&scenario.config)?;
        ensure!(
            config.remove("batch_entries_max").is_none(),
            "{}: `batch_entries_max` is no key of the daemon's",
            scenario.file.display()
        );
        let mut ring = Self { world, names, binary, ids: Vec::new(), config };
        for host in 0..ring.names.len() {
            fs::create_dir_all(ring.state(host))?;
            // The share is a mount of its own, so that it can be unmounted.
            fs::create_dir_all(ring.data(host))?;
            ring.mount_share(host)?;
            let mut keygen = Command::new(&ring.binary);
            keygen.args(["keygen", "--out"]).arg(ring.home(host).join("node.key"));
            ring.ids.push(output_of(keygen, COMMAND_TIMEOUT)?.trim().to_owned());
        }
        for host in 0..ring.names.len() {
            ring.configure(host, &ring.names)?;
        }
        Ok(ring)
    }

    fn home(&self, host: usize) -> &Path {
        &self.world.hosts[host].disk
    }

    pub(super) fn share(&self, host: usize) -> PathBuf {
        self.world.share(host)
    }

    /// What is mounted as the share.
    fn data(&self, host: usize) -> PathBuf {
        self.home(host).join("data")
    }

    pub(super) fn state(&self, host: usize) -> PathBuf {
        self.home(host).join("state")
    }

    pub(super) fn saved(&self, host: usize) -> PathBuf {
        self.home(host).join("saved")
    }

    pub(super) fn ballast(&self, host: usize) -> PathBuf {
        self.home(host).join("ballast")
    }

    /// Not on the host's disk: that may be full.
    pub(super) fn record(&self, host: usize) -> PathBuf {
        self.world.directory().join(format!("{}.record", self.names[host]))
    }

    fn socket(&self, host: usize) -> PathBuf {
        self.world.directory().join(format!("{}.sock", self.names[host]))
    }

    fn file(&self, host: usize) -> PathBuf {
        self.home(host).join("chainsync.toml")
    }

    pub(super) fn mount_share(&self, host: usize) -> Result<()> {
        let (data, share) = (self.data(host), self.share(host));
        output("mount", &["--bind", &data.display().to_string(), &share.display().to_string()])
            .map(drop)
    }

    pub(super) fn unmount_share(&self, host: usize) -> Result<()> {
        output("umount", &["--lazy", &self.share(host).display().to_string()]).map(drop)
    }

    /// Writes a node's configuration, with this ring.
    pub(super) fn configure(&self, host: usize, ring: &[String]) -> Result<()> {
        let mut text = format!(
            "node   = \"{}\"\nkey    = {:?}\nstate  = {:?}\nlisten = \"0.0.0.0:{PORT}\"\nsocket = {:?}\n{}\n",
            self.names[host],
            self.home(host).join("node.key"),
            self.state(host),
            self.socket(host),
            self.config,
        );
        for (other, name) in self.names.iter().enumerate() {
            let address = &self.world.hosts[other].address;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "[nodes.{name}]\naddress = \"{address}:{PORT}\"\nid      = \"{}\"\n",
                self.ids[other]
            );
        }
        let _ = writeln!(text, "[shares.files]\npath = {:?}\nring = {ring:?}", self.share(host));
        fs::write(self.file(host), text)?;
        Ok(())
    }

    pub(super) fn start(&self, host: usize) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--config"]).arg(self.file(host));
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "RUST_LOG"] {
            command.env_remove(name);
        }
        self.world.spawn(host, command)
    }

    fn ask(&self, host: usize, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--socket").arg(self.socket(host));
        output_of(command, COMMAND_TIMEOUT)
    }

    /// Whether every member says that all have everything.
    pub(super) fn complete(&self) -> Result<bool> {
        let timeout = format!("{}s", FLUSH_TIMEOUT.as_secs());
        // "No" and "no daemon" are the same here: not yet.
        Ok((0..self.names.len())
            .all(|host| self.ask(host, &["flush", "--timeout", &timeout]).is_ok()))
    }

    /// The exit code and the words of `flush`.
    pub(super) fn flush(&self, host: usize, within: Duration, live: bool) -> Result<bool> {
        let timeout = format!("{}ms", within.as_millis());
        let mut command = Command::new(&self.binary);
        command.args(["flush", "--timeout", &timeout]);
        command.args(live.then_some("--live")).arg("--socket").arg(self.socket(host));
        let status = command.stdout(std::process::Stdio::null()).status()?;
        match status.code() {
            Some(code @ (0 | 1)) => Ok(code == 0),
            _ => anyhow::bail!("{}: flush ended with {status}", self.names[host]),
        }
    }

    fn status(&self, host: usize) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.ask(host, &["status", "--json"])?)?;
        Ok(status["shares"][0].clone())
    }

    pub(super) fn conflicts(&self, host: usize) -> Result<u64> {
        self.status(host)?["conflicts"].as_u64().context("`status` tells no conflicts")
    }

    pub(super) fn batches_sent(&self) -> Result<Vec<u64>> {
        let sent = |host| {
            let status = self.status(host)?;
            status["counters"]["batches_sent"].as_u64().context("`status` tells no batches")
        };
        (0..self.names.len()).map(sent).collect()
    }

    /// What all nodes say they wait for.
    pub(super) fn waiting_for(&self) -> String {
        let told = self.names.iter().enumerate().map(|(host, name)| match self.status(host) {
            Ok(status) => format!("{name}: {}", status["waiting_for"]),
            Err(error) => format!("{name}: {error:#}"),
        });
        told.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn show_logs(&self) {
        for host in &self.world.hosts {
            let text = fs::read_to_string(&host.log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..] {
                eprintln!("  {}: {line}", host.name);
            }
        }
    }
}

impl Drop for Ring {
    /// The world unmounts disks; what is mounted on them is ours.
    fn drop(&mut self) {
        let _ = self.world.stop();
        for host in 0..self.names.len() {
            let _ = self.unmount_share(host);
        }
    }
}
