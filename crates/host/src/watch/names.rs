//! How paths are spelled towards notify.
//!
//! ```text
//! /proc/self/fd/7/a/b                 spelling 0   levels 0, 2, 4, ...
//! /proc/self/fd/../fd/7/a/b           spelling 1
//! /proc/self/fd/../fd/../fd/7/a/b     spelling 2   levels 1, 3, 5, ...
//! ...
//! ```
//! 7 is the root's descriptor. All spellings lead to the same directory; to notify they are
//! different paths. A directory and those in it never share one, so the path that notify makes of a
//! directory's spelling and a name in it is never the path of a watch.

use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chainsync_core::RelPath;

/// Spellings of one path: the watch that ends and the one that takes its place.
const SPELLINGS: usize = 2;

/// What an event is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Below(RelPath),
}

#[derive(Debug)]
pub(super) struct Names {
    /// By level parity and spelling.
    roots: [[Vec<u8>; SPELLINGS]; 2],
}

impl Names {
    pub(super) fn new(root: RawFd) -> Self {
        let spell = |detours: usize| {
            format!("/proc/self/fd/{}{root}", "../fd/".repeat(detours)).into_bytes()
        };
        Self { roots: [[spell(0), spell(1)], [spell(2), spell(3)]] }
    }

    /// The path that notify gets for a directory.
    pub(super) fn key(&self, path: Option<&RelPath>, spelling: usize) -> PathBuf {
        let level = path.map_or(0, RelPath::depth);
        let root = &self.roots[level % 2][spelling];
        let bytes = match path {
            Some(path) => [root, b"/".as_slice(), path.as_bytes()].concat(),
            None => root.clone(),
        };
        PathBuf::from(OsStr::from_bytes(&bytes))
    }

    /// The spelling to use after this one.
    pub(super) fn next(spelling: usize) -> usize {
        (spelling + 1) % SPELLINGS
    }

    /// What a path in an event means; `None` if it is not ours.
    pub(super) fn place(&self, path: &Path) -> Option<Place> {
        let bytes = path.as_os_str().as_bytes();
        let below = |root: &Vec<u8>| bytes.strip_prefix(root.as_slice());
        // The number of another descriptor may start like ours.
        let ends = |rest: &&[u8]| matches!(rest, [] | [b'/', ..]);
        let rest = self.roots.iter().flatten().filter_map(below).find(ends)?;
        let Some(mut rest) = rest.strip_prefix(b"/") else {
            return Some(Place::Root);
        };
        // A name in a watched directory may be too long for a path of ours; then the event is about
        // that directory.
        loop {
            if let Ok(path) = RelPath::new(rest) {
                return Some(Place::Below(path));
            }
            match rest.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => rest = &rest[..slash],
                None => return Some(Place::Root),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_means_its_path() {
        let names = Names::new(7);
        for bytes in [&b"a"[..], b"a/b", b"a/b/c", b"proc", b"\xff/..."] {
            let path = RelPath::new(bytes).unwrap();
            for spelling in 0..SPELLINGS {
                let key = names.key(Some(&path), spelling);
                assert_eq!(names.place(&key), Some(Place::Below(path.clone())), "{key:?}");
            }
        }
        assert_eq!(names.place(&names.key(None, 1)), Some(Place::Root));
        assert_eq!(names.place(Path::new("/proc/self/fd/77/a")), None);
        assert_eq!(names.place(Path::new("/srv/7/a")), None);
    }

    #[test]
    fn no_event_has_the_path_of_a_watch() {
        let names = Names::new(7);
        let (parent, child) = (RelPath::new("a/b").unwrap(), RelPath::new("a/b/c").unwrap());
        for (one, other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_ne!(names.key(Some(&parent), one).join("c"), names.key(Some(&child), other));
        }
        assert_ne!(names.key(Some(&parent), 0), names.key(Some(&parent), Names::next(0)));
    }

    #[test]
    fn a_name_too_long_means_its_directory() {
        let names = Names::new(7);
        let deep = "d".repeat(200) + &format!("/{}", "d".repeat(200)).repeat(19);
        let key = names.key(Some(&RelPath::new(&deep).unwrap()), 0).join("f".repeat(100));
        assert_eq!(names.place(&key), Some(Place::Below(RelPath::new(&deep).unwrap())));
    }
}
