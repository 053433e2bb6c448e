//! The checkers: one promise a file, named after it. They look at disks, at what the workload wrote,
//! at the frames on the wire and at the daemons' counters; none asks a daemon whether all is well.
//!
//! [`Invariant`] says what each promise is and where it is checked. S1, S2, S7 and S8 are judged as it
//! happens, S10 at every step, the rest at the end; L4, M1, M2 and M3 are whole runs of their own.

mod absent;
mod bypass;
mod conflicts;
mod expected;
mod flush;
mod invariant;
mod l01_equal;
mod l02_quiet;
mod l03_leftovers;
mod l05_twice;
mod l06_starved;
mod passes;
mod s01_torn;
mod s02_invented;
mod s03_lost;
mod s04_returned;
mod s05_acknowledged;
mod s06_ahead;
mod s07_confined;
mod s08_removed;
mod s09_echo;
mod s09_links;
mod s10_bounds;

use std::collections::BTreeMap;
use std::sync::Arc;

use chainsync_core::ContentHash;

use crate::failure::Failure;
use crate::machine::Machine;
use crate::shared::{Shared, lock};

pub(crate) use absent::absent;
pub use bypass::Disturbance;
pub(crate) use bypass::{bypassed, parts, reached, split};
pub(crate) use conflicts::conflicts;
pub(crate) use expected::{visible, won};
pub(crate) use flush::flushed;
pub use flush::{Flush, Flushed};
pub use invariant::Invariant;
pub(crate) use l01_equal::equal;
pub(crate) use l02_quiet::{activity, quiet};
pub(crate) use l03_leftovers::{leftovers, staged_for};
pub(crate) use l06_starved::BANDWIDTH_MIN;
pub(crate) use passes::passes;
pub(crate) use s01_torn::whole;
pub(crate) use s02_invented::in_place;
pub(crate) use s03_lost::{contents, lost};
pub(crate) use s04_returned::returned;
pub(crate) use s05_acknowledged::{Held, acknowledged};
use s06_ahead as ahead;
pub(crate) use s07_confined::confined;
pub(crate) use s08_removed::removed;
pub(crate) use s09_echo::echo;
pub use s10_bounds::Bounds;
pub(crate) use s10_bounds::bandwidth_within;

/// The share's root on every machine.
pub const SHARE: &str = "/srv/files";
/// The daemon's state on every machine.
pub const STATE: &str = "/var/lib/chainsync";

pub(crate) type Machines = [Arc<Machine>];

/// What each node's files hold in the end.
pub(crate) type Contents = [BTreeMap<Vec<u8>, ContentHash>];

/// Everything that is judged from the ledger and the frames, at the end. `healthy`: without faults.
/// `fast`: no fault, and links that are no reason to wait. `again`: edits are made again that lost to a
/// deletion.
pub(crate) fn judge(
    shared: &Shared,
    machines: &Machines,
    contents: &Contents,
    now_ns: u64,
    fast: bool,
    again: bool,
) -> Result<(), Failure> {
    let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
    let oracle = lock(&shared.oracle);
    let frames = lock(&shared.frames);
    returned(&oracle.ledger, &names, contents, now_ns, again)?;
    s06_ahead::tombstones(&oracle.ledger, &frames)?;
    s09_links::crossings(&oracle.ledger, &names, &frames, again)?;
    s10_bounds::frames_within(&frames)?;
    l05_twice::twice(&oracle.ledger, &names, again)?;
    if fast { l06_starved::starved(&oracle) } else { Ok(()) }
}
