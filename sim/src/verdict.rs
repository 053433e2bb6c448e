//! What a run in another process said of itself, as a search reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// The parts of a run's JSON that a search needs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Verdict {
    pub failure: Option<Told>,
    #[serde(default)]
    pub trace: String,
    #[serde(default)]
    pub virtual_ms: u64,
    #[serde(default)]
    pub events: u64,
    #[serde(default)]
    pub probes: BTreeMap<String, u64>,
}

/// A failure, as it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Told {
    pub invariant: String,
    pub sentence: String,
    pub at_ns: u64,
    pub node: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub touched: Vec<String>,
}

impl Verdict {
    /// The plan itself is wrong.
    pub fn refused(reason: &str) -> Self {
        Self::of("plan", format!("the plan was refused: {reason}"))
    }

    pub fn panicked(errors: &str) -> Self {
        let panic = errors.lines().skip_while(|line| !line.contains("panicked at")).take(2);
        let panic: Vec<&str> = panic.collect();
        let what = if panic.is_empty() { errors.trim().to_owned() } else { panic.join(" ") };
        Self::of("panic", format!("something panicked: {what}"))
    }

    pub fn endless(limit: Duration) -> Self {
        Self::of("endless", format!("the run did not end within {limit:?} of real time"))
    }

    fn of(invariant: &str, sentence: String) -> Self {
        let told = Told { invariant: invariant.to_owned(), sentence, ..Told::default() };
        Self { failure: Some(told), ..Self::default() }
    }
}

impl Told {
    /// Failures with the same kind are most likely one bug: the promise, and its sentence without what
    /// differs from run to run (numbers, names of nodes and paths, what a status said).
    pub fn kind(&self, nodes: &[&str]) -> String {
        let head = self.sentence.split([';', ':']).next().unwrap_or_default();
        let words = head.split_whitespace().map(|word| {
            let bare = word.trim_matches(|char: char| !char.is_alphanumeric());
            if nodes.contains(&bare) {
                "NODE"
            } else if bare.starts_with(|char: char| char.is_ascii_digit()) {
                "N"
            } else if self.path.as_deref() == Some(bare) || bare.contains('/') {
                "PATH"
            } else {
                word
            }
        });
        format!("{}: {}", self.invariant, words.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bug_has_one_kind() {
        let told = |sentence: &str| Told {
            invariant: "L1".into(),
            sentence: sentence.into(),
            ..Told::default()
        };
        let kind = |sentence| told(sentence).kind(&["apollo", "hermes"]);
        let one = kind("the trees of apollo and hermes differ in 3 paths; at the first one, a");
        assert_eq!(one, "L1: the trees of NODE and NODE differ in N paths");
        assert_eq!(one, kind("the trees of hermes and apollo differ in 12 paths; at b/c"));
        assert_ne!(one, kind("the share's root cannot be read"));
    }

    #[test]
    fn a_panic_is_told_in_a_line() {
        let text = "noise\nthread 'main' panicked at core/x.rs:7:1:\nthe table is empty\nnote: run";
        let told = Verdict::panicked(text).failure.unwrap();
        assert_eq!(told.invariant, "panic");
        assert!(told.sentence.ends_with("core/x.rs:7:1: the table is empty"), "{}", told.sentence);
    }
}
