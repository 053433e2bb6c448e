//! How old what is in the journal is at least, and the end of tombstones.
//!
//! A record does not say when it was made here: its stamp is its author's word, and a deletion that a
//! sweep found is stamped at its lower bound. So the head of the journal is noted now and then with
//! the time; what is not above a head was recorded before it was noted.

use serde::{Deserialize, Serialize};

use chainsync_core::RelPath;

use super::read::{Reader, open, storage};
use super::schema::{JOURNAL, META_MARKS, key_path};
use super::write::Writer;
use super::{IndexError, Rows};

/// Marks kept. The age at which a tombstone goes is exact to this part of it.
pub const MARKS_MAX: u64 = 32;

/// Heads of the journal with the time when each was noted, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(Vec<Mark>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Milliseconds since 1970.
    noted_ms: u64,
    head: u64,
}

impl Marks {
    /// Notes the head, if that tells something: says whether it did. What is older than `age_ms` is
    /// forgotten, but for the newest.
    pub fn note(&mut self, now_ms: u64, head: u64, age_ms: u64) -> bool {
        let every = age_ms / MARKS_MAX;
        // The clock was set back: what it said before is forgotten, which makes nothing older.
        self.0.retain(|mark| mark.noted_ms <= now_ms);
        let due = |last: &Mark| last.head < head && last.noted_ms.saturating_add(every) <= now_ms;
        if !self.0.last().is_none_or(due) {
            return false;
        }
        let old = |mark: &Mark| mark.noted_ms.saturating_add(age_ms) <= now_ms;
        let aged = self.0.iter().rposition(old).unwrap_or(0);
        self.0.drain(..aged);
        self.0.push(Mark { noted_ms: now_ms, head });
        true
    }

    /// The greatest sequence of which it is sure that it has been in the journal for so long.
    pub fn aged(&self, now_ms: u64, age_ms: u64) -> u64 {
        let old = self.0.iter().filter(|mark| mark.noted_ms.saturating_add(age_ms) <= now_ms);
        old.map(|mark| mark.head).max().unwrap_or(0)
    }
}

impl Reader {
    pub fn marks(&self) -> Result<Marks, IndexError> {
        Ok(self.meta(META_MARKS)?.unwrap_or_default())
    }

    /// The path that has a sequence, if one still has it.
    pub fn path_at(&self, sequence: u64) -> Result<Option<RelPath>, IndexError> {
        let journal = open(&self.transaction, JOURNAL)?;
        let row = journal.get(sequence).map_err(storage)?;
        row.map(|row| key_path(row.value())).transpose()
    }
}

impl Writer {
    pub fn set_marks(&mut self, marks: &Marks) -> Result<(), IndexError> {
        self.put_meta(META_MARKS, marks)
    }

    /// Forgets a tombstone, and that it is gone: what it was goes into `collected`.
    pub fn collect(&mut self, path: &RelPath) -> Result<(), IndexError> {
        let Some(record) = self.record(path)?.filter(|record| !record.kind.is_live()) else {
            return Ok(());
        };
        self.draft.journal(record.sequence, None);
        self.draft.put(path, None);
        self.state.collected.raise(record.version.dot);
        self.state.collected_stamp = self.state.collected_stamp.max(Some(record.version.stamp));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_before_a_mark_is_as_old_as_the_mark() {
        let mut marks = Marks::default();
        assert_eq!(marks.aged(1_000_000, 320), 0);
        assert!(marks.note(1_000, 5, 320));
        assert!(!marks.note(2_000, 5, 320), "nothing new");
        assert!(!marks.note(1_009, 6, 320), "too soon");
        assert!(marks.note(1_010, 6, 320));
        assert_eq!(marks.aged(1_319, 320), 0);
        assert_eq!(marks.aged(1_320, 320), 5);
        assert_eq!(marks.aged(1_330, 320), 6);
        // A shorter age counts at once, a longer one as far as is known.
        assert_eq!(marks.aged(1_020, 10), 6);
        assert_eq!(marks.aged(1_320, 1_000), 0);
    }

    #[test]
    fn there_are_never_many_marks() {
        let mut marks = Marks::default();
        for now in 0..100_000 {
            marks.note(now, now, 3_200);
            assert!(marks.0.len() as u64 <= MARKS_MAX + 2, "{}", marks.0.len());
            let aged = marks.aged(now, 3_200);
            assert!(aged <= now.saturating_sub(3_200) && now.saturating_sub(aged) <= 3_400);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_older() {
        let mut marks = Marks::default();
        assert!(marks.note(9_000, 5, 320));
        assert_eq!(marks.aged(1_400, 320), 0);
        assert!(marks.note(1_400, 6, 320));
        assert_eq!(marks.aged(1_719, 320), 0);
        assert_eq!(marks.aged(1_720, 320), 6);
    }
}
