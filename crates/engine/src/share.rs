//! One share of a running node: what its tasks have in common.
//!
//! The tasks: `ingest` looks at hints and records changes; a link task sends the journal to the
//! successor; a receiving task per upstream hands batches to `apply`, which records and publishes
//! them; `keeper` retries, gossips and watches the clock. Whoever changes the tree or the index
//! holds the gate.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use chainsync_core::hints::{Hints, Taken, Urgency};
use chainsync_core::{ContentHash, NodeName, RelPath, ReplicaId, ShareName, VersionVector};
use chainsync_env::{Env, Point, Vfs, WatchEvent, WatchSink};
use tokio::sync::Notify;

use crate::archive::Archive;
use crate::board::Board;

use crate::config::{Durability, ShareConfig};
use crate::content::ContentCache;
use crate::disk::{COOKIES, own_path};
use crate::guard::Sweeping;
use crate::index::{Index, IndexError, Intent};
use crate::large::chunks::Recipes;
use crate::large::digest::Digests;
use crate::large::queue::Pulls;
use crate::large::spares::Spares;
use crate::link::connection::Encoded;
use crate::link::progress::Progress;
use crate::links::Links;
use crate::policy::Heeding;
use crate::projection::Implied;
use crate::root::RootTrouble;
use crate::settings::Settings;
use crate::signal;
use crate::syncs::Syncs;

pub struct Share<E: Env> {
    pub env: E,
    pub me: NodeName,
    pub config: Fixed,
    pub settings: Mutex<Arc<Settings>>,
    /// Counts replacements of the settings.
    pub settings_moved: signal::Sender<u64>,
    pub vfs: E::Vfs,
    /// The file system of the root.
    pub device: u64,
    pub archive: Archive<E::Vfs>,
    pub index: Index,
    pub watch: E::Watch,
    /// Directories that are only there because something below them is: those that may be removed
    /// without anybody having asked for it.
    pub implied: Mutex<BTreeMap<RelPath, Implied>>,
    /// What all members had applied at some time of this run: tombstones of it may have been dropped.
    pub collectable: Mutex<VersionVector>,
    /// Which names are the same file.
    pub links: Mutex<Links>,
    pub hints: Arc<HintQueue>,
    pub contents: Mutex<ContentCache>,
    pub recipes: Recipes,
    pub digests: Digests,
    pub pulls: Pulls,
    pub spares: Spares,
    /// Held by whoever changes the tree or the index. Async, so that waiting for it blocks nobody.
    pub gate: tokio::sync::Mutex<()>,
    /// Counts commits that a link may have to send.
    pub journal_moved: signal::Sender<u64>,
    pub board: Board,
    pub authorship: Mutex<Authorship>,
    /// Intents that are to be tried (again).
    pub pending: Mutex<Pending>,
    pub pending_wake: Notify,
    /// Staged files that could not be removed.
    undiscarded: Mutex<Vec<String>>,
    /// Of each connection of an upstream, as long as anything of it can be applied.
    pub progress: Mutex<Vec<Weak<Progress>>>,
    /// Ways to the upstream nodes, with the connection's number.
    pub outboxes: Mutex<BTreeMap<NodeName, (u64, tokio::sync::mpsc::Sender<Encoded>)>>,
    /// Recovered and swept once: may link.
    pub ready: signal::Sender<bool>,
    /// Rounds of looking at hints that are done.
    pub generations: signal::Sender<u64>,
    pub looking: AtomicBool,
    /// Effects may have happened that the index does not know: publishing failed half-way.
    pub doubtful: AtomicBool,
    pub syncs: Syncs,
    pub sweeping: Sweeping,
    pub heeding: Heeding,
    /// Questions of `verify` being answered.
    pub inspections: Arc<tokio::sync::Semaphore>,
    staging_run: u64,
    staging_count: AtomicU64,
    /// Gone with the last user of the share, and with it the lock on the index.
    _released: tokio::sync::oneshot::Sender<()>,
}

/// What of a share's configuration takes a restart to change.
#[derive(Debug, Clone)]
pub struct Fixed {
    pub name: ShareName,
    pub path: PathBuf,
    pub durability: Durability,
    /// Whether numeric owners are replicated.
    pub owner: bool,
}

/// Under which replica changes are made (PROTOCOL A2). The one in the index is used on only once
/// every member has confirmed it in this run; else the first change takes the fresh one.
#[derive(Debug, Clone, Copy)]
pub struct Authorship {
    pub fresh: ReplicaId,
    pub confirmed: bool,
}

/// Paths whose intent waits, and why.
#[derive(Debug, Default)]
pub struct Pending {
    pub now: Vec<RelPath>,
}

/// Hints between the watcher's thread and the ingest task.
#[derive(Default)]
pub struct HintQueue {
    hints: Mutex<Hints>,
    /// What looking itself came upon: the names in a directory that was not watched before. Part of
    /// the round in which it was found, whatever else comes in meanwhile.
    found: Mutex<Hints>,
    pub wake: Notify,
    /// Cookies made so far.
    pub cookies: AtomicU64,
    /// The newest cookie that came back.
    pub cookie: signal::Sender<u64>,
    pub root_gone: std::sync::atomic::AtomicBool,
}

impl HintQueue {
    pub fn add(&self, path: RelPath, urgency: Urgency) {
        lock(&self.hints).add(path, urgency);
        self.wake.notify_one();
    }

    pub fn add_everything(&self) {
        lock(&self.hints).add_everything();
        self.wake.notify_one();
    }

    /// For a look that has to look further.
    pub fn add_found(&self, path: RelPath, urgency: Urgency) {
        lock(&self.found).add(path, urgency);
        self.wake.notify_one();
    }

    /// What there is to look at. The newest hints stay behind while found ones are left.
    pub fn take(&self) -> Taken {
        lock(&self.hints).take(usize::MAX)
    }

    /// Some of what came in meanwhile, at most `max` paths.
    pub fn take_newest(&self, max: usize) -> Taken {
        lock(&self.hints).take(max)
    }

    pub fn take_found(&self) -> Taken {
        lock(&self.found).take(usize::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0 && lock(&self.hints).is_empty() && lock(&self.found).is_empty()
    }

    pub fn len(&self) -> usize {
        lock(&self.hints).len() + lock(&self.found).len()
    }

    /// What the watcher calls, on its own thread.
    pub fn sink<E: Env>(self: &Arc<Self>, env: E) -> WatchSink {
        let queue = self.clone();
        Arc::new(move |event| match event {
            WatchEvent::Hint(path, urgency) => match cookie_number(&path) {
                Some(number) => {
                    queue.cookie.send_if_modified(|newest| {
                        let newer = number > *newest;
                        *newest = number.max(*newest);
                        newer
                    });
                }
                None if crate::disk::is_own(&path) => {}
                None => queue.add(path, urgency),
            },
            WatchEvent::Overflow => {
                env.probe(Point::Overflow);
                tracing::warn!("the watcher lost events: looking at everything");
                queue.add_everything();
                // Cookies among them: the sweep answers for every earlier event.
                queue.cookie.send_replace(queue.cookies.load(Ordering::Relaxed));
            }
            WatchEvent::RootGone => {
                // Said several times: by the root, and by the directory that holds it.
                if !queue.root_gone.swap(true, Ordering::Relaxed) {
                    tracing::warn!("something happened to the root of the share");
                }
                queue.wake.notify_one();
            }
            WatchEvent::Failed(reason) => {
                tracing::error!(reason, "the watcher failed: looking at everything");
                queue.add_everything();
            }
        })
    }
}

fn cookie_number(path: &RelPath) -> Option<u64> {
    let parent = path.parent()?;
    if parent.as_bytes() != COOKIES.as_bytes() {
        return None;
    }
    std::str::from_utf8(path.name()).ok()?.parse().ok()
}

/// A poisoned lock means that a panic is already ending the node.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trouble that is not one path's.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    #[error("index")]
    Index(#[from] IndexError),
    #[error("the share was halted")]
    Halted,
    #[error("{0}")]
    Root(RootTrouble),
    #[error(
        "{free} bytes are free on the share's file system: with {bytes} more, less than the reserve of {reserve} bytes (`free_space_min`) would be left. Make room: it goes on by itself"
    )]
    Reserve { free: u64, bytes: u64, reserve: u64 },
    #[error("{doing}")]
    Disk { doing: &'static str, source: io::Error },
}

impl ShareError {
    pub fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, source }
    }
}

impl<E: Env> Share<E> {
    /// The receiver ends when nobody uses the share any more.
    pub fn new(
        env: E,
        me: NodeName,
        config: &ShareConfig,
        settings: Settings,
        opened: Opened<E>,
    ) -> (Self, tokio::sync::oneshot::Receiver<()>) {
        let (sender, released) = tokio::sync::oneshot::channel();
        let fresh = ReplicaId(env.random_u64());
        let run = env.wall_ns() / 1_000_000;
        let staging_run = env.random_u64();
        let share = Self {
            board: Board::new(me.clone(), settings.ring.clone(), u64::try_from(run).unwrap_or(0)),
            env,
            me,
            config: Fixed {
                name: config.name.clone(),
                path: config.path.clone(),
                durability: config.durability,
                owner: config.owner,
            },
            settings: Mutex::new(Arc::new(settings)),
            settings_moved: signal::Sender::new(0),
            vfs: opened.vfs,
            device: opened.device,
            archive: opened.archive,
            index: opened.index,
            watch: opened.watch,
            implied: Mutex::default(),
            collectable: Mutex::default(),
            links: Mutex::default(),
            hints: opened.hints,
            contents: Mutex::default(),
            recipes: Recipes::default(),
            digests: Digests::default(),
            pulls: Pulls::default(),
            spares: Spares::default(),
            gate: tokio::sync::Mutex::new(()),
            journal_moved: signal::Sender::new(0),
            authorship: Mutex::new(Authorship { fresh, confirmed: false }),
            pending: Mutex::default(),
            pending_wake: Notify::new(),
            undiscarded: Mutex::default(),
            progress: Mutex::default(),
            outboxes: Mutex::default(),
            ready: signal::Sender::new(false),
            generations: signal::Sender::new(0),
            looking: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            syncs: Syncs::default(),
            sweeping: Sweeping::default(),
            heeding: Heeding::default(),
            inspections: Arc::new(tokio::sync::Semaphore::new(INSPECTIONS_MAX)),
            staging_run,
            staging_count: AtomicU64::new(0),
            _released: sender,
        };
        (share, released)
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.env.wall_ns() / 1_000_000).unwrap_or(0)
    }

    pub fn durable(&self) -> bool {
        self.config.durability == Durability::Batch
    }

    /// A name in staging that was never used.
    pub fn staging_name(&self) -> String {
        let number = self.staging_count.fetch_add(1, Ordering::Relaxed);
        // The number first: where a directory is searched, names differ early.
        format!("{number}-{:016x}", self.staging_run)
    }

    /// The replica for the next change.
    pub fn author(&self) -> ReplicaId {
        let authorship = *lock(&self.authorship);
        match self.index.state().author {
            Some(author) if authorship.confirmed => author.replica,
            Some(author) if author.replica == authorship.fresh => author.replica,
            Some(_) => {
                self.env.probe(Point::NewReplica);
                authorship.fresh
            }
            None => authorship.fresh,
        }
    }

    /// The replicas of which this node lacks no change, because it alone makes them, in this run.
    pub fn authors(&self) -> Vec<ReplicaId> {
        let authorship = *lock(&self.authorship);
        let mut authors = vec![authorship.fresh];
        if authorship.confirmed
            && let Some(author) = self.index.state().author
            && author.replica != authorship.fresh
        {
            authors.push(author.replica);
        }
        authors
    }

    /// Makes everything durable that a job did: single files and directories if they are few, else
    /// the file system (4-12 times cheaper for many, dearer for a few beside a busy writer).
    pub fn sync(&self, files: &[V<E>], dirs: &[Arc<D<E>>]) -> io::Result<()> {
        self.sync_names(files.len() + dirs.len(), files, dirs)
    }

    /// The same for so many names in these directories. While many are published, the next batch is
    /// staged: one sync of the file system serves both.
    pub fn sync_names(&self, names: usize, files: &[V<E>], dirs: &[Arc<D<E>>]) -> io::Result<()> {
        if (files.is_empty() && dirs.is_empty()) || !self.durable() {
            return Ok(());
        }
        if names.max(files.len() + dirs.len()) > SYNC_SINGLY_MAX {
            return self.sync_all();
        }
        files.iter().try_for_each(|file| self.vfs.sync_data(file))?;
        dirs.iter().try_for_each(|dir| self.vfs.sync_dir(dir))
    }

    pub fn sync_all(&self) -> io::Result<()> {
        match self.durable() {
            true => self.syncs.run(|| self.vfs.sync_all()),
            false => Ok(()),
        }
    }

    /// Wakes the links and the gossip after a commit.
    pub fn moved(&self) {
        self.journal_moved.send_modify(|count| *count += 1);
        self.board.touch();
    }

    pub fn content(&self, hash: &ContentHash) -> Option<Bytes> {
        lock(&self.contents).get(hash)
    }

    /// The same, for the last time.
    pub fn take_content(&self, hash: &ContentHash) -> Option<Bytes> {
        lock(&self.contents).take(hash)
    }

    pub fn keep_content(&self, hash: ContentHash, content: Bytes) {
        lock(&self.contents).insert(hash, content);
    }

    /// Asks the keeper to publish these.
    pub fn publish_later(&self, paths: impl IntoIterator<Item = RelPath>) {
        lock(&self.pending).now.extend(paths);
        self.pending_wake.notify_one();
    }

    pub fn next_cookie(&self) -> u64 {
        self.hints.cookies.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn cookies() -> RelPath {
        own_path(COOKIES)
    }

    /// Removes staged files that nothing refers to any more. Those that cannot be removed now are
    /// tried again later; the error is that of the first one.
    pub fn discard(&self, staged: impl IntoIterator<Item = String>) -> io::Result<()> {
        let mut dirs = crate::disk::Dirs::new(&self.vfs);
        let mut result = Ok(());
        for name in staged {
            let removed =
                dirs.staging().and_then(|staging| self.vfs.unlink(&staging, name.as_bytes()));
            match removed {
                Err(error) if !crate::disk::is_absent(&error) => {
                    let mut undiscarded = lock(&self.undiscarded);
                    if undiscarded.len() < UNDISCARDED_MAX {
                        undiscarded.push(name);
                    }
                    result = result.and(Err(error));
                }
                _ => {}
            }
        }
        result
    }

    /// Tries again to remove what could not be removed.
    pub fn discard_again(&self) -> io::Result<()> {
        let again = std::mem::take(&mut *lock(&self.undiscarded));
        self.discard(again)
    }
}

/// What [`crate::open`] found.
pub struct Opened<E: Env> {
    pub vfs: E::Vfs,
    pub device: u64,
    pub archive: Archive<E::Vfs>,
    pub index: Index,
    pub watch: E::Watch,
    pub hints: Arc<HintQueue>,
}

type V<E> = <<E as Env>::Vfs as Vfs>::File;
type D<E> = <<E as Env>::Vfs as Vfs>::Dir;

/// Two operators with `verify --deep`, each reading every content on the disk, and every upstream that
/// begins a link and asks what is here already.
const INSPECTIONS_MAX: usize = 4;

/// What a failing disk leaves in staging is remembered up to here; the rest goes at the next start.
const UNDISCARDED_MAX: usize = 4096;

/// Up to here, fdatasync and fsync one by one (1.8 ms each beside a busy writer, against 19 ms for
/// syncfs).
pub const SYNC_SINGLY_MAX: usize = 8;

/// The intent to show what is known at a path.
pub fn intent_for(
    entry: &chainsync_core::Entry,
    staged: Option<String>,
    from: Option<NodeName>,
) -> Intent {
    Intent { kind: entry.kind.clone(), version: entry.version.clone(), staged, from }
}
