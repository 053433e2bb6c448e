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
use crate::shell::{check_interrupted, sleep};
use crate::tree::{Upload, wait_everywhere, write};

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

pub trait System {
    /// In arguments and JSON.
    fn key(&self) -> &'static str;
    fn title(&self) -> &'static str;
    /// Of all programs that take part.
    fn versions(&self) -> Result<Vec<String>>;
    /// Writes what all hosts need onto fresh disks; returns apollo's configuration.
    fn configure(&mut self, world: &World) -> Result<String>;
    /// Starts all daemons of one host, for the first time or again.
    fn start(&self, world: &World, host: usize) -> Result<()>;
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
    for host in 0..NAMES.len() {
        if !filled.is_empty() {
            system.adopt(world, host).context("cannot take the filled tree over")?;
        }
    }
    for host in 0..NAMES.len() {
        system.start(world, host)?;
        sleep(system.stagger())?;
    }
    probe(world).context("the hosts do not get through to each other")?;
    settle(world)
}

/// A file from each host, until three of one attempt are everywhere.
fn probe(world: &World) -> Result<()> {
    let attempts = READY_TIMEOUT.as_secs() / PROBE_TIMEOUT.as_secs();
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

/// The first line of what a program says about itself.
fn first_line(program: &Path, argument: &str) -> Result<String> {
    let said = crate::shell::output(&program.display().to_string(), &[argument])?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// The version of an installed Debian package.
fn package(name: &str) -> Result<String> {
    let version = crate::shell::output("dpkg-query", &["-W", "-f", "${Version}", name])?;
    Ok(format!("{name} {version}"))
}
