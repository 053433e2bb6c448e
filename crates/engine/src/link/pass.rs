//! One reading of the journal, up to the head of one snapshot (PROTOCOL A1).

use bytes::Bytes;
use chainsync_core::batch::{BatchBuilder, INLINE_BYTES_MAX};
use chainsync_core::gossip::ReceiverKnows;
use chainsync_core::wire::{BatchEntry, Cursor, Pack, PassEnd};
use chainsync_core::{ContentHash, Dot, Knowledge, Record, RelPath};
use chainsync_env::{Env, Point};

use super::holdings::Holdings;
use crate::index::{Reader, Rows};
use crate::share::{Share, ShareError};

/// Rows read from the journal at a time.
const ROWS_MAX: usize = 512;
/// Rows passed over, because the receiver has them, before the link gets to breathe.
const SCAN_MAX: usize = 16_384;
/// Bytes of the paths in one piece of a full pass's list. There are fewer than
/// [`HELD_PATHS_MAX`](chainsync_core::wire::HELD_PATHS_MAX) of them: one piece is one scan.
const HELD_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(SCAN_MAX <= chainsync_core::wire::HELD_PATHS_MAX);

pub struct Pass {
    reader: Reader,
    position: u64,
    full: Option<Listing>,
    /// Of contents in the batch before.
    bytes: usize,
}

/// How far the list of a full pass has come: behind its entries, in the order of the index.
#[derive(Default)]
struct Listing {
    begun: bool,
    after: Option<RelPath>,
}

/// What one reading step brought.
pub enum Step {
    /// Nothing to send yet.
    Scanning,
    Send(Piece),
}

/// The makings of a batch.
pub struct Piece {
    pub entries: Vec<BatchEntry>,
    pub packs: Vec<Pack>,
    /// In a full pass, and behind its entries: paths at which something is held.
    pub held: Vec<RelPath>,
    pub cursor: Cursor,
    /// The pass ends with this batch.
    pub end: Option<PassEnd>,
}

impl Pass {
    /// `after`: the cursor of the receiver. `told`: what the last pass of this connection told it.
    ///
    /// A receiver that does not know of everything that was collected here may hold what was deleted,
    /// and nobody has the tombstone any more: it gets a full pass (PROTOCOL A7).
    pub fn open<E: Env>(
        share: &Share<E>,
        after: u64,
        knows: &ReceiverKnows,
        told: Option<&Knowledge>,
    ) -> Result<Self, ShareError> {
        let reader = share.index.read()?;
        let known =
            |dot: &Dot| knows.knowledge().covers(dot) || told.is_some_and(|told| told.covers(dot));
        let collected = &reader.state().collected;
        let told_all = collected.iter().all(|(replica, counter)| known(&Dot { replica, counter }));
        if told_all {
            return Ok(Self { reader, position: after, full: None, bytes: 0 });
        }
        share.env.probe(Point::FullPass);
        tracing::info!("the receiver lacks deletions that are no longer kept: a full pass");
        Ok(Self { reader, position: 0, full: Some(Listing::default()), bytes: 0 })
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// `bytes_max`: of the contents in one batch.
    pub fn next<E: Env>(
        &mut self,
        share: &Share<E>,
        knows: &ReceiverKnows,
        holdings: &Holdings,
        bytes_max: usize,
    ) -> Result<Step, ShareError> {
        if self.full.as_ref().is_some_and(|listing| listing.begun) {
            return self.list();
        }
        let entries_max = share.settings().limits.batch_entries_max;
        let mut batch = BatchBuilder::new(entries_max).bytes_max(bytes_max).room_for(self.bytes);
        let mut scanned = 0;
        let done = 'batch: loop {
            let rows = self.reader.journal(self.position, ROWS_MAX)?;
            if rows.is_empty() {
                break true;
            }
            for (sequence, path) in rows {
                scanned += 1;
                let record = self.reader.record(&path)?;
                let Some(record) = record.filter(|record| record.sequence == sequence) else {
                    self.position = sequence;
                    continue;
                };
                let entry = record.entry(path);
                if knows.covers(&entry) {
                    // Kept for this link, which does not need it.
                    if let Some((hash, _)) = entry.kind.content() {
                        share.take_content(&hash);
                    }
                    self.position = sequence;
                    continue;
                }
                let content = match entry.kind.content() {
                    None => None,
                    Some((hash, _)) if holdings.holds(&entry.path, &hash) || batch.holds(&hash) => {
                        None
                    }
                    Some((hash, size)) => {
                        // A large content is announced only.
                        let inline = if size > INLINE_BYTES_MAX { 0 } else { size as usize };
                        if batch.is_full_for(inline) {
                            break 'batch false;
                        }
                        self.content(share, &entry.path, (hash, size), &record)?
                    }
                };
                if batch.is_full_for(0) {
                    break 'batch false;
                }
                batch.push(entry, content.as_ref());
                self.position = sequence;
            }
            if scanned >= SCAN_MAX {
                break false;
            }
        };
        if !done && batch.is_empty() {
            return Ok(Step::Scanning);
        }
        let sequence = if done { self.reader.state().head } else { self.position };
        self.position = sequence;
        if let (true, Some(listing)) = (done, &mut self.full) {
            // The list comes behind the entries, in batches of its own.
            listing.begun = true;
            if batch.is_empty() {
                return Ok(Step::Scanning);
            }
        }
        let end = (done && self.full.is_none()).then(|| self.end());
        let cursor = self.cursor()?;
        self.bytes = batch.content_bytes();
        let (entries, packs) = batch.finish();
        Ok(Step::Send(Piece { entries, packs, held: Vec::new(), cursor, end }))
    }

    /// The next piece of the list, with the end of the pass if it is the last one.
    ///
    /// Live paths only: where this node has a tombstone, the receiver has something that is no older,
    /// or got it with this pass.
    fn list(&mut self) -> Result<Step, ShareError> {
        let Some(listing) = &mut self.full else { return Ok(Step::Scanning) };
        let rows = self.reader.records(listing.after.as_ref(), SCAN_MAX)?;
        let mut done = rows.len() < SCAN_MAX;
        let (mut held, mut bytes) = (Vec::new(), 0);
        for (path, record) in rows {
            if bytes >= HELD_BYTES_MAX {
                done = false;
                break;
            }
            listing.after = Some(path.clone());
            if record.kind.is_live() {
                bytes += path.as_bytes().len();
                held.push(path);
            }
        }
        if held.is_empty() && !done {
            return Ok(Step::Scanning);
        }
        let end = done.then(|| self.end());
        let cursor = self.cursor()?;
        Ok(Step::Send(Piece { entries: Vec::new(), packs: Vec::new(), held, cursor, end }))
    }

    fn cursor(&self) -> Result<Cursor, ShareError> {
        let tag = self.reader.tag_at(self.position)?.unwrap_or(0);
        Ok(Cursor { sequence: self.position, tag })
    }

    fn content<E: Env>(
        &self,
        share: &Share<E>,
        path: &RelPath,
        (hash, size): (ContentHash, u64),
        record: &Record,
    ) -> Result<Option<Bytes>, ShareError> {
        if size > INLINE_BYTES_MAX {
            return Ok(None);
        }
        if let Some(content) = share.take_content(&hash) {
            return Ok(Some(content));
        }
        let content = share.find_content(path, &hash, Some(record), &self.reader)?;
        if content.is_none() {
            share.env.probe(Point::ContentMissing);
        }
        Ok(content)
    }

    fn end(&self) -> PassEnd {
        let state = self.reader.state();
        PassEnd {
            knowledge: state.knowledge.clone(),
            collected: state.collected.clone(),
            collected_stamp: state.collected_stamp,
            full: self.full.is_some(),
        }
    }
}
