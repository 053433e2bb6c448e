//! L6: small files do not wait for large ones.
//!
//! While a large content is on its way, from when its writer has finished until the last node shows
//! it, each small upload is everywhere within [`WITHIN_NS`]. Judged where nothing else holds anything
//! up: in runs without faults and with links of [`BANDWIDTH_MIN`] at least, and of contents that no
//! daemon took away again: what loses a conflict on its way does not arrive, or as a copy of another name
//! that is as old as the conflict, not as the upload.

use super::Invariant;
use crate::failure::Failure;
use crate::ledger::What;
use crate::oracle::{Oracle, Upload};
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::policy::is_copy;

/// A batch waits for one chunk on each of the links before it, and for the syncs of a few batches:
/// 0.1 s where it was measured. A 24 MiB file takes 0.6 s over two links of 1 Gbit/s.
const WITHIN_NS: u64 = 1_000_000_000;
/// Bits per second: a chunk of 256 KiB takes 21 ms.
pub(crate) const BANDWIDTH_MIN: u64 = 100_000_000;

pub(crate) fn starved(oracle: &Oracle) -> Result<(), Failure> {
    let is_large = |upload: &&Upload| upload.size > INLINE_BYTES_MAX;
    let large = oracle.uploads.iter().filter(is_large).filter_map(|large| {
        let arrived = others(large).map(|arrived| arrived.unwrap_or(u64::MAX)).max();
        Some(large.finished_ns?..=arrived?)
    });
    let on_their_way: Vec<_> = large.collect();
    if on_their_way.is_empty() {
        return Ok(());
    }
    // What was renamed meanwhile may have arrived under its first name.
    let small = oracle.standing().filter(|upload| !is_large(upload) && upload.versions <= 2);
    let small = small.filter(|upload| !is_copy(&upload.path)).filter(|upload| {
        let facts = oracle.ledger.of(&upload.path, &upload.hash);
        !facts.iter().any(|fact| fact.what == What::Displaced)
    });
    for upload in small {
        let Some(finished_ns) = upload.finished_ns else { continue };
        if !on_their_way.iter().any(|span| span.contains(&finished_ns)) {
            continue;
        }
        let late =
            |arrived: &Option<u64>| arrived.is_none_or(|arrived| arrived > finished_ns + WITHIN_NS);
        if let Some(arrived) = others(upload).find(late) {
            let after = match arrived {
                Some(arrived) => format!("after {} ms", (arrived - finished_ns) / 1_000_000),
                None => "never".to_owned(),
            };
            let sentence = format!(
                "a small upload arrived somewhere {after}, while a large one was on its way, and \
                 had to be there within {} ms",
                WITHIN_NS / 1_000_000
            );
            let failure = Failure::new(Invariant::L6, finished_ns + WITHIN_NS, sentence);
            let name = oracle.node_names.get(upload.node).map_or("?", String::as_str);
            return Err(failure.on(name).at_path(&upload.path));
        }
    }
    Ok(())
}

/// When an upload arrived at each node but its own.
fn others(upload: &Upload) -> impl Iterator<Item = Option<u64>> {
    let nodes = upload.published_ns.iter().enumerate();
    nodes.filter(|(node, _)| *node != upload.node).map(|(_, arrived)| *arrived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Content;

    /// A large upload between 1 s and 3 s, and a small one at 2 s; when it arrives.
    fn judge(small_arrives_ns: Option<u64>, large_arrives_ns: u64) -> Option<Invariant> {
        let mut oracle = Oracle::default();
        oracle.node_names = vec!["apollo".into(), "hermes".into()];
        let large = Content::new(vec![0; INLINE_BYTES_MAX as usize + 1]);
        let id = oracle.announce(0, b"large", None, &large);
        oracle.finished(id, 1_000_000_000);
        oracle.uploads[id].published_ns[1] = Some(large_arrives_ns);
        let id =
            oracle.announce(0, b"small", None, &Content::new(b"sixteen bytes, or so".to_vec()));
        oracle.finished(id, 2_000_000_000);
        oracle.uploads[id].published_ns[1] = small_arrives_ns;
        starved(&oracle).err().map(|failure| failure.invariant)
    }

    #[test]
    fn a_small_file_that_waits_is_seen() {
        assert_eq!(judge(Some(2_100_000_000), 3_000_000_000), None);
        assert_eq!(judge(Some(3_100_000_000), 3_000_000_000), Some(Invariant::L6));
        assert_eq!(judge(None, 3_000_000_000), Some(Invariant::L6));
        // Nothing large was under way any more.
        assert_eq!(judge(Some(3_100_000_000), 1_500_000_000), None);
    }
}
