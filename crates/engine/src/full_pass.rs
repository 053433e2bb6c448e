//! The receiving side of a full pass (PROTOCOL A7).
//!
//! Whoever was away for longer than tombstones are kept, or came back with an older index, holds what
//! the others have deleted and forgotten. Its upstream then lists every path at which it holds
//! something. What is not on the list although the upstream's knowledge covers it was deleted there,
//! or by somebody it heard from: it goes here, too.
//!
//! That knowledge comes with the last batch only, and so does the certainty that the list is complete.
//! Until then the list is kept as hashes, eight bytes a path; then the index is gone through in order,
//! slice by slice. Nothing from any upstream is recorded meanwhile: batches are recorded one at a time.
//!
//! What goes is recorded as a tombstone with the very version of what it ends: it is greater (`merge`),
//! needs no author, is of no interest to whoever knows that version, and loses against any edit. From
//! there it takes the way of every deletion: an intent first, then the disk, a changed file kept as
//! the change that it is. A content that goes so is archived: nobody here has been asked. The tombstone
//! itself is collected like any other.

use std::sync::Arc;

use chainsync_core::{ContentHash, Entry, Knowledge, NodeName, Record, RelPath};
use chainsync_env::{Env, Point};

use crate::change::Aftermath;
use crate::share::{Share, ShareError};

/// Paths whose hashes are kept: 64 MiB. Of a tree with more, nothing is dropped.
const HELD_MAX: usize = 8 << 20;
/// Rows of the index read in one job.
const SCAN_MAX: usize = 16_384;
/// Paths dropped in one commit.
const DROP_MAX: usize = 512;

/// What an upstream has listed so far on one connection.
#[derive(Debug, Default)]
pub struct HeldPaths {
    hashes: Vec<u64>,
    too_many: bool,
}

impl HeldPaths {
    pub fn hear(&mut self, paths: &[RelPath]) {
        if self.hashes.len() + paths.len() > HELD_MAX {
            (self.hashes, self.too_many) = (Vec::new(), true);
        }
        if !self.too_many {
            self.hashes.extend(paths.iter().map(hash));
        }
    }

    /// The list is complete.
    fn close(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
    }

    /// One in 2^64 of those that are not on the list is taken for one that is, and stays.
    fn holds(&self, path: &RelPath) -> bool {
        self.too_many || self.hashes.binary_search(&hash(path)).is_ok()
    }
}

fn hash(path: &RelPath) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *ContentHash::of(path.as_bytes()).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What the end of a full pass says.
struct Unheld {
    from: NodeName,
    held: HeldPaths,
    knowledge: Knowledge,
}

impl Unheld {
    /// Whether it was deleted where the sender heard of it.
    fn is(&self, path: &RelPath, record: &Record) -> bool {
        record.kind.is_live()
            && self.knowledge.covers(&record.version.dot)
            && !self.held.holds(path)
    }
}

/// Some paths of the index, and behind which one it goes on.
struct Slice {
    paths: Vec<RelPath>,
    next: Option<RelPath>,
    on_disk: u64,
}

/// Drops what the sender of a full pass knew and does not hold, before its knowledge is taken over.
pub async fn drop_unheld<E: Env>(
    share: &Arc<Share<E>>,
    from: &NodeName,
    mut held: HeldPaths,
    knowledge: &Knowledge,
) -> Result<(), ShareError> {
    held.close();
    if held.too_many {
        tracing::error!(%from, "it holds more paths than can be compared: what was deleted long ago may stay here");
    }
    let unheld = Arc::new(Unheld { from: from.clone(), held, knowledge: knowledge.clone() });
    let (mut after, mut gone) = (None, 0);
    loop {
        let (worker, unheld) = (share.clone(), unheld.clone());
        let found =
            share.env.blocking(move || worker.find_unheld(&unheld, after.as_ref(), SCAN_MAX));
        let slice = found.await?;
        gone += slice.on_disk;
        after = slice.next;
        if after.is_none() {
            break;
        }
    }
    share.guard_full_pass(from, gone)?;
    let mut after = None;
    loop {
        let gate = share.gate.lock().await;
        let (worker, unheld) = (share.clone(), unheld.clone());
        let dropped = share.env.blocking(move || worker.drop_some(&unheld, after.as_ref()));
        let slice = dropped.await?;
        if !slice.paths.is_empty() {
            let worker = share.clone();
            // What cannot go now waits, like any deletion.
            let left = share.env.blocking(move || worker.publish_batch(slice.paths)).await?;
            share.ask_for(left.missing);
        }
        drop(gate);
        after = slice.next;
        if after.is_none() {
            break;
        }
    }
    if gone > 0 {
        tracing::warn!(share = %share.config.name, %from, gone, "deleted elsewhere long ago: gone here, too, and in the archive");
    }
    share.sweeping.end_full_pass();
    Ok(())
}

impl<E: Env> Share<E> {
    /// What is to go among the next rows of the index.
    fn find_unheld(
        &self,
        unheld: &Unheld,
        after: Option<&RelPath>,
        max: usize,
    ) -> Result<Slice, ShareError> {
        let rows = self.index.read()?.records(after, SCAN_MAX)?;
        let mut slice = Slice { paths: Vec::new(), next: None, on_disk: 0 };
        let complete = rows.len() < SCAN_MAX;
        for (path, record) in rows {
            if unheld.is(&path, &record) {
                slice.on_disk += u64::from(record.is_live_on_disk());
                slice.paths.push(path.clone());
                if slice.paths.len() >= max {
                    slice.next = Some(path);
                    return Ok(slice);
                }
            }
            slice.next = Some(path);
        }
        if complete {
            slice.next = None;
        }
        Ok(slice)
    }

    /// One commit. The caller holds the gate.
    fn drop_some(&self, unheld: &Unheld, after: Option<&RelPath>) -> Result<Slice, ShareError> {
        self.settle_doubts()?;
        let slice = self.find_unheld(unheld, after, DROP_MAX)?;
        if slice.paths.is_empty() {
            return Ok(slice);
        }
        self.env.probe(Point::Unheld);
        let mut writer = self.index.begin()?;
        let mut after = Aftermath::default();
        for path in &slice.paths {
            let Some(record) = crate::index::Rows::record(&writer, path)? else { continue };
            let (kind, version) = (record.kind.tombstone(), record.version.clone());
            let entry = Entry { path: path.clone(), kind, version };
            self.record_drop(&mut writer, &unheld.from, entry, &mut after)?;
        }
        writer.commit(self.env.random_u64(), true)?;
        self.env.probe(Point::IntentsDurable);
        self.finish(after)?;
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use chainsync_core::entry::{Merge, merge};
    use chainsync_core::knowledge::Recorded;
    use chainsync_core::{Dot, Kind, ReplicaId, Stamp, Version, VersionVector};

    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    fn entry(name: &str, counter: u64) -> Entry {
        let dot = Dot { replica: ReplicaId(1), counter };
        let version =
            Version { stamp: Stamp::made(7, dot.replica), dot, past: VersionVector::default() };
        Entry { path: path(name), kind: Kind::Symlink { target: b"x".to_vec() }, version }
    }

    #[test]
    fn what_the_sender_knew_and_does_not_list_goes() {
        let mut held = HeldPaths::default();
        held.hear(&[path("b"), path("a/x")]);
        held.hear(&[path("a")]);
        held.close();
        let knowledge =
            [(ReplicaId(1), Recorded { counter: 5, tag: 1 })].into_iter().collect::<Knowledge>();
        let unheld = Unheld { from: NodeName::new("apollo").unwrap(), held, knowledge };
        let is = |entry: Entry| unheld.is(&entry.path, &Record::new(&entry, 1));
        assert!(is(entry("c", 5)) && is(entry("a/y", 1)));
        assert!(!is(entry("c", 6)), "it does not know of it");
        assert!(!is(entry("b", 5)) && !is(entry("a/x", 5)) && !is(entry("a", 5)));
        let tombstone = Entry { kind: entry("c", 5).kind.tombstone(), ..entry("c", 5) };
        assert!(!is(tombstone), "nothing is there that could go");
    }

    #[test]
    fn of_a_list_that_is_too_long_nothing_goes() {
        let held = HeldPaths { hashes: Vec::new(), too_many: true };
        assert!(held.holds(&path("anything")));
    }

    #[test]
    fn the_end_of_a_version_is_greater_than_the_version_and_no_conflict() {
        let live = entry("a", 3);
        let (tombstone, version) = (live.kind.tombstone(), &live.version);
        let known = Some((&live.kind, version));
        assert_eq!(merge(known, (&tombstone, version)), Merge::Wins { conflict: false });
        let known = Some((&tombstone, version));
        assert_eq!(merge(known, (&live.kind, version)), Merge::Loses { conflict: false });
    }
}
