//! Which daemons run when: an event that makes no sense at its time is an error in the file, not a
//! surprise in the middle of a run.

use std::collections::BTreeSet;

use super::event::{DeathEvent, Event, PowerLossEvent};

#[derive(Debug, Default)]
pub(super) struct Timeline {
    down: BTreeSet<String>,
    stopped: BTreeSet<String>,
    saved: BTreeSet<String>,
    unmounted: BTreeSet<String>,
}

impl Timeline {
    /// The next event, in order of time. A daemon that comes back by itself counts as running.
    pub(super) fn follow(&mut self, event: &Event) -> Result<(), String> {
        let Some(node) = event.nodes().first().map(|name| name.get_ref().clone()) else {
            return Ok(());
        };
        let key = event.key();
        let (down, stopped) = (self.down.contains(&node), self.stopped.contains(&node));
        match event {
            Event::Crash(_) | Event::PowerLoss(_) | Event::Restart(_) | Event::Stop(_) if down => {
                Err(format!("`{key}`, but the daemon of `{node}` does not run then"))
            }
            Event::Restart(_) | Event::Stop(_) if stopped => {
                Err(format!("`{key}`, but the daemon of `{node}` is stopped: `continue` it first"))
            }
            Event::Continue(_) if !stopped => {
                Err(format!("`continue`, but the daemon of `{node}` is not stopped then"))
            }
            Event::Start(_) if !down => {
                Err(format!("`start`, but the daemon of `{node}` runs already"))
            }
            Event::WipeIndex(_)
            | Event::SaveIndex(_)
            | Event::RestoreIndex(_)
            | Event::RestoreFiles(_)
                if !down =>
            {
                Err(format!("`{key}` while the daemon of `{node}` runs: `crash` it first"))
            }
            Event::RestoreIndex(_) | Event::RestoreFiles(_) if !self.saved.contains(&node) => {
                Err(format!("no index of `{node}` was saved before"))
            }
            Event::Crash(DeathEvent { before_operation: Some(_), back_after: None, .. })
            | Event::PowerLoss(PowerLossEvent {
                before_operation: Some(_),
                back_after: None,
                ..
            }) => Err(format!(
                "`before-operation` needs `back-after`: nobody knows when `{node}` will be down"
            )),
            Event::Crash(DeathEvent { back_after: Some(_), .. })
            | Event::PowerLoss(PowerLossEvent { back_after: Some(_), .. }) => {
                self.stopped.remove(&node);
                Ok(())
            }
            Event::Crash(_) | Event::PowerLoss(_) => {
                self.stopped.remove(&node);
                self.down.insert(node);
                Ok(())
            }
            Event::Start(_) => {
                self.down.remove(&node);
                Ok(())
            }
            Event::Stop(_) => {
                self.stopped.insert(node);
                Ok(())
            }
            Event::Continue(_) => {
                self.stopped.remove(&node);
                Ok(())
            }
            Event::UnmountRoot(_) if !self.unmounted.insert(node.clone()) => {
                Err(format!("`unmount-root`, but the root of `{node}` is not mounted then"))
            }
            Event::MountRoot(_) if !self.unmounted.remove(&node) => {
                Err(format!("`mount-root`, but the root of `{node}` is mounted already"))
            }
            Event::SaveIndex(_) => {
                self.saved.insert(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
