//! What is done to the trees, and what is measured of it. One file per kind; each starts the system
//! on fresh disks, and checks every content after the measurement.

mod big;
mod burst;
mod change;
mod idle;
mod lag;
mod million;
mod nested;
mod outage;
mod storm;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;

use crate::hosts::{NAMES, World};
use crate::results::{Measurement, RowInfo};
use crate::systems::{self, System};
use crate::tree::Upload;

pub use storm::limit;

pub struct Workload {
    pub key: &'static str,
    pub about: &'static str,
    pub rows: &'static [RowInfo],
    /// Long and steady ones are not repeated as often as asked for.
    pub repeats_max: usize,
    /// Takes long and needs large disks: not part of a run of everything.
    pub only_if_named: bool,
    pub run: fn(&mut Context) -> Result<()>,
}

pub static ALL: [Workload; 13] = [
    storm::ON_ONE,
    storm::ON_ALL,
    lag::EMPTY,
    lag::FILLED,
    change::CHANGE,
    nested::NESTED,
    big::ALONE,
    big::BESIDE,
    outage::OUTAGE,
    idle::IDLE,
    lag::HALF,
    million::MILLION,
    burst::BURST,
];

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Scale {
    /// In a storm.
    pub files: u64,
    /// In the tree in which a part is changed, and in the idle one.
    pub changed: u64,
    /// In the tree in which lag is measured.
    pub tree: u64,
    /// Of each of its phases.
    pub lag: Duration,
    pub nested: u64,
    pub big_mib: u64,
    pub outage: Duration,
    pub idle: Duration,
    /// Until what was written must be everywhere.
    pub patience: Duration,
}

impl Scale {
    pub fn full() -> Self {
        Self {
            files: 10_000,
            changed: 10_000,
            tree: 20_000,
            lag: Duration::from_secs(10),
            nested: 1000,
            big_mib: 1024,
            outage: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            patience: Duration::from_secs(180),
        }
    }

    pub fn quick() -> Self {
        Self {
            files: 1500,
            changed: 1000,
            tree: 2000,
            lag: Duration::from_secs(2),
            nested: 100,
            big_mib: 32,
            outage: Duration::from_secs(3),
            idle: Duration::from_secs(3),
            patience: Duration::from_secs(60),
        }
    }

    /// For the report.
    pub fn describe(&self) -> String {
        format!(
            "{} files of 5 KB in a storm, {} in the tree that is changed and in the idle one, {} in the filled tree for \
             lag, {} s of each kind of lag, {} nested directories, {} MiB in the large file, an outage of {} s, {} s of \
             idleness; what is not everywhere after {} s failed",
            self.files,
            self.changed,
            self.tree,
            self.lag.as_secs(),
            self.nested,
            self.big_mib,
            self.outage.as_secs(),
            self.idle.as_secs(),
            self.patience.as_secs(),
        )
    }
}

/// One run of one workload with one system, on fresh disks.
pub struct Context<'a> {
    pub world: &'a World,
    pub system: &'a dyn System,
    pub scale: &'a Scale,
    pub random: ChaCha8Rng,
    pub measured: Vec<Measurement>,
}

impl Context<'_> {
    /// The system runs, connected and quiet, on trees that hold `filled`.
    pub fn start(&self, filled: &[Upload]) -> Result<()> {
        let began = std::time::Instant::now();
        systems::start(self.system, self.world, filled)?;
        eprintln!("  ready after {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    pub fn measured(&mut self, row: &'static RowInfo, value: f64, beside: BTreeMap<String, f64>) {
        self.measured.push(Measurement { row, value: Ok(value), beside });
    }
}

/// What the hosts use from now on.
pub struct Meter {
    cpu: Duration,
    sent: Vec<u64>,
}

impl Meter {
    pub fn start(world: &World) -> Result<Self> {
        Ok(Self { cpu: world.cpu()?, sent: world.sent()? })
    }

    /// CPU time of all processes on all hosts, what each host sent, and the memory of the one that
    /// needed most.
    pub fn stop(&self, world: &World, files: u64) -> Result<BTreeMap<String, f64>> {
        let cpu = world.cpu()?.saturating_sub(self.cpu);
        let mut beside = BTreeMap::new();
        beside.insert("cpu_s".to_owned(), cpu.as_secs_f64());
        if files > 0 {
            beside.insert("cpu_us_per_file".to_owned(), cpu.as_secs_f64() * 1e6 / files as f64);
        }
        let mut most = 0;
        for (host, (now, before)) in world.sent()?.iter().zip(&self.sent).enumerate() {
            let sent = now - before;
            beside.insert(format!("sent_bytes_{}", NAMES[host]), sent as f64);
            most = most.max(sent);
        }
        beside.insert("sent_bytes_most".to_owned(), most as f64);
        beside.insert("peak_memory_mib".to_owned(), world.peak_memory() as f64 / 1048576.0);
        Ok(beside)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_unique() {
        let workloads: BTreeSet<_> = ALL.iter().map(|one| one.key).collect();
        assert_eq!(workloads.len(), ALL.len());
        let rows: Vec<_> = ALL.iter().flat_map(|one| one.rows).map(|row| row.key).collect();
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
    }
}
