//! A bandwidth limit: when the next bytes may be sent.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Bytes that are sent at once. A link at the lowest limit sends four such pieces a second.
pub const PIECE_BYTES: usize = 16 << 10;

/// Spaces pieces so that on the average no more than the limit goes out. What was not used while the
/// link was idle is not made up for.
pub struct Throttle {
    /// When everything that was sent so far would have been sent at the limit.
    paid: Instant,
}

impl Throttle {
    pub fn new() -> Self {
        Self { paid: Instant::now() }
    }

    /// Waits until `bytes` more may be sent at `limit` bytes a second.
    pub async fn wait(&mut self, bytes: usize, limit: u64) {
        let now = Instant::now();
        let due = self.paid.max(now);
        self.paid = due + Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64);
        if due > now {
            sleep_until(due).await;
        }
    }
}
