//! The chainsync node: watches a share, records its changes, passes them on along the ring and
//! applies what arrives. Generic over [`chainsync_env::Env`]: the same code runs on Linux and in the
//! simulation.
//!
//! The library never prints, reads no environment variable and ends no process.

pub mod answers;
mod apply;
mod archive;
mod ask;
mod board;
mod change;
mod collect;
pub mod config;
mod content;
mod disk;
mod exclude;
mod expire;
mod flush;
mod full_pass;
mod guard;
mod import;
mod index;
mod ingest;
mod inspect;
mod large;
mod link;
mod links;
pub mod node;
mod open;
mod pause;
mod policy;
mod projection;
mod publish;
mod recover;
mod reload;
mod report;
mod rescan;
mod restore;
mod room;
mod root;
mod settings;
mod share;
mod signal;
pub mod status;
mod survey;
mod sweep;
mod syncs;
mod tasks;
mod verify;
mod watching;

pub use ask::CommandError;
pub use config::{Durability, Limits, NodeConfig, ShareConfig};
pub use import::preview;
pub use node::{Handle, Node, StartError};
pub use reload::{ReloadError, Reloaded};
pub use restore::Which;
pub use status::{FlushReport, MemberStatus, ShareStatus, Status};
