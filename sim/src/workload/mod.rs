//! The web application: scripts of system calls, each at its own nanosecond, interleaved with the
//! daemon's calls.
//!
//! A job is a small state machine; a step is one system call. Steps that are due run before the
//! daemon's next call on that machine, or at the next tick if the daemon does nothing.

mod plan;
mod upload;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use chainsync_core::RelPath;
use chainsync_env::RenameMode;

use crate::fs::{Actor, Body, Content, Disk, Slot};
use crate::ledger::What;
use crate::rng::Stream;
use crate::shared::lock;
use crate::trace::Shown;
#[cfg(test)]
pub(crate) use plan::upload;
pub use plan::{Application, Churn, Storm, churn, content, storm};
pub(crate) use plan::{chmod, delete, make_dir, rename, symlink, write};
pub use upload::Style;
pub(crate) use upload::{Draft, Upload};

/// What a call of the web application costs.
const CALL_NS: (u64, u64) = (1_000, 3_000);

/// The scripts of one machine.
pub(crate) struct Jobs {
    pub rng: Stream,
    queue: BTreeMap<(u64, u64), Job>,
    next: u64,
    /// Calls made so far.
    pub calls: u64,
    /// Uploads that had a file open, until nobody has: two may write into one file, and then what
    /// is left is neither's.
    pub writing: BTreeMap<Slot, Vec<usize>>,
}

pub(crate) enum Job {
    Upload(Box<Upload>),
    Delete(RelPath),
    Rename(RelPath, RelPath),
    MakeDir(RelPath),
    Symlink(RelPath, Vec<u8>),
    Chmod(RelPath, u32),
}

impl Jobs {
    pub(crate) fn new(rng: Stream) -> Self {
        Self { rng, queue: BTreeMap::new(), next: 0, calls: 0, writing: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, due_ns: u64, job: Job) {
        self.queue.insert((due_ns, self.next), job);
        self.next += 1;
    }

    /// Uploads of a name that begin at that moment.
    fn uploads_at(&self, due_ns: u64, name: &str) -> usize {
        let there = self.queue.range((due_ns, 0)..=(due_ns, u64::MAX));
        let of_name = |job: &Job| matches!(job, Job::Upload(upload) if upload.is_of(name));
        there.filter(|(_, job)| of_name(job)).count()
    }

    /// The machine is off: whatever was to be done here, the balancer sends elsewhere.
    pub(crate) fn abort(&mut self) {
        self.queue.clear();
        self.writing.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn take_due(&mut self, until_ns: u64) -> Option<Job> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= until_ns)?;
        Some(first.remove())
    }
}

impl Disk {
    /// Lets the web application do what it has to do by `until_ns`.
    pub(crate) fn run_writers(&mut self, until_ns: u64) {
        while let Some(job) = self.jobs.take_due(until_ns) {
            let cost = self.jobs.rng.between(CALL_NS.0, CALL_NS.1);
            self.advance(cost);
            self.jobs.calls += 1;
            match job {
                Job::Upload(upload) => {
                    if let Some((wait_ns, upload)) = self.step_upload(*upload) {
                        let due = self.now_ns() + wait_ns;
                        self.jobs.add(due, Job::Upload(Box::new(upload)));
                    }
                }
                Job::Delete(path) => {
                    let result = self.delete_upload(&path);
                    self.writer_did("delete", &path, result);
                }
                Job::Rename(from, to) => {
                    let result = self.rename_upload(&from, &to);
                    self.writer_did(&format!("rename to {to}:"), &from, result);
                }
                Job::MakeDir(path) => {
                    let result = self.upload_dir(&path).and_then(|dir| {
                        self.make_dir(Actor::Writer, dir, path.name(), 0o755).map(drop)
                    });
                    self.writer_did("mkdir", &path, result);
                }
                Job::Symlink(path, target) => {
                    let result = self.upload_dir(&path).and_then(|dir| {
                        self.make_symlink(Actor::Writer, dir, path.name(), &target)
                    });
                    self.writer_did("symlink", &path, result);
                }
                Job::Chmod(path, mode) => {
                    let result = self.chmod_upload(&path, mode);
                    self.writer_did("chmod", &path, result);
                }
            }
        }
    }

    pub(crate) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Refusals (the directory went away, the disk is full) are the application's problem, and part
    /// of the trace.
    fn writer_did(&mut self, call: &str, path: &RelPath, result: io::Result<()>) {
        let code = result.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        self.event("app", format_args!("{call} {} {code}", Shown(path.as_bytes())));
    }

    fn delete_upload(&mut self, path: &RelPath) -> io::Result<()> {
        let dir = self.upload_dir(path)?;
        let slot = self.lookup(dir, path.name())?;
        if self.inode(slot).is_dir() {
            self.remove_dir(Actor::Writer, dir, path.name())?;
            lock(&self.shared.oracle).ledger.removed(path.as_bytes());
            return Ok(());
        }
        let content = self.content(slot);
        let is_file = matches!(self.inode(slot).body, Body::File(_));
        self.unlink(Actor::Writer, dir, path.name())?;
        if is_file {
            self.took_away(slot, &content);
            self.took(path.as_bytes(), &content, What::Removed);
        } else {
            lock(&self.shared.oracle).ledger.removed(path.as_bytes());
        }
        Ok(())
    }

    fn chmod_upload(&mut self, path: &RelPath, mode: u32) -> io::Result<()> {
        let dir = self.upload_dir(path)?;
        let slot = self.lookup(dir, path.name())?;
        let at = Some((dir, path.name().into()));
        self.set_meta(Actor::Writer, slot, at, "chmod", |meta| meta.mode = mode & 0o7777);
        let content = self.content(slot);
        let (now, mode) = (self.now_ns(), mode & 0o7777);
        lock(&self.shared.oracle).touched(now, self.index, path.as_bytes(), &content, mode);
        Ok(())
    }

    /// The application overwrote, deleted or displaced a file by its own hand: whatever is in it, or
    /// being written into it, is not missed.
    pub(crate) fn took_away(&mut self, slot: Slot, content: &Content) {
        let writing = self.jobs.writing.remove(&slot).unwrap_or_default();
        let mut oracle = lock(&self.shared.oracle);
        oracle.replaced(content);
        for id in writing {
            oracle.uploads[id].replaced = true;
        }
    }

    /// Tells the ledger that the application put a content somewhere.
    pub(crate) fn put(&mut self, path: &[u8], content: &Content) {
        let now = self.now_ns();
        lock(&self.shared.oracle).put(now, self.index, path, content);
    }

    /// Tells the ledger that the application took a content away from where it was.
    pub(crate) fn took(&mut self, path: &[u8], content: &Content, what: What) {
        let now = self.now_ns();
        lock(&self.shared.oracle).took(now, self.index, path, content, what);
    }

    /// Gives a file of the share a second name.
    pub fn link_upload(&mut self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let dir = self.upload_dir(from)?;
        let slot = self.lookup(dir, from.name())?;
        let to_dir = self.upload_dir(to)?;
        self.link(to_dir, to.name(), slot)?;
        let content = self.content(slot);
        lock(&self.shared.oracle).left_behind(to.as_bytes(), &content);
        self.put(to.as_bytes(), &content);
        Ok(())
    }

    /// Tells the ledger that a name, and all names below it, are others now. Files are told of by
    /// themselves, with their contents.
    fn renamed_below(&mut self, slot: Slot, from: &[u8], to: &[u8]) {
        let shared = Arc::clone(&self.shared);
        let mut oracle = lock(&shared.oracle);
        let mut todo = vec![(slot, from.to_vec(), to.to_vec())];
        while let Some((slot, from, to)) = todo.pop() {
            // Gone there and new here: two changes of one call.
            self.jobs.calls += 2;
            for id in self.jobs.writing.get(&slot).into_iter().flatten() {
                oracle.moved(self.index, *id, &to);
            }
            match &self.inode(slot).body {
                Body::File(_) => {}
                Body::Symlink(_) => {
                    oracle.ledger.removed(&from);
                    oracle.ledger.no_directory(&to);
                }
                Body::Dir(dir) => {
                    oracle.ledger.removed(&from);
                    oracle.ledger.named(&to);
                    let names = dir.names.iter();
                    todo.extend(names.map(|(name, below)| {
                        let join = |path: &[u8]| [path, b"/", name].concat();
                        (*below, join(&from), join(&to))
                    }));
                }
            }
        }
    }

    fn rename_upload(&mut self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let from_dir = self.upload_dir(from)?;
        let slot = self.lookup(from_dir, from.name())?;
        let to_dir = self.upload_dir(to)?;
        let displaced = self.lookup(to_dir, to.name()).ok().filter(|displaced| *displaced != slot);
        if displaced.is_none() && self.lookup(to_dir, to.name()).is_ok() {
            // Two names of one file, or the same name: rename(2) does nothing.
            return Ok(());
        }
        let displaced = displaced.map(|slot| (slot, self.content(slot)));
        let ends = ((from_dir, from.name()), (to_dir, to.name()));
        self.rename(Actor::Writer, ends.0, ends.1, RenameMode::Replace)?;
        let mut files = Vec::new();
        if self.inode(slot).is_dir() {
            self.files_below(slot, &mut to.as_bytes().to_vec(), &mut files);
        } else {
            files.push((to.as_bytes().to_vec(), self.content(slot)));
        }
        if let Some((slot, content)) = displaced {
            self.took_away(slot, &content);
            self.took(to.as_bytes(), &content, What::Overwritten);
        }
        let (from, to) = (from.as_bytes(), to.as_bytes());
        self.renamed_below(slot, from, to);
        for (path, content) in &files {
            let before = [from, &path[to.len()..]].concat();
            self.took(&before, content, What::Removed);
            self.put(path, content);
        }
        let mut oracle = lock(&self.shared.oracle);
        for (path, content) in files {
            oracle.renamed(self.index, &content, &path);
        }
        Ok(())
    }
}
