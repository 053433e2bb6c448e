//! What a share's policy does for edits that lost: copies beside the winner, or edits made again over
//! a deletion. See [`chainsync_core::policy`].
//!
//! Goes through the conflict log behind the commits that wrote it, and notes in the index how far it
//! came: nothing is forgotten by a crash, and nothing is done for conflicts of an earlier policy. What
//! it makes is a change of this node like any other, published from staging.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chainsync_core::policy::{again, copy_of};
use chainsync_core::{Entry, Kind, NodeName, Policy, Version};
use chainsync_env::{Env, Point};
use tokio::time::Instant;

use crate::change::Aftermath;
use crate::disk::Dirs;
use crate::index::{Conflict, Heeded, Reader, Rows, State};
use crate::share::{Share, ShareError, lock};

/// Conflicts gone through in one job.
const CONFLICTS_MAX: usize = 256;
/// Of these, so many contents are made ready before they are committed.
const DEEDS_MAX: usize = 32;

/// How far the policy has been applied.
#[derive(Default)]
pub struct Heeding {
    /// Every conflict up to here, as the index notes it.
    upto: AtomicU64,
    /// Since when conflicts have been waiting for somebody else's copy. At most one job's.
    since: Mutex<BTreeMap<u64, Instant>>,
}

/// Something to do for a loser, with its content in staging.
struct Deed {
    staged: String,
    what: What,
}

enum What {
    /// The copy, but for its dot: that is its maker's.
    Copy(Entry),
    /// The edit.
    Again(Entry),
}

/// What one job comes to.
struct Deeds {
    deeds: Vec<Deed>,
    /// Every conflict up to here needs nothing more once the deeds are done.
    heeded: Heeded,
    /// Whether there was more than one job's worth.
    more: bool,
}

/// What a conflict asks for.
enum Verdict {
    Nothing,
    /// The content has not been displaced from its name yet.
    NotYet,
    Do(What),
}

/// Applies the policy to what was noticed since. The caller does not hold the gate.
pub async fn heed<E: Env>(share: &Arc<Share<E>>) -> Result<(), ShareError> {
    while share.has_unheeded() && share.board.halted().is_none() {
        let worker = share.clone();
        let deeds = share.env.blocking(move || worker.prepare_deeds()).await?;
        let more = deeds.more;
        let _gate = share.gate.lock().await;
        let worker = share.clone();
        share.env.blocking(move || worker.do_deeds(deeds)).await?;
        if !more {
            break;
        }
    }
    Ok(())
}

impl<E: Env> Share<E> {
    /// Whether conflicts were noticed that the policy has not been applied to.
    pub fn has_unheeded(&self) -> bool {
        self.settings().policy != Policy::Younger
            && self.index.state().conflicts > self.heeding.upto.load(Ordering::Relaxed)
    }

    /// Whether the policy has not come to this conflict yet.
    pub fn is_unheeded(&self, number: u64) -> bool {
        self.has_unheeded() && number > self.heeding.upto.load(Ordering::Relaxed)
    }

    /// At start, and when the policy changes: the conflicts of another policy are left as they are. The
    /// caller holds the gate.
    pub fn begin_policy(&self) -> Result<(), ShareError> {
        let policy = self.settings().policy;
        let reader = self.index.read()?;
        let heeded = match reader.heeded()? {
            Some(heeded) if heeded.policy == policy => heeded,
            None if policy == Policy::Younger => return Ok(()),
            _ => {
                let heeded = Heeded { policy, upto: reader.state().conflicts };
                let mut writer = self.index.begin()?;
                writer.set_heeded(heeded)?;
                writer.commit(self.env.random_u64(), true)?;
                heeded
            }
        };
        self.heeding.upto.store(heeded.upto, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the contents ready, without the gate.
    fn prepare_deeds(&self) -> Result<Deeds, ShareError> {
        let policy = self.settings().policy;
        let upto = self.heeding.upto.load(Ordering::Relaxed);
        let mut deeds = Deeds { deeds: Vec::new(), heeded: Heeded { policy, upto }, more: false };
        match self.prepare_into(&mut deeds) {
            Ok(()) => Ok(deeds),
            Err(error) => {
                // Best effort: a full disk must not fill further with every try.
                let _ = self.discard(deeds.deeds.into_iter().map(|deed| deed.staged));
                Err(error)
            }
        }
    }

    fn prepare_into(&self, deeds: &mut Deeds) -> Result<(), ShareError> {
        let reader = self.index.read()?;
        let mut waiting = false;
        let conflicts = reader.conflicts_after(deeds.heeded.upto, CONFLICTS_MAX)?;
        let whole = conflicts.len() < CONFLICTS_MAX;
        for (number, conflict, note) in conflicts {
            match self.verdict(&reader, deeds.heeded.policy, (number, &conflict), note.loser)? {
                Verdict::Nothing => {}
                Verdict::NotYet => waiting = true,
                Verdict::Do(_) if deeds.deeds.len() >= DEEDS_MAX => {
                    deeds.more = true;
                    return Ok(());
                }
                Verdict::Do(what) => {
                    let name = self.stage_archived(&conflict.kind)?;
                    deeds.deeds.extend(name.map(|staged| Deed { staged, what }));
                }
            }
            if !waiting {
                deeds.heeded.upto = number;
            }
        }
        deeds.more = !whole && !waiting;
        Ok(())
    }

    fn verdict(
        &self,
        rows: &Reader,
        policy: Policy,
        (number, conflict): (u64, &Conflict),
        loser: Option<NodeName>,
    ) -> Result<Verdict, ShareError> {
        let Conflict { path, kind, version, .. } = conflict;
        let entry = Entry { path: path.clone(), kind: kind.clone(), version: version.clone() };
        let what = match policy {
            Policy::Younger => return Ok(Verdict::Nothing),
            Policy::KeepBoth => {
                let Some(node) = loser.or_else(|| self.board.author(version.dot.replica)) else {
                    // Whoever made it knows itself.
                    return Ok(Verdict::Nothing);
                };
                let Some(copy) = copy_of(&entry, &node, version.dot) else {
                    return Ok(Verdict::Nothing);
                };
                if rows.record(&copy.path)?.is_some() || may_be_forgotten(&copy, rows.state()) {
                    return Ok(Verdict::Nothing);
                }
                // One copy will do, unless its author is gone.
                if node != self.me && self.is_early(number) {
                    return Ok(Verdict::NotYet);
                }
                What::Copy(copy)
            }
            Policy::EditBeatsDelete => {
                let mine = self.authors().contains(&version.dot.replica);
                if !mine || beaten_by(rows, &entry)?.is_none() {
                    return Ok(Verdict::Nothing);
                }
                What::Again(entry)
            }
        };
        let Some((hash, _)) = kind.content() else { return Ok(Verdict::Do(what)) };
        if self.archive.has(&hash).map_err(ShareError::disk("reading the archive"))? {
            return Ok(Verdict::Do(what));
        }
        // It will be in the archive when it has been displaced and nobody has it open any more.
        let at_its_name = rows.record(path)?.and_then(|record| record.published());
        let held = rows.held()?.into_iter().map(|(_, held)| held);
        let mut places = at_its_name
            .into_iter()
            .chain(held.filter(|held| held.path == *path).map(|held| held.was));
        let comes = places.any(|published| published.version.dot == version.dot);
        Ok(if comes { Verdict::NotYet } else { Verdict::Nothing })
    }

    /// Whether the author of what lost in a conflict is still given time to make the copy: twice the
    /// time after which a silent node is dead, from when this was asked first.
    fn is_early(&self, number: u64) -> bool {
        let now = Instant::now();
        let mut since = lock(&self.heeding.since);
        let first = *since.entry(number).or_insert(now);
        now < first + self.dead_after() * 2
    }

    /// Puts what lost into staging, durable; nothing if the archive does not have it whole.
    fn stage_archived(&self, kind: &Kind) -> Result<Option<String>, ShareError> {
        let kept = match kind.content() {
            None => None,
            Some((hash, _)) => {
                let kept =
                    self.archive.open(&hash).map_err(ShareError::disk("reading the archive"))?;
                let Some((file, _)) = kept else { return Ok(None) };
                Some(file)
            }
        };
        let mut dirs = Dirs::new(&self.vfs);
        let staging = dirs.staging().map_err(ShareError::disk("opening staging"))?;
        let name = self.staging_name();
        let staged = self.stage_kept(&staging, &name, kind, kept.as_ref());
        let Err(error) = staged else { return Ok(Some(name)) };
        // Best effort: the error is told.
        let _ = self.discard([name]);
        if error.kind() == std::io::ErrorKind::InvalidData {
            tracing::error!("a content in the archive is damaged: it stays there");
            return Ok(None);
        }
        Err(ShareError::disk("staging what lost")(error))
    }

    /// Records what was made ready, where it still holds. The caller holds the gate.
    fn do_deeds(&self, deeds: Deeds) -> Result<(), ShareError> {
        let names: Vec<String> = deeds.deeds.iter().map(|deed| deed.staged.clone()).collect();
        if deeds.heeded.policy != self.settings().policy {
            // A reload came between.
            return self.discard(names).map_err(ShareError::disk("removing a staged file"));
        }
        let done = self.settle_doubts().and_then(|()| self.record_deeds(deeds));
        // As with a batch: what a failed commit names may be there when the index is opened again.
        if done.as_ref().is_err_and(|error| !matches!(error, ShareError::Index(_))) {
            let _ = self.discard(names);
        }
        done
    }

    fn record_deeds(&self, deeds: Deeds) -> Result<(), ShareError> {
        let Deeds { deeds, heeded, .. } = deeds;
        let moved = heeded.upto > self.heeding.upto.load(Ordering::Relaxed);
        if deeds.is_empty() && !moved {
            return Ok(());
        }
        let mut after = Aftermath::default();
        let mut writer = self.index.begin()?;
        for Deed { staged, what } in deeds {
            let author = self.author();
            let made = match what {
                What::Copy(copy)
                    if writer.record(&copy.path)?.is_none()
                        && !may_be_forgotten(&copy, &writer.state) =>
                {
                    let version = Version { dot: writer.next_dot(author), ..copy.version };
                    Some((Entry { version, ..copy }, Point::CopyKept))
                }
                What::Copy(_) => None,
                What::Again(edit) => beaten_by(&writer, &edit)?.map(|deletion| {
                    let dot = writer.next_dot(author);
                    (again(&edit, &deletion, author, dot), Point::EditAgain)
                }),
            };
            let Some((entry, point)) = made else {
                // Somebody was quicker.
                after.garbage.push(staged);
                continue;
            };
            let before = writer.record(&entry.path)?;
            let how = (Some(staged), None);
            self.know_and_intend(&mut writer, &entry, before.as_ref(), how, &mut after)?;
            self.env.probe(point);
            tracing::info!(path = %entry.path, "an edit that lost is here again: the share's policy");
            after.publish.push(entry.path);
            after.moved = true;
        }
        if moved {
            writer.set_heeded(heeded)?;
        }
        writer.commit(self.env.random_u64(), true)?;
        self.heeding.upto.store(heeded.upto, Ordering::Relaxed);
        lock(&self.heeding.since).retain(|number, _| *number > heeded.upto);
        self.board.touch();
        self.finish(after)
    }
}

/// Whether a copy may have been made and deleted, and its tombstone collected: it is as old as the edit
/// that lost (PROTOCOL A7). What lost stays in the archive.
fn may_be_forgotten(copy: &Entry, state: &State) -> bool {
    state.collected_stamp.is_some_and(|collected| copy.version.stamp <= collected)
}

/// The deletion, known here, to which an edit lost that it did not know of.
fn beaten_by(rows: &impl Rows, edit: &Entry) -> Result<Option<Version>, ShareError> {
    let known = rows.record(&edit.path)?.filter(|known| {
        !known.kind.is_live()
            && known.version.concurrent(&edit.version)
            && known.version.stamp > edit.version.stamp
    });
    Ok(known.map(|known| known.version))
}
