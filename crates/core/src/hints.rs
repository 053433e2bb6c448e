//! The hint coalescer: a bounded set of paths to look at, with "everything" as its top.
//!
//! A watcher may only ever say "look there"; what is there, a look decides. So hints may be merged,
//! repeated and widened freely, and must only never be lost.

use std::collections::BTreeMap;

use crate::path::RelPath;

/// Paths held before the set becomes "everything". A path is about 100 B here: 25 MB at most.
pub const HINTS_MAX: usize = 262_144;

/// How sure it is that nobody is still writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Something is being made there; another hint comes when it is done.
    Started,
    /// A writer closed it, it was renamed here, it is gone, or its metadata changed.
    Finished,
}

/// The set of hints.
#[derive(Debug, Default)]
pub struct Hints {
    paths: BTreeMap<RelPath, Urgency>,
    everything: bool,
}

/// What [`Hints::take`] hands out.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Everything,
    Paths(Vec<(RelPath, Urgency)>),
}

impl Hints {
    pub fn add(&mut self, path: RelPath, urgency: Urgency) {
        if self.everything {
            return;
        }
        if self.paths.len() >= HINTS_MAX && !self.paths.contains_key(&path) {
            self.add_everything();
            return;
        }
        let held = self.paths.entry(path).or_insert(urgency);
        *held = (*held).max(urgency);
    }

    /// The watcher lost count, or somebody asked for a sweep.
    pub fn add_everything(&mut self) {
        self.everything = true;
        self.paths.clear();
    }

    /// Takes at most `max` hints, in path order, or everything.
    pub fn take(&mut self, max: usize) -> Taken {
        if std::mem::take(&mut self.everything) {
            return Taken::Everything;
        }
        let rest = match self.paths.keys().nth(max).cloned() {
            Some(first_left) => self.paths.split_off(&first_left),
            None => BTreeMap::new(),
        };
        Taken::Paths(std::mem::replace(&mut self.paths, rest).into_iter().collect())
    }

    pub fn is_empty(&self) -> bool {
        !self.everything && self.paths.is_empty()
    }

    pub fn len(&self) -> usize {
        self.paths.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_widen_and_are_never_lost() {
        let mut hints = Hints::default();
        for index in 0..=HINTS_MAX {
            let path = RelPath::new(format!("f{index}")).unwrap();
            hints.add(path, Urgency::Started);
        }
        assert_eq!(hints.take(10), Taken::Everything);
        assert!(hints.is_empty());
    }

    #[test]
    fn a_finished_hint_outranks_a_started_one() {
        let mut hints = Hints::default();
        let [a, b, c] = ["a", "b", "c"].map(|path| RelPath::new(path).unwrap());
        hints.add(b.clone(), Urgency::Finished);
        hints.add(b.clone(), Urgency::Started);
        hints.add(a.clone(), Urgency::Started);
        hints.add(c.clone(), Urgency::Started);
        let first = vec![(a, Urgency::Started), (b, Urgency::Finished)];
        assert_eq!(hints.take(2), Taken::Paths(first));
        assert_eq!(hints.take(2), Taken::Paths(vec![(c, Urgency::Started)]));
        assert!(hints.is_empty());
    }
}
