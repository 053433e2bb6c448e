//! The chainsync node: watches a share, records its changes, passes them on along the ring and
//! applies what arrives. Generic over [`chainsync_env::Env`]: the same code runs on Linux and in the
//! simulation.
//!
//! The library never prints, reads no environment variable and ends no process.

pub mod config;
pub mod node;
pub mod status;

pub use config::{Durability, NodeConfig, ShareConfig};
pub use node::{Handle, Node, StartError};
pub use status::{FlushReport, MemberStatus, ShareStatus, Status};
