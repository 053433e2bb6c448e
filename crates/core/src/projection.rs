//! The disk is a pure function of the set of known entries (PROTOCOL B5).
//!
//! Directories may be deleted on one node while another creates below them, or be replaced by a
//! file. Then no disk can hold every live entry, and each node must leave out the same ones:
//!
//! - a live entry makes its ancestors exist: a directory without a live entry is *implied*;
//! - a live entry below a live file or symlink is *shadowed* if its stamp is smaller, otherwise it
//!   shadows that file or symlink: shadowed entries are in the index, not on disk, and not deleted;
//! - a live directory counts with the greatest stamp at or below it: it is on disk whenever
//!   something below it is.

use std::collections::BTreeMap;

use crate::entry::{Entry, Kind, Owner};
use crate::path::RelPath;
use crate::version::Stamp;

/// The mode of an implied directory that never had an entry.
pub const IMPLIED_DIR_MODE: u32 = 0o755;

/// Whether a live entry is left out of the disk.
///
/// `above`: the known entries of its ancestors; `greatest_below`: the greatest stamp of a live entry
/// below it, shadowed or not.
pub fn is_shadowed<'a>(
    kind: &Kind,
    stamp: &Stamp,
    above: impl IntoIterator<Item = (&'a Kind, &'a Stamp)>,
    greatest_below: Option<&Stamp>,
) -> bool {
    // One author may stamp a file and, in the same millisecond, what is below it a moment later: of
    // equal stamps the lower path is on disk.
    let shadowed_from_below = blocks(kind) && greatest_below.is_some_and(|below| below >= stamp);
    let stands_for = match greatest_below {
        Some(below) if kind.is_dir() => stamp.max(below),
        _ => stamp,
    };
    let shadows = |(other, other_stamp): (&Kind, &Stamp)| blocks(other) && other_stamp > stands_for;
    kind.is_live() && (shadowed_from_below || above.into_iter().any(shadows))
}

/// Whether nothing can be below an entry of this kind.
pub fn blocks(kind: &Kind) -> bool {
    kind.is_live() && !kind.is_dir()
}

/// The mode and owner of an implied directory, from what is known at its path.
pub fn implied_dir(known: Option<&Kind>) -> Kind {
    let (mode, owner): (Option<u32>, Option<Owner>) = match known {
        Some(Kind::Dir { mode, owner }) => (Some(*mode), *owner),
        Some(Kind::Tombstone { mode, owner }) => (*mode, *owner),
        _ => (None, None),
    };
    // A tombstone may stem from a file: a directory that cannot be entered would help nobody.
    let mode = mode.map_or(IMPLIED_DIR_MODE, |mode| mode | 0o700 | ((mode & 0o044) >> 2));
    Kind::Dir { mode, owner }
}

/// The whole disk for a set of known entries: the reference for tests and audits.
pub fn project<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<RelPath, Kind> {
    let known: BTreeMap<&RelPath, &Entry> =
        entries.into_iter().map(|entry| (&entry.path, entry)).collect();
    let mut disk = BTreeMap::new();
    for (path, entry) in &known {
        let above: Vec<RelPath> = path.ancestors().collect();
        let above_known = above
            .iter()
            .filter_map(|ancestor| known.get(ancestor))
            .map(|entry| (&entry.kind, &entry.version.stamp));
        let greatest_below = known
            .iter()
            .filter(|(other, entry)| other.is_below(path) && entry.kind.is_live())
            .map(|(_, entry)| &entry.version.stamp)
            .max();
        let stamp = &entry.version.stamp;
        if !entry.kind.is_live() || is_shadowed(&entry.kind, stamp, above_known, greatest_below) {
            continue;
        }
        disk.insert((*path).clone(), entry.kind.clone());
        for ancestor in above {
            let known = known.get(&ancestor).map(|entry| &entry.kind);
            if !known.is_some_and(Kind::is_dir) {
                disk.insert(ancestor, implied_dir(known));
            }
        }
    }
    disk
}
