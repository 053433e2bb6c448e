//! The command line.

use std::path::PathBuf;

use clap::{Parser, builder::PossibleValuesParser};

use crate::workloads::{self, Workload};

/// Keys of everything that can be measured.
pub const SYSTEMS: [&str; 6] =
    ["chainsync", "csync2", "rsync", "syncthing", "tar-tee", "local-rsync"];

/// Measures chainsync, csync2 + lsyncd, rsync + lsyncd, Syncthing and the limits of this machine in
/// one run, on three hosts in network namespaces with journaled ext4 disks.
///
/// Exit codes: 0 everything was measured, 1 something failed (it is in the table), 2 it could not begin.
#[derive(Debug, Parser)]
#[command(name = "ci/bench", version)]
pub struct Args {
    /// Smaller, once each, in less than six minutes.
    #[arg(long)]
    pub quick: bool,
    /// Only these workloads.
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',', value_parser = workload_keys())]
    pub only: Vec<String>,
    /// Only these systems.
    #[arg(long, value_name = "SYSTEM", value_delimiter = ',', value_parser = PossibleValuesParser::new(SYSTEMS))]
    pub systems: Vec<String>,
    /// How often each is measured [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    pub repeat: Option<u8>,
    /// Files in a storm [default: 10000, with --quick 1500].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub files: Option<u64>,
    /// Draws the order of the runs and the pauses between uploads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// All three hosts on one disk instead of one each.
    #[arg(long)]
    pub one_image: bool,
    /// Results for programs; without --quick, --only and --systems docs/bench.json unless named.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The chart; without --quick, --only and --systems docs/bench.svg unless named.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Puts the table between the two marks in this file, or writes it anew.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Makes table and chart from an earlier --json instead of measuring.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Leaves disks and logs for a look; they have to be unmounted by hand.
    #[arg(long)]
    pub keep: bool,
    /// The chainsync to measure [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Says what can be measured, and ends.
    #[arg(long)]
    pub list: bool,
}

fn workload_keys() -> PossibleValuesParser {
    PossibleValuesParser::new(workloads::ALL.iter().map(|one| one.key))
}

impl Args {
    pub fn repeat(&self) -> usize {
        self.repeat.map_or(if self.quick { 1 } else { 3 }, usize::from)
    }

    /// Everything, in full size: what the committed files are about.
    pub fn is_full(&self) -> bool {
        !self.quick && self.only.is_empty() && self.systems.is_empty() && self.files.is_none()
    }

    pub fn wants(&self, system: &str) -> bool {
        self.systems.is_empty() || self.systems.iter().any(|one| one == system)
    }

    pub fn wants_workload(&self, workload: &Workload) -> bool {
        match self.only.is_empty() {
            true => !workload.only_if_named,
            false => self.only.iter().any(|one| one == workload.key),
        }
    }

    /// What has to be asked for by name is what needs them.
    pub fn wants_large_disks(&self) -> bool {
        workloads::ALL.iter().any(|one| one.only_if_named && self.wants_workload(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(key: &str) -> &'static Workload {
        workloads::ALL.iter().find(|one| one.key == key).unwrap()
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn defaults() {
        let args = parse("bench").unwrap();
        assert_eq!((args.repeat(), args.seed, args.is_full()), (3, 1, true));
        let args = parse("bench --quick").unwrap();
        assert_eq!((args.repeat(), args.is_full()), (1, false));
        assert!(args.wants("rsync") && args.wants_workload(workload("lag")));
        assert!(!args.wants_workload(workload("million")) && !args.wants_large_disks());
    }

    #[test]
    fn a_choice() {
        let args = parse("bench --only storm,lag --systems chainsync,rsync --repeat 5").unwrap();
        assert!(args.wants("rsync") && !args.wants("syncthing"));
        assert!(args.wants_workload(workload("storm")) && !args.wants_workload(workload("idle")));
        assert_eq!((args.repeat(), args.is_full()), (5, false));
    }

    #[test]
    fn what_takes_long_is_asked_for_by_name() {
        let args = parse("bench --only million --systems chainsync").unwrap();
        assert!(args.wants_workload(workload("million")) && args.wants_large_disks());
        assert!(!args.wants_workload(workload("burst")));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(parse("bench --only nonsense").is_err());
        assert!(parse("bench --systems nfs").is_err());
        assert!(parse("bench --repeat 0").is_err());
    }
}
