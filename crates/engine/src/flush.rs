//! `flush`: has everybody durably applied what was changed here before the call?
//!
//! First the watcher is drained: a cookie is made in a watched directory, and when it comes back,
//! so has every event before it. Then a new row is written as a challenge. A member that has heard
//! that row and says that it has *applied* all that this node knew when it was written has signed.

use std::sync::Arc;
use std::time::Duration;

use chainsync_core::gossip::{Row, RowId};
use chainsync_core::{NodeName, VersionVector};
use chainsync_env::{Env, Vfs};
use tokio::time::{Instant, timeout_at};

use crate::board::PAUSED;
use crate::disk::OWN_FILE_MODE;
use crate::share::{Share, ShareError};
use crate::status::{FlushReport, Lacking};

/// While no row arrives, members are judged again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const NOTE: &str = "files still open for writing are not included";

impl<E: Env> Share<E> {
    pub async fn flush(self: &Arc<Self>, timeout: Duration, live: bool) -> FlushReport {
        let began = Instant::now();
        let deadline = began + timeout;
        let mut report = FlushReport {
            share: self.config.name.to_string(),
            complete: false,
            applied: Vec::new(),
            lacking: Vec::new(),
            left_out: Vec::new(),
            elapsed_ms: 0,
            note: NOTE.to_owned(),
        };
        // A share that does not move looks at nothing: there is nothing to wait for.
        let drained = match self.board.halted() {
            None => timeout_at(deadline, self.drain()).await,
            Some(_) => Ok(Err(ShareError::Halted)),
        };
        match drained {
            Ok(Ok(())) => {
                let wanted = self.index.state().knowledge.to_vector();
                let challenge = self.board.write_row(true, |view| self.row(view));
                self.wait_for_signatures(deadline, live, &wanted, challenge, &mut report).await;
            }
            outcome => {
                let reason = match (outcome, self.board.halted()) {
                    (_, Some(halted)) => at_rest(&halted),
                    (Ok(Err(error)), None) => error.to_string(),
                    _ => "its own changes were not all looked at in time".to_owned(),
                };
                report.lacking.push(Lacking { node: self.me.to_string(), reason });
            }
        }
        report.complete = report.lacking.is_empty();
        report.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        report
    }

    /// Waits until everything that happened in the share before the call has been looked at.
    async fn drain(self: &Arc<Self>) -> Result<(), ShareError> {
        let mut ready = self.ready.subscribe();
        let _ = ready.wait_for(|ready| *ready).await;
        let number = self.next_cookie();
        let mut cookie = self.hints.cookie.subscribe();
        let worker = self.clone();
        self.env.blocking(move || worker.make_cookie(number)).await?;
        let _ = cookie.wait_for(|newest| *newest >= number).await;
        self.wait_for_a_round().await;
        let large = self.digests.paths();
        if !large.is_empty() {
            self.digests.settled(&large).await;
            self.wait_for_a_round().await;
        }
        Ok(())
    }

    /// Waits until everything that was hinted at has been looked at.
    async fn wait_for_a_round(&self) {
        // The round under way may have begun before; the one after it did not. Asked in this order:
        // a round that ends in between makes us wait for one more, never for one less.
        let busy = self.is_looking();
        let mut rounds = self.generations.subscribe();
        let wanted = *rounds.borrow_and_update() + 1 + u64::from(busy);
        while *rounds.borrow_and_update() < wanted {
            self.hints.wake.notify_one();
            if rounds.changed().await.is_err() {
                break;
            }
        }
    }

    fn make_cookie(&self, number: u64) -> Result<(), ShareError> {
        let cookies = self.vfs.open_dir(Some(&Self::cookies()));
        let cookies = cookies.map_err(ShareError::disk("opening .chainsync/cookies"))?;
        let name = number.to_string();
        // Left by a crash: its number is used again.
        match self.vfs.unlink(&cookies, name.as_bytes()) {
            Err(error) if !crate::disk::is_absent(&error) => {
                return Err(ShareError::disk("removing a flush cookie")(error));
            }
            _ => {}
        }
        let made = self.vfs.create_file(&cookies, name.as_bytes(), OWN_FILE_MODE);
        made.map_err(ShareError::disk("making a flush cookie"))?;
        let removed = self.vfs.unlink(&cookies, name.as_bytes());
        removed.map_err(ShareError::disk("removing a flush cookie"))
    }

    async fn wait_for_signatures(
        &self,
        deadline: Instant,
        live: bool,
        wanted: &VersionVector,
        challenge: RowId,
        report: &mut FlushReport,
    ) {
        let mut rows = self.board.rows_moved.subscribe();
        loop {
            rows.mark_unchanged();
            let reachable = self.board.reachable();
            report.applied.clear();
            report.lacking.clear();
            report.left_out.clear();
            for node in self.ring().nodes() {
                match self.lacks(node, wanted, challenge, &reachable) {
                    None => report.applied.push(node.to_string()),
                    Some(reason) => {
                        let lacking = Lacking { node: node.to_string(), reason };
                        if live && !reachable.contains(node) {
                            report.left_out.push(lacking);
                        } else {
                            report.lacking.push(lacking);
                        }
                    }
                }
            }
            if report.lacking.is_empty() {
                return;
            }
            // Who is reachable changes without a row when a silent upstream is given up.
            let next = deadline.min(Instant::now() + LOOK_AGAIN);
            if timeout_at(next, rows.changed()).await.is_err() && next == deadline {
                return;
            }
        }
    }

    /// Why a member has not signed, or nothing if it has.
    fn lacks(
        &self,
        node: &NodeName,
        wanted: &VersionVector,
        challenge: RowId,
        reachable: &[NodeName],
    ) -> Option<String> {
        if *node == self.me {
            let problems = self.board.problems();
            if problems > 0 {
                return Some(format!(
                    "{problems} paths have problems here: `chainsync status` lists them"
                ));
            }
            return (!self.index.applied().includes(wanted))
                .then(|| format!("{} paths are not on disk here yet", self.index.pending()));
        }
        let rows = self.board.rows();
        let row = rows.get(node);
        let signed = row
            .is_some_and(|row| row.is_after(&self.me, challenge) && row.applied.includes(wanted));
        if signed {
            return None;
        }
        if !reachable.contains(node) {
            let why = match row.and_then(|row| row.halted.as_deref()) {
                Some(reason) => at_rest(reason),
                None => "unreachable".to_owned(),
            };
            return Some(match row.map(|row| behind(row, wanted)) {
                Some(behind) => format!("{why}, bypassed, {behind} changes behind"),
                None => format!("{why}, bypassed"),
            });
        }
        Some(match row {
            None => "nothing was heard of it yet".to_owned(),
            Some(Row { halted: Some(reason), .. }) => at_rest(reason),
            Some(row) if !row.is_after(&self.me, challenge) => "it has not answered yet".to_owned(),
            Some(row) if row.pending > 0 => {
                format!(
                    "{} changes behind, {} paths not on disk there",
                    behind(row, wanted),
                    row.pending
                )
            }
            Some(row) => format!("{} changes behind", behind(row, wanted)),
        })
    }
}

/// Why a share does not move, in words.
pub fn at_rest(reason: &str) -> String {
    if reason.starts_with(PAUSED) { reason.to_owned() } else { format!("halted: {reason}") }
}

/// How many of the wanted changes a member has not applied.
pub fn behind(row: &Row, wanted: &VersionVector) -> u64 {
    wanted
        .iter()
        .map(|(replica, counter)| counter.saturating_sub(row.applied.counter(replica)))
        .sum()
}
