//! What a commit in the making changes, in memory until it is made: each table is opened once, each
//! row is written once and in the order of the keys, and nothing is read twice.
//!
//! Reads are of the newest commit: while there is a writer nobody makes another.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use chainsync_core::{Record, RelPath};
use redb::{TableDefinition, WriteTransaction};
use serde::Serialize;

use super::read::{Reader, Rows, storage};
use super::schema::{
    Bytes, INTENTS, JOURNAL, PATHS, child_keys, deeper_keys, encode_into, key_path, path_key,
    with_key,
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
        let (paths, row) =
            (self.paths.get_mut(), Row { record: record.map(Box::new), changed: true });
        with_key(path, |key| match paths.get_mut(key) {
            Some(old) => *old = row,
            None => {
                paths.insert(key.to_vec(), row);
            }
        });
    }

    /// Gives a path its place in the journal, or takes it (`None`).
    pub(super) fn journal(&mut self, sequence: u64, path: Option<&RelPath>) {
        self.journal.insert(sequence, path.map(path_key));
    }

    pub(super) fn put_intent(&mut self, path: &RelPath, intent: Option<Intent>) {
        self.intents.insert(path_key(path), intent.map(Box::new));
    }

    pub(super) fn intent(&self, path: &RelPath) -> Result<Option<Intent>, IndexError> {
        with_key(path, |key| match self.intents.get(key) {
            Some(intent) => Ok(intent.as_deref().cloned()),
            None => self.base.intent_at(key),
        })
    }

    /// What is known of a path, without a copy.
    pub(super) fn peek<T>(
        &self,
        path: &RelPath,
        tell: impl FnOnce(Option<&Record>) -> T,
    ) -> Result<T, IndexError> {
        with_key(path, |key| {
            if let Some(row) = self.paths.borrow().get(key) {
                return Ok(tell(row.record.as_deref()));
            }
            let record = self.base.record_at(key)?.map(Box::new);
            let told = tell(record.as_deref());
            self.paths.borrow_mut().insert(key.to_vec(), Row { record, changed: false });
            Ok(told)
        })
    }

    /// False, if this draft has certainly nothing below a path.
    fn may_have_below(&self, path: &RelPath) -> bool {
        // The keys of what is below it begin with it, and stand together.
        let behind = (Bound::Excluded(path.as_bytes()), Bound::Unbounded);
        let paths = self.paths.borrow();
        paths
            .range::<[u8], _>(behind)
            .next()
            .is_some_and(|(key, _)| key.starts_with(path.as_bytes()))
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
        write_rows(transaction, PATHS, changed.map(|(key, row)| (key, row.record)))?;
        write_rows(transaction, INTENTS, intents.into_iter())?;
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
fn write_rows<T: Serialize>(
    transaction: &WriteTransaction,
    definition: TableDefinition<Bytes, Bytes>,
    changed: impl Iterator<Item = (Vec<u8>, Option<Box<T>>)>,
) -> Result<(), IndexError> {
    let mut changed = changed.peekable();
    if changed.peek().is_none() {
        return Ok(());
    }
    let mut rows = transaction.open_table(definition).map_err(table)?;
    let mut row = Vec::new();
    for (key, value) in changed {
        match value {
            Some(value) => {
                row = encode_into(row, &value);
                rows.insert(&*key, &*row).map_err(storage)?
            }
            None => rows.remove(&*key).map_err(storage)?,
        };
    }
    Ok(())
}

impl Rows for Draft {
    fn record(&self, path: &RelPath) -> Result<Option<Record>, IndexError> {
        self.peek(path, |record| record.cloned())
    }

    fn children(&self, dir: Option<&RelPath>) -> Result<Found, IndexError> {
        self.range(child_keys(dir), &mut |_| true, true)
    }

    fn below(
        &self,
        path: &RelPath,
        keep: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Found, IndexError> {
        let stored = self.base.has_deeper_beside(path)?;
        if !stored && !self.may_have_below(path) {
            return Ok(Vec::new());
        }
        let mut found = self.range(child_keys(Some(path)), keep, stored)?;
        found.extend(self.range(deeper_keys(path), keep, stored)?);
        Ok(found)
    }
}
