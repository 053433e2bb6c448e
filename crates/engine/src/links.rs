//! Files that have several names in the share (hard links).
//!
//! A write through one name raises no event for the others, so when a file changed, or left a name
//! through which it may have been written, all its names are looked at. Names are noted whenever they are looked at while the file has more than one; a
//! name that was there before is searched in the index, once for each number of links. To peers the
//! names are independent files.
//!
//! Only in memory: the first sweep finds every name. Names outside the share are not known, and a
//! write through one of them is found by a sweep, or with the next write through a name of ours.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::{RelPath, Stat};

/// Names noted. Beyond that each change of such a file searches the index: slower, not wrong.
const NAMES_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub struct Links {
    inodes: BTreeMap<u64, Names>,
    paths: BTreeMap<RelPath, u64>,
}

#[derive(Debug, Default)]
struct Names {
    names: BTreeSet<RelPath>,
    /// The number of links at which the index was searched for names.
    searched: u64,
}

/// The other names of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub names: Vec<RelPath>,
    /// There are more, and nobody has searched for them yet.
    pub incomplete: bool,
}

impl Links {
    /// What is at a path: a file, or (`None`) something else or nothing.
    pub fn note(&mut self, path: &RelPath, stat: Option<&Stat>) {
        let inode = stat.filter(|stat| stat.links > 1).map(|stat| stat.inode);
        let before = self.paths.get(path).copied();
        if before == inode {
            return;
        }
        if let Some(before) = before {
            self.paths.remove(path);
            if let Some(names) = self.inodes.get_mut(&before) {
                names.names.remove(path);
                if names.names.is_empty() {
                    self.inodes.remove(&before);
                }
            }
        }
        if let Some(inode) = inode
            && self.paths.len() < NAMES_MAX
        {
            self.paths.insert(path.clone(), inode);
            self.inodes.entry(inode).or_default().names.insert(path.clone());
        }
    }

    /// The file that a path was noted as a name of.
    pub fn noted(&self, path: &RelPath) -> Option<u64> {
        self.paths.get(path).copied()
    }

    /// What was noted as names of a file.
    pub fn names(&self, inode: u64) -> impl Iterator<Item = &RelPath> {
        self.inodes.get(&inode).into_iter().flat_map(|names| &names.names)
    }

    /// Whether a file has other names, or had when it was looked at last.
    pub fn concern(&self, path: &RelPath, stat: &Stat) -> bool {
        stat.links > 1 || self.paths.contains_key(path)
    }

    /// The names of a file that changed, other than the one by which it was found.
    pub fn others(&mut self, path: &RelPath, stat: &Stat) -> Others {
        if stat.links < 2 {
            return Others::default();
        }
        let Some(names) = self.inodes.get_mut(&stat.inode) else {
            return Others { names: Vec::new(), incomplete: true };
        };
        let incomplete = (names.names.len() as u64) < stat.links && names.searched != stat.links;
        names.searched = stat.links;
        let others = names.names.iter().filter(|name| *name != path);
        Others { names: others.cloned().collect(), incomplete }
    }
}

#[cfg(test)]
mod tests {
    use chainsync_core::FileType;

    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    fn file(inode: u64, links: u64) -> Stat {
        Stat {
            file_type: FileType::File,
            device: 1,
            inode,
            links,
            size: 0,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            ctime_ns: 0,
        }
    }

    #[test]
    fn names_are_noted_and_forgotten() {
        let mut links = Links::default();
        let [a, b, c] = ["a", "b", "c"].map(path);
        links.note(&a, Some(&file(7, 1)));
        assert_eq!(links.others(&a, &file(7, 1)), Others::default());
        links.note(&b, Some(&file(7, 2)));
        // `a` was noted before the file had two names: searched for once.
        assert_eq!(links.others(&b, &file(7, 2)), Others { names: vec![], incomplete: true });
        assert_eq!(links.others(&b, &file(7, 2)), Others::default());
        links.note(&a, Some(&file(7, 2)));
        assert_eq!(links.noted(&a), Some(7));
        assert_eq!(links.names(7).collect::<Vec<_>>(), [&a, &b]);
        let others = Others { names: vec![b.clone()], incomplete: false };
        assert_eq!(links.others(&a, &file(7, 2)), others);
        // Another file takes a name; one goes away.
        links.note(&c, Some(&file(7, 3)));
        links.note(&b, Some(&file(8, 1)));
        links.note(&a, None);
        assert_eq!(links.others(&c, &file(7, 1)), Others::default());
        links.note(&c, None);
        assert!(links.inodes.is_empty() && links.paths.is_empty());
    }
}
