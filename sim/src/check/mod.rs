//! The checkers: one promise a file, named after it. They look at disks, at what the workload wrote,
//! at the frames on the wire and at the daemons' counters; none asks a daemon whether all is well.
//!
//! [`Invariant`] says what each promise is and where it is checked. S1, S2, S7 and S8 are judged as it
//! happens, S10 at every step, the rest at the end; L4, M1, M2 and M3 are whole runs of their own.

mod bypass;
mod conflicts;
mod invariant;
mod l01_equal;
mod l02_quiet;
mod l03_leftovers;
mod s03_lost;
mod s09_echo;

use std::sync::Arc;

use crate::machine::Machine;

pub use bypass::Disturbance;
pub(crate) use bypass::bypassed;
pub(crate) use conflicts::conflicts;
pub use invariant::Invariant;
pub(crate) use l01_equal::equal;
pub(crate) use l02_quiet::{activity, quiet};
pub(crate) use l03_leftovers::{keeps_spares, leftovers};
pub(crate) use s03_lost::lost;
pub(crate) use s09_echo::echo;

/// The share's root on every machine.
pub const SHARE: &str = "/srv/files";
/// The daemon's state on every machine.
pub const STATE: &str = "/var/lib/chainsync";

pub(crate) type Machines = [Arc<Machine>];
