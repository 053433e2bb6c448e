//! Room on the disk: what peers send leaves some of it to the web application.

use chainsync_env::{Env, Point, Vfs};

use crate::share::{Share, ShareError};

/// Of a file system nobody said more about: a hundredth, and no more than this.
const RESERVE_MAX: u64 = 1 << 30;

impl<E: Env> Share<E> {
    /// Refuses what would leave less room than the reserve. The application may use that up: this is
    /// about what comes from peers, which waits for room as it does on a full disk.
    pub fn need_room(&self, bytes: u64) -> Result<(), ShareError> {
        let space =
            self.vfs.space().map_err(ShareError::disk("asking for the room on the disk"))?;
        let usual = (space.total_bytes / 100).min(RESERVE_MAX);
        let reserve = self.settings().limits.free_space_min.unwrap_or(usual);
        let free = space.free_bytes;
        if free >= reserve.saturating_add(bytes) {
            return Ok(());
        }
        self.env.probe(Point::NoRoom);
        Err(ShareError::Reserve { free, bytes, reserve })
    }
}
