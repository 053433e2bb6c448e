//! Looking at a tree without recording anything: what is on disk against what the index says.
//!
//! `rescan --dry-run`, `run --dry-run` and `verify --deep` are made of it. It takes no gate: a path
//! that changes while it is looked at shows as it was or as it is, and whoever has to be sure looks a
//! second time. Memory is bounded by the largest directory, work by step.

use std::collections::BTreeSet;
use std::io;

use chainsync_core::decide::{Seen, see};
use chainsync_core::{ContentHasher, FileType, Kind, Published, Record, RelPath, Stat};
use chainsync_env::Vfs;

use crate::disk::{Dirs, dir_kind, file_kind, is_absent, is_exhausted, is_own};
use crate::index::{Reader, Rows};

/// What one step may read before it lets others work.
const STEP_BYTES: u64 = 64 << 20;
/// What one step may look at.
const STEP_PATHS: usize = 1024;
/// Read at a time: a large file takes no more memory than this.
const READ_BYTES: usize = 256 << 10;

/// The tree that is looked at, and what it is held against.
pub struct Ground<'a, V: Vfs> {
    pub vfs: &'a V,
    /// The file system of the root.
    pub device: u64,
    pub owner: bool,
    pub excluded: &'a (dyn Fn(&RelPath, bool) -> bool + 'a),
    /// `None`: nothing is published yet.
    pub reader: Option<Reader>,
    /// Reads contents also where the identity says that nothing changed.
    pub deep: bool,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, and nothing is published.
    Nothing,
    /// What is published.
    Same(Kind),
    New(Kind),
    Changed {
        was: Kind,
        is: Kind,
    },
    Gone(Kind),
    /// Somebody has it open for writing, or it changed while it was read.
    Writing(Option<Kind>),
    /// A directory that is only there because something below it is.
    Implied,
    Excluded,
    Problem(String),
}

/// A walk through a tree, step by step.
pub struct Survey {
    open: Vec<Option<RelPath>>,
    names: Vec<RelPath>,
}

impl Survey {
    pub fn new() -> Self {
        Self { open: vec![None], names: Vec::new() }
    }

    /// The next paths, parents first; empty when all have been seen.
    pub fn step<V: Vfs>(&mut self, ground: &Ground<'_, V>) -> io::Result<Vec<(RelPath, Found)>> {
        let mut dirs = Dirs::new(ground.vfs);
        let mut found = Vec::new();
        let mut bytes = 0;
        while found.len() < STEP_PATHS && bytes < STEP_BYTES {
            let Some(path) = self.names.pop() else {
                let Some(dir) = self.open.pop() else { break };
                match ground.names(&mut dirs, dir.as_ref()) {
                    Ok(names) => self.names = names,
                    Err(error) => match dir {
                        Some(dir) if !is_exhausted(&error) => {
                            found.push((dir, Found::Problem(error.to_string())));
                        }
                        _ => return Err(error),
                    },
                }
                continue;
            };
            let (what, is_dir) = ground.look(&mut dirs, &path, &mut bytes)?;
            if is_dir {
                self.open.push(Some(path.clone()));
            }
            found.push((path, what));
        }
        Ok(found)
    }
}

impl<V: Vfs> Ground<'_, V> {
    /// What is in a directory, and what the index has there; in descending order.
    fn names(&self, dirs: &mut Dirs<'_, V>, dir: Option<&RelPath>) -> io::Result<Vec<RelPath>> {
        let listed = match dirs.dir(dir).and_then(|opened| self.vfs.list(&opened)) {
            // Gone with all that was in it: the index still knows what that was.
            Err(error) if is_absent(&error) && dir.is_some() => Vec::new(),
            listed => listed?,
        };
        let mut names = BTreeSet::new();
        for entry in listed {
            // A name that is no path (too deep) is a problem of the directory, and shows as one when
            // the daemon looks at it.
            if let Ok(path) = RelPath::child(dir, &entry.name)
                && !is_own(&path)
            {
                names.insert(path);
            }
        }
        if let Some(reader) = &self.reader {
            names.extend(reader.missing_in(dir, &names).map_err(io::Error::other)?);
        }
        Ok(names.into_iter().rev().collect())
    }

    /// One path, and whether it is a directory to go into.
    pub fn look(
        &self,
        dirs: &mut Dirs<'_, V>,
        path: &RelPath,
        bytes: &mut u64,
    ) -> io::Result<(Found, bool)> {
        let record = match &self.reader {
            Some(reader) => reader.record(path).map_err(io::Error::other)?,
            None => None,
        };
        let published = record.as_ref().and_then(Record::published);
        let published = published.filter(|published| published.kind.is_live());
        match self.found(dirs, path, published, bytes) {
            Ok(found) => Ok(found),
            Err(error) if is_exhausted(&error) => Err(error),
            Err(error) => Ok((Found::Problem(error.to_string()), false)),
        }
    }

    fn found(
        &self,
        dirs: &mut Dirs<'_, V>,
        path: &RelPath,
        published: Option<Published>,
        bytes: &mut u64,
    ) -> io::Result<(Found, bool)> {
        let was = published.as_ref().map(|published| published.kind.clone());
        let Some(stat) = dirs.stat(path)? else {
            let go_into = match &was {
                Some(was) => was.is_dir(),
                None => self.is_implied(path)?,
            };
            return Ok((was.map_or(Found::Nothing, Found::Gone), go_into));
        };
        let is_dir = stat.file_type == FileType::Dir;
        if (self.excluded)(path, is_dir) {
            return Ok((Found::Excluded, false));
        }
        match (see(published.as_ref(), Some(&stat), self.device), &was) {
            (Seen::Unsupported(what), _) => return Ok((Found::Problem(what.to_string()), false)),
            (Seen::AsPublished, Some(was)) if !self.deep || is_dir => {
                return Ok((Found::Same(was.clone()), is_dir));
            }
            _ => {}
        }
        let Some(kind) = self.read(dirs, path, &stat, bytes)? else {
            return Ok((Found::Writing(was), false));
        };
        let found = match was {
            Some(was) if was == kind => Found::Same(kind),
            Some(was) => Found::Changed { was, is: kind },
            None if is_dir && self.is_implied(path)? => Found::Implied,
            None => Found::New(kind),
        };
        Ok((found, is_dir))
    }

    /// What is there, contents included; `None` if it does not hold still.
    fn read(
        &self,
        dirs: &mut Dirs<'_, V>,
        path: &RelPath,
        stat: &Stat,
        bytes: &mut u64,
    ) -> io::Result<Option<Kind>> {
        let parent = dirs.parent(path)?;
        match stat.file_type {
            FileType::Dir => Ok(Some(dir_kind(stat, self.owner))),
            FileType::Symlink => {
                let target = self.vfs.read_link(&parent, path.name())?;
                Ok(Some(Kind::Symlink { target }))
            }
            _ => {
                let file = self.vfs.open_file(&parent, path.name())?;
                if self.vfs.has_writer(&file)? == Some(true) {
                    return Ok(None);
                }
                let before = self.vfs.stat_file(&file)?;
                let mut hasher = ContentHasher::default();
                let mut buffer = vec![0; READ_BYTES.min(before.size as usize + 1)];
                let mut offset = 0;
                loop {
                    match self.vfs.read_at(&file, &mut buffer, offset)? {
                        0 => break,
                        read => {
                            hasher.update(&buffer[..read]);
                            offset += read as u64;
                        }
                    }
                    // It grows as fast as it is read: that is no end.
                    if offset > before.size {
                        return Ok(None);
                    }
                }
                *bytes += offset;
                let after = self.vfs.stat_file(&file)?;
                let still = before.size == offset
                    && before.size == after.size
                    && before.mtime_ns == after.mtime_ns
                    && before.ctime_ns == after.ctime_ns;
                Ok(still.then(|| file_kind(&after, hasher.finish(), self.owner)))
            }
        }
    }

    /// Whether a directory without an entry is only there because something below it is published.
    fn is_implied(&self, path: &RelPath) -> io::Result<bool> {
        let Some(reader) = &self.reader else { return Ok(false) };
        reader.any_live_on_disk_below(path).map_err(io::Error::other)
    }
}
