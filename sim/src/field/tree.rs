//! What a real host holds: its share, its archive, what is left in staging.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::application::digest;
use super::record::Digest;

/// The daemon's own part of a share.
const OWN_DIR: &str = ".chainsync";

/// Names are UTF-8: a scenario's are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// By path below the root.
    pub leaves: BTreeMap<String, Leaf>,
    /// Contents in the archive.
    pub archived: BTreeSet<Digest>,
    /// Names in staging.
    pub staged: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Leaf {
    /// `changed_ms`: when the file got its name, or was changed last (ctime), since 1970.
    File {
        hash: Digest,
        size: u64,
        mode: u32,
        mtime_ns: i64,
        changed_ms: u64,
    },
    Dir {
        mode: u32,
    },
    Symlink {
        target: String,
    },
}

impl Tree {
    /// Looks at a share, and at the archives below a daemon's state directory.
    pub fn of(root: &Path, state: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut todo = vec![(root.to_owned(), String::new())];
        while let Some((directory, prefix)) = todo.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if prefix.is_empty() && name == OWN_DIR {
                    continue;
                }
                let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                let found = entry.metadata()?;
                let mode = found.mode() & 0o7777;
                let leaf = if found.is_dir() {
                    todo.push((entry.path(), path.clone()));
                    Leaf::Dir { mode }
                } else if found.is_symlink() {
                    let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
                    Leaf::Symlink { target }
                } else {
                    let hash = digest(File::open(entry.path())?)?;
                    let mtime_ns = nanoseconds(found.mtime(), found.mtime_nsec());
                    let changed_ns = nanoseconds(found.ctime(), found.ctime_nsec());
                    let changed_ms = (changed_ns / 1_000_000).unsigned_abs();
                    Leaf::File { hash, size: found.len(), mode, mtime_ns, changed_ms }
                };
                tree.leaves.insert(path, leaf);
            }
        }
        let staging = root.join(OWN_DIR).join("staging");
        for entry in absent_is_empty(fs::read_dir(staging))?.into_iter().flatten() {
            tree.staged.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        for share in absent_is_empty(fs::read_dir(state))?.into_iter().flatten() {
            tree.add_archive(&share?.path().join("archive"))?;
        }
        Ok(tree)
    }

    fn add_archive(&mut self, directory: &Path) -> io::Result<()> {
        let mut todo = vec![directory.to_owned()];
        while let Some(directory) = todo.pop() {
            for entry in absent_is_empty(fs::read_dir(directory))?.into_iter().flatten() {
                let entry = entry?;
                match entry.file_type()? {
                    kind if kind.is_dir() => todo.push(entry.path()),
                    kind if kind.is_file() => {
                        self.archived.insert(digest(File::open(entry.path())?)?);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Leaf {
    pub fn hash(&self) -> Option<&Digest> {
        match self {
            Leaf::File { hash, .. } => Some(hash),
            _ => None,
        }
    }

    /// Whether all that travels is equal.
    pub fn shows_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Leaf::File { hash, mode, mtime_ns, .. },
                Leaf::File { hash: other, mode: other_mode, mtime_ns: other_mtime_ns, .. },
            ) => (hash, mode, mtime_ns) == (other, other_mode, other_mtime_ns),
            _ => self == other,
        }
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaf::File { hash, size, mode, .. } => {
                let short = hash.get(..8).unwrap_or(hash);
                write!(f, "a file of {size} bytes ({short}, mode {mode:04o})")
            }
            Leaf::Dir { mode } => write!(f, "a directory (mode {mode:04o})"),
            Leaf::Symlink { target } => write!(f, "a symlink to {target}"),
        }
    }
}

/// Good for the years 1678 to 2261.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// A directory that is not there, or is none, has nothing in it.
fn absent_is_empty<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_what_is_there_and_not_what_is_the_daemons() {
        let home = tempfile::tempdir().unwrap();
        let (share, state) = (home.path().join("share"), home.path().join("state"));
        for directory in
            [share.join("d"), share.join(".chainsync/staging"), state.join("x/archive")]
        {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(share.join("d/a"), "one").unwrap();
        std::os::unix::fs::symlink("d/a", share.join("link")).unwrap();
        fs::write(share.join(".chainsync/staging/left"), "").unwrap();
        fs::write(state.join("x/archive/old"), "two").unwrap();
        fs::write(state.join("node.key"), "secret").unwrap();
        let tree = Tree::of(&share, &state).unwrap();
        assert_eq!(tree.leaves.keys().collect::<Vec<_>>(), ["d", "d/a", "link"]);
        let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
        assert!(
            matches!(&tree.leaves["d/a"], Leaf::File { hash: found, .. } if *found == hash("one"))
        );
        assert_eq!(tree.archived, BTreeSet::from([hash("two")]));
        assert_eq!(tree.staged, BTreeSet::from(["left".to_owned()]));
        let text = serde_json::to_string(&tree).unwrap();
        assert_eq!(serde_json::from_str::<Tree>(&text).unwrap(), tree);
    }
}
