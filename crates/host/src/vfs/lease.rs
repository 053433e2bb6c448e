//! Whether somebody has a file open for writing, asked by a read lease.
//!
//! The kernel grants a read lease (fcntl(2) `F_SETLEASE`, `F_RDLCK`) only while nobody has the file
//! open for writing or mapped writable. It is given back at once; who opens the file for writing in
//! between waits for these microseconds, or gets `EWOULDBLOCK` if it opened with `O_NONBLOCK`.
//!
//! Invariant: the process ignores `SIGIO` before the first lease. A lease that is being broken
//! raises it, and its default action kills the process.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Once;

/// `None` if the system does not tell: not our file (and no `CAP_LEASE`), or a file system without
/// leases. `file` is open for reading only; a descriptor for writing is itself a writer.
pub(super) fn has_writer(file: BorrowedFd<'_>) -> Option<bool> {
    match set_lease(file, libc::F_RDLCK) {
        Ok(()) => {
            // Fails only if there is no lease any more, which is what is wanted.
            let _ = set_lease(file, libc::F_UNLCK);
            Some(false)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Some(true),
        Err(_) => None,
    }
}

fn set_lease(file: BorrowedFd<'_>, kind: impl Into<libc::c_int>) -> std::io::Result<()> {
    // SAFETY: `file` is borrowed, so it is open for the whole call; `F_SETLEASE` takes one integer
    // and touches no memory of ours.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind.into()) };
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Ignores `SIGIO`, once in the life of the process, unless the program handles it.
pub(super) fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `SIG_IGN` runs no code of ours in the signal's context, and the signal's number is
        // valid. If another thread sets a handler between the two calls, it is that thread's
        // handler that is undone and then put back: no memory is at stake in any order.
        unsafe {
            let before = libc::signal(libc::SIGIO, libc::SIG_IGN);
            if before != libc::SIG_DFL && before != libc::SIG_IGN && before != libc::SIG_ERR {
                libc::signal(libc::SIGIO, before);
            }
        }
    });
}
