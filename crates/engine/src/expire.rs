//! The limits of the archive: how many lost edits of a path it keeps, for how long, and how much.
//!
//! The conflict log says what is in it and why. What expires goes with its row; a content that several
//! conflicts name stays as long as one of them does. What no row names (it was replaced by a restored
//! edit) expires by age.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chainsync_core::{ContentHash, RelPath};
use chainsync_env::{Env, Point};

use crate::config::ArchiveLimits;
use crate::index::Conflict;
use crate::share::{Share, ShareError};

/// Rows read, and contents removed, in one job. The gate is held for a removal.
const JOB_MAX: usize = 512;

/// What the limits leave of the conflict log. Fed from the newest conflict down.
struct Keeping {
    limits: ArchiveLimits,
    now_ms: u64,
    generations: BTreeMap<RelPath, u64>,
    contents: BTreeSet<ContentHash>,
    bytes: u64,
}

impl Keeping {
    fn new(limits: ArchiveLimits, now_ms: u64) -> Self {
        let (generations, contents) = (BTreeMap::new(), BTreeSet::new());
        Self { limits, now_ms, generations, contents, bytes: 0 }
    }

    fn is_old(&self, since_ms: u64) -> bool {
        u128::from(self.now_ms.saturating_sub(since_ms)) > self.limits.age.as_millis()
    }

    /// Whether a conflict stays, with its content.
    fn keeps(&mut self, conflict: &Conflict) -> bool {
        let generation = self.generations.entry(conflict.path.clone()).or_default();
        *generation += 1;
        let beyond = *generation > self.limits.generations;
        if beyond || self.is_old(conflict.noticed_ms) {
            return false;
        }
        let Some((hash, size)) = conflict.kind.content() else { return true };
        if self.contents.contains(&hash) {
            return true;
        }
        // What is too large for what is left goes; smaller and older ones may still fit.
        if self.bytes.saturating_add(size) > self.limits.bytes {
            return false;
        }
        self.bytes += size;
        self.contents.insert(hash)
    }
}

/// What is to go.
struct Expired {
    /// Rows of the conflict log.
    rows: Vec<u64>,
    contents: Vec<ContentHash>,
    /// The newest conflict that was looked at.
    upto: u64,
}

impl Expired {
    /// Leaves one job's worth; the rest.
    fn split(&mut self) -> Self {
        let rows = self.rows.split_off(self.rows.len().min(JOB_MAX));
        let contents = self.contents.split_off(self.contents.len().min(JOB_MAX));
        Self { rows, contents, upto: self.upto }
    }
}

/// Removes what is beyond the limits. The caller does not hold the gate.
pub async fn expire<E: Env>(share: &Arc<Share<E>>) -> Result<(), ShareError> {
    let worker = share.clone();
    let mut expired = share.env.blocking(move || worker.find_expired()).await?;
    while !expired.rows.is_empty() || !expired.contents.is_empty() {
        let rest = expired.split();
        let _gate = share.gate.lock().await;
        let worker = share.clone();
        share.env.blocking(move || worker.remove_expired(expired)).await?;
        expired = rest;
    }
    Ok(())
}

impl<E: Env> Share<E> {
    fn find_expired(&self) -> Result<Expired, ShareError> {
        let limits = self.settings().limits.archive;
        let reader = self.index.read()?;
        let upto = reader.state().conflicts;
        let mut keeping = Keeping::new(limits, self.now_ms());
        let mut rows = Vec::new();
        let mut gone = BTreeSet::new();
        let mut before = upto + 1;
        loop {
            let slice = reader.conflicts_before(before, JOB_MAX)?;
            let Some((last, _)) = slice.last() else { break };
            before = *last;
            for (number, conflict) in &slice {
                if keeping.keeps(conflict) {
                    continue;
                }
                let content = conflict.kind.content().map(|(hash, _)| hash);
                if self.is_unheeded(*number) {
                    // The policy has not come to it: it is kept in any case.
                    keeping.contents.extend(content);
                } else {
                    rows.push(*number);
                    gone.extend(content);
                }
            }
        }
        let listed = self.archive.list().map_err(ShareError::disk("listing the archive"))?;
        let contents = listed.into_iter().filter(|(hash, put_ms)| {
            !keeping.contents.contains(hash) && (gone.contains(hash) || keeping.is_old(*put_ms))
        });
        Ok(Expired { rows, contents: contents.map(|(hash, _)| hash).collect(), upto })
    }

    /// The caller holds the gate: nobody puts a content into the archive meanwhile.
    fn remove_expired(&self, expired: Expired) -> Result<(), ShareError> {
        let Expired { rows, contents, upto } = expired;
        let since = self.index.read()?.conflicts_after(upto, usize::MAX)?;
        let wanted: BTreeSet<ContentHash> = since
            .iter()
            .filter_map(|(_, conflict, _)| conflict.kind.content().map(|(hash, _)| hash))
            .collect();
        for hash in contents.iter().filter(|hash| !wanted.contains(hash)) {
            self.archive.remove(hash).map_err(ShareError::disk("removing from the archive"))?;
            self.env.probe(Point::Expired);
        }
        let mut writer = self.index.begin()?;
        for row in rows {
            writer.remove_conflict(row)?;
        }
        writer.commit(self.env.random_u64(), false)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chainsync_core::{Dot, Kind, ReplicaId, Stamp, Version, VersionVector};

    use super::*;

    fn conflict(path: &str, content: &[u8], noticed_ms: u64) -> Conflict {
        let dot = Dot { replica: ReplicaId(1), counter: 1 };
        let version =
            Version { stamp: Stamp::made(1, dot.replica), dot, past: VersionVector::default() };
        let (size, hash) = (content.len() as u64, ContentHash::of(content));
        Conflict {
            path: RelPath::new(path).unwrap(),
            kind: Kind::File { size, hash, mode: 0o644, mtime_ns: 0, owner: None },
            version: version.clone(),
            winner: version,
            noticed_ms,
        }
    }

    fn kept(limits: ArchiveLimits, newest_first: &[Conflict]) -> Vec<bool> {
        let mut keeping = Keeping::new(limits, 100_000);
        newest_first.iter().map(|conflict| keeping.keeps(conflict)).collect()
    }

    const LOOSE: ArchiveLimits =
        ArchiveLimits { generations: 100, age: Duration::from_secs(1000), bytes: 1000 };

    #[test]
    fn each_limit_takes_the_oldest() {
        let log = [conflict("a", b"1234", 90_000), conflict("b", b"5678", 60_000)];
        let older = conflict("a", b"abcd", 50_000);
        let log = [&log[..], &[older]].concat();
        assert_eq!(kept(LOOSE, &log), [true, true, true]);
        assert_eq!(kept(ArchiveLimits { generations: 1, ..LOOSE }, &log), [true, true, false]);
        let age = Duration::from_secs(20);
        assert_eq!(kept(ArchiveLimits { age, ..LOOSE }, &log), [true, false, false]);
        assert_eq!(kept(ArchiveLimits { bytes: 8, ..LOOSE }, &log), [true, true, false]);
    }

    #[test]
    fn a_content_counts_once_and_stays_for_the_newest() {
        let log = [conflict("a", b"1234", 90_000), conflict("b", b"1234", 60_000)];
        assert_eq!(kept(ArchiveLimits { bytes: 4, ..LOOSE }, &log), [true, true]);
    }
}
