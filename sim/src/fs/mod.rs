//! The simulated file system: one per machine, used by the daemon through [`SimFs`] and by the web
//! application through the same calls on [`Disk`].
//!
//! Inodes, not paths: an unlinked file stays readable, a renamed directory keeps its children, a
//! number is used again. Errors carry the errno of Linux. It deliberately knows no permissions (the
//! daemon runs as root; a call may be refused all the same, `faults`), no special files.

mod calls;
mod disk;
mod durability;
mod errno;
mod fall;
#[cfg(test)]
mod fall_tests;
mod faults;
#[cfg(test)]
mod faults_tests;
mod inode;
mod journal;
mod judged;
mod mounts;
#[cfg(test)]
mod mounts_tests;
mod open;
mod options;
mod others;
mod restored;
mod storage;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use disk::{Actor, Defect, Disk, DiskOptions, SharedDisk};
pub use durability::Loss;
pub use fall::Fall;
pub use faults::{CallClass, Chance, Fault, Trouble};
pub(crate) use inode::{Body, Content, Slot};
pub use others::OthersFile;
pub use storage::{Saved, SharedStorages, SimStorage, Storages};
pub use view::{SimDir, SimFile, SimFs};
pub use writer::{Leaf, Tree};
