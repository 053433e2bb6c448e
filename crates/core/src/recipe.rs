//! What a large content is made of: content-defined chunks, each named by its hash.
//!
//! A receiver that knows the recipe takes the chunks that it has from where it has them (an older
//! version, a half-received copy) and asks for the rest. Chunks are cut where the content says so
//! (FastCDC, Xia et al., USENIX ATC 2016), so an insertion moves the borders around it and no others.

use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;

/// The largest file that is carried. Its recipe takes some 10 MiB of memory.
pub const FILE_BYTES_MAX: u64 = 1 << 40;
/// Chunks of one recipe: 1 TiB in the smallest chunks that are cut at that size.
pub const RECIPE_CHUNKS_MAX: usize = 1 << 20;
/// Chunks in one frame: some 150 KiB.
pub const RECIPE_PART_CHUNKS_MAX: usize = 4096;

/// The usual size of a chunk in files up to 4 GiB: a 1 MiB edit costs 1.2 MiB on the wire, and a
/// recipe a two-thousandth of its file.
const AVERAGE_BYTES_MIN: u32 = 64 << 10;
/// FastCDC's own limit.
const AVERAGE_BYTES_MAX: u32 = 4 << 20;
/// A recipe should have no more chunks than this.
const CHUNKS_WANTED: u64 = 1 << 16;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeChunk {
    pub bytes: u32,
    pub hash: ContentHash,
}

/// Between which sizes a file is cut, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    pub min: u32,
    pub average: u32,
    pub max: u32,
}

impl ChunkSizes {
    /// Both ends have to cut alike: a pure function of the file's size, in steps, so that the
    /// versions of a file that grows are cut alike too.
    pub fn of(size: u64) -> Self {
        let mut average = AVERAGE_BYTES_MIN;
        while size / u64::from(average) > CHUNKS_WANTED && average < AVERAGE_BYTES_MAX {
            average *= 4;
        }
        Self { min: average / 4, average, max: average * 4 }
    }
}

/// The chunks of a content, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    chunks: Vec<RecipeChunk>,
    bytes: u64,
}

impl Recipe {
    pub fn push(&mut self, chunk: RecipeChunk) {
        self.bytes += u64::from(chunk.bytes);
        self.chunks.push(chunk);
    }

    pub fn chunks(&self) -> &[RecipeChunk] {
        &self.chunks
    }

    /// The length of the content.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a part that a peer sent; says what is wrong with it, for a content of `size` bytes.
    pub fn extend(&mut self, part: &[RecipeChunk], size: u64) -> Result<(), &'static str> {
        let largest = ChunkSizes::of(size).max;
        if part.iter().any(|chunk| chunk.bytes == 0 || chunk.bytes > largest) {
            return Err("a recipe with a chunk of an impossible size");
        }
        if self.chunks.len() + part.len() > RECIPE_CHUNKS_MAX {
            return Err("a recipe with too many chunks");
        }
        part.iter().for_each(|chunk| self.push(*chunk));
        if self.bytes > size { Err("a recipe for more than the content") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_the_file_and_a_recipe_stays_bounded() {
        assert_eq!(ChunkSizes::of(2 << 20).average, 64 << 10);
        assert_eq!(ChunkSizes::of(4 << 30), ChunkSizes::of(1));
        for size in [1 << 30, 10 << 30, 100 << 30, FILE_BYTES_MAX] {
            let fewest_bytes = u64::from(ChunkSizes::of(size).min);
            assert!(size.div_ceil(fewest_bytes) <= RECIPE_CHUNKS_MAX as u64, "{size}");
        }
    }

    #[test]
    fn a_recipe_of_a_peer_is_held_against_the_size() {
        let chunk = |bytes| RecipeChunk { bytes, hash: ContentHash::of(b"") };
        assert!(Recipe::default().extend(&[chunk(5), chunk(6)], 11).is_ok());
        assert!(Recipe::default().extend(&[chunk(5), chunk(6)], 10).is_err());
        assert!(Recipe::default().extend(&[chunk(0)], 10).is_err());
        assert!(Recipe::default().extend(&[chunk(257 << 10)], 1 << 30).is_err());
    }
}
