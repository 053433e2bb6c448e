//! Snapshots of the index.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use chainsync_core::wire::Cursor;
use chainsync_core::{Kind, NodeName, Record, RelPath, Stamp};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::schema::{
    Bytes, CURSORS, HELD, INTENTS, JOURNAL, META, META_EXCLUDE, META_SCHEMA, META_STATE, PATHS,
    TAGS, child_keys, decode, deeper_keys, first_dir, key_path, path_key, with_key,
};
use super::{Held, IndexError, Intent, State};

/// A snapshot: later commits do not show in it.
pub struct Reader {
    pub(super) transaction: ReadTransaction,
    paths: ReadOnlyTable<Bytes, Bytes>,
    intents: ReadOnlyTable<Bytes, Bytes>,
    state: State,
    /// The answer of the last [`has_deeper_beside`](Reader::has_deeper_beside): paths come sorted by directory.
    deeper: RefCell<Option<(Option<RelPath>, bool)>>,
    /// The same of [`known_above`](Rows::known_above).
    above: RefCell<Option<(RelPath, Above)>>,
}

/// Kinds and stamps of directories, the outermost first.
pub type Above = Arc<[(Kind, Stamp)]>;

/// Reading of records, the same inside a commit and in a snapshot.
pub trait Rows {
    fn record(&self, path: &RelPath) -> Result<Option<Record>, IndexError>;

    /// The names in a directory with their records, in name order.
    fn children(&self, dir: Option<&RelPath>) -> Result<Vec<(RelPath, Record)>, IndexError>;

    /// Everything below a path that `keep` wants.
    fn below(
        &self,
        path: &RelPath,
        keep: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<(RelPath, Record)>, IndexError>;

    /// What is known of the directories above a path.
    fn known_above(&self, path: &RelPath) -> Result<Above, IndexError> {
        let mut above = Vec::new();
        for ancestor in path.ancestors() {
            if let Some(record) = self.record(&ancestor)? {
                above.push((record.kind, record.version.stamp));
            }
        }
        Ok(above.into())
    }

    /// The greatest stamp of a live entry below a path.
    fn greatest_live_below(&self, path: &RelPath) -> Result<Option<Stamp>, IndexError> {
        let mut greatest = None;
        self.below(path, &mut |record| {
            if record.kind.is_live() {
                greatest = greatest.max(Some(record.version.stamp));
            }
            false
        })?;
        Ok(greatest)
    }

    /// Whether anything is published below a path.
    fn any_live_on_disk_below(&self, path: &RelPath) -> Result<bool, IndexError> {
        let mut any = false;
        self.below(path, &mut |record| {
            any |= record.is_live_on_disk();
            false
        })?;
        Ok(any)
    }
}

/// The layout of an index; `None` where nobody has written one.
pub(super) fn schema(transaction: &ReadTransaction) -> Result<Option<u32>, IndexError> {
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        meta => meta.map_err(|error| IndexError::Storage(error.into()))?,
    };
    get(&meta, META_SCHEMA)?.map(|bytes| decode("schema", &bytes)).transpose()
}

impl Reader {
    pub(super) fn new(transaction: ReadTransaction) -> Result<Self, IndexError> {
        let meta = open(&transaction, META)?;
        let state = match get(&meta, META_STATE)? {
            Some(bytes) => decode("state", &bytes)?,
            None => State::default(),
        };
        let paths = open(&transaction, PATHS)?;
        let intents = open(&transaction, INTENTS)?;
        let (deeper, above) = (RefCell::default(), RefCell::default());
        Ok(Self { transaction, paths, intents, state, deeper, above })
    }

    /// The exclude patterns under which paths were looked at last.
    pub fn exclude(&self) -> Result<Option<Vec<String>>, IndexError> {
        self.meta(META_EXCLUDE)
    }

    pub(super) fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, IndexError> {
        let row = get(&open(&self.transaction, META)?, key)?;
        row.map(|row| decode(key, &row)).transpose()
    }

    /// Every record that `wanted` wants, in the order of the keys.
    pub fn matching(
        &self,
        wanted: impl Fn(&RelPath, &Record) -> bool,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        let mut found = Vec::new();
        for row in self.paths.range::<&[u8]>(..).map_err(storage)? {
            let (key, value) = row.map_err(storage)?;
            let (path, record) = (key_path(key.value())?, decode("record", value.value())?);
            if wanted(&path, &record) {
                found.push((path, record));
            }
        }
        Ok(found)
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Records behind `after` in the order of the index, at most `max`.
    pub fn records(
        &self,
        after: Option<&RelPath>,
        max: usize,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        let from = after.map(path_key);
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.paths.range::<&[u8]>((from, Bound::Unbounded)).map_err(storage)?;
        rows.take(max)
            .map(|row| {
                let (key, value) = row.map_err(storage)?;
                Ok((key_path(key.value())?, decode("record", value.value())?))
            })
            .collect()
    }

    /// The journal above `after`, at most `max` rows: sequence and path.
    pub fn journal(&self, after: u64, max: usize) -> Result<Vec<(u64, RelPath)>, IndexError> {
        let journal = open(&self.transaction, JOURNAL)?;
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let rows = journal.range::<u64>(range).map_err(storage)?;
        rows.take(max)
            .map(|row| {
                let (sequence, path) = row.map_err(storage)?;
                Ok((sequence.value(), key_path(path.value())?))
            })
            .collect()
    }

    /// The tag of the commit that made a sequence.
    pub fn tag_at(&self, sequence: u64) -> Result<Option<u64>, IndexError> {
        let tags = open(&self.transaction, TAGS)?;
        let mut rows = tags.range(sequence..).map_err(storage)?;
        Ok(match rows.next() {
            Some(row) => Some(row.map_err(storage)?.1.value()),
            None => None,
        })
    }

    /// How far this node has applied the journal of `upstream`.
    pub fn cursor(&self, upstream: &NodeName) -> Result<Cursor, IndexError> {
        let cursors = open(&self.transaction, CURSORS)?;
        let row = cursors.get(upstream.as_str()).map_err(storage)?;
        Ok(row.map_or_else(Cursor::default, |row| {
            let (sequence, tag) = row.value();
            Cursor { sequence, tag }
        }))
    }

    pub fn intent(&self, path: &RelPath) -> Result<Option<Intent>, IndexError> {
        with_key(path, |key| self.intent_at(key))
    }

    pub(super) fn intent_at(&self, key: &[u8]) -> Result<Option<Intent>, IndexError> {
        let row = self.intents.get(key).map_err(storage)?;
        row.map(|row| decode("intent", row.value())).transpose()
    }

    pub(super) fn record_at(&self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let row = self.paths.get(key).map_err(storage)?;
        row.map(|row| decode("record", row.value())).transpose()
    }

    /// The paths at which one of these inodes is published. Reads the whole index.
    pub fn with_inodes(&self, inodes: &BTreeSet<u64>) -> Result<Vec<RelPath>, IndexError> {
        let mut found = Vec::new();
        for row in self.paths.iter().map_err(storage)? {
            let (key, value) = row.map_err(storage)?;
            let record: Record = decode("record", value.value())?;
            let identity = record.published().and_then(|published| published.identity);
            if identity.is_some_and(|identity| inodes.contains(&identity.inode)) {
                found.push(key_path(key.value())?);
            }
        }
        Ok(found)
    }

    /// What is published in a directory: entries, and directories that have none and are there for what
    /// is below them.
    pub fn published_in(&self, dir: Option<&RelPath>) -> Result<Vec<RelPath>, IndexError> {
        self.missing_in(dir, &BTreeSet::new())
    }

    /// What is published in a directory and not among `names`, which are on disk.
    pub fn missing_in(
        &self,
        dir: Option<&RelPath>,
        names: &BTreeSet<RelPath>,
    ) -> Result<Vec<RelPath>, IndexError> {
        let mut missing = BTreeSet::new();
        for (path, record) in self.children(dir)? {
            if record.is_live_on_disk() && !names.contains(&path) {
                missing.insert(path);
            }
        }
        let known = |path: &RelPath| names.contains(path) || missing.contains(path);
        let implied = self.implied_in(dir, &known)?;
        missing.extend(implied);
        Ok(missing.into_iter().collect())
    }

    /// The directories in a directory that are there for what is published below them, without those
    /// that are known to be.
    pub fn implied_in(
        &self,
        dir: Option<&RelPath>,
        known: &dyn Fn(&RelPath) -> bool,
    ) -> Result<Vec<RelPath>, IndexError> {
        let mut implied = Vec::new();
        for path in self.dirs_in(dir)? {
            if !known(&path) && self.any_live_on_disk_below(&path)? {
                implied.push(path);
            }
        }
        Ok(implied)
    }

    /// The directories in a directory below which the index has something, whether or not they have
    /// an entry themselves. Takes one or two lookups for each of them, however much is in them.
    pub(super) fn dirs_in(&self, dir: Option<&RelPath>) -> Result<BTreeSet<RelPath>, IndexError> {
        let (mut from, to) = dir.map_or((vec![1], None), |dir| {
            let (from, to) = deeper_keys(dir);
            (from, Some(to))
        });
        let start = dir.map_or(0, |dir| dir.as_bytes().len() + 1);
        let mut found = BTreeSet::new();
        loop {
            let end = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let keys = (Bound::Included(from.as_slice()), end);
            let Some(row) = self.paths.range::<&[u8]>(keys).map_err(storage)?.next() else {
                return Ok(found);
            };
            let (key, _) = row.map_err(storage)?;
            let (path, next) = first_dir(key.value(), start)?;
            found.insert(path);
            from = next;
        }
    }

    /// Everything that is still to happen.
    pub fn intents(&self) -> Result<Vec<(RelPath, Intent)>, IndexError> {
        let rows = self.intents.iter().map_err(storage)?;
        rows.map(|row| {
            let (key, intent) = row.map_err(storage)?;
            Ok((key_path(key.value())?, decode("intent", intent.value())?))
        })
        .collect()
    }

    /// Whether any displaced file is still to be judged.
    pub fn has_held(&self) -> Result<bool, IndexError> {
        let held = open(&self.transaction, HELD)?;
        Ok(!redb::ReadableTableMetadata::is_empty(&held).map_err(storage)?)
    }

    pub fn held(&self) -> Result<Vec<(String, Held)>, IndexError> {
        let held = open(&self.transaction, HELD)?;
        let rows = held.iter().map_err(storage)?;
        rows.map(|row| {
            let (name, value) = row.map_err(storage)?;
            Ok((name.value().to_owned(), decode("held", value.value())?))
        })
        .collect()
    }
}

impl Reader {
    /// The records of these keys that `keep` wants.
    pub(super) fn range(
        &self,
        (from, to): &(Vec<u8>, Vec<u8>),
        keep: &mut dyn FnMut(&[u8], &Record) -> bool,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        let mut found = Vec::new();
        for row in self.paths.range(from.as_slice()..to.as_slice()).map_err(storage)? {
            let (key, value) = row.map_err(storage)?;
            let record = decode("record", value.value())?;
            if keep(key.value(), &record) {
                found.push((key_path(key.value())?, record));
            }
        }
        Ok(found)
    }

    /// Whether the directory that a path is in has any directory with something in it. Where it has none
    /// there is nothing below any of its names.
    pub(super) fn has_deeper_beside(&self, path: &RelPath) -> Result<bool, IndexError> {
        if let Some((asked, answer)) = &*self.deeper.borrow()
            && asked.as_ref().map(RelPath::as_bytes) == path.parent_bytes()
        {
            return Ok(*answer);
        }
        let dir = path.parent();
        let keys = dir.as_ref().map_or((Bound::Included(vec![1]), Bound::Unbounded), |dir| {
            let (from, to) = deeper_keys(dir);
            (Bound::Included(from), Bound::Excluded(to))
        });
        let keys = (keys.0.as_ref().map(Vec::as_slice), keys.1.as_ref().map(Vec::as_slice));
        let mut rows = self.paths.range::<&[u8]>(keys).map_err(storage)?;
        let answer = rows.next().transpose().map_err(storage)?.is_some();
        *self.deeper.borrow_mut() = Some((dir, answer));
        Ok(answer)
    }
}

impl Rows for Reader {
    fn known_above(&self, path: &RelPath) -> Result<Above, IndexError> {
        let Some(parent) = path.parent_bytes() else { return Ok(Above::default()) };
        if let Some((last, above)) = &*self.above.borrow()
            && last.as_bytes() == parent
        {
            return Ok(above.clone());
        }
        let Some(parent) = path.parent() else { return Ok(Above::default()) };
        let further = self.known_above(&parent)?;
        let here = self.record(&parent)?.map(|record| (record.kind, record.version.stamp));
        let above: Above = further.iter().cloned().chain(here).collect();
        *self.above.borrow_mut() = Some((parent, above.clone()));
        Ok(above)
    }

    fn record(&self, path: &RelPath) -> Result<Option<Record>, IndexError> {
        with_key(path, |key| self.record_at(key))
    }

    fn children(&self, dir: Option<&RelPath>) -> Result<Vec<(RelPath, Record)>, IndexError> {
        self.range(&child_keys(dir), &mut |_, _| true)
    }

    fn below(
        &self,
        path: &RelPath,
        keep: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        if !self.has_deeper_beside(path)? {
            return Ok(Vec::new());
        }
        let mut rows = self.range(&child_keys(Some(path)), &mut |_, record| keep(record))?;
        rows.extend(self.range(&deeper_keys(path), &mut |_, record| keep(record))?);
        Ok(rows)
    }
}

pub(super) fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<K, V>,
) -> Result<ReadOnlyTable<K, V>, IndexError> {
    transaction.open_table(table).map_err(|error| IndexError::Storage(error.into()))
}

pub(super) fn get<'k, K: redb::Key + 'static>(
    table: &ReadOnlyTable<K, Bytes>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
) -> Result<Option<Vec<u8>>, IndexError> {
    Ok(table.get(key).map_err(storage)?.map(|row| row.value().to_vec()))
}

pub(super) fn storage(error: redb::StorageError) -> IndexError {
    IndexError::Storage(error.into())
}
