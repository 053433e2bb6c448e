//! Room on the disk: what peers send leaves some of it to the web application.

use std::sync::Arc;

use chainsync_core::wire::Batch;
use chainsync_env::{Env, Point, Vfs};
use tokio::time::sleep;

use crate::share::{Share, ShareError};
use crate::tasks::TROUBLE_PAUSE;

/// Of a file system nobody said more about: a hundredth, and no more than this.
const RESERVE_MAX: u64 = 1 << 30;

/// Until the contents of a batch leave room enough. Nothing is read from the upstream meanwhile, so it
/// need not send anything twice.
pub async fn wait_for<E: Env>(share: &Arc<Share<E>>, batch: &Batch) -> Result<(), ShareError> {
    let bytes: u64 = batch.packs.iter().map(|pack| u64::from(pack.raw_bytes)).sum();
    if bytes == 0 {
        return Ok(());
    }
    loop {
        let worker = share.clone();
        match share.env.blocking(move || worker.need_room(bytes)).await {
            Err(error @ ShareError::Reserve { .. }) => {
                share.board.note_trouble(Some(format!("cannot apply: {error}")));
            }
            room => return room,
        }
        sleep(TROUBLE_PAUSE).await;
        if share.board.halted().is_some() {
            return Err(ShareError::Halted);
        }
    }
}

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
