//! Paths with a problem, paths that wait, directories that are not watched, files that may still be
//! written.

use std::fmt::Display;

use chainsync_core::{RelPath, Stat};

use super::{Board, Inner};
use crate::share::lock;
use crate::status::Problem;

/// Problems kept in memory with their reasons; beyond that their number is a lower bound, and said
/// to be one.
const PROBLEMS_MAX: usize = 10_000;

/// Directories remembered that could not be watched: a limit that is that far too low is found by
/// the sweep that follows when the first of them can be watched.
const UNWATCHED_MAX: usize = 10_000;

/// One line for all directories that are not watched.
pub(super) fn unwatched(inner: &Inner) -> Option<Problem> {
    let (first, (reason, since_ms)) = inner.unwatched.first_key_value()?;
    let others = match (inner.unwatched.len() - 1, inner.unwatched_more) {
        (0, false) => String::new(),
        (others, false) => format!(" and {others} other directories"),
        (others, true) => format!(" and more than {others} other directories"),
    };
    Some(Problem {
        path: first.to_string(),
        reason: format!("this{others}: {reason}; changes there are found by sweeps only"),
        since_ms: *since_ms,
    })
}

impl Board {
    pub fn problem(&self, path: &RelPath, reason: &dyn Display, now_ms: u64) {
        let reason = reason.to_string();
        let mut inner = lock(&self.inner);
        inner.waiting.remove(path);
        if inner.problems.len() >= PROBLEMS_MAX && !inner.problems.contains_key(path) {
            inner.problems_more = true;
            return;
        }
        let held = inner.problems.entry(path.clone()).or_insert_with(|| {
            tracing::warn!(%path, reason, "problem");
            (reason.clone(), now_ms)
        });
        held.0 = reason;
        drop(inner);
        self.touch();
    }

    pub fn problems(&self) -> usize {
        lock(&self.inner).problems.len()
    }

    pub fn problem_paths(&self) -> Vec<RelPath> {
        lock(&self.inner).problems.keys().cloned().collect()
    }

    pub fn waiting(&self, path: &RelPath, reason: String, now_ms: u64) {
        let mut inner = lock(&self.inner);
        inner.waiting.entry(path.clone()).or_insert((reason, now_ms));
    }

    pub fn waiting_paths(&self) -> Vec<RelPath> {
        lock(&self.inner).waiting.keys().cloned().collect()
    }

    pub fn solved(&self, path: &RelPath) {
        let mut inner = lock(&self.inner);
        inner.waiting.remove(path);
        let had = inner.problems.remove(path).is_some();
        inner.problems_more &= !inner.problems.is_empty();
        drop(inner);
        if had {
            tracing::info!(%path, "problem solved");
            self.touch();
        }
    }

    pub fn has_problem(&self, path: &RelPath) -> bool {
        lock(&self.inner).problems.contains_key(path)
    }

    /// A directory could not be watched: what happens in it is found by sweeps only. Without the
    /// root's own watch nothing goes on.
    pub fn unwatched(&self, path: Option<&RelPath>, reason: &dyn Display, now_ms: u64) {
        let Some(path) = path else {
            return self.halt(&format!("the root cannot be watched: {reason}"));
        };
        let mut inner = lock(&self.inner);
        if inner.unwatched.contains_key(path) {
            return;
        }
        if inner.unwatched.len() >= UNWATCHED_MAX {
            inner.unwatched_more = true;
            return;
        }
        if inner.unwatched.is_empty() {
            tracing::warn!(%path, %reason, "not watched: changes there are found by sweeps only");
        }
        inner.unwatched.insert(path.clone(), (reason.to_string(), now_ms));
        drop(inner);
        self.touch();
    }

    /// A directory is watched, or is not there any more.
    pub fn watched(&self, path: Option<&RelPath>) {
        let mut inner = lock(&self.inner);
        let was = path.and_then(|path| inner.unwatched.remove(path));
        let last = was.is_some() && inner.unwatched.is_empty();
        drop(inner);
        if last {
            tracing::info!("all directories are watched again");
            self.touch();
        }
    }

    /// The same for a directory and everything below it.
    pub fn forget_unwatched(&self, path: &RelPath) {
        let mut inner = lock(&self.inner);
        if !inner.unwatched.is_empty() {
            inner.unwatched.retain(|dir, _| dir != path && !dir.is_below(path));
        }
    }

    pub fn is_unwatched(&self, path: &RelPath) -> bool {
        lock(&self.inner).unwatched.contains_key(path)
    }

    /// The directories that are not watched; whether there are more than could be remembered.
    pub fn unwatched_dirs(&self) -> (Vec<RelPath>, bool) {
        let inner = lock(&self.inner);
        (inner.unwatched.keys().cloned().collect(), inner.unwatched_more)
    }

    /// All that could be remembered is watched again, and the rest will be swept.
    pub fn unwatched_swept(&self) {
        lock(&self.inner).unwatched_more = false;
        self.touch();
    }

    /// Two looks at a file of which nobody can tell whether it is still being written: whether they
    /// agree. Notes this one.
    pub fn second_look(&self, path: &RelPath, stat: &Stat) -> bool {
        let mut inner = lock(&self.inner);
        if inner.second_looks.get(path) == Some(stat) {
            inner.second_looks.remove(path);
            return true;
        }
        if inner.second_looks.len() >= PROBLEMS_MAX {
            inner.second_looks.clear();
        }
        inner.second_looks.insert(path.clone(), *stat);
        false
    }
}
