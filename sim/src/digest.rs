//! The hash of each content, computed once for each copy of it.
//!
//! Contents are shared and copied on write, so the same allocation means the same bytes, as long as
//! it lives: a weak reference keeps its address from being used again, and keeps nothing else. A
//! content that somebody goes on writing to gets a new allocation, because it is referred to here.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use chainsync_core::ContentHash;

use crate::fs::Content;

#[derive(Default)]
pub struct Digests {
    known: BTreeMap<usize, (Weak<Vec<u8>>, ContentHash)>,
    /// When to look for references that lead nowhere.
    clean_at: usize,
}

/// Below this many it is not worth looking for dead ones.
const CLEAN_MIN: usize = 4096;

impl Digests {
    pub fn of(&mut self, content: &Content) -> ContentHash {
        let place = Arc::as_ptr(content) as usize;
        if let Some((known, hash)) = self.known.get(&place)
            && known.strong_count() > 0
        {
            return *hash;
        }
        let hash = ContentHash::of(content);
        if self.known.len() >= self.clean_at.max(CLEAN_MIN) {
            self.known.retain(|_, (known, _)| known.strong_count() > 0);
            self.clean_at = self.known.len() * 2;
        }
        self.known.insert(place, (Arc::downgrade(content), hash));
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_again_is_hashed_again() {
        let mut digests = Digests::default();
        let mut content = Content::new(b"one".to_vec());
        let one = digests.of(&content);
        assert_eq!(one, ContentHash::of(b"one"));
        assert_eq!(digests.of(&Content::clone(&content)), one);
        // In place, as the disk writes when nobody else has the content.
        Arc::make_mut(&mut content)[0] = b'O';
        assert_eq!(digests.of(&content), ContentHash::of(b"One"));
        for number in 0..2 * CLEAN_MIN {
            let bytes = number.to_le_bytes().to_vec();
            assert_eq!(digests.of(&Content::new(bytes.clone())), ContentHash::of(&bytes));
        }
        assert!(digests.known.len() <= CLEAN_MIN + 2, "{}", digests.known.len());
    }
}
