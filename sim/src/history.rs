//! What happened in one run, event by event, kept in memory: for failures, timelines and reports.

use std::fmt::{self, Write as _};

/// All events of a run, as the lines that the trace hash is made of.
#[derive(Debug, Clone, Default)]
pub struct History {
    text: String,
    /// Where each line begins, and when it happened.
    marks: Vec<(usize, u64)>,
}

/// One event, read back from its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Counts from 0.
    pub number: usize,
    /// Virtual nanoseconds since the simulation began.
    pub at_ns: u64,
    /// `-` for the world itself.
    pub node: &'a str,
    pub kind: &'a str,
    pub detail: &'a str,
}

impl History {
    /// Appends an event; its line.
    pub(crate) fn push(
        &mut self,
        at_ns: u64,
        node: &str,
        kind: &str,
        detail: fmt::Arguments<'_>,
    ) -> &str {
        let begin = self.text.len();
        let (seconds, nanoseconds) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{seconds:>4}.{nanoseconds:09} {node:<8} {kind:<12} {detail}");
        self.marks.push((begin, at_ns));
        &self.text[begin..]
    }

    pub fn len(&self) -> usize {
        self.marks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The events in order; to be read from both ends.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = Event<'_>> + ExactSizeIterator {
        (0..self.marks.len()).map(|number| self.event(number))
    }

    fn event(&self, number: usize) -> Event<'_> {
        let (begin, at_ns) = self.marks[number];
        let end = self.marks.get(number + 1).map_or(self.text.len(), |(next, _)| *next);
        let line = self.text[begin..end].trim_end_matches('\n');
        // A time has no spaces but those before it, a node's name and a kind have none at all.
        let mut rest = line.trim_start();
        let mut word = || {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after.trim_start();
            word
        };
        let (_, node, kind) = (word(), word(), word());
        Event { number, at_ns, node, kind, detail: rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_were_written() {
        let mut history = History::default();
        history.push(1_500_000_000, "apollo", "rename", format_args!("/srv/a  b /srv/c"));
        let line = history.push(12_000_000_001, "-", "heal", format_args!("")).to_owned();
        assert_eq!(line, "  12.000000001 -        heal         \n");
        let events: Vec<Event<'_>> = history.events().collect();
        assert_eq!(
            events,
            [
                Event {
                    number: 0,
                    at_ns: 1_500_000_000,
                    node: "apollo",
                    kind: "rename",
                    detail: "/srv/a  b /srv/c"
                },
                Event { number: 1, at_ns: 12_000_000_001, node: "-", kind: "heal", detail: "" },
            ]
        );
    }
}
