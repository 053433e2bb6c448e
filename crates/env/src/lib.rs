//! The seam: everything through which the engine touches the world.
//!
//! The engine is generic over one [`Env`]. The host implements it with Linux, TLS and files; the
//! simulation with a disk, a watcher and a network that it controls. Monotonic time is
//! `tokio::time`, which a simulation may virtualise; the wall clock, randomness, disks, the network
//! and index storage come from here, and there is no other way.
//!
//! Extensions (metering, faults, tracing) are decorators around these traits, never flags in them.

mod net;
mod vfs;
mod watch;

use std::future::Future;
use std::io;
use std::path::Path;

pub use net::{Listener, Net, Peer};
pub use redb::StorageBackend;
pub use vfs::{DirEntry, RenameMode, Space, Vfs};
pub use watch::{Added, Watch, WatchError, WatchEvent, WatchSink};

/// One node's world.
pub trait Env: Clone + Send + Sync + 'static {
    type Vfs: Vfs;
    type Watch: Watch;
    type Net: Net;

    /// Opens a directory that exists, as the root of a file system view.
    fn open_root(&self, path: &Path) -> io::Result<Self::Vfs>;

    /// Creates a directory and its ancestors (mode 0700) and makes them durable. For state, never
    /// for shares.
    fn create_state_dir(&self, path: &Path) -> io::Result<()>;

    /// Storage for an index. Created if it is missing; held exclusively: a second opener gets
    /// `WouldBlock`.
    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;

    /// A watcher for the tree at `root`, which sends its events to `sink`. Nothing is watched until
    /// [`Watch::add`].
    fn watch(&self, root: &Path, sink: WatchSink) -> Result<Self::Watch, WatchError>;

    fn net(&self) -> &Self::Net;

    /// The wall clock: nanoseconds since 1970. May jump.
    fn wall_ns(&self) -> i128;

    fn random_u64(&self) -> u64;

    /// Runs work that makes many synchronous calls: on a thread for such work in the host, inline in
    /// the simulation. A panic in `work` panics here.
    fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send;

    /// Marks a rare or delicate place. Empty in the host; coverage and crash points in a simulation.
    fn probe(&self, point: Point);
}

/// The places that [`Env::probe`] marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Point {
    /// A file changed while it was being read.
    TornRead,
    /// Intents are durable, nothing is published yet.
    IntentsDurable,
    /// Everything of a batch is published, the index does not say so yet.
    Published,
    /// What a swap brought out was not what had been published.
    DisplacedChange,
    /// A name that should have been free was taken.
    NameTaken,
    /// An intent left by a crash was found done, or undone, or overtaken by a change.
    IntentFoundDone,
    IntentFoundUndone,
    IntentFoundOvertaken,
    /// A link goes to another node than the next in the ring.
    Bypass,
    /// A nearer successor answered again.
    Rejoin,
    /// A cursor was not known any more; the pass starts at 0.
    CursorUnknown,
    /// The watcher lost count.
    Overflow,
    /// A file was still open for writing when it was to be read.
    StillWriting,
    /// A change found on disk lost to what was known already.
    ChangeLost,
    /// A content went into the archive.
    Archived,
    /// An entry was recorded whose content is not here.
    ContentMissing,
    /// A replica id was replaced before it was confirmed.
    NewReplica,
    /// The first look at the tree is complete.
    FirstLook,
    /// A content that no member has was given up.
    Abandoned,
    /// An edit that lost was given a name beside the winner (`keep-both`).
    CopyKept,
    /// An edit that lost to a deletion was made again (`edit-beats-delete`).
    EditAgain,
    /// A content in the archive was beyond its limits.
    Expired,
    /// A tombstone that others may have dropped refused a change, and went round once more.
    DeletedAgain,
    /// A peer's change from too far in the future was refused.
    ClockAhead,
    /// A sweep found so much missing that the share was halted.
    MassDelete,
    /// What a peer sent would have left too little room on the disk.
    NoRoom,
    /// Tombstones that every member had applied were dropped.
    Collected,
    /// A full pass began: the receiver may hold what was deleted and collected.
    FullPass,
    /// What the sender of a full pass does not hold any more was dropped here.
    Unheld,
}

impl Point {
    /// All of them, in their order: a simulation can tell which were never reached.
    pub const ALL: [Point; 29] = [
        Point::TornRead,
        Point::IntentsDurable,
        Point::Published,
        Point::DisplacedChange,
        Point::NameTaken,
        Point::IntentFoundDone,
        Point::IntentFoundUndone,
        Point::IntentFoundOvertaken,
        Point::Bypass,
        Point::Rejoin,
        Point::CursorUnknown,
        Point::Overflow,
        Point::StillWriting,
        Point::ChangeLost,
        Point::Archived,
        Point::ContentMissing,
        Point::NewReplica,
        Point::FirstLook,
        Point::Abandoned,
        Point::CopyKept,
        Point::EditAgain,
        Point::Expired,
        Point::DeletedAgain,
        Point::ClockAhead,
        Point::MassDelete,
        Point::NoRoom,
        Point::Collected,
        Point::FullPass,
        Point::Unheld,
    ];
}

#[cfg(test)]
mod tests {
    use super::Point;

    #[test]
    fn all_points_are_listed_in_order_and_the_last_one_too() {
        assert!(Point::ALL.is_sorted());
        // The declaration's last one: a new point goes behind it, and into the list.
        assert_eq!(Point::ALL.last().map(|point| *point as usize + 1), Some(Point::ALL.len()));
        assert_eq!(Point::ALL.last(), Some(&Point::Unheld));
    }
}
