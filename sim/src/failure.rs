//! A broken promise, as it is reported.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What went wrong, and where one would begin to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The id of the invariant: `S1`, `L2`, ... as DESIGN.md names them.
    pub invariant: &'static str,
    /// What happened, in a sentence.
    pub sentence: String,
    /// The first bad moment, virtual.
    pub at_ns: u64,
    pub node: Option<String>,
    pub path: Option<String>,
}

impl Failure {
    pub fn new(invariant: &'static str, at_ns: u64, sentence: impl Into<String>) -> Self {
        Self { invariant, sentence: sentence.into(), at_ns, node: None, path: None }
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_nanos(self.at_ns);
        write!(f, "{}: {}\n  first at {:.6} s", self.invariant, self.sentence, at.as_secs_f64())?;
        if let Some(node) = &self.node {
            write!(f, ", on {node}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ", path {path}")?;
        }
        Ok(())
    }
}
