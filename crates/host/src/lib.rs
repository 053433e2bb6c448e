//! The real world for chainsync: Linux file systems, inotify, TLS over TCP, index files.
//!
//! [`HostEnv`] is what the engine runs on. Nothing here decides: it translates system calls, kernel
//! events and sockets into the terms of the seam.

#![allow(clippy::disallowed_methods, reason = "the one crate that may touch the real world")]

mod env;
mod key;
pub mod memory;
mod net;
mod storage;
pub mod tls;
mod vfs;
mod watch;

use std::fs::File;
use std::io;
use std::path::Path;

pub use env::HostEnv;
pub use key::{KEY_FILE_BYTES_MAX, KeyAccess, KeyError, PrivateKey};
pub use net::{HostIncoming, HostListener, HostNet};
pub use storage::HostStorage;
pub use vfs::{HostDir, HostFile, HostVfs};
pub use watch::HostWatch;

/// Makes the name of `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
