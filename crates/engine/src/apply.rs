//! From a batch to the index and the disk.
//!
//! 1. *Stage*, without the gate: verify hashes, write contents into staging, make them durable.
//! 2. *Record*, with the gate: merge, one durable commit of entries, intents, cursor and (with the
//!    last batch of a pass) knowledge. Then the batch is acknowledged, and is in our own journal.
//! 3. *Publish*, with the gate: carry out the intents.
//!
//! An entry that cannot be published here is recorded and passed on all the same (PROTOCOL A5).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use chainsync_core::entry::{Merge, merge};
use chainsync_core::wire::{Ack, Batch, ContentRef, WireError};
use chainsync_core::{Class, ContentHash, Entry, Kind, NodeName, Record, RelPath};
use chainsync_env::{Env, Point};

use crate::change::Aftermath;
use crate::disk::{Dirs, is_disk_trouble, is_own};
use crate::index::{Reader, Rows, Writer};
use crate::publish::Unpublished;
use crate::share::{SYNC_SINGLY_MAX, Share, ShareError};
use crate::syncs::Since;

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The peer broke the rules: it is disconnected.
    #[error("the batch is malformed")]
    Wire(#[from] WireError),
    #[error("`{0}`: the content does not have the announced hash")]
    Hash(RelPath),
    #[error("`{0}` belongs to chainsync itself")]
    OwnPath(RelPath),
    /// It would win over everything made here until then (PROTOCOL C4): nothing of the batch is taken,
    /// and so nothing of it counts as known.
    #[error(
        "`{path}` was made {ahead:?} in the future by the clock of its author: set the clocks right. It is taken when the time has come, or when `clock_ahead_max` allows it"
    )]
    Ahead { path: RelPath, ahead: Duration },
    /// We could not: it is sent again later.
    #[error(transparent)]
    Share(#[from] ShareError),
}

/// A batch whose contents are in staging.
pub struct Staged {
    pub batch: Batch,
    entries: Vec<StagedEntry>,
    /// Unless it is durable: how many syncs of everything had begun when all was written.
    unsynced: Option<u64>,
}

impl Staged {
    /// What it has in staging.
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().filter_map(|entry| entry.name.clone()).collect()
    }
}

struct StagedEntry {
    entry: Entry,
    content: Option<Bytes>,
    name: Option<String>,
    problem: Option<String>,
}

/// What recording a batch came to.
pub struct Applied {
    pub ack: Ack,
    /// To be published now.
    pub paths: Vec<RelPath>,
}

impl<E: Env> Share<E> {
    /// Step 1. `unsure`: paths that an earlier batch has, which may not be recorded yet.
    pub fn stage_batch(
        &self,
        batch: Batch,
        unsure: &dyn Fn(&RelPath) -> bool,
    ) -> Result<Staged, ApplyError> {
        let mut names = Vec::new();
        let staged = self.stage_entries(batch, unsure, &mut names);
        if staged.is_err() {
            // Best effort: a full disk must not fill further with every try.
            let _ = self.discard(names);
        }
        staged
    }

    fn stage_entries(
        &self,
        batch: Batch,
        unsure: &dyn Fn(&RelPath) -> bool,
        names: &mut Vec<String>,
    ) -> Result<Staged, ApplyError> {
        let unpacked = batch.unpack()?;
        let reader = self.index.read().map_err(ShareError::from)?;
        let mut dirs = Dirs::new(&self.vfs);
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let mut files = Vec::new();
        let mut entries = Vec::with_capacity(batch.entries.len());
        let ahead_max = self.settings().limits.clock_ahead_max.as_millis();
        let latest_ms = self.now_ms().saturating_add(u64::try_from(ahead_max).unwrap_or(u64::MAX));
        for received in &batch.entries {
            let entry = received.entry.clone();
            if is_own(&entry.path) {
                return Err(ApplyError::OwnPath(entry.path));
            }
            if entry.version.stamp.class == Class::Made && entry.version.stamp.wall_ms > latest_ms {
                return Err(self.refuse_ahead(&entry));
            }
            let content = received.content_in(&unpacked);
            if let (Some(content), Some((hash, _))) = (&content, entry.kind.content()) {
                if ContentHash::of(content) != hash {
                    return Err(ApplyError::Hash(entry.path));
                }
                // All of a pack live as long as one of them does: they come together and go together.
                self.keep_content(hash, content.clone());
            }
            let mut staged = StagedEntry { entry, content, name: None, problem: None };
            if self.needs_staging(&reader, &staged.entry, received.content, unsure)? {
                let name = self.staging_name();
                names.push(name.clone());
                let content = staged.content.as_ref();
                match self.stage(&staging, &name, &staged.entry.kind, content) {
                    Ok(file) => {
                        // More than this are made durable all together: no need to keep them open.
                        files.extend(file.filter(|_| files.len() <= SYNC_SINGLY_MAX));
                        staged.name = Some(name);
                    }
                    Err(error) if is_disk_trouble(&error) => {
                        return Err(ShareError::disk("staging")(error).into());
                    }
                    Err(error) => {
                        let _ = self.discard([name]);
                        staged.problem = Some(format!("staging: {error}"));
                    }
                }
            }
            entries.push(staged);
        }
        let mut unsynced =
            entries.iter().any(|entry| entry.name.is_some()).then(|| self.syncs.begun());
        // Many are made durable together, and maybe with what is published meanwhile.
        if unsynced.is_some() && files.len() < SYNC_SINGLY_MAX {
            self.sync(&files, &[staging])
                .map_err(ShareError::disk("making staged files durable"))?;
            unsynced = None;
        }
        Ok(Staged { batch, entries, unsynced })
    }

    /// Whether what is staged has still to be made durable: no sync of everything has done it since.
    pub fn is_unsynced(&self, staged: &Staged) -> bool {
        staged.unsynced.is_some_and(|begun| self.syncs.since(begun) != Since::Done)
    }

    /// Makes what is staged durable.
    pub fn sync_staged(&self, staged: Staged) -> Result<Staged, ApplyError> {
        let mut synced = self.sync_all();
        if synced.is_ok()
            && staged.unsynced.is_some_and(|begun| self.syncs.since(begun) == Since::Failed)
        {
            // It may have been about these, and nobody is told twice (syncfs(2)).
            synced = Err(io::Error::other("a sync failed that began after they were written"));
        }
        if let Err(error) = synced {
            // Best effort, as above.
            let _ = self.discard(staged.names());
            return Err(ShareError::disk("making staged files durable")(error).into());
        }
        Ok(staged)
    }

    fn refuse_ahead(&self, entry: &Entry) -> ApplyError {
        self.env.probe(Point::ClockAhead);
        let now_ms = self.now_ms();
        let ahead = Duration::from_secs(entry.version.stamp.wall_ms.saturating_sub(now_ms) / 1000);
        let refused = ApplyError::Ahead { path: entry.path.clone(), ahead };
        self.board.problem(&entry.path, &refused, now_ms);
        refused
    }

    /// Whether an entry's content has to be put into staging: it will be published, and is not what
    /// is at the name already.
    fn needs_staging(
        &self,
        reader: &Reader,
        entry: &Entry,
        content: ContentRef,
        unsure: &dyn Fn(&RelPath) -> bool,
    ) -> Result<bool, ShareError> {
        match &entry.kind {
            Kind::Dir { .. } | Kind::Tombstone { .. } => return Ok(false),
            Kind::File { size, .. }
                if *size > 0 && !matches!(content, ContentRef::Inline { .. }) =>
            {
                return Ok(false);
            }
            _ => {}
        }
        let Some(record) = reader.record(&entry.path)? else { return Ok(true) };
        let known = Some((&record.kind, &record.version));
        let wins = matches!(merge(known, (&entry.kind, &entry.version)), Merge::Wins { .. });
        let published = record.published().map(|published| published.kind);
        let same_content = match (&published, &entry.kind) {
            (Some(Kind::File { size: was, hash: old, .. }), Kind::File { size, hash, .. }) => {
                was == size && old == hash
            }
            (Some(published), kind) => published == kind,
            (None, _) => false,
        };
        // What loses to this record loses to the ones that an earlier batch may still make of it.
        Ok(wins && (!same_content || unsure(&entry.path)))
    }

    /// Step 2. The caller holds the gate.
    pub fn record_batch(&self, from: &NodeName, staged: Staged) -> Result<Applied, ApplyError> {
        let names = staged.names();
        let Staged { batch, entries, .. } = staged;
        let recorded = self.record_entries(from, batch, entries);
        // A commit whose sync failed may be there all the same when the index is opened again, with
        // intents that name these: the next start removes what nothing refers to.
        let in_doubt = matches!(recorded, Err(ApplyError::Share(ShareError::Index(_))));
        if recorded.is_err() && !in_doubt {
            // Nothing was committed. Best effort, as above.
            let _ = self.discard(names);
        }
        recorded
    }

    fn record_entries(
        &self,
        from: &NodeName,
        batch: Batch,
        entries: Vec<StagedEntry>,
    ) -> Result<Applied, ApplyError> {
        self.settle_doubts()?;
        let state = self.index.state();
        let mut paths = Vec::new();
        let mut after = Aftermath::default();
        let mut writer = self.index.begin().map_err(ShareError::from)?;
        let mut refused = false;
        for received in entries {
            refused |= self.record_entry(&mut writer, from, received, &mut paths, &mut after)?;
        }
        writer.set_cursor(from, batch.cursor).map_err(ShareError::from)?;
        if let Some(end) = &batch.end {
            for replica in writer.state.knowledge.forks(&end.knowledge) {
                // A restored index used counters again (PROTOCOL A2).
                tracing::error!(%replica, %from, "two changes carry one name: was an index restored?");
            }
            writer.state.knowledge.join(&end.knowledge);
            if end.full {
                // What was dropped there is dropped here (`full_pass.rs`).
                writer.state.collected.join(&end.collected);
                let stamp = writer.state.collected_stamp.max(end.collected_stamp);
                writer.state.collected_stamp = stamp;
            }
        }
        let learnt = writer.state.knowledge != state.knowledge;
        let recorded = writer.state.head > state.head;
        // What was refused is acknowledged, too: nobody is to send its content again.
        let durable = recorded || refused;
        let now = writer.commit(self.env.random_u64(), durable).map_err(ShareError::from)?;
        if recorded {
            self.env.probe(Point::IntentsDurable);
        }
        after.moved |= recorded || learnt;
        self.finish(after)?;
        let knowledge = learnt.then_some(now.knowledge);
        Ok(Applied { ack: Ack { number: batch.number, knowledge }, paths })
    }

    /// Records that what is known at a path goes, because `from` knew it and holds it no more.
    pub fn record_drop(
        &self,
        writer: &mut Writer,
        from: &NodeName,
        entry: Entry,
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        let received = StagedEntry { entry, content: None, name: None, problem: None };
        self.record_entry(writer, from, received, &mut Vec::new(), after)?;
        after.moved = true;
        Ok(())
    }

    /// Says whether the entry was refused, for a greater one.
    fn record_entry(
        &self,
        writer: &mut Writer,
        from: &NodeName,
        received: StagedEntry,
        paths: &mut Vec<RelPath>,
        after: &mut Aftermath,
    ) -> Result<bool, ShareError> {
        let StagedEntry { entry, content, name, problem } = received;
        let record = writer.record(&entry.path)?;
        if record.is_none() && writer.state.knowledge.covers(&entry.version.dot) {
            // Known once, and collected since (PROTOCOL A7).
            after.garbage.extend(name);
            return Ok(false);
        }
        let known = record.as_ref().map(|record| (&record.kind, &record.version));
        match merge(known, (&entry.kind, &entry.version)) {
            Merge::Same => after.garbage.extend(name),
            Merge::Loses { conflict } => {
                after.garbage.extend(name);
                if conflict {
                    self.keep_refused(writer, &entry, content.as_ref(), record.as_ref())?;
                }
                if let Some(record) = &record
                    && self.may_be_accepted_elsewhere(&entry, record)
                {
                    self.delete_again(writer, &entry.path, record, after)?;
                    paths.push(entry.path);
                }
                return Ok(true);
            }
            Merge::Wins { conflict } => {
                if conflict && let Some(record) = &record {
                    self.keep_loser(writer, record, &entry)?;
                }
                // Where a deletion moves the file to is part of the intent too.
                let takes =
                    record.as_ref().is_some_and(Record::is_live_on_disk) && !entry.kind.is_live();
                let name = name.or_else(|| takes.then(|| self.staging_name()));
                let how = (name, Some(from.clone()));
                self.know_and_intend(writer, &entry, record.as_ref(), how, after)?;
                if let Some(problem) = problem {
                    self.board.problem(&entry.path, &problem, self.now_ms());
                }
                self.board.count(|counters| counters.applied += 1);
                paths.push(entry.path);
            }
        }
        Ok(false)
    }

    /// Step 3. The caller holds the gate.
    pub fn publish_batch(&self, mut paths: Vec<RelPath>) -> Result<Unpublished, ShareError> {
        // What the batch made appear or vanish elsewhere goes along.
        paths.append(&mut crate::share::lock(&self.pending).now);
        self.publish(paths)
    }
}
