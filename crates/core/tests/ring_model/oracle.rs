//! What only an onlooker knows: which edit came from which, when each was truly made, and every
//! version that was ever given to one.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::entry::{Entry, Kind};
use chainsync_core::version::{Dot, Stamp};
use chainsync_core::{ContentHash, RelPath};

/// One edit. Deletions are edits too.
pub(crate) type Edit = u16;

#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) path: RelPath,
    pub(crate) wall_ms: u64,
    pub(crate) deletion: bool,
    /// The edits that its writer had before him, however indirectly.
    pub(crate) ancestors: BTreeSet<Edit>,
}

#[derive(Default, Clone)]
pub(crate) struct Oracle {
    pub(crate) edits: Vec<Made>,
    /// A list, since a broken rule can give one dot to two changes.
    pub(crate) versions: BTreeMap<Dot, Vec<(RelPath, Stamp, Edit)>>,
    /// Losers of conflicts, and the nodes that noticed and had their bytes.
    pub(crate) archived: BTreeSet<(usize, Edit)>,
}

impl Oracle {
    pub(crate) fn edit(
        &mut self,
        path: &RelPath,
        deletion: bool,
        wall_ms: u64,
        before: Option<Edit>,
    ) -> Edit {
        let ancestors = before.map_or_else(BTreeSet::new, |before| {
            let mut ancestors = self.made(before).ancestors.clone();
            ancestors.insert(before);
            ancestors
        });
        self.edits.push(Made { path: path.clone(), wall_ms, deletion, ancestors });
        Edit::try_from(self.edits.len() - 1).unwrap()
    }

    pub(crate) fn made(&self, edit: Edit) -> &Made {
        &self.edits[usize::from(edit)]
    }

    pub(crate) fn is_ancestor(&self, edit: Edit, of: Edit) -> bool {
        self.made(of).ancestors.contains(&edit)
    }

    /// Whether somebody who had this edit made another out of it.
    pub(crate) fn is_overwritten(&self, edit: Edit) -> bool {
        self.edits.iter().any(|made| made.ancestors.contains(&edit))
    }

    pub(crate) fn is_deletion(&self, edit: Edit) -> bool {
        self.made(edit).deletion
    }

    pub(crate) fn version(&mut self, entry: &Entry) {
        let version = (entry.path.clone(), entry.version.stamp, edit_of(&entry.kind));
        self.versions.entry(entry.version.dot).or_default().push(version);
    }
}

/// The kind that stands for an edit: a file's content and a deletion's mode say which.
pub(crate) fn kind_of(edit: Edit, delete: bool, wall_ms: u64) -> Kind {
    if delete {
        return Kind::Tombstone { mode: Some(u32::from(edit)), owner: None };
    }
    let mut hash = [0; 32];
    hash[..2].copy_from_slice(&edit.to_be_bytes());
    Kind::File {
        size: 1,
        hash: ContentHash::from_bytes(hash),
        mode: 0o644,
        mtime_ns: i128::from(wall_ms) * 1_000_000,
        owner: None,
    }
}

pub(crate) fn edit_of(kind: &Kind) -> Edit {
    match kind {
        Kind::File { hash, .. } => Edit::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]),
        Kind::Tombstone { mode: Some(mode), .. } => Edit::try_from(*mode).unwrap(),
        other => panic!("{other:?} stands for no edit"),
    }
}
