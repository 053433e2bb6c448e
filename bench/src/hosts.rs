//! The three hosts of every measurement.

use anyhow::Result;
use chainsync_hosts::{Disks, WorldOptions};

pub use chainsync_hosts::World;

pub const NAMES: [&str; 3] = ["apollo", "chronos", "hermes"];
pub const APOLLO: usize = 0;
pub const CHRONOS: usize = 1;
pub const HERMES: usize = 2;
/// Sparse. The largest workload holds 1 GiB four times for a moment: share, temporary file, state.
const IMAGE_SIZE: &str = "8G";
const ONE_IMAGE_SIZE: &str = "16G";
/// For a million files, and once more while a host joins empty.
const LARGE_IMAGE_SIZE: &str = "48G";

/// `large`: its disks hold a million files.
pub fn world(one_image: bool, large: bool, keep: bool) -> Result<World> {
    let size = match (large, one_image) {
        (true, _) => LARGE_IMAGE_SIZE,
        (false, true) => ONE_IMAGE_SIZE,
        (false, false) => IMAGE_SIZE,
    };
    let disks = if one_image { Disks::OneForAll } else { Disks::OneEach };
    World::new(&WorldOptions {
        names: NAMES.map(str::to_owned).to_vec(),
        purpose: "bench",
        disks,
        size,
        one_path: true,
        keep,
    })
}
