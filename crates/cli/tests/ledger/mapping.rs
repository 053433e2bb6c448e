//! Writing to a file through memory.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// A shared, writable mapping of a file.
pub struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    pub fn new(file: &File, length: usize) -> Self {
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours; the
        // descriptor is open for the whole call, and the result is checked before it is used.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start: start.cast(), length }
    }

    pub fn write(&mut self, piece: &[u8], offset: usize) {
        assert!(offset + piece.len() <= self.length);
        // SAFETY: the range lies within the mapping, which lives as long as `self`, and no reference
        // into it exists. The file is not made shorter while it is mapped: only writers of this node
        // could, and they claim the path first; chainsync opens no final name for writing.
        unsafe {
            std::ptr::copy_nonoverlapping(piece.as_ptr(), self.start.add(offset), piece.len());
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, unmapped once; no reference into it exists.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
