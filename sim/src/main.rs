//! The binary `chainsync-sim`: runs scenarios in the simulation, searches for plans that fail, replays,
//! shrinks and explains them.
#![allow(
    clippy::disallowed_methods,
    reason = "the command line reads scenario files and measures real time"
)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
