//! Which events get a row on the page: a run has tens of thousands, and a page a few megabytes.

use std::collections::BTreeSet;

use super::model::{Kind, Mark, Model};

/// The last so many events that touched the failing path are what one sees first.
pub(super) const FOCUS_MAX: usize = 10;
/// And the faults that lasted meanwhile: more would push the failure off the first screen.
const FOCUS_FAULTS_MAX: usize = 4;
/// Of the failing path nearly everything; a path of a shrunk plan has some dozens of events.
const PATH_ROWS_MAX: usize = 500;
/// Faults and phases: a plan has tens.
const FAULT_ROWS_MAX: usize = 300;
/// With some 300 bytes a row, half a megabyte.
const ROWS_MAX: usize = 2_000;
/// Syncs, staging, connections: only around the failure does one want them.
const DETAIL_ROWS_MAX: usize = 400;

/// Marks of a model, by their places in it.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// In order of time.
    pub kept: Vec<usize>,
    /// Those that one sees first.
    pub focus: BTreeSet<usize>,
    pub left_out: usize,
}

impl Rows {
    pub(super) fn of(model: &Model, path: Option<&str>) -> Self {
        let marks = &model.marks;
        let rows_max = |few: usize| if marks.len() <= ROWS_MAX { ROWS_MAX } else { few };
        let at = model.failure.unwrap_or(marks.len().saturating_sub(1));
        let focus = focus(model, path, at);
        let touching = |index: &usize| path.is_some_and(|path| marks[*index].touches(path));
        let is = |kinds: &'static [Kind]| move |mark: &Mark| kinds.contains(&mark.kind);
        let of_faults = is(&[Kind::Fault, Kind::Repair, Kind::Phase, Kind::Failure]);
        let mut kept = focus.clone();
        kept.extend(nearest(at, marks.len()).filter(touching).take(PATH_ROWS_MAX));
        let faults = nearest(at, marks.len()).filter(|index| of_faults(&marks[*index]));
        kept.extend(faults.take(FAULT_ROWS_MAX));
        let matters = nearest(at, marks.len()).filter(|index| marks[*index].kind.matters());
        let room = ROWS_MAX.saturating_sub(kept.len());
        kept.extend(matters.take(room));
        let details = nearest(at, marks.len()).filter(|index| !marks[*index].kind.matters());
        kept.extend(details.take(rows_max(DETAIL_ROWS_MAX)));
        // An arrow whose other end is missing says nothing.
        let ends: Vec<usize> = model
            .arrows
            .iter()
            .filter(|arrow| arrow.matters)
            .filter_map(|arrow| match (kept.contains(&arrow.from), arrow.to) {
                (true, Some(to)) if !kept.contains(&to) => Some(to),
                (false, Some(to)) if kept.contains(&to) => Some(arrow.from),
                _ => None,
            })
            .collect();
        kept.extend(ends);
        let left_out = marks.len() - kept.len();
        Self { kept: kept.into_iter().collect(), focus, left_out }
    }
}

/// The failure, the last events that touched its path, and the faults that lasted meanwhile.
fn focus(model: &Model, path: Option<&str>, at: usize) -> BTreeSet<usize> {
    let marks = &model.marks;
    let candidates: Vec<usize> = match path {
        Some(path) => {
            let seen = |mark: &Mark| mark.kind.matters() || mark.kind == Kind::Hint;
            let touching = |index: &usize| {
                let mark = &marks[*index];
                seen(mark) && mark.kind != Kind::Failure && mark.touches(path)
            };
            (0..marks.len()).filter(touching).collect()
        }
        // Nothing to follow: what happened just before.
        None => {
            let before =
                |index: &usize| marks[*index].kind.matters() && marks[*index].kind != Kind::Failure;
            (0..=at.min(marks.len().saturating_sub(1))).filter(before).collect()
        }
    };
    let last = candidates.len().saturating_sub(FOCUS_MAX);
    let mut focus: BTreeSet<usize> =
        candidates.get(last..).unwrap_or_default().iter().copied().collect();
    focus.extend(model.failure);
    let span = focus.first().zip(focus.last()).map(|(a, b)| (marks[*a].at_ns, marks[*b].at_ns));
    if let Some((from_ns, until_ns)) = span {
        let lasting =
            model.bands.iter().filter(|band| band.from_ns <= until_ns && band.until_ns > from_ns);
        let edges: BTreeSet<u64> = lasting
            .flat_map(|band| [band.from_ns, band.until_ns])
            .filter(|edge| *edge <= until_ns)
            .collect();
        let faults = (0..marks.len()).rev().filter(|index| {
            matches!(marks[*index].kind, Kind::Fault | Kind::Repair)
                && edges.contains(&marks[*index].at_ns)
        });
        let faults: Vec<usize> = faults.filter(|index| !focus.contains(index)).collect();
        focus.extend(faults.into_iter().take(FOCUS_FAULTS_MAX));
    }
    focus
}

/// All places, those nearest to `at` first.
fn nearest(at: usize, count: usize) -> impl Iterator<Item = usize> {
    let after = (at..count).map(Some).chain(std::iter::repeat(None));
    let before = (0..at.min(count)).rev().map(Some).chain(std::iter::repeat(None));
    before.zip(after).take(count.max(1)).flat_map(|(before, after)| [after, before]).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    #[test]
    fn every_place_comes_once_and_the_nearest_first() {
        assert_eq!(nearest(2, 6).collect::<Vec<_>>(), [2, 1, 3, 0, 4, 5]);
        assert_eq!(nearest(0, 3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(nearest(2, 3).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(nearest(0, 0).count(), 0);
    }

    #[test]
    fn one_sees_first_what_touched_the_failing_path() {
        let sample = Sample::torn();
        let model = Model::of(&sample.report());
        let rows = Rows::of(&model, Some("a/one"));
        let texts: Vec<String> = rows.focus.iter().map(|at| model.marks[*at].text()).collect();
        assert_eq!(
            texts,
            [
                "uploads a/one 5,120 bytes",
                "watcher reports a/one",
                "sends batch 1 to chronos: a/one",
                "gets batch 1 from apollo: a/one",
                "publishes a/one",
                "S1 is broken here a/one",
            ]
        );
        assert_eq!((rows.kept.len(), rows.left_out), (model.marks.len(), 0));
    }

    #[test]
    fn a_long_run_is_thinned_and_says_by_how_much() {
        let sample = Sample::long(15_000);
        let model = Model::of(&sample.report());
        let path = sample.failure.as_ref().and_then(|failure| failure.path.as_deref());
        let rows = Rows::of(&model, path);
        assert!(model.marks.len() > 75_000, "{}", model.marks.len());
        assert!(rows.kept.len() <= ROWS_MAX + PATH_ROWS_MAX + DETAIL_ROWS_MAX);
        assert_eq!(rows.kept.len() + rows.left_out, model.marks.len());
        assert_eq!(rows.focus.len(), 4, "an upload, two publications, the failure");
        assert!(rows.kept.contains(&model.failure.unwrap()));
    }
}
