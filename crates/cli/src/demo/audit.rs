//! Compares trees and holds them against what was written. Opens files only: it never asks a
//! daemon, because a daemon that is wrong would also be wrong about that.
//!
//! A tree is every path below a share except the daemon's own `.chainsync`: type, content, mode and
//! (of files, the only kind whose time is replicated) mtime.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::generator::Upload;

/// The daemon's staging directory and root marker, in the root of each share.
const STAGING: &str = ".chainsync";
/// The first ones show what is wrong.
const FINDINGS_MAX: usize = 20;

/// What is at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    File {
        hash: blake3::Hash,
        size: u64,
        mode: u32,
        mtime_ns: i128,
    },
    Directory {
        mode: u32,
    },
    Symlink {
        target: PathBuf,
    },
    /// Nothing that replicates.
    Other,
}

/// A share as it is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<PathBuf, Item>);

/// Contents by their hash.
pub(super) type Archive = BTreeSet<[u8; 32]>;

impl Tree {
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.descend(root, Path::new(""))?;
        Ok(tree)
    }

    /// BLAKE3 over the sorted tree.
    pub(super) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, item) in &self.0 {
            hasher.update(path.as_os_str().as_bytes()).update(b"\0");
            hasher.update(item.to_string().as_bytes()).update(b"\0");
        }
        hasher.finalize()
    }

    fn descend(&mut self, root: &Path, directory: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(root.join(directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if path.as_os_str() == OsStr::new(STAGING) {
                continue;
            }
            let item = Item::read(&entry.path())?;
            let deeper = matches!(item, Item::Directory { .. });
            self.0.insert(path.clone(), item);
            if deeper {
                self.descend(root, &path)?;
            }
        }
        Ok(())
    }
}

impl Item {
    fn read(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        let mode = metadata.permissions().mode() & 0o7777;
        Ok(if metadata.is_dir() {
            Self::Directory { mode }
        } else if metadata.is_symlink() {
            Self::Symlink { target: std::fs::read_link(path)? }
        } else if metadata.is_file() {
            let content = std::fs::read(path)?;
            let mtime_ns =
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            Self::File { hash: blake3::hash(&content), size: content.len() as u64, mode, mtime_ns }
        } else {
            Self::Other
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { hash, size, mode, mtime_ns } => {
                let short = &hash.to_hex()[..16];
                write!(f, "file of {size} bytes, {short}, mode {mode:04o}, mtime {mtime_ns}")
            }
            Self::Directory { mode } => write!(f, "directory, mode {mode:04o}"),
            Self::Symlink { target } => write!(f, "symlink to {}", target.display()),
            Self::Other => write!(f, "neither file, directory nor symlink"),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// All trees are the same.
    pub(super) equal: bool,
    /// Every path is as its last writer left it, and nobody else wrote anything.
    pub(super) faithful: bool,
    /// Last finished contents that are neither current everywhere nor archived anywhere.
    pub(super) lost: u64,
    /// In words, the first few.
    pub(super) findings: Vec<String>,
}

/// `uploads` in the order in which they were finished.
pub(super) fn audit(
    trees: &BTreeMap<String, Tree>,
    archive: &Archive,
    uploads: &[Upload],
) -> Verdict {
    let mut verdict = Verdict { equal: true, faithful: true, ..Verdict::default() };
    let last: BTreeMap<&Path, &Upload> =
        uploads.iter().map(|upload| (&*upload.path, upload)).collect();
    verdict.compare(trees);
    verdict.hold_against(trees, archive, &last);
    verdict.look_for_strays(trees, &last);
    verdict
}

impl Verdict {
    fn compare(&mut self, trees: &BTreeMap<String, Tree>) {
        let paths: BTreeSet<&PathBuf> = trees.values().flat_map(|tree| tree.0.keys()).collect();
        for path in paths {
            let items: Vec<_> = trees.iter().map(|(node, tree)| (node, tree.0.get(path))).collect();
            if items.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                self.equal = false;
                let each = items.iter().map(|(node, item)| match item {
                    Some(item) => format!("{node} has a {item}"),
                    None => format!("{node} has nothing"),
                });
                self.find(path, each.collect::<Vec<_>>().join("; "));
            }
        }
    }

    fn hold_against(
        &mut self,
        trees: &BTreeMap<String, Tree>,
        archive: &Archive,
        last: &BTreeMap<&Path, &Upload>,
    ) {
        for (path, upload) in last {
            let expected = Item::File {
                hash: upload.hash,
                size: upload.size,
                mode: upload.mode,
                mtime_ns: upload.mtime_ns,
            };
            let mut current = true;
            for (node, tree) in trees {
                let item = tree.0.get(*path);
                if item != Some(&expected) {
                    self.faithful = false;
                    let there = item.map_or("nothing".to_owned(), ToString::to_string);
                    self.find(path, format!("written as {expected}; {node} has {there}"));
                }
                current &= matches!(item, Some(Item::File { hash, .. }) if *hash == upload.hash);
            }
            if !current && !archive.contains(upload.hash.as_bytes()) {
                self.lost += 1;
                self.find(
                    path,
                    "LOST: its last content is not everywhere and in no archive".into(),
                );
            }
        }
    }

    fn look_for_strays(&mut self, trees: &BTreeMap<String, Tree>, last: &BTreeMap<&Path, &Upload>) {
        let directories: BTreeSet<&Path> =
            last.keys().flat_map(|path| path.ancestors().skip(1)).collect();
        for (node, tree) in trees {
            for (path, item) in &tree.0 {
                let known = match item {
                    Item::Directory { .. } => directories.contains(&**path),
                    _ => last.contains_key(&**path),
                };
                if !known {
                    self.faithful = false;
                    self.find(path, format!("nobody wrote this {item} on {node}"));
                }
            }
        }
    }

    fn find(&mut self, path: &Path, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(format!("{}: {what}", path.display().to_string().escape_debug()));
        }
    }
}

/// Every content below a node's archive; empty if there is none.
pub(super) fn read_archive(directory: &Path, archive: &mut Archive) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_archive(&entry.path(), archive)?;
        } else if kind.is_file() {
            archive.insert(*blake3::hash(&std::fs::read(entry.path())?).as_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes, Permissions};
    use std::time::{Duration, SystemTime};

    use super::super::generator::{Finished, Storm, run};
    use super::*;

    const NODES: [&str; 3] = ["apollo", "chronos", "hermes"];

    struct World {
        directory: tempfile::TempDir,
        uploads: Vec<Upload>,
    }

    impl World {
        /// The same uploads on three nodes, as a perfect daemon would leave them.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join(NODES[0]);
            let storm = |label: &str, files, overwrite| Storm {
                node: NODES[0].to_owned(),
                root: root.clone(),
                label: label.to_owned(),
                files,
                size: 100,
                overwrite,
                over: Duration::ZERO,
            };
            let finished = Finished::default();
            run(&storm("a", 20, vec![]), &finished, &|| false).unwrap();
            let again = vec![finished.lock().unwrap()[3].path.clone()];
            run(&storm("b", 10, again), &finished, &|| false).unwrap();
            for node in &NODES[1..] {
                copy(&root, &directory.path().join(node));
            }
            Self { directory, uploads: finished.into_inner().unwrap() }
        }

        fn path(&self, node: &str, path: &Path) -> PathBuf {
            self.directory.path().join(node).join(path)
        }

        fn verdict(&self, archive: &Archive) -> Verdict {
            let read = |node: &str| Tree::read(&self.directory.path().join(node)).unwrap();
            let trees = NODES.map(|node| (node.to_owned(), read(node))).into_iter().collect();
            audit(&trees, archive, &self.uploads)
        }
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir(to).unwrap();
        std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), &target).unwrap();
                set_mtime(&target, entry.metadata().unwrap().modified().unwrap());
            }
        }
    }

    fn set_mtime(path: &Path, mtime: SystemTime) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(mtime)).unwrap();
    }

    /// What the auditor says after `damage` was done to the first upload on hermes.
    fn after(damage: impl Fn(&Path)) -> Verdict {
        let world = World::new();
        damage(&world.path("hermes", &world.uploads[0].path));
        world.verdict(&Archive::new())
    }

    #[test]
    fn equal_trees_are_equal() {
        let world = World::new();
        let verdict = world.verdict(&Archive::new());
        assert!(verdict.equal && verdict.faithful && verdict.findings.is_empty(), "{verdict:?}");
        assert_eq!(verdict.lost, 0);
        let read = |node: &str| Tree::read(&world.directory.path().join(node)).unwrap();
        assert_eq!(read("apollo").digest(), read("hermes").digest());
    }

    #[test]
    fn a_missing_file_is_caught_and_lost_unless_archived() {
        let world = World::new();
        let path = world.path("hermes", &world.uploads[0].path);
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let verdict = world.verdict(&Archive::new());
        assert!(!verdict.equal && !verdict.faithful);
        assert_eq!(verdict.lost, 1);
        let kept = world.directory.path().join("archive/images");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("some name"), content).unwrap();
        let mut archive = Archive::new();
        read_archive(kept.parent().unwrap(), &mut archive).unwrap();
        let verdict = world.verdict(&archive);
        assert_eq!(verdict.lost, 0);
        assert!(!verdict.equal && !verdict.faithful);
    }

    #[test]
    fn a_different_byte_is_caught() {
        let verdict = after(|path| {
            let mtime = std::fs::metadata(path).unwrap().modified().unwrap();
            let mut content = std::fs::read(path).unwrap();
            content[50] ^= 1;
            std::fs::write(path, content).unwrap();
            set_mtime(path, mtime);
        });
        assert!(!verdict.equal && !verdict.faithful);
        assert_eq!(verdict.lost, 1);
    }

    #[test]
    fn a_different_mode_is_caught() {
        let mode = |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o640));
        let verdict = after(|path| mode(path).unwrap());
        assert!(!verdict.equal && !verdict.faithful);
        assert_eq!(verdict.lost, 0);
        let verdict = after(|path| {
            let mode = Permissions::from_mode(0o700);
            std::fs::set_permissions(path.parent().unwrap(), mode).unwrap();
        });
        assert!(!verdict.equal, "the mode of a directory counts");
    }

    #[test]
    fn a_different_mtime_is_caught() {
        let verdict = after(|path| {
            let mtime = std::fs::metadata(path).unwrap().modified().unwrap();
            set_mtime(path, mtime + Duration::from_nanos(1));
        });
        assert!(!verdict.equal && !verdict.faithful);
        assert_eq!(verdict.lost, 0);
    }

    #[test]
    fn a_stray_file_is_caught() {
        let verdict = after(|path| std::fs::write(path.with_extension("tmp"), "x").unwrap());
        assert!(!verdict.equal && !verdict.faithful);
    }

    #[test]
    fn a_file_that_nobody_wrote_is_caught_even_if_it_is_everywhere() {
        let world = World::new();
        let mtime = SystemTime::now();
        for node in NODES {
            let path = world.path(node, Path::new("album-0/stranger"));
            std::fs::write(&path, "x").unwrap();
            set_mtime(&path, mtime);
        }
        let verdict = world.verdict(&Archive::new());
        assert!(verdict.equal && !verdict.faithful);
    }

    #[test]
    fn an_overwrite_that_vanished_everywhere_is_lost() {
        let world = World::new();
        let again = world.uploads.last().unwrap();
        let before = world.uploads.iter().position(|upload| upload.path == again.path).unwrap();
        assert!(before + 1 < world.uploads.len());
        for node in NODES {
            std::fs::write(world.path(node, &again.path), "the content before").unwrap();
        }
        let verdict = world.verdict(&Archive::new());
        assert_eq!(verdict.lost, 1);
    }

    #[test]
    fn the_staging_directory_is_not_part_of_a_tree() {
        let world = World::new();
        std::fs::create_dir(world.path("hermes", Path::new(STAGING))).unwrap();
        std::fs::write(world.path("hermes", Path::new(STAGING)).join("x"), "x").unwrap();
        assert!(world.verdict(&Archive::new()).equal);
    }
}
