//! Scenarios in the field: real daemons, real disks, real time.
//!
//! A host of the ring needs three things for that, each also a command of its own (`chainsync-sim
//! host`), because in a virtual machine they run inside of it:
//!
//! - [`script`] and [`application`]: the web application does what the scenario says, with the same
//!   names and contents as in the simulation, and [`record`]s what it did.
//! - [`tree`]: what the host's share, archive and staging hold in the end.
//! - [`audit`]: a verdict, from the scenario, all records and all trees. No daemon is asked.

#![allow(
    clippy::disallowed_methods,
    reason = "the determinism rules are for the simulation: these hosts are real"
)]

pub mod application;
pub mod audit;
pub mod record;
pub mod script;
pub mod tree;
