//! Contents in memory: what was just read or received is about to be sent on, and is not read again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chainsync_core::ContentHash;

/// What a node keeps of contents on their way through: two full windows of batches. What is dropped
/// before it is sent is read again, from the page cache.
pub const CACHE_BYTES_MAX: usize = 32 << 20;

/// What a content takes beside itself: its hash twice, a `Bytes`, and the allocator's part.
const ENTRY_BYTES: usize = 160;

/// Contents by hash, the oldest dropped first.
#[derive(Debug, Default)]
pub struct ContentCache {
    contents: BTreeMap<ContentHash, Bytes>,
    order: VecDeque<ContentHash>,
    bytes: usize,
}

impl ContentCache {
    pub fn insert(&mut self, hash: ContentHash, content: Bytes) {
        self.bytes += ENTRY_BYTES + content.len();
        if self.contents.insert(hash, content).is_none() {
            self.order.push_back(hash);
        } else {
            self.bytes -= ENTRY_BYTES + self.contents.get(&hash).map_or(0, Bytes::len);
        }
        while self.bytes > CACHE_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(dropped) = self.contents.remove(&oldest)
        {
            self.bytes -= ENTRY_BYTES + dropped.len();
        }
    }

    /// Nothing is on its way: memory is for others.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn get(&self, hash: &ContentHash) -> Option<Bytes> {
        self.contents.get(hash).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_drops_the_oldest() {
        let mut cache = ContentCache::default();
        let content = |number: u8| Bytes::from(vec![number; CACHE_BYTES_MAX / 4]);
        for number in 0..6 {
            let content = content(number);
            cache.insert(ContentHash::of(&content), content.clone());
            cache.insert(ContentHash::of(&content), content);
        }
        assert!(cache.bytes <= CACHE_BYTES_MAX);
        assert_eq!(cache.get(&ContentHash::of(&content(0))), None);
        assert_eq!(cache.get(&ContentHash::of(&content(5))), Some(content(5)));
    }
}
