//! Errors as the kernel reports them: every one carries an errno.

use std::io;

pub(crate) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

pub(crate) fn fail<T>(code: i32) -> io::Result<T> {
    Err(errno(code))
}

pub(crate) use libc::{
    EBUSY, EEXIST, EINVAL, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY,
    EXDEV,
};
