//! Writes uploads the way web applications do, and records what it wrote.
//!
//! Contents are incompressible and begin with their own id, so no two are equal. Half of the uploads
//! are written in place (create, write, close), half under a temporary name in the same directory
//! and renamed. Nothing is recorded before it is finished, and every finished upload is recorded.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// Enough that a storm meets directories that do not exist yet, few enough that each gets many.
const DIRECTORIES: u64 = 40;
/// What web applications use; the third shows that a mode is replicated and not a default.
const MODES: [u32; 3] = [0o644, 0o664, 0o600];

/// One finished upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    /// Where, relative to the share.
    pub(super) path: PathBuf,
    pub(super) hash: blake3::Hash,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) mtime_ns: i128,
    /// When it was complete under its name: wall clock, for comparison with times on other nodes.
    pub(super) closed_ns: i128,
    /// The same moment on the monotonic clock.
    pub(super) closed: Instant,
}

/// What to write, on one node.
#[derive(Debug, Clone)]
pub(super) struct Storm {
    pub(super) node: String,
    /// The share's directory there.
    pub(super) root: PathBuf,
    /// Part of every name and content, so that no two storms write the same.
    pub(super) label: String,
    /// New files.
    pub(super) files: u64,
    pub(super) size: usize,
    /// Earlier uploads to write anew, one after each tenth new file until there are none left.
    pub(super) overwrite: Vec<PathBuf>,
    /// Spread evenly over this time; at once if zero.
    pub(super) over: Duration,
}

/// The uploads of one storm so far, in the order in which they were finished.
pub(super) type Finished = Mutex<Vec<Upload>>;

/// Runs a storm to its end, or until `stopped` says so.
pub(super) fn run(
    storm: &Storm,
    finished: &Finished,
    stopped: &dyn Fn() -> bool,
) -> io::Result<()> {
    let start = Instant::now();
    let mut overwrite = storm.overwrite.iter();
    for index in 0..storm.files {
        if stopped() {
            return Ok(());
        }
        let due = storm.over.mul_f64(index as f64 / storm.files as f64);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        record(finished, upload(storm, &fresh_path(storm, index), index)?);
        if index % 10 == 9
            && let Some(path) = overwrite.next()
        {
            record(finished, upload(storm, path, storm.files + index)?);
        }
    }
    Ok(())
}

/// One upload, outside of any storm.
pub(super) fn one(storm: &Storm, index: u64) -> io::Result<Upload> {
    upload(storm, &fresh_path(storm, index), index)
}

/// A poisoned lock means that a writer panicked; what it recorded is still true.
pub(super) fn record(finished: &Finished, upload: Upload) {
    finished.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(upload);
}

fn fresh_path(storm: &Storm, index: u64) -> PathBuf {
    let directory = index % DIRECTORIES;
    let (outer, inner) = (directory / 8, directory % 8);
    PathBuf::from(format!(
        "album-{outer}/page-{inner}/{}-{}-{index:06}.jpg",
        storm.label, storm.node
    ))
}

fn upload(storm: &Storm, path: &Path, index: u64) -> io::Result<Upload> {
    let content = content(storm, index);
    let hash = blake3::hash(&content);
    let mode = MODES[(index % 3) as usize];
    let target = storm.root.join(path);
    let parent = target.parent().unwrap_or(&storm.root);
    std::fs::create_dir_all(parent)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // By index pairs, so that both ways meet every mode and every directory.
    let renamed = (index / 2) % 2 == 1;
    let written_at = match renamed {
        true => parent.join(format!(".upload-{}-{}-{index}.tmp", storm.label, storm.node)),
        false => target.clone(),
    };
    let mut file = options.open(&written_at)?;
    file.write_all(&content)?;
    // An existing file keeps its mode when it is written anew; then this one changes it.
    file.set_permissions(Permissions::from_mode(mode))?;
    let metadata = file.metadata()?;
    drop(file);
    if renamed {
        std::fs::rename(&written_at, &target)?;
    }
    Ok(Upload {
        path: path.to_owned(),
        hash,
        size: content.len() as u64,
        mode,
        mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        closed_ns: wall_ns(),
        closed: Instant::now(),
    })
}

fn content(storm: &Storm, index: u64) -> Vec<u8> {
    let id = format!("upload {index} of storm {} on {}\n", storm.label, storm.node);
    let mut bytes = vec![0; storm.size];
    blake3::Hasher::new().update(id.as_bytes()).finalize_xof().fill(&mut bytes);
    let head = id.len().min(storm.size);
    bytes[..head].copy_from_slice(&id.as_bytes()[..head]);
    bytes
}

/// Nanoseconds since 1970.
pub(super) fn wall_ns() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as i128)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn storm(root: &Path) -> Storm {
        Storm {
            node: "apollo".to_owned(),
            root: root.to_owned(),
            label: "a".to_owned(),
            files: 100,
            size: 500,
            overwrite: Vec::new(),
            over: Duration::ZERO,
        }
    }

    #[test]
    fn what_is_recorded_is_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let (mut storm, finished) = (storm(directory.path()), Finished::default());
        run(&storm, &finished, &|| false).unwrap();
        storm.label = "b".to_owned();
        storm.files = 20;
        storm.overwrite =
            finished.lock().unwrap()[..5].iter().map(|one| one.path.clone()).collect();
        run(&storm, &finished, &|| false).unwrap();
        let finished = finished.into_inner().unwrap();
        // Every tenth of 20 makes room for one overwrite.
        assert_eq!(finished.len(), 100 + 20 + 2);
        let mut seen = BTreeSet::new();
        for upload in finished.iter().rev() {
            if !seen.insert(upload.path.clone()) {
                continue;
            }
            let path = directory.path().join(&upload.path);
            assert_eq!(blake3::hash(&std::fs::read(&path).unwrap()), upload.hash);
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, upload.mode);
            let mtime =
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            assert_eq!(mtime, upload.mtime_ns);
        }
        let contents: BTreeSet<_> = finished.iter().map(|one| *one.hash.as_bytes()).collect();
        assert_eq!(contents.len(), finished.len(), "no two contents are equal");
        let mut names = Vec::new();
        walk(directory.path(), &mut names);
        assert_eq!(names.len(), 120, "no temporary name is left: {names:?}");
    }

    fn walk(directory: &Path, names: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), names),
                false => names.push(entry.path()),
            }
        }
    }

    #[test]
    fn a_storm_can_be_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let finished = Finished::default();
        let done = || finished.lock().unwrap().len() >= 7;
        run(&storm(directory.path()), &finished, &done).unwrap();
        assert_eq!(finished.lock().unwrap().len(), 7);
    }
}
