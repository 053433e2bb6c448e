//! Randomness: one stream per purpose and node, all drawn from the run's seed.
//!
//! Separate streams, so that one more draw for the chunker does not reshuffle the uploads.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// ChaCha8 is the same on every platform and in every version, and fast enough for contents.
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub fn new(seed: u64, purpose: &str, node: &str) -> Self {
        let key = blake3::hash(format!("chainsync-sim\0{seed}\0{purpose}\0{node}").as_bytes());
        Self(ChaCha8Rng::from_seed(*key.as_bytes()))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// Whether a one-in-`n` chance comes true.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n.max(1)) == 1
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_repeat() {
        let draw = |seed, purpose, node| Stream::new(seed, purpose, node).next();
        assert_eq!(draw(1, "watch", "apollo"), draw(1, "watch", "apollo"));
        let others = [draw(2, "watch", "apollo"), draw(1, "disk", "apollo"), draw(1, "watch", "x")];
        assert!(!others.contains(&draw(1, "watch", "apollo")));
        assert_eq!(Stream::new(1, "watch", "apollo").between(5, 5), 5);
    }
}
