//! What a script has probably made by now, so that most operations find something to work on.
//!
//! A rough picture: it knows names and kinds, and follows no symlink, no hard link and no errno.

use std::collections::BTreeMap;

use chainsync_core::RelPath;
use chainsync_env::RenameMode;

use crate::script::{In, Name, Operation, SLOTS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File,
    Symlink,
}

#[derive(Default)]
pub struct Guess {
    names: BTreeMap<Vec<u8>, Kind>,
    /// Where the open directories are.
    dirs: [Option<Vec<u8>>; SLOTS],
}

impl Guess {
    /// The paths that are there, of one kind.
    pub fn paths(&self, kind: Kind) -> Vec<&Vec<u8>> {
        self.names.iter().filter(|(_, other)| **other == kind).map(|(path, _)| path).collect()
    }

    /// A handle that is open at a directory.
    pub fn handle_at(&self, dir: &[u8]) -> Option<usize> {
        self.dirs.iter().position(|open| open.as_deref() == Some(dir))
    }

    pub fn note(&mut self, operation: &Operation) {
        use Operation as O;
        match operation {
            O::OpenDir { handle, at } => {
                let there = self.is_dir(&at.0);
                self.dirs[*handle] = there.then(|| at.0.clone());
            }
            O::CloseDir { handle } => self.dirs[*handle] = None,
            O::MakeDir { dir, name, mode } if *mode <= 0o7777 => self.put(dir, name, Kind::Dir),
            O::CreateFile { dir, name, mode, .. } if *mode <= 0o777 => {
                self.put(dir, name, Kind::File)
            }
            O::MakeSymlink { dir, name, .. } => self.put(dir, name, Kind::Symlink),
            O::Unlink { dir, name } => {
                let path = self.path(dir, name);
                if !self.is_dir(&path) {
                    self.names.remove(&path);
                }
            }
            O::RemoveDir { dir, name } => {
                let path = self.path(dir, name);
                if self.is_dir(&path) && !self.names.keys().any(|other| is_below(other, &path)) {
                    self.names.remove(&path);
                }
            }
            O::OthersLink { from, to } if self.names.get(&from.0) == Some(&Kind::File) => {
                self.names.entry(to.0.clone()).or_insert(Kind::File);
            }
            O::Rename { from, from_name, to, to_name, mode } => {
                let (from, to) = (self.path(from, from_name), self.path(to, to_name));
                if self.can_be(&to, to_name) {
                    self.rename(&from, &to, *mode);
                }
            }
            _ => {}
        }
    }

    fn path(&self, dir: &In, name: &Name) -> Vec<u8> {
        let root = Vec::new();
        let dir = match dir {
            In::Handle(handle) => self.dirs[*handle].as_ref().unwrap_or(&root),
            In::Path(path) => path,
        };
        if dir.is_empty() { name.0.clone() } else { [dir, &name.0[..]].join(&b'/') }
    }

    fn is_dir(&self, path: &[u8]) -> bool {
        path.is_empty() || self.names.get(path) == Some(&Kind::Dir)
    }

    fn put(&mut self, dir: &In, name: &Name, kind: Kind) {
        let path = self.path(dir, name);
        if self.can_be(&path, name) {
            self.names.entry(path).or_insert(kind);
        }
    }

    fn can_be(&self, path: &[u8], Name(name): &Name) -> bool {
        let usual = RelPath::new(name).is_ok() && !name.contains(&b'/');
        let slash = path.iter().rposition(|byte| *byte == b'/');
        usual && path.len() < PATH_BYTES_MAX && self.is_dir(&path[..slash.unwrap_or(0)])
    }

    fn rename(&mut self, from: &[u8], to: &[u8], mode: RenameMode) {
        let free = !self.names.contains_key(to);
        let fits = free == (mode == RenameMode::NoReplace) || mode == RenameMode::Replace;
        let apart = !is_below(to, from) && !is_below(from, to) && from != to;
        if !self.names.contains_key(from) || !fits || !apart {
            return;
        }
        let (moved, replaced) = (self.take(from), self.take(to));
        self.give(to, moved);
        if mode == RenameMode::Exchange {
            self.give(from, replaced);
        }
    }

    fn give(&mut self, path: &[u8], taken: Vec<(Vec<u8>, Kind)>) {
        let moved = taken.into_iter().map(|(rest, kind)| ([path, &rest].concat(), kind));
        self.names.extend(moved.filter(|(path, _)| path.len() < PATH_BYTES_MAX));
    }

    /// A name and everything below it, without the path of the name itself.
    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Kind)> {
        let names = self.names.keys();
        let taken = names.filter(|other| *other == path || is_below(other, path)).cloned();
        let taken: Vec<Vec<u8>> = taken.collect();
        let rest = |name: Vec<u8>, kind| (name[path.len()..].to_vec(), kind);
        taken
            .into_iter()
            .filter_map(|name| self.names.remove(&name).map(|kind| rest(name, kind)))
            .collect()
    }
}

/// Far from what a path may have, so that there is room for more below.
const PATH_BYTES_MAX: usize = 600;

fn is_below(path: &[u8], ancestor: &[u8]) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with(b"/"))
}
