//! The pure heart of chainsync: what a path, a version and a change are, who wins, what a node does
//! about it, and how all of this looks on the wire.
//!
//! Nothing here performs I/O, reads a clock, draws a random number, awaits or iterates a hash map:
//! the crate has no dependency that could. Time and randomness come in as arguments, so every
//! function can be tested by the million.

pub mod batch;
mod bounded;
pub mod decide;
pub mod disk;
pub mod entry;
pub mod gossip;
pub mod hash;
pub mod hints;
pub mod knowledge;
pub mod name;
pub mod path;
pub mod policy;
pub mod projection;
pub mod recipe;
pub mod record;
pub mod ring;
pub mod version;
pub mod wire;

pub use decide::{Action, Effect, decide};
pub use disk::{FileType, Stat};
pub use entry::{Entry, Kind, Owner};
pub use hash::{ContentHash, ContentHasher};
pub use knowledge::{Knowledge, VersionVector};
pub use name::{NodeId, NodeName, ShareName};
pub use path::RelPath;
pub use policy::Policy;
pub use record::{Identity, Published, Record};
pub use ring::Ring;
pub use version::{Class, Dot, ReplicaId, Stamp, Version};
