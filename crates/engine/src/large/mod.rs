//! Contents that are too large to travel inside a batch.
//!
//! - [`digest`]: a large file that changed is hashed piece by piece, away from the gate; a look then
//!   finds its hash ready.
//! - [`chunks`]: cutting a file into the chunks of its recipe, and keeping recipes at hand.
//! - [`partial`]: a content being put together in staging, from what is here and what arrives.
//! - [`queue`]: which contents are to be fetched, which are being fetched, and when to ask again.
//! - [`pull`]: fetching one of them. One that was interrupted goes on where it was: every chunk of the
//!   partial file is held against the recipe, none is taken on trust.
//! - [`spares`]: contents that are here under another name, or were a moment ago.
//! - [`window`]: how much of a content is under way at a time, so that small files do not wait for it.
//!
//! Nothing here holds more than a few chunks of a content in memory.

pub mod abandon;
pub mod chunks;
pub mod digest;
pub mod partial;
pub mod pull;
pub mod queue;
pub mod spares;
pub mod window;

/// Read at a time.
const READ_BYTES: usize = 256 << 10;
/// Worked through in one job: bounds how long a thread is held and how late a stop is noticed.
const SLICE_BYTES: u64 = 64 << 20;

/// Whether a name in staging is that of a large content, under way or kept for a while.
pub fn is_of_large(name: &[u8]) -> bool {
    [partial::PREFIX, spares::PREFIX].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}
