//! What is written, the record of it, and waiting until it is everywhere.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::hosts::{NAMES, World};
use chainsync_hosts::shell::check_interrupted;

/// Enough that a storm meets directories that do not exist yet, few enough that each gets many.
/// Of a batch, unless it is told otherwise.
const DIRECTORIES: u64 = 50;
/// An avatar.
pub const UPLOAD_SIZE: usize = 5120;
/// Far below what is measured with it, and a look is two system calls.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// The first ones show what is wrong.
const NAMED_MAX: usize = 3;

/// A file as it must be in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub path: String,
    pub size: u64,
    pub hash: blake3::Hash,
}

/// Which files an experiment writes: their names and contents follow from label and index.
#[derive(Debug, Clone)]
pub struct Batch {
    pub label: String,
    pub size: usize,
    pub directories: u64,
}

impl Batch {
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), size: UPLOAD_SIZE, directories: DIRECTORIES }
    }

    pub fn path(&self, index: u64) -> String {
        format!("d{:02}/{}-{index:06}.jpg", index % self.directories, self.label)
    }

    /// Create, write, close; as a web application does.
    pub fn write(&self, root: &Path, index: u64) -> io::Result<Upload> {
        write(root, &self.path(index), &self.content(index))
    }

    /// What [`write`](Self::write) would write, made without writing it.
    pub fn prepare(&self, indices: std::ops::Range<u64>) -> Vec<(Upload, Vec<u8>)> {
        let prepared = indices.map(|index| {
            let (path, content) = (self.path(index), self.content(index));
            (upload(&path, &content), content)
        });
        prepared.collect()
    }

    pub fn write_all(&self, root: &Path, indices: std::ops::Range<u64>) -> io::Result<Vec<Upload>> {
        indices.map(|index| self.write(root, index)).collect()
    }

    /// Incompressible, and no two are equal.
    pub fn content(&self, index: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        let id = format!("{index} of {}", self.label);
        blake3::Hasher::new().update(id.as_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }
}

pub fn write(root: &Path, path: &str, content: &[u8]) -> io::Result<Upload> {
    put(root, path, content)?;
    Ok(upload(path, content))
}

fn upload(path: &str, content: &[u8]) -> Upload {
    Upload { path: path.to_owned(), size: content.len() as u64, hash: blake3::hash(content) }
}

pub fn put(root: &Path, path: &str, content: &[u8]) -> io::Result<()> {
    let target = root.join(path);
    let mut file = match File::create(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(target.parent().unwrap_or(root))?;
            File::create(&target)?
        }
        other => other?,
    };
    file.write_all(content)
}

/// The same files on all hosts, times included, before anything watches them.
pub fn fill(world: &World, batch: &Batch, files: u64) -> Result<Vec<Upload>> {
    let mut uploads = Vec::new();
    // Not now: lsyncd and csync2 compare seconds.
    let past = std::time::SystemTime::now() - Duration::from_secs(3600);
    let times = fs::FileTimes::new().set_modified(past).set_accessed(past);
    for host in 0..NAMES.len() {
        let root = world.share(host);
        uploads = batch.write_all(&root, 0..files)?;
        for upload in &uploads {
            check_interrupted()?;
            File::options().write(true).open(root.join(&upload.path))?.set_times(times)?;
        }
    }
    Ok(uploads)
}

/// Waits for one host's tree: each look costs next to nothing, because it stops at the first file
/// that is not as it should be, and begins with what was written last.
pub struct Pending {
    host: usize,
    root: PathBuf,
    /// `None`: it must be gone.
    left: Vec<(String, Option<u64>)>,
    pub done: Option<Instant>,
}

impl Pending {
    pub fn new(world: &World, host: usize, uploads: &[Upload]) -> Self {
        let left = uploads.iter().map(|one| (one.path.clone(), Some(one.size))).collect();
        Self { host, root: world.share(host), left, done: None }
    }

    pub fn gone(world: &World, host: usize, uploads: &[Upload]) -> Self {
        let left = uploads.iter().map(|one| (one.path.clone(), None)).collect();
        Self { host, root: world.share(host), left, done: None }
    }

    pub fn look(&mut self) -> bool {
        while let Some((path, size)) = self.left.last() {
            if size_of(&self.root.join(path)) != *size {
                return false;
            }
            self.left.pop();
        }
        self.done.get_or_insert_with(Instant::now);
        true
    }

    pub fn lacks(&self) -> String {
        let wrong: Vec<_> = self
            .left
            .iter()
            .filter(|(path, size)| size_of(&self.root.join(path)) != *size)
            .map(|(path, _)| &**path)
            .collect();
        let named = wrong.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        format!("{} has {} files not as they should be: {named}", NAMES[self.host], wrong.len())
    }
}

fn size_of(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().filter(|found| found.is_file()).map(|found| found.len())
}

/// Until all are done: the moment the last one was.
pub fn wait(pending: &mut [Pending], patience: Duration) -> Result<Instant> {
    let deadline = Instant::now() + patience;
    loop {
        check_interrupted()?;
        // No short circuit: each notes its own moment.
        let waiting = pending.iter_mut().filter(|one| one.done.is_none());
        if waiting.map(Pending::look).filter(|done| !done).count() == 0 {
            return Ok(pending
                .iter()
                .filter_map(|one| one.done)
                .max()
                .unwrap_or_else(Instant::now));
        }
        if Instant::now() >= deadline {
            let lacking = pending.iter().filter(|one| one.done.is_none()).map(Pending::lacks);
            bail!("not within {patience:?}: {}", lacking.collect::<Vec<_>>().join("; "));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// On all hosts, those that wrote included: nothing may take an upload away.
pub fn wait_everywhere(world: &World, uploads: &[Upload], patience: Duration) -> Result<Instant> {
    let mut pending: Vec<_> =
        (0..NAMES.len()).map(|host| Pending::new(world, host, uploads)).collect();
    wait(&mut pending, patience)
}

/// Outside of what is timed: every content on every host, byte for byte.
pub fn verify(world: &World, uploads: &[Upload]) -> Result<()> {
    let last: BTreeMap<&str, &Upload> = uploads.iter().map(|one| (&*one.path, one)).collect();
    for (host, name) in NAMES.iter().enumerate() {
        let root = world.share(host);
        for upload in last.values() {
            check_interrupted()?;
            let found = hash(&root.join(&upload.path))
                .with_context(|| format!("{name} lacks {}", upload.path))?;
            if found != upload.hash {
                bail!("{name} has another content in {}", upload.path);
            }
        }
    }
    Ok(())
}

pub fn hash(path: &Path) -> io::Result<blake3::Hash> {
    Ok(blake3::Hasher::new().update_reader(File::open(path)?)?.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_and_names_differ() {
        let batch = Batch::new("a");
        let root = tempfile::tempdir().unwrap();
        let uploads = batch.write_all(root.path(), 0..120).unwrap();
        let mut names: Vec<_> = uploads.iter().map(|one| &one.path).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 120);
        let mut hashes: Vec<_> = uploads.iter().map(|one| *one.hash.as_bytes()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 120);
        let first = &uploads[0];
        assert_eq!(hash(&root.path().join(&first.path)).unwrap(), first.hash);
        assert_eq!(size_of(&root.path().join(&first.path)), Some(UPLOAD_SIZE as u64));
    }
}
