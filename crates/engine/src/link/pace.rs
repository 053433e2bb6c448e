//! How fast a link gets through the journal, for whoever asks how long the rest will take.

use std::time::Duration;

use tokio::time::Instant;

/// One measurement. Shorter, and the size of a batch would show; longer, and a link that has become
/// slow would go on promising.
const WINDOW: Duration = Duration::from_secs(1);
/// After so long without an acknowledgement nothing is promised.
const STUCK: Duration = Duration::from_secs(10);

/// Entries a second, of the last few seconds in which there was something to send.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    since: Instant,
    /// Where the journal was acknowledged then.
    from: u64,
    /// Where it is acknowledged now.
    position: u64,
    rate: Option<f64>,
}

impl Pace {
    pub fn new(position: u64) -> Self {
        Self { since: Instant::now(), from: position, position, rate: None }
    }

    /// There is something to send again.
    pub fn begin(&mut self) {
        (self.since, self.from) = (Instant::now(), self.position);
    }

    /// Everything up to a position was acknowledged.
    pub fn acknowledged(&mut self, position: u64) {
        self.position = position;
        let elapsed = self.since.elapsed();
        if elapsed >= WINDOW {
            let now = position.saturating_sub(self.from) as f64 / elapsed.as_secs_f64();
            self.rate = Some(self.rate.map_or(now, |before| (before + now) / 2.0));
            self.begin();
        }
    }

    /// How long it will take to the head of the journal, if it is not there and that can be told.
    pub fn time_to(&self, head: u64) -> Option<Duration> {
        let entries = head.checked_sub(self.position).filter(|entries| *entries > 0)?;
        let rate = self.rate.filter(|rate| *rate > 0.0 && self.since.elapsed() < STUCK)?;
        Duration::try_from_secs_f64(entries as f64 / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_told_from_what_was_done() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.time_to(100), None, "nothing was measured yet");
        for step in 1..=20 {
            tokio::time::advance(Duration::from_millis(100)).await;
            pace.acknowledged(step * 50);
        }
        assert_eq!(pace.time_to(2_000), Some(Duration::from_secs(2)));
        tokio::time::advance(STUCK).await;
        assert_eq!(pace.time_to(2_000), None, "it is stuck");
        // An hour without anything to send is no slowness.
        tokio::time::advance(Duration::from_secs(3600)).await;
        pace.begin();
        assert_eq!(pace.time_to(1_500), Some(Duration::from_secs(1)));
        assert_eq!(pace.time_to(1_000), None, "there is nothing left");
    }
}
