//! `pause` and `resume`.
//!
//! A paused share neither records, nor sends, nor applies: its links are closed, those of others are
//! refused, and the ring closes over the gap. What changes in the tree meanwhile is found by the
//! sweep with which it goes on. The pause is in the index and survives a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chainsync_env::Env;
use tokio::time::{Instant, sleep};

use crate::answers::MoveReport;
use crate::board::Cause;
use crate::share::{Share, ShareError};

/// For so long a share that stops keeps its connections, so that its last row reaches the others and
/// they know why.
const FAREWELL: Duration = Duration::from_millis(300);
/// `pause` answers when the links are down, or after this.
const QUIET_MAX: Duration = Duration::from_secs(5);
const QUIET_LOOK: Duration = Duration::from_millis(20);

impl<E: Env> Share<E> {
    pub async fn pause(self: &Arc<Self>) -> Result<MoveReport, ShareError> {
        let before = self.board.halted();
        let worker = self.clone();
        // In one job, which ends also if the asker goes away meanwhile.
        let paused = self.env.blocking(move || {
            worker.index.set_paused(true)?;
            worker.board.pause();
            Ok::<_, ShareError>(())
        });
        paused.await?;
        // Whoever holds the gate finishes what it is doing; whoever comes after it sees the pause.
        drop(self.gate.lock().await);
        let deadline = Instant::now() + QUIET_MAX;
        while Instant::now() < deadline {
            let view = self.board.view();
            if view.link.is_none() && view.upstream.is_empty() {
                break;
            }
            sleep(QUIET_LOOK).await;
        }
        tracing::info!(share = %self.config.name, "paused");
        Ok(self.move_report(before, None))
    }

    /// Ends a pause, or a halt whose cause is gone or accepted.
    pub async fn resume(self: &Arc<Self>, accept_deletes: bool) -> Result<MoveReport, ShareError> {
        let before = self.board.halted();
        let cause = self.board.halt_held().map(|halt| halt.cause);
        match cause {
            Some(Cause::Deletes) if !accept_deletes => {
                let next = "mount or restore what is missing and run `chainsync resume \
                    --accept-deletes`: it deletes on the other nodes only what is still missing then";
                return Ok(self.move_report(before.clone(), Some((before, next))));
            }
            Some(Cause::Root) => {
                let worker = self.clone();
                let refusal = self.env.blocking(move || worker.root_refusal()).await;
                if refusal.is_some() {
                    let next = "put the share's directory back, then resume again";
                    return Ok(self.move_report(before, Some((refusal, next))));
                }
            }
            _ => {}
        }
        if cause == Some(Cause::Deletes) {
            self.sweeping.accept_deletes();
        }
        let worker = self.clone();
        let resumed = self.env.blocking(move || {
            worker.index.set_paused(false)?;
            worker.hints.root_gone.store(false, Ordering::Relaxed);
            // Before it moves: the first thing it does is to look at everything.
            worker.hints.add_everything();
            worker.board.go_on();
            Ok::<_, ShareError>(())
        });
        resumed.await?;
        if before.is_some() {
            tracing::info!(share = %self.config.name, accept_deletes, "resumed");
        }
        Ok(self.move_report(before, None))
    }

    fn move_report(
        &self,
        before: Option<String>,
        refused: Option<(Option<String>, &str)>,
    ) -> MoveReport {
        let (refused, next) = match refused {
            Some((reason, next)) => (reason, Some(next.to_owned())),
            None => (None, None),
        };
        let (share, moving) = (self.config.name.to_string(), self.board.halted().is_none());
        MoveReport { share, moving, before, refused, next }
    }

    /// Waits until the share moves.
    pub async fn until_moving(&self) {
        let mut moving = self.board.moving.subscribe();
        // The sender lives as long as the share does.
        let _ = moving.wait_for(|moving| *moving).await;
    }

    /// Waits until the share has stopped moving, and the others have had time to hear of it.
    pub async fn until_stopped(&self) {
        let mut moving = self.board.moving.subscribe();
        loop {
            let _ = moving.wait_for(|moving| !*moving).await;
            sleep(FAREWELL).await;
            if !*moving.borrow() {
                return;
            }
        }
    }
}
