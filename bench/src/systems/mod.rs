//! What keeps the trees equal, each as its documentation recommends for speed.

mod chainsync;
mod csync2;
pub mod limits;
mod rsync;
mod syncthing;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::hosts::{NAMES, World};
use crate::shell::{check_interrupted, sleep};
use crate::tree::{Pending, Upload, wait, write};

/// Taking in a filled tree and connecting; Syncthing retries a connection after 20 s or more.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// One probe may be lost in a start (lsyncd reads the tree before it watches).
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Settled: less than this in a second, all hosts together. The daemons' idle ticks stay below.
const SETTLED_CPU: Duration = Duration::from_millis(40);
const SETTLE_ROUNDS_MAX: usize = 30;

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
    (0..NAMES.len()).try_for_each(|host| system.start(world, host))?;
    for (host, name) in NAMES.iter().enumerate() {
        probe(world, host).with_context(|| format!("a file from {name} does not get through"))?;
    }
    settle(world)
}

fn probe(world: &World, from: usize) -> Result<()> {
    let attempts = READY_TIMEOUT.as_secs() / PROBE_TIMEOUT.as_secs();
    let mut trouble = None;
    for attempt in 0..attempts {
        let path = format!("probe-{}-{attempt}", NAMES[from]);
        let upload = write(&world.share(from), &path, path.as_bytes())?;
        let mut pending: Vec<_> = (0..NAMES.len())
            .map(|host| Pending::new(world, host, std::slice::from_ref(&upload)))
            .collect();
        match wait(&mut pending, PROBE_TIMEOUT) {
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

/// Until the daemons do nothing any more: what a start leaves to do belongs to no measurement.
pub fn settle(world: &World) -> Result<()> {
    let mut before = world.cpu()?;
    let mut quiet = 0;
    for _ in 0..SETTLE_ROUNDS_MAX {
        sleep(Duration::from_secs(1))?;
        let now = world.cpu()?;
        // Twice in a row: what is delayed by a second lies between.
        quiet = if now.saturating_sub(before) < SETTLED_CPU { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(());
        }
        before = now;
    }
    // Who is never quiet is measured all the same.
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
