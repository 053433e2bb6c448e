//! What keeps the trees equal, each as its documentation recommends for speed.

mod chainsync;
mod csync2;
pub mod limits;
mod rsync;
mod syncthing;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::hosts::{NAMES, World};
use crate::tree::{Upload, wait_everywhere, write};
use chainsync_hosts::shell::{check_interrupted, sleep};

/// Taking in a filled tree and connecting; Syncthing retries a connection after 20 s or more.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// A probe may be lost in a start (Syncthing reads the tree before it watches).
const PROBE_TIMEOUT: Duration = Duration::from_secs(6);
/// Longer together than the second that lsyncd and Syncthing wait before they do anything.
const SETTLE_ROUND: Duration = Duration::from_millis(400);
const SETTLED_ROUNDS: usize = 3;
/// In a round, all hosts together. The daemons' idle ticks stay below.
const SETTLED_CPU: Duration = Duration::from_millis(20);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_secs(15);

/// What a system tells its operator about what is still to be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backlog {
    pub changes: u64,
    pub seconds_left: Option<u64>,
}

pub trait System: Sync {
    /// In arguments and JSON.
    fn key(&self) -> &'static str;
    fn title(&self) -> &'static str;
    /// Of all programs that take part.
    fn versions(&self) -> Result<Vec<String>>;
    /// Writes what all hosts need onto fresh disks; returns apollo's configuration.
    fn configure(&mut self, world: &World) -> Result<String>;
    /// Starts all daemons of one host, for the first time or again.
    fn start(&self, world: &World, host: usize) -> Result<()>;
    /// How many changes a host says are not on all others yet, and how many seconds that takes. Not
    /// used for anything but to see whether an operator is told.
    fn backlog(&self, _world: &World, _host: usize) -> Result<Option<Backlog>> {
        Ok(None)
    }

    /// Between the starts of two hosts.
    fn stagger(&self) -> Duration {
        Duration::ZERO
    }

    /// Before the first start, when trees were filled beforehand and are equal.
    fn adopt(&self, _world: &World, _host: usize) -> Result<()> {
        Ok(())
    }
}

/// All of them; `binary` is chainsync's.
pub fn all(binary: &Path) -> Vec<Box<dyn System>> {
    vec![
        Box::new(chainsync::Chainsync::new(binary)),
        Box::new(csync2::Csync2),
        Box::new(rsync::Rsync),
        Box::new(syncthing::Syncthing::default()),
    ]
}

/// Starts everything and waits until a file from each host reaches all, and then until it is quiet.
pub fn start(system: &dyn System, world: &World, filled: &[Upload]) -> Result<()> {
    launch(system, world, filled, READY_TIMEOUT)?;
    settle(world)
}

/// The same, without waiting for quiet.
pub fn launch(
    system: &dyn System,
    world: &World,
    filled: &[Upload],
    patience: Duration,
) -> Result<()> {
    for host in 0..NAMES.len() {
        if !filled.is_empty() {
            system.adopt(world, host).context("cannot take the filled tree over")?;
        }
    }
    for host in 0..NAMES.len() {
        system.start(world, host)?;
        sleep(system.stagger())?;
    }
    probe(world, patience).context("the hosts do not get through to each other")
}

/// A file from each host, until three of one attempt are everywhere.
fn probe(world: &World, patience: Duration) -> Result<()> {
    let attempts = patience.as_secs() / PROBE_TIMEOUT.as_secs();
    let mut trouble = None;
    for attempt in 0..attempts {
        let mut uploads = Vec::new();
        for (host, name) in NAMES.iter().enumerate() {
            let path = format!("probe-{name}-{attempt}");
            uploads.push(write(&world.share(host), &path, path.as_bytes())?);
        }
        match wait_everywhere(world, &uploads, PROBE_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => trouble = Some(error),
        }
        check_interrupted()?;
    }
    match trouble {
        Some(trouble) => Err(trouble),
        None => bail!("no attempt was made"),
    }
}

/// Until the daemons do nothing any more: what a start leaves to do belongs to no measurement. Who
/// is never quiet is measured all the same.
pub fn settle(world: &World) -> Result<()> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut before = world.cpu()?;
    let mut quiet = 0;
    while quiet < SETTLED_ROUNDS && Instant::now() < deadline {
        sleep(SETTLE_ROUND)?;
        let now = world.cpu()?;
        quiet = if now.saturating_sub(before) < SETTLED_CPU { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

/// Until the daemons have been quiet for so long that they have given back what they do not need.
pub fn rest(world: &World) -> Result<()> {
    settle(world)?;
    sleep(REST)
}

/// The first line of what a program says about itself.
fn first_line(program: &Path, argument: &str) -> Result<String> {
    let said = chainsync_hosts::shell::output(&program.display().to_string(), &[argument])?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// The version of an installed Debian package.
fn package(name: &str) -> Result<String> {
    let version = chainsync_hosts::shell::output("dpkg-query", &["-W", "-f", "${Version}", name])?;
    Ok(format!("{name} {version}"))
}
