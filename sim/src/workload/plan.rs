//! From an event of the scenario to jobs: which file, when, in which style, with what inside.

use std::time::Duration;

use chainsync_core::RelPath;

use super::{Job, Style, Upload};
use crate::fs::{Content, Disk};
use crate::rng::Stream;
use crate::scenario::WriteEvent;

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

/// Spreads the storm evenly from `from_ns` on. `tag` keeps the names of two storms apart.
pub fn storm(disk: &mut Disk, tag: usize, from_ns: u64, storm: Storm) {
    let over_ns = storm.over.as_nanos() as u64;
    for file in 0..storm.files {
        let slot = over_ns / storm.files.max(1);
        let due = from_ns + file * slot + disk.jobs.rng.between(0, slot);
        let directory = disk.jobs.rng.between(0, storm.directories.max(1) - 1);
        let below = format!("/below{directory}").repeat(storm.depth.saturating_sub(1) as usize);
        let name = format!("d{directory:03}{below}/{}-{tag}-{file}", disk.node);
        upload(disk, due, &name, storm.size, None);
    }
}

pub fn churn(disk: &mut Disk, tag: usize, from_ns: u64, churn: Churn) {
    let over_ns = churn.over.as_nanos() as u64;
    for operation in 0..churn.operations {
        let slot = over_ns / churn.operations.max(1);
        let due = from_ns + operation * slot + disk.jobs.rng.between(0, slot);
        let pick = |disk: &mut Disk| {
            let file = disk.jobs.rng.between(0, churn.files.max(1) - 1);
            format!("churn{tag}/{}/f{file}", file % 7)
        };
        let name = pick(disk);
        let drawn = disk.jobs.rng.between(0, 99);
        let files = churn.deletes + churn.renames;
        if drawn < churn.deletes {
            delete(disk, due, &name);
        } else if drawn < files {
            let to = pick(disk);
            rename(disk, due, &name, &to);
        } else if drawn < files + churn.directory_renames {
            // Half of the targets are names that no upload uses: most renames find them free.
            let directory = |disk: &mut Disk, names: u64| {
                format!("churn{tag}/{}", disk.jobs.rng.between(0, names - 1))
            };
            let (from, to) = (directory(disk, 14), directory(disk, 14));
            rename(disk, due, &from, &to);
        } else {
            upload(disk, due, &name, churn.size, None);
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
