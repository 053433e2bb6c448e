//! The one applier of a share: batches of all upstreams, in the order in which they come. While one is
//! recorded and published, contents of the next are written into staging.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chainsync_core::wire::{Ack, Batch};
use chainsync_core::{NodeName, RelPath};
use chainsync_env::Env;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::progress::Progress;
use super::receive::Chain;
use crate::apply::{ApplyError, Staged};
use crate::share::{Share, ShareError, lock};
use crate::tasks::TROUBLE_PAUSE;
use crate::{full_pass, room};

/// Batches that wait to be staged; the rest waits in the upstream's window.
pub const APPLY_QUEUE_MAX: usize = 2;
/// Batches that are staged and wait to be recorded.
const STAGED_MAX: usize = 1;
/// Batches that may not be recorded yet while another is staged: those that wait, and one at work.
const AHEAD_MAX: usize = STAGED_MAX + 1;

/// A batch on its way here.
pub struct Arrived {
    pub from: NodeName,
    pub batch: Batch,
    pub progress: Arc<Progress>,
    pub reply: mpsc::Sender<Reply>,
}

/// What the connection is to say to the upstream.
pub enum Reply {
    Acknowledge(Ack),
    End(String),
}

/// A batch on its way into the index.
struct Ready {
    from: NodeName,
    number: u64,
    staged: Result<Staged, ApplyError>,
    progress: Arc<Progress>,
    reply: mpsc::Sender<Reply>,
}

/// Never ends by itself.
pub async fn apply<E: Env>(share: Arc<Share<E>>, arrived: mpsc::Receiver<Arrived>) {
    let (sender, ready) = mpsc::channel(STAGED_MAX);
    tokio::join!(stage_all(&share, arrived, sender), record_all(&share, ready));
}

async fn stage_all<E: Env>(
    share: &Arc<Share<E>>,
    mut arrived: mpsc::Receiver<Arrived>,
    ready: mpsc::Sender<Ready>,
) {
    let mut ahead = VecDeque::<Arc<[RelPath]>>::new();
    while let Some(Arrived { from, batch, progress, reply }) = arrived.recv().await {
        let number = batch.number;
        if progress.staged.load(Ordering::Relaxed) + 1 != number {
            // An earlier one failed; this connection is ending.
            continue;
        }
        let paths = batch.entries.iter().map(|received| received.entry.path.clone()).collect();
        let staged = stage_one(share, batch, &ahead).await;
        ahead.truncate(AHEAD_MAX - 1);
        ahead.push_front(paths);
        if staged.is_ok() {
            progress.staged.store(number, Ordering::Relaxed);
        }
        let one = Ready { from, number, staged, progress, reply };
        if ready.send(one).await.is_err() {
            return;
        }
    }
}

async fn stage_one<E: Env>(
    share: &Arc<Share<E>>,
    batch: Batch,
    ahead: &VecDeque<Arc<[RelPath]>>,
) -> Result<Staged, ApplyError> {
    if share.board.halted().is_some() {
        return Err(ShareError::Halted.into());
    }
    room::wait_for(share, &batch).await?;
    let (worker, ahead) = (share.clone(), ahead.clone());
    let unsure = move |path: &RelPath| ahead.iter().any(|paths| paths.contains(path));
    share.env.blocking(move || worker.stage_batch(batch, &unsure)).await
}

async fn record_all<E: Env>(share: &Arc<Share<E>>, mut ready: mpsc::Receiver<Ready>) {
    while let Some(Ready { from, number, staged, progress, reply }) = ready.recv().await {
        let halted = share.board.halted();
        let out_of_order = progress.applied.load(Ordering::Relaxed) + 1 != number;
        if let Some(reason) = &halted {
            let _ = reply.try_send(Reply::End(format!("halted: {reason}")));
        }
        if out_of_order || halted.is_some() {
            // Best effort: the next start removes what nothing refers to.
            let names = staged.map(|staged| staged.names()).unwrap_or_default();
            let worker = share.clone();
            let _ = share.env.blocking(move || worker.discard(names)).await;
            continue;
        }
        match record_one(share, &from, staged, &progress, &reply).await {
            Ok(()) => {
                progress.applied.store(number, Ordering::Relaxed);
                share.board.note_trouble(None);
            }
            Err(error) => {
                share.board.note_trouble(Some(format!("cannot apply: {}", Chain(&error))));
                tracing::error!(%from, error = %Chain(&error), "a batch was not applied");
                if let ApplyError::Share(_) | ApplyError::Ahead { .. } = error {
                    sleep(TROUBLE_PAUSE).await;
                }
                let _ = reply.try_send(Reply::End(Chain(&error).to_string()));
            }
        }
    }
}

async fn record_one<E: Env>(
    share: &Arc<Share<E>>,
    from: &NodeName,
    staged: Result<Staged, ApplyError>,
    progress: &Progress,
    reply: &mpsc::Sender<Reply>,
) -> Result<(), ApplyError> {
    let mut staged = staged?;
    if share.is_unsynced(&staged) {
        let worker = share.clone();
        staged = share.env.blocking(move || worker.sync_staged(staged)).await?;
    }
    lock(&progress.held).hear(&std::mem::take(&mut staged.batch.held));
    if let Some(end) = &staged.batch.end {
        let held = std::mem::take(&mut *lock(&progress.held));
        if end.full {
            full_pass::drop_unheld(share, from, held, &end.knowledge).await?;
        }
    }
    let gate = share.gate.lock().await;
    let (worker, upstream) = (share.clone(), from.clone());
    let recorded = share.env.blocking(move || worker.record_batch(&upstream, staged)).await?;
    // The connection may be gone: what is recorded stays.
    let _ = reply.send(Reply::Acknowledge(recorded.ack)).await;
    if !recorded.paths.is_empty() {
        let worker = share.clone();
        let left = share.env.blocking(move || worker.publish_batch(recorded.paths)).await?;
        drop(gate);
        share.ask_for(left.missing);
    }
    Ok(())
}
