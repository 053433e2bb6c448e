//! The chainsync node: watches a share, records its changes, passes them on along the ring and
//! applies what arrives. Generic over [`chainsync_env::Env`]: the same code runs on Linux and in the
//! simulation.
//!
//! The library never prints, reads no environment variable and ends no process.

mod apply;
mod archive;
mod board;
mod change;
pub mod config;
mod content;
mod disk;
mod exclude;
mod flush;
mod index;
mod ingest;
mod large;
mod link;
pub mod node;
mod publish;
mod recover;
mod reload;
mod report;
mod settings;
mod share;
mod signal;
pub mod status;
mod tasks;

pub use config::{Durability, Limits, NodeConfig, ShareConfig};
pub use node::{Handle, Node, StartError};
pub use reload::{ReloadError, Reloaded};
pub use status::{FlushReport, MemberStatus, ShareStatus, Status};
