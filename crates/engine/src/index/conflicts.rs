//! The conflict log: read from the newest down, written with the commit that noticed one.

use chainsync_core::NodeName;
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::read::{get, open, storage};
use super::schema::{CONFLICT_NOTES, CONFLICTS, decode, encode};
use super::write::table;
use super::{Conflict, IndexError, Reader, Writer};

/// Who made the two versions, as far as it was known when the conflict was noticed: versions carry
/// replica ids, and which node had one is known only while its rows say so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConflictNote {
    pub loser: Option<NodeName>,
    pub winner: Option<NodeName>,
}

impl Reader {
    pub fn conflict(&self, number: u64) -> Result<Option<(Conflict, ConflictNote)>, IndexError> {
        let conflicts = open(&self.transaction, CONFLICTS)?;
        let Some(row) = get(&conflicts, number)? else { return Ok(None) };
        Ok(Some((decode("conflict", &row)?, self.conflict_note(number)?)))
    }

    /// At most `max` conflicts that `wanted` accepts, the newest first.
    pub fn conflicts(
        &self,
        max: usize,
        wanted: &mut dyn FnMut(&Conflict) -> bool,
    ) -> Result<Vec<(u64, Conflict, ConflictNote)>, IndexError> {
        let conflicts = open(&self.transaction, CONFLICTS)?;
        let mut found = Vec::new();
        for row in conflicts.iter().map_err(storage)?.rev() {
            let (number, value) = row.map_err(storage)?;
            let conflict = decode("conflict", value.value())?;
            if found.len() >= max {
                break;
            }
            if wanted(&conflict) {
                let number = number.value();
                found.push((number, conflict, self.conflict_note(number)?));
            }
        }
        Ok(found)
    }

    /// The conflicts behind `after`, at most `max`, the oldest first.
    pub fn conflicts_after(
        &self,
        after: u64,
        max: usize,
    ) -> Result<Vec<(u64, Conflict, ConflictNote)>, IndexError> {
        let conflicts = open(&self.transaction, CONFLICTS)?;
        let rows = conflicts.range(after.saturating_add(1)..).map_err(storage)?;
        rows.take(max)
            .map(|row| {
                let (number, value) = row.map_err(storage)?;
                let number = number.value();
                Ok((number, decode("conflict", value.value())?, self.conflict_note(number)?))
            })
            .collect()
    }

    /// The conflicts before a number, at most `max`, the newest first.
    pub fn conflicts_before(
        &self,
        before: u64,
        max: usize,
    ) -> Result<Vec<(u64, Conflict)>, IndexError> {
        let conflicts = open(&self.transaction, CONFLICTS)?;
        let rows = conflicts.range(..before).map_err(storage)?.rev();
        rows.take(max)
            .map(|row| {
                let (number, value) = row.map_err(storage)?;
                Ok((number.value(), decode("conflict", value.value())?))
            })
            .collect()
    }

    fn conflict_note(&self, number: u64) -> Result<ConflictNote, IndexError> {
        let notes = open(&self.transaction, CONFLICT_NOTES)?;
        let row = get(&notes, number)?;
        Ok(row.map(|row| decode("conflict note", &row)).transpose()?.unwrap_or_default())
    }
}

impl Writer {
    pub fn remove_conflict(&mut self, number: u64) -> Result<(), IndexError> {
        let mut conflicts = self.transaction.open_table(CONFLICTS).map_err(table)?;
        conflicts.remove(number).map_err(storage)?;
        let mut notes = self.transaction.open_table(CONFLICT_NOTES).map_err(table)?;
        notes.remove(number).map_err(storage)?;
        Ok(())
    }

    /// Notes who made the versions of the conflict that was added last.
    pub fn note_conflict(&mut self, note: &ConflictNote) -> Result<(), IndexError> {
        let number = self.state.conflicts;
        let mut notes = self.transaction.open_table(CONFLICT_NOTES).map_err(table)?;
        notes.insert(number, encode(note).as_slice()).map_err(storage)?;
        Ok(())
    }
}
