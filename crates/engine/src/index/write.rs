//! One commit to the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use chainsync_core::knowledge::Recorded;
use chainsync_core::wire::Cursor;
use chainsync_core::{Dot, Entry, NodeName, Record, RelPath, ReplicaId, projection};
use redb::{Durability, ReadableTable, Table, WriteTransaction};
use serde::Serialize;

use super::draft::Draft;
use super::read::{Reader, Rows, storage};
use super::schema::{
    CONFLICT_NOTES, CONFLICTS, CURSORS, HELD, INTENTS, JOURNAL, META, META_EXCLUDE, META_SCHEMA,
    META_STATE, PATHS, TAGS, decode, encode,
};
use super::{
    Author, Conflict, Held, IndexError, Intent, SCHEMA, Shared, State, TAGS_MAX, check_schema, lock,
};

/// A commit in the making. Dropped without [`commit`](Writer::commit), nothing of it happened.
pub struct Writer {
    pub(super) transaction: WriteTransaction,
    pub(super) draft: Draft,
    shared: Arc<Shared>,
    /// Intents made (with their dot) and done.
    pending: BTreeMap<RelPath, Option<Dot>>,
    before: State,
    /// Changed at will; written with the commit.
    pub state: State,
}

impl Writer {
    /// `newest`: the last commit, read while `transaction` keeps everybody else from another.
    pub(super) fn new(transaction: WriteTransaction, newest: Reader, shared: Arc<Shared>) -> Self {
        let state = newest.state().clone();
        let (draft, before) = (Draft::new(newest), state.clone());
        Self { transaction, draft, shared, pending: BTreeMap::new(), before, state }
    }

    /// Makes `entry` the known one of its path, at the head of the journal. What is published
    /// there stays.
    pub fn know(&mut self, entry: &Entry) -> Result<Record, IndexError> {
        let old = self.draft.record(&entry.path)?;
        let was_live = old.as_ref().is_some_and(|record| record.kind.is_live());
        match (was_live, entry.kind.is_live()) {
            (false, true) => self.state.entries += 1,
            (true, false) => self.state.entries -= 1,
            _ => {}
        }
        self.state.head += 1;
        let sequence = self.state.head;
        let record = match old {
            None => Record::new(entry, sequence),
            Some(mut record) => {
                self.draft.journal(record.sequence, None);
                record.supersede(entry, sequence);
                record
            }
        };
        self.draft.journal(sequence, Some(&entry.path));
        self.draft.put(&entry.path, Some(record.clone()));
        Ok(record)
    }

    /// Stores a record whose known entry did not change.
    pub fn put_record(&mut self, path: &RelPath, record: Record) {
        self.draft.put(path, Some(record));
    }

    /// The name of the next change made here under `replica`.
    pub fn next_dot(&mut self, replica: ReplicaId) -> Dot {
        let counter = match self.state.author {
            Some(author) if author.replica == replica => author.counter + 1,
            _ => 1,
        };
        self.state.author = Some(Author { replica, counter, tag: 0 });
        Dot { replica, counter }
    }

    pub fn set_cursor(&mut self, upstream: &NodeName, cursor: Cursor) -> Result<(), IndexError> {
        let mut cursors = self.table(CURSORS)?;
        cursors.insert(upstream.as_str(), (cursor.sequence, cursor.tag)).map_err(storage)?;
        Ok(())
    }

    pub fn put_intent(&mut self, path: &RelPath, intent: Intent) {
        self.pending.insert(path.clone(), Some(intent.version.dot));
        self.draft.put_intent(path, Some(intent));
    }

    pub fn remove_intent(&mut self, path: &RelPath) -> Result<Option<Intent>, IndexError> {
        let removed = self.draft.intent(path)?;
        self.pending.insert(path.clone(), None);
        if removed.is_some() {
            self.draft.put_intent(path, None);
        }
        Ok(removed)
    }

    pub fn intent(&self, path: &RelPath) -> Result<Option<Intent>, IndexError> {
        self.draft.intent(path)
    }

    /// Whether there is, to all that is known, a file or symlink in the place of a directory above a path.
    pub fn is_blocked(&self, path: &RelPath) -> Result<bool, IndexError> {
        for ancestor in path.ancestors() {
            let blocking =
                |record: &Record| record.kind.is_live() && projection::blocks(&record.kind);
            if self.draft.peek(&ancestor, |record| record.is_some_and(blocking))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes the patterns under which paths are looked at from now on.
    pub fn set_exclude(&mut self, patterns: &[String]) -> Result<(), IndexError> {
        self.put_meta(META_EXCLUDE, &patterns)
    }

    pub(super) fn put_meta(&self, key: &str, value: &impl Serialize) -> Result<(), IndexError> {
        self.table(META)?.insert(key, encode(value).as_slice()).map_err(storage)?;
        Ok(())
    }

    pub fn put_held(&mut self, name: &str, held: &Held) -> Result<(), IndexError> {
        let mut table = self.table(HELD)?;
        table.insert(name, encode(held).as_slice()).map_err(storage)?;
        Ok(())
    }

    pub fn remove_held(&mut self, name: &str) -> Result<(), IndexError> {
        self.table(HELD)?.remove(name).map_err(storage)?;
        Ok(())
    }

    pub fn add_conflict(&mut self, conflict: &Conflict) -> Result<(), IndexError> {
        self.state.conflicts += 1;
        let mut conflicts = self.table(CONFLICTS)?;
        conflicts.insert(self.state.conflicts, encode(conflict).as_slice()).map_err(storage)?;
        Ok(())
    }

    /// Ends the commit. `tag`: a fresh random number, kept beside the sequences made here. `durable`:
    /// whether it has to survive power loss when this returns.
    pub fn commit(mut self, tag: u64, durable: bool) -> Result<State, IndexError> {
        if self.state.head > self.before.head {
            let mut tags = self.table(TAGS)?;
            tags.insert(self.state.head, tag).map_err(storage)?;
            let count = redb::ReadableTableMetadata::len(&tags).map_err(storage)?;
            if count > TAGS_MAX {
                tags.pop_first().map_err(storage)?;
            }
        }
        if self.state.author.map(|author| (author.replica, author.counter))
            != self.before.author.map(|author| (author.replica, author.counter))
            && let Some(author) = &mut self.state.author
        {
            author.tag = tag;
            let recorded = Recorded { counter: author.counter, tag };
            self.state.knowledge.record(author.replica, recorded);
        }
        self.state.commits += 1;
        self.put_meta(META_STATE, &self.state)?;
        self.draft.write(&self.transaction)?;
        let durability = if durable { Durability::Immediate } else { Durability::None };
        self.transaction
            .set_durability(durability)
            .map_err(|error| IndexError::Damaged { what: error.to_string() })?;
        self.transaction.commit().map_err(|error| IndexError::Storage(error.into()))?;
        let mut pending = lock(&self.shared.pending);
        for (path, dot) in self.pending {
            match dot {
                Some(dot) => pending.insert(path, dot),
                None => pending.remove(&path),
            };
        }
        drop(pending);
        let mut shared = lock(&self.shared.state);
        // The next writer may have been quicker.
        if shared.commits < self.state.commits {
            *shared = self.state.clone();
        }
        Ok(self.state)
    }

    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: redb::TableDefinition<K, V>,
    ) -> Result<Table<'_, K, V>, IndexError> {
        self.transaction.open_table(definition).map_err(table)
    }
}

impl Rows for Writer {
    fn record(&self, path: &RelPath) -> Result<Option<Record>, IndexError> {
        self.draft.record(path)
    }

    fn children(&self, dir: Option<&RelPath>) -> Result<Vec<(RelPath, Record)>, IndexError> {
        self.draft.children(dir)
    }

    fn below(
        &self,
        path: &RelPath,
        keep: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        self.draft.below(path, keep)
    }
}

pub(super) fn table(error: redb::TableError) -> IndexError {
    IndexError::Storage(error.into())
}

/// Creates what is missing in a new index; refuses one that a newer build wrote.
pub(super) fn create_or_check(transaction: WriteTransaction) -> Result<(), IndexError> {
    {
        let mut meta = transaction.open_table(META).map_err(table)?;
        let schema = meta.get(META_SCHEMA).map_err(storage)?.map(|row| row.value().to_vec());
        match schema {
            None => {
                meta.insert(META_SCHEMA, encode(&SCHEMA).as_slice()).map_err(storage)?;
                meta.insert(META_STATE, encode(&State::default()).as_slice()).map_err(storage)?;
            }
            Some(found) => {
                check_schema(decode("schema", &found)?)?;
            }
        }
        // Readers may then rely on every table.
        transaction.open_table(PATHS).map_err(table)?;
        transaction.open_table(JOURNAL).map_err(table)?;
        transaction.open_table(TAGS).map_err(table)?;
        transaction.open_table(CURSORS).map_err(table)?;
        transaction.open_table(INTENTS).map_err(table)?;
        transaction.open_table(HELD).map_err(table)?;
        transaction.open_table(CONFLICTS).map_err(table)?;
        transaction.open_table(CONFLICT_NOTES).map_err(table)?;
    }
    transaction.commit().map_err(|error| IndexError::Storage(error.into()))
}
