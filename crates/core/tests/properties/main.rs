//! Property tests of the pure rules, one subject a file.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod change;
mod decide;
mod generate;
mod gossip;
mod hints;
mod merge;
mod projection;
mod record;
mod vectors;
mod wire;
