//! Several hosts on one machine: each has a network namespace, a disk image and a control group. Made
//! for the benchmark and for scenarios with real daemons, and taken away with the [`World`] they are in.

#![allow(
    clippy::disallowed_methods,
    reason = "the determinism rules are for the engine: these hosts are real"
)]

pub mod group;
mod process;
pub mod shell;
mod world;

pub use world::{Disks, Host, World, WorldOptions};
