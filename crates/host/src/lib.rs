//! The real world for chainsync: Linux file systems, notify, TLS, index files.

#![allow(clippy::disallowed_methods, reason = "the one crate that may touch the real world")]

mod vfs;

pub use vfs::{HostDir, HostFile, HostVfs};
