//! The trace: what happened, in order, as one hash.
//!
//! Same seed, same hash (M1). So an event never holds an address, a host name of this machine, a
//! real time or anything whose order depends on a hash map. Times are virtual.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use crate::history::History;

/// The trace of one run.
pub struct Trace {
    inner: Mutex<Inner>,
}

struct Inner {
    hasher: blake3::Hasher,
    history: History,
    output: Option<Box<dyn Write + Send>>,
    error: Option<io::Error>,
}

/// What is left of a trace at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub events: u64,
    pub hash: String,
}

impl Trace {
    /// `output` also gets each event as a line of text.
    pub fn new(output: Option<Box<dyn Write + Send>>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                hasher: blake3::Hasher::new(),
                history: History::default(),
                output,
                error: None,
            }),
        }
    }

    /// Appends an event. `at_ns`: virtual nanoseconds since the simulation began.
    pub fn event(&self, at_ns: u64, node: &str, kind: &str, detail: fmt::Arguments<'_>) {
        let inner = &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = inner.history.push(at_ns, node, kind, detail).as_bytes();
        inner.hasher.update(line);
        if let Some(output) = &mut inner.output
            && let Err(error) = output.write_all(line)
        {
            inner.error.get_or_insert(error);
            inner.output = None;
        }
    }

    pub fn events(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).history.len() as u64
    }

    /// Looks at what has happened so far.
    pub fn read<R>(&self, look: impl FnOnce(&History) -> R) -> R {
        look(&self.inner.lock().unwrap_or_else(PoisonError::into_inner).history)
    }

    /// Closes the text output; the error is the first one that writing it met.
    pub fn finish(&self) -> io::Result<Summary> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut output) = inner.output.take() {
            output.flush()?;
        }
        match inner.error.take() {
            Some(error) => Err(error),
            None => Ok(Summary {
                events: inner.history.len() as u64,
                hash: inner.hasher.finalize().to_hex().as_str()[..16].to_owned(),
            }),
        }
    }
}

/// Shows bytes of a name or path in the trace; no raw control byte.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chainsync_core::path::display_bytes(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_shows_in_the_hash() {
        let hash = |events: &[(u64, &str, &str)]| {
            let trace = Trace::new(None);
            for (at, node, detail) in events {
                trace.event(*at, node, "write", format_args!("{detail}"));
            }
            trace.finish().unwrap().hash
        };
        let one = hash(&[(1, "apollo", "a"), (2, "hermes", "b")]);
        assert_eq!(one, hash(&[(1, "apollo", "a"), (2, "hermes", "b")]));
        assert_ne!(one, hash(&[(2, "hermes", "b"), (1, "apollo", "a")]));
        assert_ne!(one, hash(&[(1, "apollo", "a"), (3, "hermes", "b")]));
        assert_ne!(one, hash(&[(1, "apollo", "a"), (2, "apollo", "b")]));
    }
}
