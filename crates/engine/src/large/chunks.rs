//! Cutting a file into the chunks of its recipe, and keeping recipes at hand.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use chainsync_core::recipe::{ChunkSizes, Recipe, RecipeChunk};
use chainsync_core::{ContentHash, ContentHasher};
use chainsync_env::{Env, Vfs};
use fastcdc::v2020::StreamCDC;

use super::SLICE_BYTES;
use crate::share::lock;

/// Chunks in all recipes that are kept: some 10 MiB.
const CACHED_CHUNKS_MAX: usize = 1 << 18;

/// A file being cut.
pub struct Cutting<V: Vfs> {
    chunks: StreamCDC<FileReader<V>>,
    hasher: ContentHasher,
    recipe: Recipe,
}

impl<V: Vfs> Cutting<V> {
    /// `sizes`: those of the content that is to be compared with, usually the file's own.
    pub fn new(vfs: V, file: Arc<V::File>, sizes: ChunkSizes) -> Self {
        let reader = FileReader { vfs, file, offset: 0 };
        let [min, average, max] = [sizes.min, sizes.average, sizes.max].map(|size| size as usize);
        Self {
            chunks: StreamCDC::new(reader, min, average, max),
            hasher: ContentHasher::default(),
            recipe: Recipe::default(),
        }
    }

    /// Goes on for a slice; says whether the end is reached.
    fn slice(&mut self) -> io::Result<bool> {
        let until = self.recipe.bytes() + SLICE_BYTES;
        while self.recipe.bytes() < until {
            let Some(chunk) = self.chunks.next() else { return Ok(true) };
            let data = chunk.map_err(io::Error::from)?.data;
            self.hasher.update(&data);
            let bytes = u32::try_from(data.len()).map_err(io::Error::other)?;
            self.recipe.push(RecipeChunk { bytes, hash: ContentHash::of(&data) });
        }
        Ok(false)
    }

    /// To the end, in slices. Returns the hash of the whole and its recipe.
    pub async fn finish<E: Env<Vfs = V>>(mut self, env: &E) -> io::Result<(ContentHash, Recipe)> {
        loop {
            let (cutting, ended) = env
                .blocking(move || {
                    let ended = self.slice();
                    (self, ended)
                })
                .await;
            if ended? {
                return Ok((cutting.hasher.finish(), cutting.recipe));
            }
            self = cutting;
        }
    }
}

struct FileReader<V: Vfs> {
    vfs: V,
    file: Arc<V::File>,
    offset: u64,
}

impl<V: Vfs> io::Read for FileReader<V> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.vfs.read_at(&self.file, buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The recipes that were needed last.
#[derive(Debug, Default)]
pub struct Recipes(Mutex<VecDeque<(ContentHash, Arc<Recipe>)>>);

impl Recipes {
    pub fn get(&self, hash: &ContentHash) -> Option<Arc<Recipe>> {
        let recipes = lock(&self.0);
        recipes.iter().find(|(known, _)| known == hash).map(|(_, recipe)| recipe.clone())
    }

    /// Keeps a recipe of which the content has been verified.
    pub fn insert(&self, hash: ContentHash, recipe: Arc<Recipe>) {
        let mut recipes = lock(&self.0);
        recipes.retain(|(known, _)| *known != hash);
        recipes.push_back((hash, recipe));
        let count = |recipes: &VecDeque<(ContentHash, Arc<Recipe>)>| -> usize {
            recipes.iter().map(|(_, recipe)| recipe.chunks().len()).sum()
        };
        while recipes.len() > 1 && count(&recipes) > CACHED_CHUNKS_MAX {
            recipes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(chunks: usize) -> Arc<Recipe> {
        let mut recipe = Recipe::default();
        let chunk = RecipeChunk { bytes: 1, hash: ContentHash::of(b"") };
        (0..chunks).for_each(|_| recipe.push(chunk));
        Arc::new(recipe)
    }

    #[test]
    fn the_oldest_recipes_give_way() {
        let recipes = Recipes::default();
        let hash = |number: u8| ContentHash::of(&[number]);
        for number in 0..4 {
            recipes.insert(hash(number), recipe(CACHED_CHUNKS_MAX / 2));
        }
        assert!(recipes.get(&hash(1)).is_none());
        assert!(recipes.get(&hash(2)).is_some() && recipes.get(&hash(3)).is_some());
        recipes.insert(hash(9), recipe(2 * CACHED_CHUNKS_MAX));
        assert!(recipes.get(&hash(9)).is_some(), "the one at hand is kept, whatever its size");
        assert!(recipes.get(&hash(3)).is_none());
    }
}
