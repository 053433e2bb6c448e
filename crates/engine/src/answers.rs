//! What a node answers to commands other than `status` and `flush`. The JSON form is a contract:
//! fields are added, never renamed. Paths are shown with `\xNN` for what is not printable.

use serde::{Deserialize, Serialize};

/// The answer to `verify`: one share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    pub share: String,
    /// Whether contents were read, or the indexes believed.
    pub deep: bool,
    /// Every member of the ring was compared, and nothing differs.
    pub equal: bool,
    pub members: Vec<VerifiedMember>,
    /// Paths that the members show differently, in path order.
    pub differences: Vec<Difference>,
    /// There are more than those listed.
    pub more: bool,
    /// Paths that changed with every look: nothing can be said of them.
    pub unsettled: Vec<String>,
    /// Paths where a member's disk does not show what its own index says; only with `deep`.
    pub doubts: Vec<MemberDoubt>,
    pub elapsed_ms: u64,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifiedMember {
    pub node: String,
    /// Why it was not compared, if it was not.
    pub missing: Option<String>,
    /// Why its share does not move, if it does not.
    pub halted: Option<String>,
    /// Paths that it has.
    pub entries: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub path: String,
    /// What differs: `existence`, `kind`, `content`, `mode`, `mtime`, `owner`, `target`.
    pub differs: Vec<String>,
    pub nodes: Vec<Version>,
}

/// What one or more members have at a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub nodes: Vec<String>,
    /// In words; `nothing` where nothing is.
    pub shows: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberDoubt {
    pub node: String,
    pub path: String,
    pub what: String,
}

/// The answer to `pause` and `resume`: one share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveReport {
    pub share: String,
    /// Whether the share moves now.
    pub moving: bool,
    /// Why it did not move before, if it did not.
    pub before: Option<String>,
    /// Why the command was refused, if it was.
    pub refused: Option<String>,
    /// What would let it pass.
    pub next: Option<String>,
}

/// The answer to `rescan`: one share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RescanReport {
    pub share: String,
    pub dry_run: bool,
    /// Why there was no sweep, if there was none.
    pub refused: Option<String>,
    pub created: u64,
    pub changed: u64,
    pub deleted: u64,
    /// Being written just now: looked at again when they are done.
    pub writing: u64,
    /// The first of these paths (only with `dry_run`).
    pub paths: Vec<FoundPath>,
    pub more: bool,
    /// Live paths in the index.
    pub entries: u64,
    pub problems: u64,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundPath {
    pub path: String,
    /// `created`, `changed`, `deleted`, `problem`, `excluded`.
    pub what: String,
    /// More about it, in words.
    pub detail: String,
}

/// What a first import would take in: one share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImportReport {
    pub share: String,
    pub path: String,
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    pub bytes: u64,
    pub writing: u64,
    /// Names that a pattern leaves out; a directory counts once.
    pub excluded: u64,
    pub problems: u64,
    /// The first problems and excluded names.
    pub paths: Vec<FoundPath>,
    pub more: bool,
}

/// The answer to `conflicts`: one share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConflictList {
    pub share: String,
    /// All that were ever noticed here.
    pub total: u64,
    /// The newest first.
    pub conflicts: Vec<ConflictShown>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConflictShown {
    pub id: u64,
    pub path: String,
    /// When this node noticed it, milliseconds since 1970.
    pub noticed_ms: u64,
    pub loser: ConflictSide,
    pub winner: ConflictSide,
    /// What the loser was, in words.
    pub shows: String,
    /// Whether the loser can be restored from here: looked up, not remembered.
    pub restorable: bool,
    /// Where its content is, or why it is nowhere.
    pub content: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConflictSide {
    /// `None` if its replica id was nobody's any more when the conflict was noticed.
    pub node: Option<String>,
    pub replica: String,
    /// When the version was made, by its author's clock, milliseconds since 1970.
    pub made_ms: u64,
}

/// The answer to `conflicts restore`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreReport {
    pub share: String,
    pub id: u64,
    /// Where it is now; `None` if it was refused.
    pub path: Option<String>,
    pub refused: Option<String>,
    /// What was at that name went into the archive.
    pub replaced: bool,
}
