//! The checkers: one promise a file. They look at disks, at what the workload wrote and at the
//! daemons' counters; none asks a daemon whether all is well.
//!
//! S1 and S2 are judged as it happens, by the oracle, whenever a daemon gives a file its name.

mod bypass;
mod conflicts;
mod echo;
mod leftovers;
mod lost;
mod quiet;
mod trees;

use std::sync::Arc;

use crate::machine::Machine;

pub use bypass::Disturbance;
pub(crate) use bypass::bypassed;
pub(crate) use conflicts::conflicts;
pub(crate) use echo::echo;
pub(crate) use leftovers::{keeps_spares, leftovers};
pub(crate) use lost::lost;
pub(crate) use quiet::{activity, quiet};
pub(crate) use trees::equal;

/// The share's root on every machine.
pub const SHARE: &str = "/srv/files";
/// The daemon's state on every machine.
pub const STATE: &str = "/var/lib/chainsync";

pub(crate) type Machines = [Arc<Machine>];
