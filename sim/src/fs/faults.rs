//! A disk that refuses: calls of the daemon that fail, or are slow, by class of call, with a
//! probability or at an exact count. Never a call of the web application.
//!
//! What an error leaves behind is as on Linux. A write that fails may have written its beginning. A
//! sync that fails has thrown away what it could not store: the pages count as clean, the next sync
//! says yes, programs go on reading the new content, and the next power loss brings the old one back
//! (until somebody writes those pages again). Names are another matter: a journal that cannot be
//! written stops the file system as a whole, so they stay pending here, for the next sync.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::errno::errno;
use super::inode::{Body, Content, Slot};
use crate::ledger::IncidentKind;
use crate::rng::Stream;
use crate::shared::lock;

/// What a call comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Trouble {
    #[serde(rename = "EIO")]
    Io,
    #[serde(rename = "ENOSPC")]
    Full,
    #[serde(rename = "EDQUOT")]
    OverQuota,
    #[serde(rename = "EMFILE")]
    Exhausted,
    #[serde(rename = "EACCES")]
    Forbidden,
    /// It succeeds, late.
    #[serde(rename = "slow")]
    Slow,
}

/// Kinds of calls of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallClass {
    /// A directory or a file, for reading or to go on writing it.
    Open,
    List,
    Stat,
    /// A content, or where a symlink points.
    Read,
    /// A file, a directory, a symlink.
    Create,
    Write,
    Rename,
    /// A file or a directory.
    Remove,
    /// Mode, times, owner.
    Metadata,
    Sync,
    IndexRead,
    IndexWrite,
    IndexSync,
}

/// Which of the calls that match are hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    /// Each with this probability, one in so many.
    OneIn(u64),
    /// Only this one, the first from now on being 1.
    At(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub trouble: Trouble,
    pub on: BTreeSet<CallClass>,
    pub chance: Chance,
    pub until_ns: u64,
    /// How late a slow call is.
    pub late_ns: u64,
}

/// The faults of one disk.
pub(crate) struct Faults {
    rng: Stream,
    armed: Vec<Fault>,
    /// Calls refused in the present life of the daemon.
    refused: u64,
}

impl Trouble {
    fn error(self) -> Option<io::Error> {
        let code = match self {
            Self::Io => libc::EIO,
            Self::Full => libc::ENOSPC,
            Self::OverQuota => libc::EDQUOT,
            Self::Exhausted => libc::EMFILE,
            Self::Forbidden => libc::EACCES,
            Self::Slow => return None,
        };
        Some(errno(code))
    }

    /// Whether a call of this class ends like this on Linux, for a daemon that runs as root with a
    /// few thousand open files.
    pub fn befalls(self, class: CallClass) -> bool {
        use CallClass::{Create, IndexWrite, Open, Remove, Rename, Stat, Write};
        match self {
            Self::Io | Self::Slow => true,
            Self::Full | Self::OverQuota => matches!(class, Create | Write | Rename | IndexWrite),
            Self::Exhausted => matches!(class, Open | Create),
            // SELinux, a network file system: root is not always root.
            Self::Forbidden => matches!(class, Open | Stat | Create | Rename | Remove),
        }
    }

    /// Every class of the file system's own that it befalls. The index is left out: an error there
    /// ends the daemon, so it has to be asked for by name.
    pub fn usual(self) -> BTreeSet<CallClass> {
        FILE_SYSTEM.into_iter().filter(|class| self.befalls(*class)).collect()
    }
}

const FILE_SYSTEM: [CallClass; 10] = [
    CallClass::Open,
    CallClass::List,
    CallClass::Stat,
    CallClass::Read,
    CallClass::Create,
    CallClass::Write,
    CallClass::Rename,
    CallClass::Remove,
    CallClass::Metadata,
    CallClass::Sync,
];

impl Faults {
    pub(crate) fn new(rng: Stream) -> Self {
        Self { rng, armed: Vec::new(), refused: 0 }
    }

    pub(crate) fn new_life(&mut self) {
        self.refused = 0;
    }

    fn strike(&mut self, now_ns: u64, class: CallClass) -> Option<(Trouble, u64)> {
        self.armed.retain(|fault| fault.until_ns > now_ns && fault.chance != Chance::At(0));
        let mut hit = None;
        // All of them count and draw, so that one fault does not shift another.
        for fault in self.armed.iter_mut().filter(|fault| fault.on.contains(&class)) {
            let strikes = match &mut fault.chance {
                Chance::OneIn(number) => self.rng.one_in(*number),
                Chance::At(left) => {
                    *left -= 1;
                    *left == 0
                }
            };
            if strikes && hit.is_none() {
                hit = Some((fault.trouble, fault.late_ns));
            }
        }
        hit
    }
}

impl Disk {
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.armed.push(fault);
    }

    /// The disk is well again. What it has lost stays lost.
    pub fn end_faults(&mut self) {
        self.faults.armed.clear();
        self.options.quota_bytes = None;
    }

    /// Whether it refused the daemon anything in its present life.
    pub fn has_refused(&self) -> bool {
        self.faults.refused > 0
    }

    /// Whether a call goes well.
    pub(crate) fn fault(&mut self, class: CallClass) -> io::Result<()> {
        if self.faults.armed.is_empty() {
            return Ok(());
        }
        let now_ns = self.now_ns();
        let Some((trouble, late_ns)) = self.faults.strike(now_ns, class) else { return Ok(()) };
        self.event("fault", format_args!("{trouble:?} {class:?}"));
        match trouble.error() {
            None => {
                self.owe((late_ns / 2, late_ns));
                Ok(())
            }
            Some(error) => {
                self.faults.refused += 1;
                let kind = IncidentKind::Refused;
                lock(&self.shared.oracle).ledger.happened(now_ns, self.index, kind);
                Err(error)
            }
        }
    }

    /// Whether the daemon may have `more` bytes; the web application is another user.
    pub(crate) fn within_quota(&mut self, more: u64) -> io::Result<()> {
        match self.options.quota_bytes {
            Some(quota) if self.used_bytes + more > quota => {
                self.event("fault", format_args!("{:?} Write", Trouble::OverQuota));
                self.faults.refused += 1;
                Err(errno(libc::EDQUOT))
            }
            _ => Ok(()),
        }
    }

    /// How many bytes of a write that fails are written all the same.
    pub(crate) fn written_before_failing(&mut self, bytes: usize) -> usize {
        let rng = &mut self.faults.rng;
        if rng.one_in(2) { rng.between(0, bytes as u64) as usize } else { 0 }
    }

    /// A sync of a file failed: what it was to store is clean from now on, and nowhere.
    pub(crate) fn lose_content(&mut self, slot: Slot) {
        let inode = self.inode_mut(slot);
        if let Body::File(content) = &inode.body
            && !std::sync::Arc::ptr_eq(content, &inode.durable.content)
        {
            inode.lost = Some(Content::clone(content));
        }
    }

    /// A sync of everything failed: some contents are lost, some were stored before.
    pub(crate) fn lose_contents(&mut self, device: u64) {
        for slot in self.dirty.clone() {
            if self.inodes[slot].as_ref().is_none_or(|inode| inode.device != device) {
                continue;
            }
            if self.faults.rng.one_in(2) {
                self.store_inode(slot);
            } else {
                self.lose_content(slot);
            }
        }
    }

    /// What the next write-back of a file brings to the disk: its content, but of pages that were
    /// lost and not written since, what is on the disk already.
    pub(crate) fn writable(&self, slot: Slot) -> Content {
        let inode = self.inode(slot);
        let content = self.content(slot);
        let Some(lost) = &inode.lost else { return content };
        let mut bytes = content.to_vec();
        for (number, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            let from = number * PAGE_BYTES;
            let range = from..from + page.len();
            if lost.get(range.clone()) == Some(&*page) {
                page.fill(0);
                let stored = inode.durable.content.get(from..).unwrap_or_default();
                let length = stored.len().min(page.len());
                page[..length].copy_from_slice(&stored[..length]);
            }
        }
        Content::new(bytes)
    }
}

/// What the kernel's page cache holds and writes as a whole.
const PAGE_BYTES: usize = 4096;
