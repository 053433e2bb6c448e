//! The index of one share: what is known and published at every path, the journal, the intents.
//!
//! One redb database per share. Readers see snapshots; there is one writer at a time, and
//! everything that belongs together is in one commit. Nothing here touches the share's files.
//!
//! ```text
//! meta       "schema" → u32, "state" → State, "exclude" → patterns, "marks" → Marks,
//!            "heeded" → Heeded, "paused" → nothing
//! paths      parent NUL name → Record          clustered by directory
//! journal    sequence → path                    each path once, at its newest sequence
//! tags       last sequence of a commit → tag
//! cursors    upstream node → (sequence, tag)
//! intents    path key → Intent
//! held       staging name → Held
//! conflicts  number → Conflict
//! conflict-notes  number → ConflictNote
//! ```

mod aging;
mod conflicts;
mod draft;
mod heeded;
mod paused;
mod read;
mod schema;
mod unfinished;
mod write;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use chainsync_core::Kind;
use chainsync_core::wire::Cursor;
use chainsync_core::{
    Dot, Knowledge, NodeName, Published, RelPath, ReplicaId, Stamp, Version, VersionVector,
};
use chainsync_env::StorageBackend;
use redb::ReadableDatabase;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::signal;

pub use aging::MARKS_MAX;
pub use conflicts::ConflictNote;
pub use heeded::Heeded;
pub use read::{Reader, Rows};
pub use write::Writer;

/// Of the database's own pages. A node at rest is to stay below 100 MiB whatever the tree.
const CACHE_BYTES: usize = 32 << 20;

/// The number of the layout above. A newer one is refused: it may hold what this build would lose.
pub const SCHEMA: u32 = 1;
/// The oldest layout that this build reads. One that needs to be rewritten is rewritten in the commit
/// that raises its number; where nobody wrote that down, it is refused.
pub const SCHEMA_OLDEST: u32 = 1;

/// Commits whose tags are kept. A cursor older than that starts again at 0, which is a scan, not a
/// transfer.
const TAGS_MAX: u64 = 65_536;

/// The index of a share. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    database: Arc<redb::Database>,
    shared: Arc<Shared>,
}

/// What is kept in memory, as of the newest commit.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The dots that are recorded and not yet on disk.
    pending: Mutex<BTreeMap<RelPath, Dot>>,
    /// The disk refused something: redb refuses everything from then on, until it is opened again.
    failed: signal::Sender<bool>,
}

/// What is true of the index as a whole; part of every commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Under which this node made its last change: replica, counter, tag of that commit.
    pub author: Option<Author>,
    /// The newest sequence of the journal.
    pub head: u64,
    pub knowledge: Knowledge,
    /// Tombstones that every member had applied and somebody dropped.
    pub collected: VersionVector,
    pub collected_stamp: Option<Stamp>,
    /// Whether the first import is complete.
    pub imported: bool,
    /// Live paths.
    pub entries: u64,
    /// The last moment at which the daemon was watching, milliseconds since 1970. What was deleted
    /// while it was down was deleted after this.
    pub watching_ms: u64,
    /// The random number in the marker of the share's root: proof that it is the same tree.
    pub root_mark: Option<u64>,
    /// Counts conflicts.
    pub conflicts: u64,
    /// Counts commits.
    pub commits: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub replica: ReplicaId,
    pub counter: u64,
    pub tag: u64,
}

/// What is to happen to a name, durable before it happens (PROTOCOL A6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The version that is to be published. The record may know a greater one by now.
    pub kind: Kind,
    pub version: Version,
    /// Its name in staging: before the effect the new content, after a swap what it displaced.
    pub staged: Option<String>,
    /// Where else to ask for its content.
    pub from: Option<NodeName>,
}

/// A displaced file that somebody still has open for writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub path: RelPath,
    /// What had been published when it was displaced: the base of whatever it becomes.
    pub was: Published,
}

/// A version that lost to one made without knowing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    pub path: RelPath,
    pub kind: Kind,
    pub version: Version,
    pub winner: Version,
    /// Milliseconds since 1970.
    pub noticed_ms: u64,
}

#[derive(Debug, Error)]
pub enum IndexError {
    #[error(
        "the index was written by a newer chainsync (schema {found}, this one reads {SCHEMA_OLDEST} to {SCHEMA}) and was not changed: install that version again, or move the index away to import afresh"
    )]
    Newer { found: u32 },
    #[error(
        "the index was written by an older chainsync (schema {found}, this one reads {SCHEMA_OLDEST} to {SCHEMA}) and was not changed: start a version between the two once, or move the index away to import afresh"
    )]
    Older { found: u32 },
    #[error("the index is damaged: {what}")]
    Damaged { what: String },
    #[error("the index cannot be read or written")]
    Storage(#[source] redb::Error),
}

impl Index {
    /// Opens the index, or begins an empty one.
    pub fn open(
        storage: Box<dyn StorageBackend>,
        durable: bool,
        path: &Path,
    ) -> Result<Self, IndexError> {
        let storage: Arc<dyn StorageBackend> = storage.into();
        unfinished::reset_unfinished(&*storage)
            .map_err(|error| IndexError::Storage(redb::Error::Io(error)))?;
        look_before(&storage)?;
        let shared = Arc::<Shared>::default();
        let database = redb::Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(Backend { storage, durable, shared: Arc::clone(&shared) })
            .map_err(|error| IndexError::Storage(error.into()))?;
        tracing::debug!(path = %path.display(), "index open");
        let index = Self { database: Arc::new(database), shared };
        index.create_or_check()?;
        let reader = index.read()?;
        *lock(&index.shared.state) = reader.state().clone();
        let pending = reader.intents()?.into_iter();
        *lock(&index.shared.pending) =
            pending.map(|(path, intent)| (path, intent.version.dot)).collect();
        Ok(index)
    }

    fn create_or_check(&self) -> Result<(), IndexError> {
        let transaction =
            self.database.begin_write().map_err(|error| IndexError::Storage(error.into()))?;
        write::create_or_check(transaction)
    }

    /// The state as of the newest commit.
    pub fn state(&self) -> State {
        lock(&self.shared.state).clone()
    }

    /// Until the disk refuses the index something. There is no way on from there but to open it
    /// again: what is in memory may not be what is on the disk.
    pub async fn until_failed(&self) {
        let mut failed = self.shared.failed.subscribe();
        // The sender lives as long as the index.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// How many paths are recorded and not yet on disk.
    pub fn pending(&self) -> usize {
        lock(&self.shared.pending).len()
    }

    pub fn pending_paths(&self) -> Vec<RelPath> {
        lock(&self.shared.pending).keys().cloned().collect()
    }

    /// Knowledge less what is pending: every change up to a counter is on disk, itself or something
    /// greater.
    pub fn applied(&self) -> VersionVector {
        let mut applied = self.state().knowledge.to_vector();
        for dot in lock(&self.shared.pending).values() {
            if applied.covers(dot) {
                applied.set(dot.replica, dot.counter - 1);
            }
        }
        applied
    }

    /// A snapshot.
    pub fn read(&self) -> Result<Reader, IndexError> {
        let transaction =
            self.database.begin_read().map_err(|error| IndexError::Storage(error.into()))?;
        Reader::new(transaction)
    }

    /// Begins the next commit. Blocks while another one is being made.
    pub fn begin(&self) -> Result<Writer, IndexError> {
        let transaction =
            self.database.begin_write().map_err(|error| IndexError::Storage(error.into()))?;
        Ok(Writer::new(transaction, self.read()?, self.shared.clone()))
    }
}

/// A poisoned lock means that a panic is already ending the node: the state is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Refuses an index of another layout before anything is written to it. One that was not closed in
/// order cannot be looked at without a repair of redb's own pages; it is judged after that.
fn look_before(storage: &Arc<dyn StorageBackend>) -> Result<(), IndexError> {
    let frozen = Frozen(Arc::clone(storage));
    let Ok(database) = redb::Database::builder().open_read_only_with_backend(frozen) else {
        return Ok(());
    };
    let transaction = database.begin_read().map_err(|error| IndexError::Storage(error.into()))?;
    read::schema(&transaction)?.map_or(Ok(()), check_schema)
}

fn check_schema(found: u32) -> Result<(), IndexError> {
    match found {
        SCHEMA_OLDEST..=SCHEMA => Ok(()),
        _ if found > SCHEMA => Err(IndexError::Newer { found }),
        _ => Err(IndexError::Older { found }),
    }
}

/// Storage that is only read, and stays open afterwards.
#[derive(Debug)]
struct Frozen(Arc<dyn StorageBackend>);

impl StorageBackend for Frozen {
    fn len(&self) -> BackendResult<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> BackendResult<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _: u64) -> BackendResult<()> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> BackendResult<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> BackendResult<()> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// redb takes a concrete backend.
struct Backend {
    storage: Arc<dyn StorageBackend>,
    /// Without it, commits survive the daemon but not a loss of power.
    durable: bool,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Backend {
    /// Tells of an error.
    fn noted<T>(&self, result: BackendResult<T>) -> BackendResult<T> {
        if result.is_err() {
            self.shared.failed.send_replace(true);
        }
        result
    }
}

type BackendResult<T> = std::io::Result<T>;

impl StorageBackend for Backend {
    fn len(&self) -> BackendResult<u64> {
        self.noted(self.storage.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> BackendResult<()> {
        self.noted(self.storage.read(offset, out))
    }

    fn set_len(&self, len: u64) -> BackendResult<()> {
        self.noted(self.storage.set_len(len))
    }

    fn sync_data(&self) -> BackendResult<()> {
        if self.durable { self.noted(self.storage.sync_data()) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> BackendResult<()> {
        self.noted(self.storage.write(offset, data))
    }

    fn close(&self) -> BackendResult<()> {
        self.storage.close()
    }
}

/// Where in the journal a cursor stands, if the journal still knows.
pub fn cursor_position(reader: &Reader, cursor: Cursor) -> Result<Option<u64>, IndexError> {
    if cursor.sequence == 0 {
        return Ok(Some(0));
    }
    let held = cursor.sequence <= reader.state().head
        && reader.tag_at(cursor.sequence)? == Some(cursor.tag);
    Ok(held.then_some(cursor.sequence))
}

#[cfg(test)]
mod tests;
