//! What is written, the record of it, and waiting until it is everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
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

/// Waits for one host's tree. Each look costs next to nothing: only when what was written last is as it
/// should be, the rest is looked at.
pub struct Pending {
    host: usize,
    root: PathBuf,
    left: Vec<Expected>,
    found: Vec<Expected>,
    /// Otherwise the name was there before, and only the size tells.
    by_name: bool,
    /// When all had been found.
    pub done: Option<Instant>,
}

struct Expected {
    path: String,
    /// `None`: it must be gone.
    size: Option<u64>,
}

impl Pending {
    /// For names that were not there before.
    pub fn new(world: &World, host: usize, uploads: &[Upload]) -> Self {
        Self::expect(world, host, uploads, |one| Some(one.size))
    }

    /// For names that were there with another size.
    pub fn overwritten(world: &World, host: usize, uploads: &[Upload]) -> Self {
        Self { by_name: false, ..Self::new(world, host, uploads) }
    }

    pub fn gone(world: &World, host: usize, uploads: &[Upload]) -> Self {
        Self::expect(world, host, uploads, |_| None)
    }

    fn expect(
        world: &World,
        host: usize,
        uploads: &[Upload],
        size: impl Fn(&Upload) -> Option<u64>,
    ) -> Self {
        let left = uploads.iter().map(|one| Expected { path: one.path.clone(), size: size(one) });
        let (root, left) = (world.share(host), left.collect());
        Self { host, root, left, found: Vec::new(), by_name: true, done: None }
    }

    /// Whether all is there. To read a directory costs a tenth of asking for each file in it, and what is
    /// spent here the fastest system is charged for.
    pub fn look(&mut self) -> bool {
        if self.left.last().is_some_and(|one| !one.is_so(&self.root)) {
            return false;
        }
        let mut names = Names::default();
        for one in std::mem::take(&mut self.left) {
            let found = if self.by_name {
                names.has(&self.root, &one.path) == one.size.is_some()
            } else {
                one.is_so(&self.root)
            };
            if found { &mut self.found } else { &mut self.left }.push(one);
        }
        if self.left.is_empty() {
            self.done.get_or_insert_with(Instant::now);
        }
        self.left.is_empty()
    }

    /// Whether all that was found has its full size, too; what has not was not found.
    fn is_whole(&mut self) -> bool {
        let (found, left) = self.found.drain(..).partition(|one| one.is_so(&self.root));
        (self.found, self.left) = (found, left);
        if !self.left.is_empty() {
            self.done = None;
        }
        self.left.is_empty()
    }

    pub fn lacks(&self) -> String {
        let wrong: Vec<_> =
            self.left.iter().filter(|one| !one.is_so(&self.root)).map(|one| &*one.path).collect();
        let named = wrong.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        format!("{} has {} files not as they should be: {named}", NAMES[self.host], wrong.len())
    }
}

impl Expected {
    fn is_so(&self, root: &Path) -> bool {
        size_of(&root.join(&self.path)) == self.size
    }
}

/// What was in the directories when they were read; each is read once.
#[derive(Default)]
struct Names(BTreeMap<String, BTreeSet<OsString>>);

impl Names {
    fn has(&mut self, root: &Path, path: &str) -> bool {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !self.0.contains_key(directory) {
            // What cannot be read holds nothing.
            let read = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
            self.0.insert(directory.to_owned(), read.map(|entry| entry.file_name()).collect());
        }
        self.0.get(directory).is_some_and(|names| names.contains(OsStr::new(name)))
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
        // No short circuit, here and below: each notes its own moment.
        let waiting = pending.iter_mut().filter(|one| one.done.is_none());
        if waiting.map(Pending::look).filter(|done| !done).count() == 0
            && pending.iter_mut().map(Pending::is_whole).filter(|whole| !whole).count() == 0
        {
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
    wait(&mut on_all_hosts(|host| Pending::new(world, host, uploads)), patience)
}

pub fn on_all_hosts(pending: impl Fn(usize) -> Pending) -> Vec<Pending> {
    (0..NAMES.len()).map(pending).collect()
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
    #[test]
    fn what_is_there_in_part_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let expected = |path: &str, size| Expected { path: path.to_owned(), size };
        let mut pending = Pending {
            host: 0,
            root: root.path().to_owned(),
            left: vec![expected("d/a", Some(3)), expected("d/gone", None), expected("b", Some(3))],
            found: Vec::new(),
            by_name: true,
            done: None,
        };
        assert!(!pending.look());
        put(root.path(), "b", b"all").unwrap();
        put(root.path(), "d/a", b"al").unwrap();
        put(root.path(), "d/gone", b"still here").unwrap();
        assert!(!pending.look());
        fs::remove_file(root.path().join("d/gone")).unwrap();
        assert!(pending.look() && pending.done.is_some());
        assert!(!pending.is_whole() && pending.done.is_none());
        assert!(!pending.look());
        put(root.path(), "d/a", b"all").unwrap();
        assert!(pending.look() && pending.is_whole() && pending.done.is_some());
    }
}
