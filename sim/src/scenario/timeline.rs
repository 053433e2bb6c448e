//! Which daemons run when: an event that makes no sense at its time is an error in the file, not a
//! surprise in the middle of a run.

use std::collections::BTreeSet;

use super::event::Event;

#[derive(Debug, Default)]
pub(super) struct Timeline {
    down: BTreeSet<String>,
    saved: BTreeSet<String>,
}

impl Timeline {
    /// The next event, in order of time.
    pub(super) fn follow(&mut self, event: &Event) -> Result<(), String> {
        let Some(node) = event.nodes().first().map(|name| name.get_ref().clone()) else {
            return Ok(());
        };
        let down = self.down.contains(&node);
        match event {
            Event::Crash(_) | Event::PowerLoss(_) | Event::Restart(_) if down => {
                Err(format!("`{}`, but the daemon of `{node}` does not run then", event.key()))
            }
            Event::Start(_) if !down => {
                Err(format!("`start`, but the daemon of `{node}` runs already"))
            }
            Event::WipeIndex(_) | Event::SaveIndex(_) | Event::RestoreIndex(_) if !down => Err(
                format!("`{}` while the daemon of `{node}` runs: `crash` it first", event.key()),
            ),
            Event::RestoreIndex(_) if !self.saved.contains(&node) => {
                Err(format!("no index of `{node}` was saved before"))
            }
            Event::Crash(_) | Event::PowerLoss(_) => {
                self.down.insert(node);
                Ok(())
            }
            Event::Start(_) => {
                self.down.remove(&node);
                Ok(())
            }
            Event::SaveIndex(_) => {
                self.saved.insert(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
