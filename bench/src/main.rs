//! `chainsync-bench`: chainsync, its peers and the limits of the machine, measured in one run.
//!
//! Three hosts are network namespaces with a disk image each. A system is what keeps their trees
//! equal; a workload writes on some hosts, looks at all, and returns numbers. What a system says of
//! itself is never asked: only the trees count.

#![allow(
    clippy::disallowed_methods,
    reason = "the determinism rules are for the engine: a benchmark reads real files and clocks"
)]

mod args;
mod hosts;
mod machine;
mod report;
mod results;
mod run;
mod stats;
mod systems;
mod tree;
mod workloads;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    chainsync_hosts::shell::catch_signals();
    match run::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("chainsync-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
