//! Whole runs, and single nodes in the simulated world. One binary: each would hold the engine again.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot begin has failed"
)]

mod canary;
mod deaths;
mod delivered_twice;
mod network;
mod projection;
mod stays_dead;
mod text;
mod upstream;
