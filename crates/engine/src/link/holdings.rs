//! What a receiver already holds of a journal that it has not read: a tree that was pre-filled on all
//! nodes is not to be transferred again.
//!
//! A receiver that knows nothing of this node's changes may have the same files all the same. Before
//! the first pass it is asked what it has published, over a connection of its own (as `verify` does);
//! contents that it has under the same name are then announced instead of sent. It finds them in
//! place; should it have lost one meanwhile, it asks for it like for any announced content.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chainsync_core::wire::verify::{BUCKETS_WANTED_MAX, Listed, Question};
use chainsync_core::{ContentHash, Knowledge, NodeName, RelPath};
use chainsync_env::Env;

use crate::share::Share;

/// So many contents are sent in less time than it takes to ask.
const WORTH_CHANGES: u64 = 16;
/// Names remembered: 32 MiB. The contents of others are sent.
const HOLDINGS_MAX: usize = 4 << 20;

/// Names with their contents, as sorted hashes. A false one costs a question, not a file.
#[derive(Debug, Clone, Default)]
pub struct Holdings(Vec<u64>);

pub type Asking = Pin<Box<dyn Future<Output = Holdings> + Send>>;

impl Holdings {
    pub fn holds(&self, path: &RelPath, hash: &ContentHash) -> bool {
        !self.0.is_empty() && self.0.binary_search(&key(path, hash)).is_ok()
    }
}

/// Asks, if the receiver is at the beginning of this journal and lacks more than a handful of it.
pub fn ask<E: Env>(
    share: &Arc<Share<E>>,
    to: &NodeName,
    position: u64,
    receiver: &Knowledge,
) -> Option<Asking> {
    let (mine, theirs) = (share.index.state().knowledge.to_vector(), receiver.to_vector());
    let lacks: u64 =
        mine.iter().map(|(replica, counter)| counter.saturating_sub(theirs.counter(replica))).sum();
    if position > 0 || lacks <= WORTH_CHANGES {
        return None;
    }
    let (share, to) = (share.clone(), to.clone());
    Some(Box::pin(async move {
        let mut keys = Vec::new();
        let buckets = BUCKETS_WANTED_MAX as u32;
        let question = Question::List { buckets, wanted: (0..buckets).collect(), deep: false };
        let mut note = |listed: Listed| {
            if let Some((hash, _)) = listed.kind.content()
                && keys.len() < HOLDINGS_MAX
            {
                keys.push(key(&listed.path, &hash));
            }
            true
        };
        if let Err(error) = share.ask_each(&to, &question, &mut note).await {
            // Then everything is sent.
            tracing::info!(%to, %error, "it does not say what it has already");
        }
        keys.sort_unstable();
        tracing::debug!(%to, held = keys.len(), "asked what it has already");
        Holdings(keys)
    }))
}

fn key(path: &RelPath, hash: &ContentHash) -> u64 {
    let joined = ContentHash::of(&[path.as_bytes(), hash.as_bytes()].concat());
    let [a, b, c, d, e, f, g, h, ..] = *joined.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
