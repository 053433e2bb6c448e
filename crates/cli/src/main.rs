//! The binary `chainsync`: the only crate that prints, reads the environment or exits.
//!
//! Each command is one module with a `run` function that returns an exit code, or a [`Failure`]
//! that says what went wrong and what to do next. Nothing here knows how replication works: the
//! daemon is `chainsync_engine` over `chainsync_host`, and everything else asks it through the
//! control socket.

#![allow(
    clippy::disallowed_methods,
    reason = "the determinism rules are for the engine: a command line reads files and clocks"
)]

mod args;
mod check;
mod commands;
mod config;
mod control;
mod daemon;
mod demo;
mod failure;
mod flush;
mod generate;
mod keygen;
mod logging;
mod names;
mod output;
mod preview;
mod reload;
mod show;
mod status;
mod system;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Demo(options) => demo::run(&options),
        Command::Keygen(options) => keygen::run(&options),
        Command::Run(options) if options.dry_run => preview::run(&options),
        Command::Run(options) => daemon::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Flush(options) => flush::run(&options),
        Command::Verify(options) => commands::verify(&options),
        Command::Rescan(options) => commands::rescan(&options),
        Command::Pause(options) => commands::pause(&options.control),
        Command::Resume(options) => commands::resume(&options),
        Command::Conflicts(options) => commands::conflicts(&options),
        Command::Generate(options) => generate::run(&options),
    };
    result.unwrap_or_else(|failure| failure.report()).into()
}
