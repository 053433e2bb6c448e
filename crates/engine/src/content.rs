//! Contents in memory: what was just read or received is about to be sent on, and is not read again.

use std::collections::BTreeMap;

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
    contents: BTreeMap<ContentHash, (u64, Bytes)>,
    /// By when they came.
    order: BTreeMap<u64, ContentHash>,
    came: u64,
    bytes: usize,
}

impl ContentCache {
    pub fn insert(&mut self, hash: ContentHash, content: Bytes) {
        self.take(&hash);
        self.bytes += ENTRY_BYTES + content.len();
        self.came += 1;
        self.order.insert(self.came, hash);
        self.contents.insert(hash, (self.came, content));
        while self.bytes > CACHE_BYTES_MAX
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.take(&oldest);
        }
    }

    /// Nothing is on its way: memory is for others.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn get(&self, hash: &ContentHash) -> Option<Bytes> {
        self.contents.get(hash).map(|(_, content)| content.clone())
    }

    /// Gives a content away: it is sent now, or has been passed on by somebody else.
    pub fn take(&mut self, hash: &ContentHash) -> Option<Bytes> {
        let (came, content) = self.contents.remove(hash)?;
        self.order.remove(&came);
        self.bytes -= ENTRY_BYTES + content.len();
        Some(content)
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

    #[test]
    fn what_is_taken_makes_room() {
        let mut cache = ContentCache::default();
        let content = |number: u8| Bytes::from(vec![number; CACHE_BYTES_MAX / 4]);
        let hash = |number: u8| ContentHash::of(&content(number));
        for number in 0..30 {
            cache.insert(hash(number), content(number));
            if number > 0 {
                assert_eq!(cache.take(&hash(number)), Some(content(number)));
            }
        }
        assert_eq!(cache.get(&hash(0)), Some(content(0)), "nothing had to be dropped");
        assert_eq!(cache.take(&hash(1)), None);
        assert_eq!((cache.contents.len(), cache.order.len()), (1, 1));
        assert_eq!(cache.bytes, CACHE_BYTES_MAX / 4 + ENTRY_BYTES);
    }
}
