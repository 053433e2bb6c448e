//! The binary `chainsync-sim`: runs scenarios in the simulation, searches for plans that fail, replays,
//! shrinks and explains them.
#![allow(
    clippy::disallowed_methods,
    reason = "the command line reads scenario files and measures real time"
)]

mod cli;

use std::process::ExitCode;

/// A simulation is one thread that allocates all the time: a tenth of a run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
