//! How fine ctime is on a file system.
//!
//! Since Linux 6.13 some file systems give an inode whose times were looked at a new ctime with
//! every change ("multigrain timestamps"); everywhere else a change takes the time of the last
//! timer tick, and two changes within one tick look the same.

use std::io;
use std::os::fd::BorrowedFd;

/// The longest tick of a Linux kernel is 10 ms (`CONFIG_HZ=100`); twice that, because a look and a
/// change may fall on both sides of a late one.
const COARSE_TICK_NS: i128 = 20_000_000;

/// The first kernel with multigrain timestamps.
const MULTIGRAIN_SINCE: (u32, u32) = (6, 13);

/// `f_type` of statfs(2) of the file systems that take part: ext4 (which serves ext2 and ext3 too),
/// XFS, Btrfs, tmpfs.
const MULTIGRAIN_FILE_SYSTEMS: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

pub(super) fn ctime_tick_ns(directory: BorrowedFd<'_>) -> io::Result<i128> {
    let file_system = rustix::fs::fstatfs(directory)?.f_type;
    let system = rustix::system::uname();
    // The type is signed on some machines; the number has 32 bits everywhere.
    #[allow(clippy::cast_sign_loss, reason = "masked to the 32 bits that the number has")]
    let file_system = (file_system as u64) & 0xffff_ffff;
    Ok(tick_of(file_system, system.release().to_bytes()))
}

fn tick_of(file_system: u64, release: &[u8]) -> i128 {
    let new_enough = version(release).is_some_and(|version| version >= MULTIGRAIN_SINCE);
    if new_enough && MULTIGRAIN_FILE_SYSTEMS.contains(&file_system) { 0 } else { COARSE_TICK_NS }
}

/// The first two numbers of a release like `6.18.44-generic` or `7.0-rc1`.
fn version(release: &[u8]) -> Option<(u32, u32)> {
    let release = std::str::from_utf8(release).ok()?;
    let mut numbers = release.split(|char: char| !char.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_kernels_on_some_file_systems_have_fine_times() {
        let (ext4, nfs) = (0xef53, 0x6969);
        for (file_system, release, tick) in [
            (ext4, "6.13.0", 0),
            (ext4, "6.18.44-fc-v657", 0),
            (ext4, "7.0-rc1", 0),
            (ext4, "6.12.99", COARSE_TICK_NS),
            (ext4, "5.14.0-611.el9", COARSE_TICK_NS),
            (ext4, "", COARSE_TICK_NS),
            (nfs, "6.18.0", COARSE_TICK_NS),
        ] {
            assert_eq!(tick_of(file_system, release.as_bytes()), tick, "{file_system:x} {release}");
        }
    }
}
