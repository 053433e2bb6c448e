//! The tree as a projection of what is known (PROTOCOL B5): what is to be on disk at a path, given what
//! is above and below it; whose state changes with an entry's; and the directories that are nobody's
//! entry, there for what is below them.

use std::collections::BTreeSet;

use chainsync_core::projection::{blocks, is_shadowed};
use chainsync_core::{Entry, Kind, Record, RelPath, Stat};
use chainsync_env::{Env, Vfs};

use crate::change::Aftermath;
use crate::index::{Rows, Writer};
use crate::share::{Share, ShareError, intent_for, lock};

/// Implied directories remembered. There are as many as directories that somebody deleted while
/// somebody else put something into them.
const IMPLIED_MAX: usize = 65_536;

/// A directory that is nobody's entry, as it was when it was last made or met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Implied {
    pub inode: u64,
    pub mode: u32,
}

impl<E: Env> Share<E> {
    /// What should be on disk at a path, given everything that is known.
    pub fn desired(
        &self,
        rows: &impl Rows,
        path: &RelPath,
        record: &Record,
    ) -> Result<Kind, ShareError> {
        if !record.kind.is_live() {
            return Ok(record.kind.clone());
        }
        let above = rows.known_above(path)?;
        // Nothing above that could shadow it, and it shadows nothing: the usual directory.
        let plain = record.kind.is_dir() && above.iter().all(|(kind, _)| !blocks(kind));
        let below = if plain { None } else { rows.greatest_live_below(path)? };
        let above = above.iter().map(|(kind, stamp)| (kind, stamp));
        let shadowed = is_shadowed(&record.kind, &record.version.stamp, above, below.as_ref());
        Ok(if shadowed { record.kind.tombstone() } else { record.kind.clone() })
    }

    /// Whether anything below a path is to be on disk, so that a directory has to be at the path: what
    /// is not shadowed by a file or symlink there or above.
    pub fn is_needed_below(&self, rows: &impl Rows, path: &RelPath) -> Result<bool, ShareError> {
        let Some(below) = rows.greatest_live_below(path)? else { return Ok(false) };
        let above = rows.known_above(path)?;
        let here = rows.record(path)?.map(|record| (record.kind, record.version.stamp));
        Ok(above.iter().chain(&here).all(|(kind, stamp)| !blocks(kind) || below >= *stamp))
    }

    /// When `entry` makes other entries appear on or vanish from disk (PROTOCOL B5), notes that they
    /// are to be brought in line.
    pub fn project_around(
        &self,
        writer: &mut Writer,
        entry: &Entry,
        before: Option<&Record>,
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        let blocked = before.is_some_and(|record| blocks(&record.kind));
        let mut affected = Vec::new();
        if blocked || blocks(&entry.kind) {
            affected = writer.below(&entry.path, &mut |record| record.kind.is_live())?;
        }
        // Where something above may be hidden or shown now, so may the directories below that.
        if writer.is_blocked(&entry.path)? {
            for ancestor in entry.path.ancestors() {
                let record = writer.record(&ancestor)?.filter(|record| record.kind.is_live());
                affected.extend(record.map(|record| (ancestor, record)));
            }
        }
        // Found on disk below or above what is not there yet, and may have to make room for it.
        if (blocks(&entry.kind) || affected.iter().any(|(path, _)| entry.path.is_below(path)))
            && !affected.is_empty()
            && let Some(record) = writer.record(&entry.path)?
            && record.is_live_on_disk()
        {
            affected.push((entry.path.clone(), record));
        }
        for (path, record) in affected {
            if writer.intent(&path)?.is_none() {
                let known = record.entry(path.clone());
                writer.put_intent(&path, intent_for(&known, None, None));
            }
            after.publish.push(path);
        }
        Ok(())
    }

    /// Notes that a directory is only there because something below it is. The first sweep after a
    /// start finds them all.
    pub fn note_implied(&self, path: &RelPath, stat: &Stat) {
        let mut implied = lock(&self.implied);
        if implied.len() < IMPLIED_MAX || implied.contains_key(path) {
            implied.insert(path.clone(), Implied { inode: stat.inode, mode: stat.mode });
        }
    }

    /// Whether a directory is one that was noted so, unchanged.
    pub fn is_noted_implied(&self, path: &RelPath, stat: &Stat) -> bool {
        let noted = Implied { inode: stat.inode, mode: stat.mode };
        lock(&self.implied).get(path) == Some(&noted)
    }

    /// Removes directories that were only there because something below them was (PROTOCOL B5), and
    /// no other: an empty directory of the same name may be somebody's, made a moment ago.
    pub fn prune_implied(&self, gone: &[RelPath]) -> Result<(), ShareError> {
        if gone.is_empty() || lock(&self.implied).is_empty() {
            return Ok(());
        }
        let reader = self.index.read()?;
        let mut above: BTreeSet<RelPath> = BTreeSet::new();
        for path in gone {
            above.insert(path.clone());
            above.extend(path.ancestors());
        }
        let mut dirs = crate::disk::Dirs::new(&self.vfs);
        // Bottom up.
        for dir in above.into_iter().rev() {
            let Some(noted) = lock(&self.implied).get(&dir).copied() else { continue };
            let is_entry = match &reader.record(&dir)? {
                // Taken over by an entry, which takes it away if it has to.
                Some(record) if record.published().is_some_and(|it| it.kind.is_dir()) => true,
                // One that is hidden is no entry's directory.
                Some(record) if record.kind.is_dir() => {
                    self.desired(&reader, &dir, record)?.is_live()
                }
                _ => false,
            };
            if !is_entry && self.is_needed_below(&reader, &dir)? {
                continue;
            }
            lock(&self.implied).remove(&dir);
            let stat = dirs.stat(&dir).ok().flatten();
            if !is_entry
                && stat.is_some_and(|stat| stat.inode == noted.inode)
                && let Ok(parent) = dirs.parent(&dir)
            {
                let removed = self.vfs.remove_dir(&parent, dir.name());
                dirs.forget(&dir);
                if removed.is_err_and(|error| !crate::disk::is_absent(&error)) {
                    // Somebody put something there that will be looked at: it goes with that.
                    lock(&self.implied).insert(dir, noted);
                }
            }
        }
        Ok(())
    }
}
