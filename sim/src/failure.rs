//! A broken promise, as it is reported.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::check::{Invariant, SHARE};
use crate::history::{Event, History};

/// Events shown of what led to a failure: enough for the story of one file on three nodes.
const TOUCHED_MAX: usize = 10;

/// What went wrong, and where one would begin to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// As DESIGN.md names it; serialized as its id.
    pub invariant: Invariant,
    /// What happened, in a sentence.
    pub sentence: String,
    /// The first bad moment, virtual.
    pub at_ns: u64,
    pub node: Option<String>,
    /// Below the share's root, as it is shown.
    pub path: Option<String>,
    /// The last events of any node that touched the path.
    pub touched: Vec<String>,
}

impl Failure {
    pub fn new(invariant: Invariant, at_ns: u64, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { invariant, sentence, at_ns, node: None, path: None, touched: Vec::new() }
    }

    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    #[must_use]
    pub fn at_path(mut self, path: &[u8]) -> Self {
        self.path = Some(crate::trace::Shown(path).to_string());
        self
    }

    /// Fills in the last events that touched the path: up to the first bad moment, or, if nothing
    /// had touched it by then, up to the end.
    #[must_use]
    pub fn with_touched(mut self, history: &History) -> Self {
        let Some(path) = &self.path else { return self };
        let of_path = |event: &Event<'_>| mentions(event.detail, path);
        let shown = |event: Event<'_>| {
            let seconds = event.at_ns as f64 / 1e9;
            format!("{seconds:>12.6} s  {:<8} {:<8} {}", event.node, event.kind, event.detail)
        };
        let last = |until_ns: u64| -> Vec<String> {
            let events = history.events().rev().filter(|event| event.at_ns <= until_ns);
            let mut last: Vec<String> =
                events.filter(of_path).take(TOUCHED_MAX).map(shown).collect();
            last.reverse();
            last
        };
        self.touched = last(self.at_ns);
        if self.touched.is_empty() {
            self.touched = last(u64::MAX);
        }
        self
    }
}

/// Whether an event's detail names the path itself: absolute or below the share's root, and not as a
/// part of a longer name.
fn mentions(detail: &str, path: &str) -> bool {
    let absolute = detail.match_indices(path).any(|(at, _)| {
        let (before, after) = (&detail[..at], &detail[at + path.len()..]);
        let before = before.strip_suffix('/').and_then(|root| root.strip_suffix(SHARE)).or(
            // Relative: the path begins the word.
            (!before.ends_with('/')).then_some(before),
        );
        before.is_some_and(ends_a_word) && begins_a_word(after)
    });
    !path.is_empty() && absolute
}

fn ends_a_word(before: &str) -> bool {
    before.is_empty() || before.ends_with([' ', '\'', '"', '(', '`'])
}

fn begins_a_word(after: &str) -> bool {
    after.is_empty() || after.starts_with([' ', '\'', '"', ')', '`', ':', ','])
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_nanos(self.at_ns);
        writeln!(f, "{}: {}", self.invariant, self.sentence)?;
        writeln!(f, "  promised: {}", self.invariant.sentence())?;
        write!(f, "  first at {:.6} s", at.as_secs_f64())?;
        if let Some(node) = &self.node {
            write!(f, ", on {node}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ", path {path}")?;
        }
        if !self.touched.is_empty() {
            write!(f, "\n  the last events that touched it:")?;
        }
        self.touched.iter().try_for_each(|event| write!(f, "\n    {event}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_of_a_path_are_found() {
        let mut history = History::default();
        for second in 0..12 {
            history.push(second, "apollo", "app", format_args!("upload d/a {second}"));
            history.push(second, "apollo", "app", format_args!("upload d/ab {second}"));
            history.push(second, "apollo", "app", format_args!("upload e/d/a {second}"));
        }
        history.push(20, "hermes", "rename", format_args!("/x /srv/files/d/a"));
        history.push(21, "hermes", "rename", format_args!("/x /srv/files/e/d/a"));
        history.push(22, "hermes", "unlink", format_args!("/srv/files/d/a/b"));
        history.push(30, "chronos", "watch", format_args!("Finished d/a"));
        let at = |at_ns| {
            let failure = Failure::new(Invariant::S4, at_ns, "it came back").at_path(b"d/a");
            failure.with_touched(&history).touched
        };
        let last = at(25);
        assert_eq!(last.len(), TOUCHED_MAX);
        assert!(last[9].ends_with("/x /srv/files/d/a") && last[9].contains("hermes"), "{last:?}");
        assert!(last[0].ends_with("upload d/a 3"), "{last:?}");
        assert!(at(40)[9].ends_with("Finished d/a"));
        let none = Failure::new(Invariant::S4, 40, "it came back").on("apollo");
        assert!(none.with_touched(&history).touched.is_empty());
    }

    #[test]
    fn a_failure_says_what_was_promised() {
        let mut failure = Failure::new(Invariant::L2, 1_500_000_000, "it moved").on("apollo");
        failure.touched.push("1.0 apollo write a".to_owned());
        let shown = failure.at_path(b"a").to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "L2: it moved");
        assert!(lines[1].contains(Invariant::L2.sentence()));
        assert_eq!(lines[2], "  first at 1.500000 s, on apollo, path a");
        assert_eq!(lines[4], "    1.0 apollo write a");
    }
}
