//! What a commit in the making changes, in memory until it is made: each table is opened once, each
//! row is written once and in the order of the keys, and nothing is read twice.
//!
//! Reads are of the newest commit: while there is a writer nobody makes another.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chainsync_core::{Record, RelPath};
use redb::{TableDefinition, WriteTransaction};

use super::read::{Reader, Rows, storage};
use super::schema::{
    Bytes, INTENTS, JOURNAL, PATHS, child_keys, deeper_keys, encode, key_path, path_key,
};
use super::write::table;
use super::{IndexError, Intent};

pub(super) struct Draft {
    base: Reader,
    /// Changed rows, and those that were read. Boxed, so that the map does not move them about.
    paths: RefCell<BTreeMap<Vec<u8>, Row>>,
    journal: BTreeMap<u64, Option<Vec<u8>>>,
    intents: BTreeMap<Vec<u8>, Option<Box<Intent>>>,
}

struct Row {
    record: Option<Box<Record>>,
    changed: bool,
}

type Found = Vec<(RelPath, Record)>;

impl Draft {
    pub(super) fn new(base: Reader) -> Self {
        let paths = RefCell::default();
        Self { base, paths, journal: BTreeMap::new(), intents: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, path: &RelPath, record: Option<Record>) {
        self.paths
            .get_mut()
            .insert(path_key(path), Row { record: record.map(Box::new), changed: true });
    }

    /// Gives a path its place in the journal, or takes it (`None`).
    pub(super) fn journal(&mut self, sequence: u64, path: Option<&RelPath>) {
        self.journal.insert(sequence, path.map(path_key));
    }

    pub(super) fn put_intent(&mut self, path: &RelPath, intent: Option<Intent>) {
        self.intents.insert(path_key(path), intent.map(Box::new));
    }

    pub(super) fn intent(&self, path: &RelPath) -> Result<Option<Intent>, IndexError> {
        match self.intents.get(&path_key(path)) {
            Some(intent) => Ok(intent.as_deref().cloned()),
            None => self.base.intent(path),
        }
    }

    /// `stored`: whether the newest commit may have something there.
    fn range(
        &self,
        keys: (Vec<u8>, Vec<u8>),
        keep: &mut dyn FnMut(&Record) -> bool,
        stored: bool,
    ) -> Result<Found, IndexError> {
        let paths = self.paths.borrow();
        let changed = |key: &[u8]| paths.get(key).is_some_and(|row| row.changed);
        let mut found = match stored {
            true => self.base.range(&keys, &mut |key, record| !changed(key) && keep(record))?,
            false => Vec::new(),
        };
        let before = found.len();
        for (key, row) in paths.range(keys.0..keys.1) {
            if let (Some(record), true) = (&row.record, row.changed)
                && keep(record)
            {
                found.push((key_path(key)?, Record::clone(record)));
            }
        }
        if found.len() > before {
            found.sort_by_cached_key(|(path, _)| path_key(path));
        }
        Ok(found)
    }

    pub(super) fn write(self, transaction: &WriteTransaction) -> Result<(), IndexError> {
        let Self { base, paths, journal, intents } = self;
        // An open snapshot would keep the pages that this commit replaces.
        drop(base);
        let changed = paths.into_inner().into_iter().filter(|(_, row)| row.changed);
        let changed = changed.map(|(key, row)| (key, row.record.map(|record| encode(&*record))));
        write_rows(transaction, PATHS, changed)?;
        let intents = intents.into_iter();
        let intents = intents.map(|(key, intent)| (key, intent.map(|intent| encode(&*intent))));
        write_rows(transaction, INTENTS, intents)?;
        if journal.is_empty() {
            return Ok(());
        }
        let mut rows = transaction.open_table(JOURNAL).map_err(table)?;
        for (sequence, key) in journal {
            match key {
                Some(key) => rows.insert(sequence, &*key).map_err(storage)?,
                None => rows.remove(sequence).map_err(storage)?,
            };
        }
        Ok(())
    }
}

/// Puts rows, or takes them (`None`). A table without any stays closed.
fn write_rows(
    transaction: &WriteTransaction,
    definition: TableDefinition<Bytes, Bytes>,
    changed: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
) -> Result<(), IndexError> {
    let mut changed = changed.peekable();
    if changed.peek().is_none() {
        return Ok(());
    }
    let mut rows = transaction.open_table(definition).map_err(table)?;
    for (key, value) in changed {
        match value {
            Some(value) => rows.insert(&*key, &*value).map_err(storage)?,
            None => rows.remove(&*key).map_err(storage)?,
        };
    }
    Ok(())
}

impl Rows for Draft {
    fn record(&self, path: &RelPath) -> Result<Option<Record>, IndexError> {
        let key = path_key(path);
        if let Some(row) = self.paths.borrow().get(&key) {
            return Ok(row.record.as_deref().cloned());
        }
        let record = self.base.record(path)?;
        let row = Row { record: record.clone().map(Box::new), changed: false };
        self.paths.borrow_mut().insert(key, row);
        Ok(record)
    }

    fn children(&self, dir: Option<&RelPath>) -> Result<Found, IndexError> {
        self.range(child_keys(dir), &mut |_| true, true)
    }

    fn below(
        &self,
        path: &RelPath,
        keep: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Found, IndexError> {
        let stored = self.base.has_deeper(path.parent().as_ref())?;
        let mut found = self.range(child_keys(Some(path)), keep, stored)?;
        found.extend(self.range(deeper_keys(path), keep, stored)?);
        Ok(found)
    }
}
