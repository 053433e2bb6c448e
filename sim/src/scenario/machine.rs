//! What machines are like: what a scenario does not say is drawn from the seed, for each node by
//! itself, so that a node taken out of a plan does not change the others.

use serde::{Deserialize, Serialize};

use super::units::{Size, Span, SpanRange};

/// `[machine]`, for all of them, or `[machines.NAME]`, which goes before it key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineKnobs {
    /// In which steps the clock that stamps changes advances; `0` gives every change its own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Span>,
    /// `fs.inotify.max_queued_events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_queue: Option<u64>,
    /// How late the reader of the watcher's events is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_delay: Option<SpanRange>,
    /// Of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
    /// What a system call of the daemon costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<SpanRange>,
}

impl MachineKnobs {
    /// What is missing here, from there.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            tick: self.tick.or(other.tick),
            watch_queue: self.watch_queue.or(other.watch_queue),
            watch_delay: self.watch_delay.or(other.watch_delay),
            capacity: self.capacity.or(other.capacity),
            calls: self.calls.or(other.calls),
        }
    }

    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
