//! What a running node can be asked and told besides `status` and `flush`: without the node's type
//! parameter, one answer a share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::{RelPath, ShareName};
use chainsync_env::Env;
use futures_util::future::join_all;

use crate::answers::{ConflictList, MoveReport, RescanReport, RestoreReport, VerifyReport};
use crate::node::{Handle, Shared};
use crate::restore::Which;
use crate::share::{Share, ShareError};

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("this node has no such share")]
    NoSuchShare,
    /// The command is about one share, and there are several.
    #[error("this node has several shares: name one with --share")]
    WhichShare,
    #[error("there is no such conflict: `chainsync conflicts list` shows them")]
    NoSuchConflict,
    #[error("share `{share}`: {reason}")]
    Share { share: ShareName, reason: String },
}

/// How often somebody else may be quicker to the gate.
const GATE_TRIES_MAX: usize = 1000;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CommandError>> + Send + 'a>>;
type Name<'a> = Option<&'a ShareName>;

/// The object-safe form of what [`Handle`] offers.
pub(crate) trait Commands: Send + Sync {
    fn verify<'a>(
        &'a self,
        share: Name<'a>,
        deep: bool,
        limit: Duration,
    ) -> Answer<'a, Vec<VerifyReport>>;
    fn pause<'a>(&'a self, share: Name<'a>) -> Answer<'a, Vec<MoveReport>>;
    fn resume<'a>(&'a self, share: Name<'a>, accept_deletes: bool) -> Answer<'a, Vec<MoveReport>>;
    fn rescan<'a>(&'a self, share: Name<'a>, dry_run: bool) -> Answer<'a, Vec<RescanReport>>;
    fn conflicts<'a>(
        &'a self,
        share: Name<'a>,
        which: Option<Which>,
    ) -> Answer<'a, Vec<ConflictList>>;
    fn restore<'a>(
        &'a self,
        share: Name<'a>,
        which: Which,
        to: Option<RelPath>,
    ) -> Answer<'a, RestoreReport>;
}

impl<E: Env> Shared<E> {
    /// Asks each share that is meant, all at once.
    async fn each<T, F>(
        &self,
        share: Name<'_>,
        ask: impl Fn(Arc<Share<E>>) -> F,
    ) -> Result<Vec<T>, CommandError>
    where
        F: Future<Output = Result<T, ShareError>>,
    {
        let shares = self.asked_for(share).ok_or(CommandError::NoSuchShare)?;
        let answers = shares.iter().map(|share| {
            let answer = ask(share.clone());
            async { answer.await.map_err(|error| failed(share, &error)) }
        });
        join_all(answers).await.into_iter().collect()
    }
}

fn failed<E: Env>(share: &Share<E>, error: &ShareError) -> CommandError {
    let reason = crate::link::receive::Chain(error).to_string();
    CommandError::Share { share: share.config.name.clone(), reason }
}

impl<E: Env> Commands for Shared<E> {
    fn verify<'a>(
        &'a self,
        share: Name<'a>,
        deep: bool,
        limit: Duration,
    ) -> Answer<'a, Vec<VerifyReport>> {
        Box::pin(self.each(share, move |share| async move { Ok(share.verify(deep, limit).await) }))
    }

    fn pause<'a>(&'a self, share: Name<'a>) -> Answer<'a, Vec<MoveReport>> {
        Box::pin(self.each(share, |share| async move { share.pause().await }))
    }

    fn resume<'a>(&'a self, share: Name<'a>, accept_deletes: bool) -> Answer<'a, Vec<MoveReport>> {
        Box::pin(self.each(share, move |share| async move { share.resume(accept_deletes).await }))
    }

    fn rescan<'a>(&'a self, share: Name<'a>, dry_run: bool) -> Answer<'a, Vec<RescanReport>> {
        Box::pin(self.each(share, move |share| async move {
            if dry_run { share.rescan_dry().await } else { share.rescan().await }
        }))
    }

    fn conflicts<'a>(
        &'a self,
        share: Name<'a>,
        which: Option<Which>,
    ) -> Answer<'a, Vec<ConflictList>> {
        Box::pin(self.each(share, move |share| {
            let which = which.clone();
            async move {
                let worker = share.clone();
                share.env.blocking(move || worker.conflicts(which.as_ref())).await
            }
        }))
    }

    fn restore<'a>(
        &'a self,
        share: Name<'a>,
        which: Which,
        to: Option<RelPath>,
    ) -> Answer<'a, RestoreReport> {
        Box::pin(async move {
            let shares = self.asked_for(share).ok_or(CommandError::NoSuchShare)?;
            let [share] = shares.as_slice() else { return Err(CommandError::WhichShare) };
            for _ in 0..GATE_TRIES_MAX {
                drop(share.gate.lock().await);
                let (worker, which, to) = (share.clone(), which.clone(), to.clone());
                // The gate is taken inside the job: the asker may go away, and the job goes on.
                let restored = share.env.blocking(move || {
                    let gate = worker.gate.try_lock().ok()?;
                    let restored = worker.restore(&which, to.as_ref());
                    drop(gate);
                    Some(restored)
                });
                if let Some(restored) = restored.await {
                    let restored = restored.map_err(|error| failed(share, &error))?;
                    return restored.ok_or(CommandError::NoSuchConflict);
                }
            }
            let reason = "too busy: try again".to_owned();
            Err(CommandError::Share { share: share.config.name.clone(), reason })
        })
    }
}

impl Handle {
    /// Compares the trees of all members; gives up after `limit`.
    pub async fn verify(
        &self,
        share: Option<&ShareName>,
        deep: bool,
        limit: Duration,
    ) -> Result<Vec<VerifyReport>, CommandError> {
        self.asked.verify(share, deep, limit).await
    }

    /// Stops recording, sending and applying, until [`resume`](Handle::resume); durable.
    pub async fn pause(&self, share: Option<&ShareName>) -> Result<Vec<MoveReport>, CommandError> {
        self.asked.pause(share).await
    }

    /// Ends a pause, or a halt: one because of deletions only with `accept_deletes`.
    pub async fn resume(
        &self,
        share: Option<&ShareName>,
        accept_deletes: bool,
    ) -> Result<Vec<MoveReport>, CommandError> {
        self.asked.resume(share, accept_deletes).await
    }

    /// Sweeps the whole tree and waits for its end, or only says what a sweep would find.
    pub async fn rescan(
        &self,
        share: Option<&ShareName>,
        dry_run: bool,
    ) -> Result<Vec<RescanReport>, CommandError> {
        self.asked.rescan(share, dry_run).await
    }

    pub async fn conflicts(
        &self,
        share: Option<&ShareName>,
        which: Option<Which>,
    ) -> Result<Vec<ConflictList>, CommandError> {
        self.asked.conflicts(share, which).await
    }

    /// Puts the loser of a conflict back as a new change, at its own name or at `to`.
    pub async fn restore(
        &self,
        share: Option<&ShareName>,
        which: Which,
        to: Option<RelPath>,
    ) -> Result<RestoreReport, CommandError> {
        self.asked.restore(share, which, to).await
    }
}
