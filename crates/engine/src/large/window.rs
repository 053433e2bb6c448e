//! How much of a large content is under way at a time.
//!
//! Small files travel on the same connection. What a pull asks for fills the buffers between two
//! nodes, and every small file behind it waits until they have been emptied. So a pull watches how
//! long its bytes take: the shortest time seen is that of the way itself, whatever is more is a
//! queue. The window grows while the queue is shorter than a target and shrinks while it is longer,
//! in proportion to how far off it is. That is LEDBAT (RFC 6817, section 2.4.2), with the time from
//! asking to having in place of the one-way delay, since both ends of it are read from one clock. It
//! begins small, and becomes small again now and then, since the time of the way can only be seen
//! while nothing of our own is queued (LEDBAT++, draft-irtf-iccrg-ledbat-plus-plus, section 4.4).

use std::time::Duration;

use tokio::time::Instant;

/// Bytes under way, at least and at first: one range. With fewer the connection would be empty.
const BYTES_MIN: u64 = super::pull::RANGE_BYTES_MAX;
/// At most: what a link of 1 Gbit/s carries in 35 ms.
const BYTES_MAX: u64 = 4 << 20;
/// The queue that a small file may meet (RFC 6817 allows 100 ms at most, for a whole Internet path).
const TARGET: Duration = Duration::from_millis(5);
/// By how much the window changes at most when all of it has come once.
const STEP: u64 = 128 << 10;
/// After this the shortest time is measured anew: the way may have become another one.
const BASE_AGE: Duration = Duration::from_secs(60);

pub struct Window {
    bytes: u64,
    /// The shortest times of the present period and of the one before.
    base: [Option<Duration>; 2],
    since: Instant,
}

impl Window {
    pub fn new(now: Instant) -> Self {
        Self { bytes: BYTES_MIN, base: [None; 2], since: now }
    }

    /// Bytes that may be under way.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many bytes have come, `took` after they were asked for.
    pub fn came(&mut self, bytes: u64, took: Duration, now: Instant) {
        if now - self.since >= BASE_AGE {
            self.base = [None, self.base[0]];
            self.since = now;
            self.bytes = BYTES_MIN;
        }
        self.base[0] = Some(self.base[0].map_or(took, |base| base.min(took)));
        let base = self.base.into_iter().flatten().min().unwrap_or(took);
        let queued = (took - base).as_secs_f64() / TARGET.as_secs_f64();
        let off_target = (1.0 - queued).max(-1.0);
        let change = off_target * STEP as f64 * bytes as f64 / self.bytes as f64;
        let changed = self.bytes as f64 + change;
        self.bytes = (changed as u64).clamp(BYTES_MIN, BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest window on a way with a rate (bytes a second), a time of its own, and one buffer of
    /// any size, in ten minutes.
    fn largest(rate: f64, way: Duration) -> u64 {
        let mut now = Instant::now();
        let (mut window, end) = (Window::new(now), now + BASE_AGE * 10);
        let mut largest = 0;
        while now < end {
            let took = way + Duration::from_secs_f64(window.bytes() as f64 / rate);
            now += took / 4;
            window.came(window.bytes() / 4, took, now);
            largest = largest.max(window.bytes());
        }
        largest
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_way_is_filled() {
        assert_eq!(largest(10e9, Duration::from_millis(1)), BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_way_is_filled() {
        assert_eq!(largest(1e9, Duration::from_millis(50)), BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_queued_than_the_target() {
        let rate = 100e6;
        let queue = Duration::from_secs_f64(largest(rate, Duration::from_millis(1)) as f64 / rate);
        // Above what one range takes.
        let range = Duration::from_secs_f64(BYTES_MIN as f64 / rate);
        assert!(queue > TARGET && queue < range + TARGET * 11 / 10, "{queue:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_way_has_one_range_on_it() {
        assert!(largest(1e6, Duration::from_millis(1)) < BYTES_MIN + STEP);
    }
}
