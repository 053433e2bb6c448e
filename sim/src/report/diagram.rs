//! The space-time diagram: one lane a node, time downwards, one event a row.
//!
//! Rows are in the flow of the page, so that hiding some closes up the rest; only bands and arrows
//! are drawn beneath them, and report.js moves those when rows are shown or hidden. Lanes are in
//! percent of the width, so that no width is too small.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::bands::{Band, Suffering};
use super::model::{Kind, Mark, Model};
use super::rows::Rows;
use super::text;

/// Pixels, the same in report.css and report.js.
const ROW_HEIGHT: u32 = 24;
const GAP_HEIGHT: u32 = 20;
/// A silence that is folded and told; the same in report.js.
const GAP_NS: u64 = 100_000_000;
/// Of a batch with more paths than these the first ones can be filtered for.
const ROW_PATHS_MAX: usize = 100;

/// Where the rows are that one sees first: the failure's surroundings, or all if there is none.
struct Layout {
    /// By place in `rows.kept`: the middle of the row.
    middles: Vec<Option<u32>>,
    /// The silence before it.
    gaps: Vec<Option<u64>>,
    height: u32,
}

impl Layout {
    fn of(model: &Model, rows: &Rows) -> Self {
        let count = rows.kept.len();
        let mut layout = Self { middles: vec![None; count], gaps: vec![None; count], height: 0 };
        let mut before: Option<u64> = None;
        for (place, index) in rows.kept.iter().enumerate() {
            if !rows.is_open(*index) {
                continue;
            }
            let at_ns = model.marks[*index].at_ns;
            let gap = before.map(|before| at_ns - before).filter(|gap| *gap >= GAP_NS);
            layout.gaps[place] = gap;
            layout.height += gap.map_or(0, |_| GAP_HEIGHT) + ROW_HEIGHT;
            layout.middles[place] = Some(layout.height - ROW_HEIGHT / 2);
            before = Some(at_ns);
        }
        layout
    }

    /// Top and height of what lasts from one moment to another.
    fn stretch(&self, model: &Model, rows: &Rows, band: &Band) -> Option<(u32, u32)> {
        let open =
            rows.kept.iter().zip(&self.middles).filter_map(|(index, middle)| {
                middle.map(|middle| (model.marks[*index].at_ns, middle))
            });
        let open: Vec<(u64, u32)> = open.collect();
        let (first, last) = (open.first()?.0, open.last()?.0);
        if band.from_ns > last || band.until_ns < first {
            return None;
        }
        let begin = open.iter().find(|(at_ns, _)| *at_ns >= band.from_ns)?;
        let top = if band.from_ns < first { 0 } else { begin.1 };
        let end = open.iter().find(|(at_ns, _)| *at_ns >= band.until_ns);
        let bottom = end.map_or(self.height, |(_, middle)| *middle);
        (bottom > top).then(|| (top, bottom - top))
    }
}

impl Rows {
    fn is_open(&self, index: usize) -> bool {
        self.focus.is_empty() || self.focus.contains(&index)
    }
}

/// `fates`: the places of paths in the list of fates.
pub(super) fn draw(
    model: &Model,
    rows: &Rows,
    fates: &BTreeMap<&str, usize>,
    path: Option<&str>,
) -> Markup {
    let layout = Layout::of(model, rows);
    let row = |(place, index): (usize, &usize)| {
        let open = rows.is_open(*index);
        row(model, *index, layout.gaps[place], open, fates, path)
    };
    html! {
        div #diagram .focused[path.is_some()] style=(format!("--lanes:{}", model.lanes.len())) {
            div .heads aria-hidden="true" {
                span .time { "seconds" }
                @for (lane, name) in model.lanes.iter().enumerate() {
                    span .lane style=(format!("--l:{lane}")) data-node=(name) { (name) }
                }
            }
            div .plane {
                (under(model, rows, &layout))
                ol #rows { @for kept in rows.kept.iter().enumerate() { (row(kept)) } }
            }
        }
    }
}

fn row(
    model: &Model,
    index: usize,
    gap: Option<u64>,
    open: bool,
    fates: &BTreeMap<&str, usize>,
    path: Option<&str>,
) -> Markup {
    let mark: &Mark = &model.marks[index];
    // On a narrow screen there is no room on the right of a lane on the right.
    let left = mark.lane.is_some_and(|lane| lane * 2 >= model.lanes.len());
    // With many lanes there is none on any screen.
    let far = model.lanes.len() > 4 && mark.lane.is_some_and(|lane| lane + 2 >= model.lanes.len());
    let places: Vec<usize> =
        mark.paths.iter().filter_map(|path| fates.get(path.as_str()).copied()).collect();
    let listed = places.iter().take(ROW_PATHS_MAX).map(ToString::to_string);
    let listed = listed.collect::<Vec<_>>().join(" ");
    let id = (mark.kind == Kind::Failure).then_some("first-bad");
    let (seconds, fine) = {
        let moment = text::moment(mark.at_ns);
        (moment[..moment.len() - 3].to_owned(), moment[moment.len() - 3..].to_owned())
    };
    let lane = mark.lane.map(|lane| lane.to_string());
    let (what, joint) = match mark.what.strip_suffix(':') {
        Some(what) => (what, ": "),
        None => (mark.what.as_str(), " "),
    };
    let same = mark.path.as_deref() == path;
    let words = html! {
        i .mark aria-hidden="true" {}
        span .text {
            (what)
            @if let Some(path) = &mark.path {
                span .same[same] { (joint) span .path { (path) } }
            }
            @if !mark.more.is_empty() { " " (mark.more) }
        }
    };
    let gap = gap.map(text::span);
    html! {
        li id=[id] .(mark.kind.name()) .gap[gap.is_some()] data-t=(mark.at_ns) data-l=[lane.clone()] data-gap=[gap]
            data-p=[(!listed.is_empty()).then_some(listed)]
            style=[lane.map(|lane| format!("--l:{lane}"))] hidden[!open]
        {
            span .time { (seconds) span .fine { (fine) } }
            @match places.first() {
                Some(place) => a .label .left[left] .far[far] href=(format!("#fate-{place}")) { (words) },
                None => span .label .left[left] .far[far] { (words) },
            }
        }
    }
}

/// What is beneath the rows: bands, lanes, arrows.
fn under(model: &Model, rows: &Rows, layout: &Layout) -> Markup {
    let lanes = model.lanes.len().max(1);
    let x = |lane: usize| format!("{:.3}%", lane as f64 * 100.0 / lanes as f64);
    let between =
        |from: usize, to: usize| format!("{:.3}%", (from as f64 + to as f64) * 50.0 / lanes as f64);
    let place = |index: usize| rows.kept.binary_search(&index).ok();
    let arrows = model.arrows.iter().filter_map(|arrow| {
        let from = place(arrow.from)?;
        let to = match arrow.to {
            Some(to) => Some(place(to)?),
            None => None,
        };
        Some((arrow, from, to))
    });
    html! {
        svg aria-hidden="true" height=(layout.height) {
            defs {
                marker id="head" markerWidth="8" markerHeight="8" refX="11" refY="4"
                    orient="auto" { path d="M0,0 L8,4 L0,8 z" {} }
            }
            g transform="translate(9 0)" {
                @for lane in 0..model.lanes.len() {
                    line .lane x1=(x(lane)) x2=(x(lane)) y1="0" y2="100%" {}
                }
                @for band in &model.bands {
                    @let stretch = layout.stretch(model, rows, band);
                    @let (top, height) = stretch.unwrap_or_default();
                    @let (offset, width) = strip(band.suffering);
                    rect .band .(band.suffering.name()) x=(x(band.lane)) y=(top)
                        width=(width) height=(height) transform=(format!("translate({offset} 0)"))
                        data-from=(band.from_ns) data-until=(band.until_ns)
                        data-l=(band.lane) visibility=[stretch.is_none().then_some("hidden")]
                    { title { (model.lanes[band.lane]) ": " (band.suffering.text()) } }
                }
                @for (arrow, from, to) in arrows {
                    @let ends = layout.middles[from].zip(match to {
                        Some(to) => layout.middles[to],
                        None => layout.middles[from].map(|middle| middle + ROW_HEIGHT * 2 / 3),
                    });
                    @let (y1, y2) = ends.unwrap_or_default();
                    @let x2 = match to {
                        Some(_) => x(arrow.to_lane),
                        None => between(arrow.from_lane, arrow.to_lane),
                    };
                    line .arrow .lost[to.is_none()] .faint[!arrow.matters]
                        x1=(x(arrow.from_lane)) y1=(y1) x2=(x2) y2=(y2)
                        data-a=(from) data-b=[to] visibility=[ends.is_none().then_some("hidden")] {}
                }
            }
        }
    }
}

/// Where beside its lane a band is, and how wide: those of different kinds do not hide each other.
fn strip(suffering: Suffering) -> (i32, u32) {
    match suffering {
        Suffering::Down | Suffering::Hung => (-6, 12),
        Suffering::Cut | Suffering::Held => (7, 4),
        Suffering::Full | Suffering::Impaired => (12, 4),
    }
}

/// What the shapes and colours mean.
pub(super) fn legend() -> Markup {
    let marks = [
        (Kind::Application, "the web application does something"),
        (Kind::Published, "a daemon gives something its final name"),
        (Kind::Removed, "a daemon takes something away"),
        (Kind::Fault, "a fault"),
        (Kind::Repair, "the end of a fault"),
        (Kind::Sent, "a batch is sent, an arrow leads to where it is read"),
        (Kind::Received, "a batch has been read"),
        (Kind::Hint, "the watcher tells its daemon where to look"),
        (Kind::Note, "a daemon passes a rare place"),
        (Kind::Detail, "anything else"),
    ];
    let bands = [
        (Suffering::Down, "down"),
        (Suffering::Hung, "hanging"),
        (Suffering::Cut, "cut off from some"),
        (Suffering::Held, "held back from some"),
        (Suffering::Full, "disk full"),
        (Suffering::Impaired, "clock wrong, watches limited, or calls fail"),
    ];
    html! {
        details #legend {
            summary { "What the shapes and colours mean" }
            ul {
                @for (kind, meaning) in marks {
                    li class=(kind.name()) { i .mark aria-hidden="true" {} (meaning) }
                }
                @for (suffering, meaning) in bands {
                    li { i .strip .(suffering.name()) aria-hidden="true" {} (meaning) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    #[test]
    fn silence_is_folded_and_told() {
        let model = Model::of(&Sample::torn().report());
        let rows = Rows::of(&model, Some("a/one"));
        let layout = Layout::of(&model, &rows);
        let gaps: Vec<u64> = layout.gaps.iter().flatten().copied().collect();
        assert_eq!(gaps, [4_002_000_000]);
        let open = layout.middles.iter().flatten().count() as u32;
        assert_eq!(layout.height, open * ROW_HEIGHT + GAP_HEIGHT);
        assert!(layout.middles.iter().flatten().is_sorted());
    }

    #[test]
    fn a_band_reaches_from_its_first_row_to_its_end() {
        let model = Model::of(&Sample::faults().report());
        let rows = Rows { kept: (0..model.marks.len()).collect(), ..Rows::default() };
        let layout = Layout::of(&model, &rows);
        let down = model.bands.iter().find(|band| band.lane == 1 && band.from_ns == 2_000_000_000);
        let (top, height) = layout.stretch(&model, &rows, down.unwrap()).unwrap();
        let crash = model.marks.iter().position(|mark| mark.what == "daemon is killed").unwrap();
        let back = model.marks.iter().position(|mark| mark.what == "daemon starts again").unwrap();
        assert_eq!(Some(top), layout.middles[crash]);
        // It is started, and starts, at one moment.
        assert_eq!(Some(top + height), layout.middles[back - 1]);
    }
}
