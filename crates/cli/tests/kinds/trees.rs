//! What a tree holds, found by opening everything in it, and where two trees differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub type Tree = BTreeMap<Vec<u8>, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    File {
        size: u64,
        hash: String,
        mode: u32,
        mtime_ns: i128,
    },
    Dir {
        mode: u32,
    },
    Symlink {
        target: String,
    },
    Special(String),
    /// It went away while it was looked at.
    Gone,
}

/// The bits that are promised: setuid and setgid do not travel.
const MODE: u32 = 0o1777;

/// Everything but chainsync's own directory.
pub fn read(root: &Path) -> Tree {
    let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty()).unwrap();
    let mut tree = Tree::new();
    read_dir(root.as_fd(), b"", &mut tree);
    tree
}

fn read_dir(dir: BorrowedFd<'_>, path: &[u8], tree: &mut Tree) {
    let Ok(entries) = rustix::fs::Dir::read_from(dir) else { return };
    for entry in entries {
        let Ok(entry) = entry else { return };
        let name = entry.file_name().to_bytes();
        let own = path.is_empty() && name == b".chainsync";
        if own || name == b"." || name == b".." {
            continue;
        }
        let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        let (node, below) = read_name(dir, name).unwrap_or((Node::Gone, None));
        if let Some(below) = below {
            read_dir(below.as_fd(), &path, tree);
        }
        tree.insert(path, node);
    }
}

fn read_name(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(Node, Option<OwnedFd>), Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = stat.st_mode & MODE;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let mut file: std::fs::File =
                rustix::fs::openat(dir, name, flags, Mode::empty())?.into();
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(|_| Errno::IO)?;
            let stat = rustix::fs::fstat(&file)?;
            let mtime_ns =
                i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
            let hash = blake3::hash(&content).to_hex()[..16].to_owned();
            (Node::File { size: content.len() as u64, hash, mode, mtime_ns }, None)
        }
        FileType::Directory => {
            let flags = flags | OFlags::DIRECTORY;
            (Node::Dir { mode }, Some(rustix::fs::openat(dir, name, flags, Mode::empty())?))
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
            (Node::Symlink { target: target.to_bytes().escape_ascii().to_string() }, None)
        }
        special => (Node::Special(format!("{special:?}")), None),
    })
}

/// The first differences, in words.
pub fn equal(one: &Tree, other: &Tree) -> Result<(), String> {
    let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let mut differences: Vec<String> = paths
        .into_iter()
        .filter(|path| one.get(*path) != other.get(*path))
        .map(|path| {
            let name = path.escape_ascii().to_string();
            let name = if name.len() > 200 { format!("{}...", &name[..200]) } else { name };
            format!("{name}: {:?} here, {:?} there", one.get(path), other.get(path))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    differences.truncate(12);
    Err(format!("{count} differ:\n{}", differences.join("\n")))
}
