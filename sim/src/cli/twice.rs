//! `chainsync-sim twice`: the same seed in two processes, and their traces line by line (M1).
//!
//! A hash says that two runs differ, this says where they begin to. Two processes, for the reason
//! that child.rs gives, and because what differs between processes (addresses, the seeds of hash
//! maps, random numbers of the system) is what must not show.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

#[derive(clap::Args)]
pub struct Twice {
    /// Scenario files, or names of some in `scenarios/`
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The seed of all runs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A promise that is broken, twice in the same way, is a failure, too
    #[arg(long)]
    passing: bool,
}

impl Twice {
    /// Whether every scenario went the same way twice.
    pub fn run(&self) -> anyhow::Result<bool> {
        let mut same = true;
        for file in &self.files {
            match compare(file, self.seed)? {
                Ok(Same { failure, .. }) if self.passing && !failure.is_null() => {
                    same = false;
                    println!("{}, seed {}: twice, {failure}", file.display(), self.seed);
                }
                Ok(Same { lines, .. }) => {
                    println!("{}, seed {}: {lines} lines, twice", file.display(), self.seed)
                }
                Err(difference) => {
                    same = false;
                    println!("{}, seed {}: {difference}", file.display(), self.seed);
                }
            }
        }
        Ok(same)
    }
}

/// What two runs have in common.
struct Same {
    /// Of the trace.
    lines: u64,
    /// Null if all promises were kept.
    failure: Value,
}

/// Where two runs part.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    Trace {
        /// Of the line in the file, from 1.
        number: u64,
        /// The last lines that are the same.
        before: Vec<String>,
        /// What follows in either trace; empty at its end.
        after: [Vec<String>; 2],
    },
    /// The same trace, and another value under this key of the outcome.
    Outcome { key: String, values: [Value; 2] },
}

/// Lines shown before and after a difference.
const CONTEXT_LINES: usize = 5;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { key, values: [one, two] } => {
                write!(f, "one trace, two outcomes: `{key}` is {one} and {two}")
            }
            Self::Trace { number, before, after } => {
                write!(f, "one seed, two traces, which part in line {number}")?;
                for (number, line) in (number - before.len() as u64..).zip(before) {
                    write!(f, "\n  {number:>7} {line}")?;
                }
                for (mark, lines) in ['-', '+'].iter().zip(after) {
                    for (number, line) in (*number..).zip(lines) {
                        write!(f, "\n{mark} {number:>7} {line}")?;
                    }
                    if lines.is_empty() {
                        write!(f, "\n{mark} {number:>7} (the end)")?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn compare(file: &Path, seed: u64) -> anyhow::Result<Result<Same, Difference>> {
    let directory = tempfile::tempdir().context("a directory for traces")?;
    let traces = ["one", "two"].map(|name| directory.path().join(name));
    // Both at once: there are two cores, and being held up must not show either.
    let children = [start(file, seed, &traces[0])?, start(file, seed, &traces[1])?];
    let [one, two] = children.map(outcome);
    let outcomes = [one?, two?];
    let [one, two] = traces.map(|path| File::open(&path).map(BufReader::new));
    let lines = match part(one?, two?)? {
        Ok(lines) => lines,
        Err(difference) => return Ok(Err(difference)),
    };
    let failure = outcomes[0]["failure"].clone();
    Ok(differing_value(outcomes).map_or(Ok(Same { lines, failure }), Err))
}

fn start(file: &Path, seed: u64, trace: &Path) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("the path of this program")?;
    let mut command = Command::new(program);
    command.arg("run").arg(file).args(["--json", "--seed", &seed.to_string()]);
    command.arg("--trace").arg(trace).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("a run cannot be started")
}

fn outcome(child: Child) -> anyhow::Result<Value> {
    let output = child.wait_with_output().context("a run cannot be waited for")?;
    // 1 is a broken promise, which is as good a run as any.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("a run ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the outcome of a run")
}

fn differing_value([one, two]: [Value; 2]) -> Option<Difference> {
    let keys = one.as_object()?.keys().filter(|key| *key != "wall_ms");
    let key = keys.into_iter().find(|key| one.get(key) != two.get(key))?;
    let values = [one[key].clone(), two[key].clone()];
    Some(Difference::Outcome { key: key.clone(), values })
}

/// Reads both in step: how many lines they have, or where they part.
fn part(one: impl BufRead, two: impl BufRead) -> io::Result<Result<u64, Difference>> {
    let mut before = VecDeque::with_capacity(CONTEXT_LINES + 1);
    let (mut one, mut two) = (one.lines(), two.lines());
    let mut number = 0;
    loop {
        number += 1;
        let pair = (one.next().transpose()?, two.next().transpose()?);
        match pair {
            (None, None) => return Ok(Ok(number - 1)),
            (Some(one), Some(two)) if one == two => {
                before.push_back(one);
                if before.len() > CONTEXT_LINES {
                    before.pop_front();
                }
            }
            (first, second) => {
                let after = [follow(first, one)?, follow(second, two)?];
                let before = before.into();
                return Ok(Err(Difference::Trace { number, before, after }));
            }
        }
    }
}

fn follow(first: Option<String>, rest: io::Lines<impl BufRead>) -> io::Result<Vec<String>> {
    first.map(Ok).into_iter().chain(rest).take(CONTEXT_LINES + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(one: &str, two: &str) -> Result<u64, String> {
        part(one.as_bytes(), two.as_bytes()).unwrap().map_err(|difference| difference.to_string())
    }

    #[test]
    fn the_first_difference_is_shown_with_what_led_to_it() {
        let lines = |odd: usize, ends: usize| -> String {
            let line = |number| format!("{}{number}\n", if number == odd { "odd " } else { "" });
            (1..=ends).map(line).collect()
        };
        assert_eq!(parts(&lines(0, 30), &lines(0, 30)), Ok(30));
        let shown = parts(&lines(0, 30), &lines(20, 30)).unwrap_err();
        let expected: Vec<String> = (15..20)
            .map(|number| format!("  {number:>7} {number}"))
            .chain((20..26).map(|number| format!("- {number:>7} {number}")))
            .chain([format!("+ {:>7} odd 20", 20)])
            .chain((21..26).map(|number| format!("+ {number:>7} {number}")))
            .collect();
        assert_eq!(shown.lines().skip(1).collect::<Vec<_>>(), expected, "{shown}");
        assert!(shown.starts_with("one seed, two traces, which part in line 20\n"), "{shown}");
        let shown = parts(&lines(0, 30), &lines(0, 29)).unwrap_err();
        assert!(shown.ends_with("-      30 30\n+      30 (the end)"), "{shown}");
    }

    #[test]
    fn all_but_the_time_it_took_counts() {
        let value =
            |calls: u64, wall_ms: u64| serde_json::json!({ "calls": calls, "wall_ms": wall_ms });
        assert_eq!(differing_value([value(1, 2), value(1, 3)]), None);
        let difference = differing_value([value(1, 2), value(2, 2)]).unwrap().to_string();
        assert_eq!(difference, "one trace, two outcomes: `calls` is 1 and 2");
    }
}
