//! The rules of the protocol, each with a switch: off is the plain rule that looks sufficient.

/// All on is the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// A1: knowledge travels with the last batch of a pass over a snapshot. Off: with every batch,
    /// as of its last sequence.
    pub(crate) knowledge_at_pass_end: bool,
    /// A2: the first change after a start takes a new replica id. Off: counters go on.
    pub(crate) new_replica_after_start: bool,
    /// A3: a cursor names the tag of its commit. Off: a number alone.
    pub(crate) cursor_tags: bool,
    /// A4: a change is based on what was published. Off: on the newest entry known.
    pub(crate) base_is_published: bool,
    /// A5: what cannot be published is recorded all the same. Off: it is skipped.
    pub(crate) unpublished_is_recorded: bool,
    /// B1: a version is immutable. Off: merging joins the pasts.
    pub(crate) versions_are_immutable: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            knowledge_at_pass_end: true,
            new_replica_after_start: true,
            cursor_tags: true,
            base_is_published: true,
            unpublished_is_recorded: true,
            versions_are_immutable: true,
        }
    }
}
