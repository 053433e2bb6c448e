//! A run as a space-time diagram: lanes, marks, arrows, bands. Pure data; nothing is drawn here.
//!
//! Everything that happened is in it. What is left out of a picture is for the picture to say.

use crate::frames::FrameRecord;
use crate::scenario::Event as Planned;
use crate::trace::Shown;

use super::bands::{self, Band};
use super::reading::Reader;
use super::{Report, text};

/// What a mark stands for: its shape, and whether one sees it without asking for every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The web application did something.
    Application,
    /// A daemon gave something its final name, or changed it there.
    Published,
    /// A daemon took something away.
    Removed,
    Fault,
    /// The end of a fault.
    Repair,
    Sent,
    Received,
    /// Of the run itself.
    Phase,
    /// A daemon passed a rare place.
    Note,
    /// The watcher told a daemon where to look.
    Hint,
    /// Everything else: syncs, staging, the index, connections.
    Detail,
    /// The first bad moment.
    Failure,
}

impl Kind {
    /// The word for it in class names and filters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Application => "application",
            Kind::Published => "published",
            Kind::Removed => "removed",
            Kind::Fault => "fault",
            Kind::Repair => "repair",
            Kind::Sent => "sent",
            Kind::Received => "received",
            Kind::Phase => "phase",
            Kind::Note => "note",
            Kind::Hint => "hint",
            Kind::Detail => "detail",
            Kind::Failure => "failure",
        }
    }

    pub(super) fn matters(self) -> bool {
        !matches!(self, Kind::Hint | Kind::Detail)
    }
}

/// Something that happened at one moment, on one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub at_ns: u64,
    /// `None`: the world itself.
    pub lane: Option<usize>,
    pub kind: Kind,
    /// `uploads`: what stands before the path.
    pub what: String,
    /// The path that it is about, as it is shown.
    pub path: Option<String>,
    /// `5,120 bytes`: what stands behind the path.
    pub more: String,
    /// All paths that it touches, `path` among them.
    pub paths: Vec<String>,
}

impl Mark {
    pub(super) fn touches(&self, path: &str) -> bool {
        self.paths.iter().any(|touched| touched == path)
    }

    /// In one line.
    pub(super) fn text(&self) -> String {
        let path = self.path.as_deref().unwrap_or_default();
        let parts = [self.what.as_str(), path, self.more.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    }
}

/// A frame from one lane to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrow {
    /// Marks.
    pub from: usize,
    /// `None`: nobody ever read it.
    pub to: Option<usize>,
    pub from_lane: usize,
    pub to_lane: usize,
    pub matters: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The lanes' names, in ring order.
    pub lanes: Vec<String>,
    /// In order of time.
    pub marks: Vec<Mark>,
    pub arrows: Vec<Arrow>,
    pub bands: Vec<Band>,
    /// The mark of the first bad moment.
    pub failure: Option<usize>,
}

impl Model {
    pub(super) fn of(report: &Report<'_>) -> Self {
        let lanes: Vec<String> = report.scenario.nodes.iter().map(ToString::to_string).collect();
        let mut marks = Reader::new(&lanes).read(report);
        let mut arrows = Vec::new();
        for frame in &report.record.frames {
            let lane = |name: &str| lanes.iter().position(|lane| lane == name);
            if let (Some(from), Some(to)) = (lane(&frame.from), lane(&frame.to)) {
                add_frame(frame, (from, to), &mut marks, &mut arrows);
            }
        }
        let mut failure = None;
        if let Some(broken) = report.failure {
            failure = Some(marks.len());
            let lane = broken.node.as_ref().and_then(|node| lanes.iter().position(|l| l == node));
            marks.push(Mark {
                at_ns: broken.at_ns,
                lane,
                kind: Kind::Failure,
                what: broken_here(broken.invariant.id()),
                path: broken.path.clone(),
                more: String::new(),
                paths: broken.path.iter().cloned().collect(),
            });
        }
        // Stable: what happened at one moment stays in the order in which it was told.
        let mut order: Vec<usize> = (0..marks.len()).collect();
        order.sort_by_key(|index| (marks[*index].at_ns, marks[*index].kind == Kind::Failure));
        let mut places = vec![0; marks.len()];
        for (place, index) in order.iter().enumerate() {
            places[*index] = place;
        }
        for arrow in &mut arrows {
            (arrow.from, arrow.to) = (places[arrow.from], arrow.to.map(|to| places[to]));
        }
        let mut taken: Vec<Option<Mark>> = marks.into_iter().map(Some).collect();
        let marks = order.iter().filter_map(|index| taken[*index].take()).collect();
        let bands = bands::of(report, &lanes);
        Self { lanes, marks, arrows, bands, failure: failure.map(|index| places[index]) }
    }
}

/// The history's events, each with what the scenario had planned there, if it is one of its events.
pub(super) fn planned<'a>(
    report: &'a Report<'a>,
) -> impl Iterator<Item = (crate::history::Event<'a>, Option<&'a Planned>)> {
    let mut plan = report.scenario.events.iter().map(|timed| &timed.event).peekable();
    report.record.history.events().map(move |event| {
        let key = event.detail.split(' ').next().unwrap_or_default();
        // The world has events of its own between those of the plan.
        let planned = (event.kind == "event").then(|| plan.next_if(|next| next.key() == key));
        (event, planned.flatten())
    })
}

/// Ids of the design are letters and a number; others are words.
fn broken_here(invariant: &str) -> String {
    match invariant.ends_with(|last: char| last.is_ascii_digit()) {
        true => format!("{invariant} is broken here"),
        false => format!("broken here: {invariant}"),
    }
}

fn add_frame(
    frame: &FrameRecord,
    (from_lane, to_lane): (usize, usize),
    marks: &mut Vec<Mark>,
    arrows: &mut Vec<Arrow>,
) {
    let is_batch = frame.kind == "Batch";
    // One without entries only tells what its sender knows.
    let matters = is_batch && !frame.entries.is_empty();
    let number = frame.batch.map_or(String::new(), |number| format!(" {number}"));
    let name = if is_batch { "batch" } else { frame.kind };
    let shown = |entry: &crate::frames::EntryRecord| Shown(&entry.path).to_string();
    let paths: Vec<String> = frame.entries.iter().map(shown).collect();
    let path = (paths.len() == 1).then(|| paths[0].clone());
    let more = match (&frame.entries[..], is_batch) {
        ([entry], _) => match (entry.kind, entry.inline) {
            ("tombstone", _) => "deleted".to_owned(),
            ("file", true) => String::new(),
            ("file", false) => "(its content follows)".to_owned(),
            ("dir", _) => "(a directory)".to_owned(),
            (kind, _) => format!("(a {kind})"),
        },
        ([], true) => "with no entries".to_owned(),
        ([], false) => String::new(),
        (entries, _) => format!("with {}", text::count(entries.len(), "entry", "entries")),
    };
    let mark = |at_ns, lane, kind: Kind, what: String, more: &str| Mark {
        at_ns,
        lane: Some(lane),
        kind: if matters { kind } else { Kind::Detail },
        what,
        path: path.clone(),
        more: more.to_owned(),
        paths: paths.clone(),
    };
    let (sent, received) =
        (format!("sends {name}{number} to"), format!("gets {name}{number} from"));
    let colon = if path.is_some() { ":" } else { "" };
    // Told first, for the moment of both may be the same: an arrow leads on.
    let from = marks.len();
    let never = if more.is_empty() { "never read" } else { ", never read" };
    let read = frame.received_ns.map_or(never, |_| "");
    let what = format!("{sent} {}{colon}", frame.to);
    marks.push(mark(frame.sent_ns, from_lane, Kind::Sent, what, &format!("{more}{read}")));
    let to = frame.received_ns.map(|at_ns| {
        let what = format!("{received} {}{colon}", frame.from);
        marks.push(mark(at_ns, to_lane, Kind::Received, what, &more));
        marks.len() - 1
    });
    arrows.push(Arrow { from, to, from_lane, to_lane, matters });
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    fn texts(model: &Model, kind: Kind) -> Vec<String> {
        model.marks.iter().filter(|mark| mark.kind == kind).map(Mark::text).collect()
    }

    #[test]
    fn lanes_are_the_nodes_and_marks_are_in_order() {
        let sample = Sample::torn();
        let model = Model::of(&sample.report());
        assert_eq!(model.lanes, ["apollo", "chronos", "hermes"]);
        assert!(model.marks.is_sorted_by_key(|mark| mark.at_ns));
        assert_eq!(
            texts(&model, Kind::Application),
            ["uploads a/one 5,120 bytes", "uploads b two 7 bytes"]
        );
        assert_eq!(texts(&model, Kind::Published), ["publishes a/one"]);
    }

    #[test]
    fn the_failure_comes_last_of_its_moment() {
        let sample = Sample::torn();
        let model = Model::of(&sample.report());
        let failure = model.failure.unwrap();
        assert_eq!(model.marks[failure].kind, Kind::Failure);
        assert_eq!(model.marks[failure].lane, Some(1));
        assert_eq!(model.marks[failure - 1].text(), "publishes a/one");
        assert_eq!(model.marks[failure - 1].at_ns, model.marks[failure].at_ns);
    }

    #[test]
    fn a_batch_is_an_arrow_from_who_sent_it_to_who_got_it() {
        let sample = Sample::torn();
        let model = Model::of(&sample.report());
        let batches: Vec<&Arrow> = model.arrows.iter().filter(|arrow| arrow.matters).collect();
        let [arrived, lost] = batches[..] else { panic!("{batches:?}") };
        assert_eq!((arrived.from_lane, arrived.to_lane), (0, 1));
        let text = |index: usize| model.marks[index].text();
        assert_eq!(text(arrived.from), "sends batch 1 to chronos: a/one");
        assert_eq!(text(arrived.to.unwrap()), "gets batch 1 from apollo: a/one");
        assert_eq!(lost.to, None);
        assert_eq!(text(lost.from), "sends batch 2 to chronos with 2 entries, never read");
        assert!(model.marks[lost.from].touches("b two"));
    }

    #[test]
    fn what_happens_in_staging_belongs_to_the_path_it_is_for() {
        let sample = Sample::torn();
        let model = Model::of(&sample.report());
        let write = model.marks.iter().find(|mark| mark.what.starts_with("writes")).unwrap();
        assert_eq!((write.kind, write.touches("a/one")), (Kind::Detail, true));
    }
}
