//! One reading of the journal, up to the head of one snapshot (PROTOCOL A1).

use bytes::Bytes;
use chainsync_core::batch::{BatchBuilder, INLINE_BYTES_MAX};
use chainsync_core::gossip::ReceiverKnows;
use chainsync_core::wire::{BatchEntry, Cursor, Pack, PassEnd};
use chainsync_core::{ContentHash, Record, RelPath};
use chainsync_env::{Env, Point};

use super::holdings::Holdings;
use crate::index::{Reader, Rows};
use crate::share::{Share, ShareError};

/// Rows read from the journal at a time.
const ROWS_MAX: usize = 512;
/// Rows passed over, because the receiver has them, before the link gets to breathe.
const SCAN_MAX: usize = 16_384;

pub struct Pass {
    reader: Reader,
    position: u64,
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
    pub cursor: Cursor,
    /// The pass ends with this batch.
    pub end: Option<PassEnd>,
}

impl Pass {
    /// `after`: the cursor of the receiver.
    pub fn open<E: Env>(share: &Share<E>, after: u64) -> Result<Self, ShareError> {
        Ok(Self { reader: share.index.read()?, position: after })
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn next<E: Env>(
        &mut self,
        share: &Share<E>,
        knows: &ReceiverKnows,
        holdings: &Holdings,
    ) -> Result<Step, ShareError> {
        let mut batch = BatchBuilder::new(share.settings().limits.batch_entries_max);
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
                    self.position = sequence;
                    continue;
                }
                let content = match entry.kind.content() {
                    None => None,
                    Some((hash, _)) if holdings.holds(&entry.path, &hash) => None,
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
        let end = done.then(|| self.end());
        let sequence = if done { self.reader.state().head } else { self.position };
        self.position = sequence;
        let tag = self.reader.tag_at(sequence)?.unwrap_or(0);
        let (entries, packs) = batch.finish();
        Ok(Step::Send(Piece { entries, packs, cursor: Cursor { sequence, tag }, end }))
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
            full: false,
        }
    }
}
