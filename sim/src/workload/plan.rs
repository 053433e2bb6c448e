//! From an event of the scenario to jobs: which file, when, in which style, with what inside.

use std::time::Duration;

use chainsync_core::RelPath;

use super::{Job, Style, Upload};
use crate::fs::{Content, Disk};
use crate::rng::Stream;
use crate::scenario::{ChurnEvent, StormEvent, WriteEvent};

/// Uploads of new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    pub files: u64,
    pub size: u64,
    pub directories: u64,
    pub depth: u64,
    pub over: Duration,
}

/// Uploads, overwrites, renames and deletes over a fixed set of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Churn {
    pub files: u64,
    pub size: u64,
    pub operations: u64,
    /// Of a hundred operations.
    pub deletes: u64,
    pub renames: u64,
    pub directory_renames: u64,
    pub over: Duration,
}

impl From<&StormEvent> for Storm {
    fn from(event: &StormEvent) -> Self {
        Self {
            files: event.files,
            size: event.size.0,
            directories: event.directories,
            depth: event.depth,
            over: event.over.0,
        }
    }
}

impl From<&ChurnEvent> for Churn {
    fn from(event: &ChurnEvent) -> Self {
        Self {
            files: event.files,
            size: event.size.0,
            operations: event.operations,
            deletes: event.deletes,
            renames: event.renames,
            directory_renames: event.directory_renames,
            over: event.over.0,
        }
    }
}

/// A content that exists once: who wrote it what for, then noise.
pub fn content(label: &str, size: u64, rng: &mut Stream) -> Content {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    rng.fill(&mut bytes);
    let head = format!("{label} {:016x}\n", rng.draw());
    // A content too small for its label stays noise; of a few bytes two may be equal, and may be.
    if head.len() <= bytes.len() {
        bytes[..head.len()].copy_from_slice(head.as_bytes());
    }
    Content::new(bytes)
}

/// The web application of one node: the simulated one, or one on a real machine. What it is told
/// to do when comes from here for both.
pub trait Application {
    fn node(&self) -> &str;
    fn rng(&mut self) -> &mut Stream;
    fn upload(&mut self, due_ns: u64, name: &str, size: u64);
    fn delete(&mut self, due_ns: u64, name: &str);
    fn rename(&mut self, due_ns: u64, from: &str, to: &str);
}

impl Application for Disk {
    fn node(&self) -> &str {
        &self.node
    }

    fn rng(&mut self) -> &mut Stream {
        &mut self.jobs.rng
    }

    fn upload(&mut self, due_ns: u64, name: &str, size: u64) {
        upload(self, due_ns, name, size, None);
    }

    fn delete(&mut self, due_ns: u64, name: &str) {
        delete(self, due_ns, name);
    }

    fn rename(&mut self, due_ns: u64, from: &str, to: &str) {
        rename(self, due_ns, from, to);
    }
}

/// Spreads the storm evenly from `from_ns` on. `tag` keeps the names of two storms apart.
pub fn storm(application: &mut impl Application, tag: usize, from_ns: u64, storm: Storm) {
    let over_ns = storm.over.as_nanos() as u64;
    for file in 0..storm.files {
        let slot = over_ns / storm.files.max(1);
        let due = from_ns + file * slot + application.rng().between(0, slot);
        let directory = application.rng().between(0, storm.directories.max(1) - 1);
        let below = format!("/below{directory}").repeat(storm.depth.saturating_sub(1) as usize);
        let name = format!("d{directory:03}{below}/{}-{tag}-{file}", application.node());
        application.upload(due, &name, storm.size);
    }
}

pub fn churn(application: &mut impl Application, tag: usize, from_ns: u64, churn: Churn) {
    let over_ns = churn.over.as_nanos() as u64;
    for operation in 0..churn.operations {
        let slot = over_ns / churn.operations.max(1);
        let due = from_ns + operation * slot + application.rng().between(0, slot);
        let pick = |rng: &mut Stream| {
            let file = rng.between(0, churn.files.max(1) - 1);
            format!("churn{tag}/{}/f{file}", file % 7)
        };
        let name = pick(application.rng());
        let drawn = application.rng().between(0, 99);
        let files = churn.deletes + churn.renames;
        if drawn < churn.deletes {
            application.delete(due, &name);
        } else if drawn < files {
            let to = pick(application.rng());
            application.rename(due, &name, &to);
        } else if drawn < files + churn.directory_renames {
            // Half of the targets are names that no upload uses: most renames find them free.
            let directory = |rng: &mut Stream| format!("churn{tag}/{}", rng.between(0, 13));
            let (from, to) = (directory(application.rng()), directory(application.rng()));
            application.rename(due, &from, &to);
        } else {
            application.upload(due, &name, churn.size);
        }
    }
}

pub(crate) fn upload(disk: &mut Disk, due_ns: u64, name: &str, size: u64, style: Option<Style>) {
    let Ok(path) = RelPath::new(name) else { return };
    let upload = Upload::new(disk, path, size, style, own_stream(disk, due_ns, name));
    disk.jobs.add(due_ns, Job::Upload(Box::new(upload)));
}

/// One file, as long as `over` in the writing.
pub(crate) fn write(disk: &mut Disk, due_ns: u64, write: &WriteEvent) {
    let (name, size) = (write.path.get_ref(), write.size.0);
    let Some(over) = write.over.map(|over| over.0).filter(|over| !over.is_zero()) else {
        return upload(disk, due_ns, name, size, write.style);
    };
    let Ok(path) = RelPath::new(name) else { return };
    let mut rng = own_stream(disk, due_ns, name);
    let drawn = if rng.one_in(2) { Style::InPlace } else { Style::Rename };
    let style = Some(write.style.unwrap_or(drawn));
    let upload = Upload::new(disk, path, size, style, rng).slowly(over);
    disk.jobs.add(due_ns, Job::Upload(Box::new(upload)));
}

/// What one upload draws from: the same, whatever else the scenario does, but for another upload of
/// the same name in the same moment. Nothing tells two equal contents apart.
fn own_stream(disk: &Disk, due_ns: u64, name: &str) -> Stream {
    let purpose = match disk.jobs.uploads_at(due_ns, name) {
        0 => format!("upload {due_ns} {name}"),
        others => format!("upload {due_ns} {name} {others}"),
    };
    Stream::new(disk.shared.seed, &purpose, &disk.node)
}

pub(crate) fn make_dir(disk: &mut Disk, due_ns: u64, name: &str) {
    if let Ok(path) = RelPath::new(name) {
        disk.jobs.add(due_ns, Job::MakeDir(path));
    }
}

pub(crate) fn symlink(disk: &mut Disk, due_ns: u64, name: &str, target: &[u8]) {
    if let Ok(path) = RelPath::new(name) {
        disk.jobs.add(due_ns, Job::Symlink(path, target.to_vec()));
    }
}

pub(crate) fn chmod(disk: &mut Disk, due_ns: u64, name: &str, mode: u32) {
    if let Ok(path) = RelPath::new(name) {
        disk.jobs.add(due_ns, Job::Chmod(path, mode));
    }
}

pub(crate) fn delete(disk: &mut Disk, due_ns: u64, name: &str) {
    if let Ok(path) = RelPath::new(name) {
        disk.jobs.add(due_ns, Job::Delete(path));
    }
}

pub(crate) fn rename(disk: &mut Disk, due_ns: u64, from: &str, to: &str) {
    if let (Ok(from), Ok(to)) = (RelPath::new(from), RelPath::new(to)) {
        disk.jobs.add(due_ns, Job::Rename(from, to));
    }
}
