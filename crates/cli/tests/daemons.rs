//! Real daemons on real files. One binary, because most of these tests wait most of their time, and the
//! tests of one binary run side by side.
//!
//! `support` and `kinds::daemons` have the processes: three that are in sync, and any number one at a time.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests that drive processes and look at their files; a failure is a panic"
)]

mod commands;
mod kinds;
mod permissions;
mod reload;
mod ring;
mod support;
mod watching;
