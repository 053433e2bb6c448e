//! Contents that nobody has any more.
//!
//! An entry may outlive its content: it was announced, deleted again by the application, and then the
//! index that knew of the deletion was rolled back. Whoever lacks the content would ask for it for
//! ever. So one member, its author or else the first of the ring, gives it up in the end: by a change
//! that says what its own disk shows instead. The change is concurrent to the entry, so wherever the
//! content should be after all, it goes into the archive.

use std::sync::Arc;
use std::time::Duration;

use chainsync_core::{ContentHash, RelPath};
use chainsync_env::{Env, Point};

use crate::change::{Aftermath, Change, Made, Place};
use crate::index::Rows;
use crate::share::{Share, ShareError};
use crate::status::MemberState;

/// For so long all upstreams have to say that they do not have a content. A member that is about to get
/// it from another one has it by then, unless it is large; what was given up too early is in its archive.
pub const NOWHERE_FOR: Duration = Duration::from_secs(60);

impl<E: Env> Share<E> {
    /// Gives up a content that is wanted at a path, if it is for this node to do so and every member can
    /// be asked.
    pub async fn abandon(
        self: &Arc<Self>,
        path: &RelPath,
        content: (ContentHash, u64),
    ) -> Result<(), ShareError> {
        let states = self.board.update_states(self.now_ms());
        let here = |node| states.get(node).is_some_and(|state| state.0 == MemberState::Reachable);
        if !self.ring().nodes().iter().all(|node| *node == self.me || here(node)) {
            return Ok(());
        }
        let _gate = self.gate.lock().await;
        let (worker, path) = (self.clone(), path.clone());
        self.env.blocking(move || worker.record_abandoned(path, content)).await
    }

    fn record_abandoned(
        &self,
        path: RelPath,
        content: (ContentHash, u64),
    ) -> Result<(), ShareError> {
        let mut writer = self.index.begin()?;
        let wanted = writer.intent(&path)?.is_some_and(|intent| {
            intent.kind.content() == Some(content) && intent.staged.is_none()
        });
        let (Some(record), true) = (writer.record(&path)?, wanted) else { return Ok(()) };
        let author = self.board.author(record.version.dot.replica);
        if author.as_ref().or(self.ring().nodes().first()) != Some(&self.me) {
            return Ok(());
        }
        tracing::warn!(%path, "no member has this content any more: what is here takes its place");
        self.env.probe(Point::Abandoned);
        let (kind, identity) = match record.published() {
            Some(shown) if shown.kind.is_live() => (shown.kind, shown.identity),
            _ => (record.kind.tombstone(), None),
        };
        // Later than the entry, whatever this node's clock says: or it would lose, again and again.
        let made = Made::At(self.now_ms().max(record.version.stamp.wall_ms.saturating_add(1)));
        let place = Place::Name { identity };
        let change = Change { path, kind, made, content: None, place };
        let mut after = Aftermath::default();
        self.record_change(&mut writer, change, self.author(), &mut after)?;
        writer.commit(self.env.random_u64(), true)?;
        self.finish(after)
    }
}
