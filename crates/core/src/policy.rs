//! What becomes of a conflict's loser beyond the archive.
//!
//! A policy never touches merge (PROTOCOL B2): it makes a change of its own, once the loser is known,
//! and that change is an entry like any other.

use serde::{Deserialize, Serialize};

use crate::entry::Kind;
use crate::name::NodeName;
use crate::path::{COMPONENT_BYTES_MAX, RelPath};
use crate::version::{Dot, ReplicaId, Stamp, Version};
use crate::{Entry, VersionVector};

/// What a share does for edits that lost to one made without knowing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The younger edit stays, the older one is in the archive.
    #[default]
    Younger,
    /// The older one also appears beside it, under a name of its own.
    KeepBoth,
    /// As `Younger`; but an edit comes back that lost to a deletion.
    EditBeatsDelete,
}

/// Marks the name of a copy. A copy that loses in its turn is not copied again.
pub const COPY_MARK: &str = ".conflict-";

/// The copy of an edit of `node` that lost, as `keep-both` makes it. Path, content and stamp are
/// functions of the loser alone, so that several nodes may make it: their copies are equal, and a
/// later deletion of one is a deletion of all.
///
/// `None` for what has no content, for copies, and where the path would be too long.
pub fn copy_of(loser: &Entry, node: &NodeName, dot: Dot) -> Option<Entry> {
    if !matches!(loser.kind, Kind::File { .. } | Kind::Symlink { .. }) {
        return None;
    }
    let path = copy_path(&loser.path, node, &loser.version.stamp)?;
    let stamp = loser.version.stamp;
    let version = Version { stamp, dot, past: VersionVector::default() };
    Some(Entry { path, kind: loser.kind.clone(), version })
}

/// `photos/cat.conflict-apollo-1764192000123.jpg`: node, and milliseconds since 1970.
pub fn copy_path(path: &RelPath, node: &NodeName, stamp: &Stamp) -> Option<RelPath> {
    let name = path.name();
    if is_copy(name) {
        return None;
    }
    let counter = if stamp.counter == 0 { String::new() } else { format!("-{}", stamp.counter) };
    let mark = format!("{COPY_MARK}{node}-{}{counter}", stamp.wall_ms);
    // `.htaccess` has no extension, and neither has `README`.
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let room = COMPONENT_BYTES_MAX.checked_sub(mark.len() + extension.len())?;
    let stem = &stem[..cut(stem, room)];
    if stem.is_empty() {
        return None;
    }
    let name = [stem, mark.as_bytes(), extension].concat();
    RelPath::child(path.parent().as_ref(), &name).ok()
}

/// Whether a name is that of a copy.
pub fn is_copy(name: &[u8]) -> bool {
    name.windows(COPY_MARK.len()).any(|window| window == COPY_MARK.as_bytes())
}

/// Where to cut a name so that at most `room` bytes stay, and no character of UTF-8 is cut in two.
fn cut(name: &[u8], room: usize) -> usize {
    if name.len() <= room {
        return name.len();
    }
    let continues = |at: &usize| name[*at] & 0xc0 == 0x80;
    // A character has at most three bytes that continue it; more are no text.
    (0..=room).rev().take(4).find(|at| !continues(at)).unwrap_or(room)
}

/// The edit again that lost to a deletion, as `edit-beats-delete` makes it: over both, and no younger
/// than it has to be. Only the author of the edit makes it, so that it is made once.
///
/// An edit made again may lose to a second deletion that did not know it, and is made again over that
/// one, too: else it would depend on who is heard first. Only people delete, so that comes to an end.
pub fn again(edit: &Entry, deletion: &Version, author: ReplicaId, dot: Dot) -> Entry {
    let mut past = edit.version.as_past();
    past.join(&deletion.as_past());
    let stamp = Stamp { replica: author, ..edit.version.stamp }.above(&deletion.stamp);
    Entry {
        path: edit.path.clone(),
        kind: edit.kind.clone(),
        version: Version { stamp, dot, past },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Merge, merge};

    fn stamp(wall_ms: u64) -> Stamp {
        Stamp::made(wall_ms, ReplicaId(1))
    }

    fn copied(path: &str) -> Option<String> {
        let apollo = NodeName::new("apollo").unwrap();
        let copy = copy_path(&RelPath::new(path).unwrap(), &apollo, &stamp(12));
        copy.map(|copy| copy.to_string())
    }

    #[test]
    fn a_copy_has_a_name_of_its_own_and_keeps_the_extension() {
        for (path, copy) in [
            ("a.jpg", "a.conflict-apollo-12.jpg"),
            ("d.d/a.tar.gz", "d.d/a.tar.conflict-apollo-12.gz"),
            ("d.d/README", "d.d/README.conflict-apollo-12"),
            (".htaccess", ".htaccess.conflict-apollo-12"),
        ] {
            assert_eq!(copied(path).as_deref(), Some(copy));
            assert_eq!(copied(copy), None, "a copy of a copy");
        }
        let hermes = NodeName::new("hermes").unwrap();
        let counted = Stamp { counter: 3, ..stamp(12) };
        let copy = copy_path(&RelPath::new("a").unwrap(), &hermes, &counted).unwrap();
        assert_eq!(copy.to_string(), "a.conflict-hermes-12-3");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = "ä".repeat(125) + ".jpg";
        let copy = copied(&long).unwrap();
        assert!(copy.len() <= COMPONENT_BYTES_MAX, "{}", copy.len());
        assert!(copy.ends_with("ä.conflict-apollo-12.jpg"), "{copy}");
        assert_eq!(copied(&format!("a.{}", "x".repeat(250))), None);
    }

    #[test]
    fn an_edit_made_again_beats_the_deletion_and_the_edit() {
        let (mine, theirs) = (ReplicaId(1), ReplicaId(2));
        let version = |stamp, replica, counter| Version {
            stamp,
            dot: Dot { replica, counter },
            past: VersionVector::default(),
        };
        let path = RelPath::new("a").unwrap();
        let kind = Kind::Symlink { target: b"x".to_vec() };
        let edit = Entry { path, kind, version: version(stamp(10), mine, 1) };
        let deletion = version(Stamp::made(20, theirs), theirs, 7);
        let made = again(&edit, &deletion, mine, Dot { replica: mine, counter: 2 });
        let gone = edit.kind.tombstone();
        for (known, conflict) in [((&edit.kind, &edit.version), false), ((&gone, &deletion), false)]
        {
            let merged = merge(Some(known), (&made.kind, &made.version));
            assert_eq!(merged, Merge::Wins { conflict });
        }
        assert_eq!(made.version.stamp.wall_ms, 20);
        // What was done since stays younger.
        assert!(made.version.stamp < Stamp::made(21, theirs));
    }
}
