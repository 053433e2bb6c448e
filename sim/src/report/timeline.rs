//! The timeline of a run for the terminal: one event a line, one column a node.

use std::fmt::Write as _;

use super::bands::Suffering;
use super::model::{Kind, Mark, Model};
use super::{Filter, text};

/// Columns of a usual wide terminal.
const WIDTH: usize = 118;
/// `1234.567890  `.
const TIME_WIDTH: usize = 13;
/// A column that is narrower says nothing; with many nodes lines are longer instead.
const COLUMN_MIN: usize = 20;
/// A silence that is worth a line.
const GAP_NS: u64 = 500_000_000;

const LEGEND: &str = "\
+ the application uploads (or what it says), * published, - taken away, > batch sent, < batch read,
# fault, = its end, ~ phase, ! the first bad moment; a lane is | up, : hanging, blank when down.

";

pub(super) fn write(model: &Model, filter: &Filter) -> String {
    let column = (WIDTH - TIME_WIDTH) / model.lanes.len().max(1);
    let column = column.max(COLUMN_MIN);
    let mut out = String::from(LEGEND);
    line(&mut out, "seconds", model.lanes.iter().map(|lane| fit(lane, column)).collect());
    let mut shown = 0;
    let mut before = None;
    for mark in &model.marks {
        if !filter.shows(mark, &model.lanes) {
            continue;
        }
        if let Some(before) = before
            && mark.at_ns - before >= GAP_NS
        {
            let _ =
                writeln!(out, "{:TIME_WIDTH$}... {} later", "", text::span(mark.at_ns - before));
        }
        before = Some(mark.at_ns);
        shown += 1;
        let time = text::moment(mark.at_ns);
        match mark.lane {
            None => {
                let _ = writeln!(out, "{time:>11}  {} {}", sign(mark.kind), mark.text());
            }
            Some(lane) => {
                let cell = |index: usize| match index == lane {
                    true => fit(&format!("{} {}", sign(mark.kind), brief(mark)), column),
                    false => fit(state(model, index, mark.at_ns), column),
                };
                line(&mut out, &time, (0..model.lanes.len()).map(cell).collect());
            }
        }
    }
    let _ = writeln!(
        out,
        "{} of {} events",
        text::number(shown),
        text::number(model.marks.len() as u64)
    );
    out
}

impl Filter {
    fn shows(&self, mark: &Mark, lanes: &[String]) -> bool {
        let of_run = matches!(mark.kind, Kind::Fault | Kind::Repair | Kind::Phase | Kind::Failure);
        // Whoever asks for one path wants to see what its watcher said.
        let matters = mark.kind.matters() || (self.path.is_some() && mark.kind == Kind::Hint);
        let path = self.path.as_ref().is_none_or(|path| of_run || mark.touches(path));
        let node = self.node.as_ref().is_none_or(|node| {
            mark.lane.is_none_or(|lane| lanes[lane] == *node) || mark.kind == Kind::Failure
        });
        (self.every_event || matters) && path && node
    }
}

fn line(out: &mut String, time: &str, cells: Vec<String>) {
    let _ = write!(out, "{time:>11}  ");
    out.push_str(cells.concat().trim_end());
    out.push('\n');
}

/// What a lane looks like where nothing happens.
fn state(model: &Model, lane: usize, at_ns: u64) -> &'static str {
    let lasts = |suffering: Suffering| {
        model.bands.iter().any(|band| {
            (band.lane, band.suffering) == (lane, suffering)
                && (band.from_ns..band.until_ns).contains(&at_ns)
        })
    };
    if lasts(Suffering::Down) {
        " "
    } else if lasts(Suffering::Hung) {
        ":"
    } else {
        "|"
    }
}

fn sign(kind: Kind) -> char {
    match kind {
        Kind::Application => '+',
        Kind::Published => '*',
        Kind::Removed => '-',
        Kind::Fault => '#',
        Kind::Repair => '=',
        Kind::Sent => '>',
        Kind::Received => '<',
        Kind::Phase => '~',
        Kind::Note => '.',
        Kind::Hint => '?',
        Kind::Detail => ' ',
        Kind::Failure => '!',
    }
}

/// Without what the sign says already: columns are narrow.
fn brief(mark: &Mark) -> String {
    let text = mark.text();
    let said = match mark.kind {
        Kind::Application => "uploads ",
        Kind::Published => "publishes ",
        Kind::Removed => "takes away ",
        Kind::Sent => "sends batch ",
        Kind::Received => "gets batch ",
        _ => "",
    };
    text.strip_prefix(said).map_or(text.clone(), str::to_owned)
}

/// Exactly `width` characters, the last of them a space; of a long text both ends, since the end of
/// a path says more than its beginning.
fn fit(text: &str, width: usize) -> String {
    let count = text.chars().count();
    let room = width - 1;
    if count <= room {
        return format!("{text}{}", " ".repeat(width - count));
    }
    let head = room / 2;
    let tail = room - head - 1;
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin}…{end} ")
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    fn timeline(sample: &Sample, filter: &Filter) -> String {
        write(&Model::of(&sample.report()), filter)
    }

    #[test]
    fn one_event_a_line_one_column_a_node() {
        let text = timeline(&Sample::torn(), &Filter::default());
        let lines: Vec<&str> = text.lines().skip(3).take(5).collect();
        let lane = "|                                  ";
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["seconds", "apollo", "chronos", "hermes"]
        );
        assert_eq!(lines[1], "   0.001000  ~ the links are up, the scenario begins");
        assert_eq!(lines[2], format!("   0.005000  + a/one 5,120 bytes                {lane}|"));
        assert_eq!(lines[3], format!("   0.007000  > 1 to chronos: a/one              {lane}|"));
        assert_eq!(lines[4], format!("   0.008000  + b two 7 bytes                    {lane}|"));
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        assert!(text.contains("... 4.0 s later"), "{text}");
        assert!(text.contains("! S1 is broken here a/one"), "{text}");
        assert!(!text.contains("watcher reports"), "{text}");
    }

    #[test]
    fn a_filter_leaves_faults_and_phases() {
        let path = Filter { path: Some("b two".into()), ..Filter::default() };
        let text = timeline(&Sample::torn(), &path);
        assert!(text.contains("+ b two") && text.contains("the scenario begins"), "{text}");
        assert!(!text.contains("+ a/one"), "{text}");
        let node = Filter { node: Some("chronos".into()), every_event: true, ..Filter::default() };
        let text = timeline(&Sample::torn(), &node);
        assert!(text.contains("of its own") && !text.contains("b two 7"), "{text}");
    }

    #[test]
    fn a_lane_shows_that_its_daemon_is_down_or_hangs() {
        let model = Model::of(&Sample::faults().report());
        let states = [500, 1_500, 2_200, 4_500].map(|ms| state(&model, 1, ms * 1_000_000));
        assert_eq!(states, ["|", ":", " ", "|"]);
    }

    #[test]
    fn a_long_text_keeps_both_ends() {
        assert_eq!(fit("short", 8), "short   ");
        assert_eq!(fit("uploads d001/apollo-1-0", 12), "uploa…lo-1-0".replace("lo-1-0", "o-1-0 "));
    }
}
