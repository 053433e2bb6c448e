//! The end of tombstones (PROTOCOL A7).
//!
//! A tombstone is dropped when every configured member, dead or alive, has *applied* it, and has been
//! here for the share's `tombstone_age`. What was dropped stays in two sums: `collected`, by whose
//! dots a link notices that its receiver may still hold what was deleted and gives it a full pass
//! (`full_pass.rs`), and `collected_stamp`, above which a change begins where there is no entry.
//!
//! Members drop a tombstone at different times. What is made without knowledge of it in between, by
//! somebody who has lost his index, is taken by some and refused by others: these delete it once more.
//!
//! Looked for now and then, and only in what has been in the journal for long enough since the last
//! look; work goes in slices, and the gate is held for one slice at a time.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chainsync_core::decide::change_version;
use chainsync_core::{Entry, Published, Record, RelPath, VersionVector};
use chainsync_env::{Env, Point};
use tokio::time::{Instant, sleep_until};

use crate::change::Aftermath;
use crate::index::{MARKS_MAX, Rows, Writer};
use crate::link::receive::Chain;
use crate::share::{Share, ShareError, lock};

/// Tombstones dropped in one commit: some 10 ms with the gate held.
const COLLECT_MAX: usize = 1024;
/// Rows of the journal read in one job.
const SCAN_MAX: usize = 16_384;
/// Tombstones remembered that are old enough, and wait for a member or for their path. Of more, the
/// journal is not read on until these are gone.
const WAITING_MAX: usize = 65_536;
/// Bounds of the time between two looks.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(3600);

/// How far the tombstones of a journal have been looked at, in this run.
#[derive(Default)]
struct Progress {
    /// What is not above was looked at.
    looked: u64,
    /// Sequences of tombstones that are old enough and could not be dropped.
    waiting: BTreeSet<u64>,
    /// What all members had applied at the last look.
    applied: VersionVector,
}

/// Drops tombstones for ever.
pub async fn run<E: Env>(share: Arc<Share<E>>) {
    let mut ready = share.ready.subscribe();
    // The sender lives as long as the share does.
    let _ = ready.wait_for(|ready| *ready).await;
    let mut progress = Progress::default();
    let mut settings = share.settings_moved.subscribe();
    let mut last = Instant::now();
    loop {
        tokio::select! {
            biased;
            // The age may be another one.
            _ = settings.changed() => continue,
            () = sleep_until(last + every(share.settings().tombstone_age)) => {}
        }
        last = Instant::now();
        share.until_moving().await;
        if let Err(error) = look(&share, &mut progress).await {
            tracing::error!(share = %share.config.name, error = %Chain(&error), "tombstones are not collected: again later");
        }
    }
}

/// Between two looks.
fn every(age: Duration) -> Duration {
    (age / MARKS_MAX as u32).clamp(EVERY_MIN, EVERY_MAX)
}

async fn look<E: Env>(share: &Arc<Share<E>>, progress: &mut Progress) -> Result<(), ShareError> {
    let aged = {
        let _gate = share.gate.lock().await;
        let worker = share.clone();
        share.env.blocking(move || worker.note_age()).await?
    };
    let Some(applied) = share.applied_by_all() else { return Ok(()) };
    lock(&share.collectable).join(&applied);
    if applied == progress.applied && aged <= progress.looked {
        return Ok(());
    }
    let mut again = progress.waiting.clone();
    progress.applied = applied;
    loop {
        let mut collected = 0;
        while !again.is_empty() {
            let slice: Vec<u64> = again.iter().take(COLLECT_MAX).copied().collect();
            again = again.split_off(&(slice[slice.len() - 1] + 1));
            collected += collect_some(share, progress, slice).await?;
        }
        if collected > 0 {
            tracing::info!(share = %share.config.name, collected, "tombstones that all members had applied were dropped");
        }
        if aged <= progress.looked || progress.waiting.len() >= WAITING_MAX {
            return Ok(());
        }
        let (worker, looked) = (share.clone(), progress.looked);
        let found = share.env.blocking(move || worker.find_tombstones(looked, aged)).await?;
        progress.looked = found.looked;
        progress.waiting.extend(&found.tombstones);
        again = found.tombstones;
    }
}

/// Drops what of these can be dropped; says how many that were.
async fn collect_some<E: Env>(
    share: &Arc<Share<E>>,
    progress: &mut Progress,
    slice: Vec<u64>,
) -> Result<usize, ShareError> {
    let (worker, applied) = (share.clone(), progress.applied.clone());
    let gate = share.gate.lock().await;
    let job = share.env.blocking(move || worker.collect(&slice, &applied));
    let gone = job.await?;
    drop(gate);
    for sequence in &gone.moved {
        progress.waiting.remove(sequence);
    }
    Ok(gone.collected)
}

/// What a scan of the journal came upon.
struct Found {
    looked: u64,
    tombstones: BTreeSet<u64>,
}

#[derive(Default)]
struct Gone {
    /// Sequences that are no tombstone's any more.
    moved: Vec<u64>,
    /// So many of them were dropped just now.
    collected: usize,
}

impl<E: Env> Share<E> {
    /// What every configured member has applied, and of which nothing older is on its way here; `None`
    /// if one of them has not said it yet. A member that is dead counts with its last word.
    fn applied_by_all(&self) -> Option<VersionVector> {
        let rows = self.rows_of_this_run()?;
        let mut applied = self.index.applied();
        rows.iter().for_each(|row| applied.meet(&row.applied));
        let links = lock(&self.progress).clone();
        let links = links.iter().filter_map(Weak::upgrade);
        links.for_each(|link| applied.meet(&link.applied_before()));
        Some(applied)
    }

    /// Whether what is refused here, for a tombstone, may be taken by a member that has dropped that one.
    pub fn may_be_accepted_elsewhere(&self, refused: &Entry, known: &Record) -> bool {
        refused.kind.is_live()
            && !known.kind.is_live()
            && known.version.concurrent(&refused.version)
            && lock(&self.collectable).covers(&known.version.dot)
    }

    /// Whoever has dropped the tombstone knows its dot, and is not sent it: it goes round once more under
    /// another one.
    pub fn delete_again(
        &self,
        writer: &mut Writer,
        path: &RelPath,
        tombstone: &Record,
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        self.env.probe(Point::DeletedAgain);
        let author = self.author();
        let dot = writer.next_dot(author);
        let (kind, version) = (tombstone.kind.clone(), tombstone.version.clone());
        let base = Published { kind: kind.clone(), version, identity: None };
        let version = change_version(Some(&base), 0, author, dot.counter);
        let entry = Entry { path: path.clone(), kind, version };
        self.know_and_intend(writer, &entry, Some(tombstone), (None, None), after)
    }

    /// Notes the head of the journal; returns up to where it is old enough. The caller holds the gate.
    fn note_age(&self) -> Result<u64, ShareError> {
        let age_ms = self.tombstone_age_ms();
        let reader = self.index.read()?;
        let (now_ms, mut marks) = (self.now_ms(), reader.marks()?);
        if marks.note(now_ms, reader.state().head, age_ms) {
            drop(reader);
            let mut writer = self.index.begin()?;
            writer.set_marks(&marks)?;
            // Durable with the next commit that has to be. Lost, it makes tombstones younger.
            writer.commit(self.env.random_u64(), false)?;
        }
        Ok(marks.aged(now_ms, age_ms))
    }

    fn tombstone_age_ms(&self) -> u64 {
        u64::try_from(self.settings().tombstone_age.as_millis()).unwrap_or(u64::MAX)
    }

    fn find_tombstones(&self, after: u64, upto: u64) -> Result<Found, ShareError> {
        let reader = self.index.read()?;
        let rows = reader.journal(after, SCAN_MAX)?;
        let complete = rows.len() < SCAN_MAX;
        let mut found = Found { looked: after, tombstones: BTreeSet::new() };
        for (sequence, path) in rows {
            if sequence > upto {
                found.looked = upto;
                return Ok(found);
            }
            found.looked = sequence;
            if reader.record(&path)?.is_some_and(|record| !record.kind.is_live()) {
                found.tombstones.insert(sequence);
                // The rest comes when these have been tried.
                if found.tombstones.len() >= COLLECT_MAX {
                    return Ok(found);
                }
            }
        }
        if complete {
            found.looked = upto;
        }
        Ok(found)
    }

    /// One commit. The caller holds the gate.
    fn collect(&self, sequences: &[u64], applied: &VersionVector) -> Result<Gone, ShareError> {
        let reader = self.index.read()?;
        let mut gone = Gone::default();
        let mut paths = Vec::new();
        for sequence in sequences {
            let Some(path) = reader.path_at(*sequence)? else {
                gone.moved.push(*sequence);
                continue;
            };
            if let Some(record) = reader.record(&path)?
                && applied.covers(&record.version.dot)
                && self.is_done_with(&reader, &path, &record)?
            {
                gone.moved.push(*sequence);
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Ok(gone);
        }
        gone.collected = paths.len();
        let mut writer = self.index.begin()?;
        for path in &paths {
            writer.collect(path)?;
        }
        // Not durable without need: the tombstones and the sums go back together.
        writer.commit(self.env.random_u64(), false)?;
        self.env.probe(Point::Collected);
        Ok(gone)
    }

    /// Whether nothing here needs a tombstone any more, its author's clock included.
    fn is_done_with(
        &self,
        reader: &crate::index::Reader,
        path: &RelPath,
        record: &Record,
    ) -> Result<bool, ShareError> {
        let aged_ms = record.version.stamp.wall_ms.saturating_add(self.tombstone_age_ms());
        Ok(aged_ms <= self.now_ms()
            && record.is_published_as_known()
            && reader.intent(path)?.is_none()
            && !self.board.has_problem(path)
            // An implied directory has its mode and owner from here (PROTOCOL B5).
            && reader.greatest_live_below(path)?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_looked_at_every_45_minutes_and_seconds_every_second() {
        assert_eq!(every(Duration::from_secs(24 * 3600)), Duration::from_secs(45 * 60));
        assert_eq!(every(crate::config::TOMBSTONE_AGE_DEFAULT), EVERY_MAX);
        assert_eq!(every(Duration::from_secs(4)), EVERY_MIN);
        assert_eq!(every(Duration::ZERO), EVERY_MIN);
    }
}
