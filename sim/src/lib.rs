//! The deterministic world in which the production engine runs: simulated disks, watchers, network
//! and web application, driven through scenarios with faults, judged by checkers that never ask a
//! daemon.
//!
//! One run is one thread and one seed; the same seed gives the same trace hash. Nothing is global.

pub mod check;
mod config;
pub mod digest;
pub mod env;
pub mod everywhere;
pub mod failure;
pub mod field;
pub mod frames;
pub mod fs;
pub mod gate;
pub mod history;
pub mod ledger;
pub mod live;
pub mod machine;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod record;
pub mod report;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod shared;
pub mod shrink;
pub mod trace;
pub mod verdict;
mod verify;
pub mod watch;
pub mod workload;
pub mod world;
