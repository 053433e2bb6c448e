//! The chart: bars on a logarithmic scale, one panel for rates and one for lag.
//!
//! Written by hand: every bar has its name and its number beside it, so that neither legend nor
//! colour has to be read, and a style sheet follows the reader's light or dark mode.

use std::fmt::Write as _;

use super::number;
use crate::results::{Cell, Results, Row, SystemInfo};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
/// Where bars end; their numbers stand to the right of that.
const RIGHT: f64 = 760.0;
const BAR: f64 = 15.0;
const STEP: f64 = 20.0;
const GROUP_GAP: f64 = 34.0;
const PANEL_HEAD: f64 = 58.0;
const PANEL_GAP: f64 = 26.0;
/// Told apart by people who see colours differently as well; limits are no competitors: grey.
const COLOURS: [(&str, &str); 4] = [
    ("chainsync", "#0072b2"),
    ("csync2", "#d98c00"),
    ("rsync", "#009e73"),
    ("syncthing", "#c0609a"),
];
const GREY: &str = "#8b949e";

struct Panel<'a> {
    title: &'static str,
    rows: Vec<&'a Row>,
    /// Decades: the axis goes from 10^.0 to 10^.1.
    from: i32,
    to: i32,
}

pub fn chart(results: &Results) -> String {
    let of = |units: &[&str]| {
        results.rows.iter().filter(|row| units.contains(&&*row.unit)).collect::<Vec<_>>()
    };
    let panels = [
        Panel::new(
            "files or directories a second, until they are on all hosts: more is better",
            of(&["files/s", "directories/s"]),
        ),
        Panel::new(
            "milliseconds until an upload can be read on all hosts: less is better",
            of(&["ms"]),
        ),
    ];
    let mut body = String::new();
    let mut y = 10.0;
    for panel in panels.into_iter().flatten() {
        y = panel.draw(&mut body, &results.systems, y) + PANEL_GAP;
    }
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        body,
        r#"<text class="soft" x="10" y="{y:.0}">{} on {}, {} cores; the scale is logarithmic</text>"#,
        escaped(&results.command),
        escaped(&results.date),
        results.machine.cores
    );
    let height = y + 14.0;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img" aria-label="chainsync and its peers, measured side by side">
<style>
text {{ font: 12px system-ui, sans-serif; fill: #24292f }}
.head {{ font-weight: 600; font-size: 14px }}
.soft {{ fill: #656d76 }}
.end {{ text-anchor: end }}
.middle {{ text-anchor: middle }}
.ours {{ font-weight: 600 }}
.failed {{ fill: #c62828 }}
.grid {{ stroke: #d0d7de; stroke-width: 1 }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e6edf3 }}
  .soft {{ fill: #9da7b3 }}
  .failed {{ fill: #ff8a80 }}
  .grid {{ stroke: #3d444d }}
}}
</style>
{body}</svg>
"#
    )
}

impl<'a> Panel<'a> {
    /// None if there is nothing to draw.
    fn new(title: &'static str, rows: Vec<&'a Row>) -> Option<Self> {
        let values = rows.iter().flat_map(|row| row.cells.values()).filter_map(value);
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (least, most) = (least.min(value), most.max(value));
        }
        if rows.is_empty() {
            return None;
        }
        // Nothing but failures is drawn as well.
        if most == 0.0 {
            (least, most) = (1.0, 10.0);
        }
        let (from, to) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        // A bar as long as nothing would look like a failure.
        let from = if least.log10() - f64::from(from) < 0.1 { from - 1 } else { from };
        Some(Self { title, rows, from, to: to.max(from + 1) })
    }

    /// Returns where it ends.
    fn draw(&self, body: &mut String, systems: &[SystemInfo], top: f64) -> f64 {
        let _ = writeln!(
            body,
            r#"<text class="head" x="10" y="{:.0}">{}</text>"#,
            top + 14.0,
            self.title
        );
        let mut bars = String::new();
        let mut y = top + PANEL_HEAD;
        for row in &self.rows {
            let _ = writeln!(
                bars,
                r#"<text class="ours" x="10" y="{:.0}">{}</text>"#,
                y,
                escaped(&row.title)
            );
            y += 8.0;
            for system in systems {
                if let Some(cell) = row.cells.get(&system.key) {
                    self.bar(&mut bars, system, cell, y);
                    y += STEP;
                }
            }
            y += GROUP_GAP - 8.0;
        }
        let bottom = y - GROUP_GAP + 12.0;
        for decade in self.from..=self.to {
            let (x, above) = (self.x(10f64.powi(decade)), top + 38.0);
            let _ = writeln!(
                body,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{above:.0}" y2="{bottom:.0}"/><text class="soft middle" x="{x:.1}" y="{:.0}">{}</text>"#,
                above - 5.0,
                decade_label(decade)
            );
        }
        body.push_str(&bars);
        bottom
    }

    fn bar(&self, body: &mut String, system: &SystemInfo, cell: &Cell, y: f64) {
        let base = y + BAR - 3.5;
        let ours = if system.key == "chainsync" { " ours" } else { "" };
        let _ = write!(
            body,
            r#"<text class="end{ours}" x="{:.0}" y="{base:.1}">{}</text>"#,
            LEFT - 8.0,
            escaped(&system.title.replace(['`', '\\'], ""))
        );
        let Some(value) = value(cell) else {
            let _ = writeln!(
                body,
                r#"<text class="failed" x="{:.0}" y="{base:.1}">failed</text>"#,
                LEFT + 6.0
            );
            return;
        };
        let end = self.x(value);
        let colour = COLOURS.iter().find(|(key, _)| *key == system.key).map_or(GREY, |one| one.1);
        let _ = writeln!(
            body,
            r#"<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="{BAR}" rx="2" fill="{colour}"/><text class="{}" x="{:.1}" y="{base:.1}">{}</text>"#,
            (end - LEFT).max(1.0),
            ours.trim(),
            end + 6.0,
            number(value)
        );
    }

    fn x(&self, value: f64) -> f64 {
        let (from, to) = (f64::from(self.from), f64::from(self.to));
        let part = (value.log10() - from) / (to - from);
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

/// Without the digits that a measured number would have.
fn decade_label(decade: i32) -> String {
    let value = 10f64.powi(decade);
    if value < 100.0 { value.to_string() } else { number(value) }
}

fn value(cell: &Cell) -> Option<f64> {
    cell.summary.filter(|_| !cell.failed()).map(|summary| summary.median)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn every_system_has_a_bar_or_says_failed() {
        let chart = chart(&example());
        assert_eq!(chart.matches("<rect").count(), 4);
        assert_eq!(chart.matches(">failed<").count(), 1);
        assert!(chart.contains(">3,100<") && chart.contains(">1,050<"), "{chart}");
        assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn ten_times_more_is_one_decade() {
        let results = example();
        let panel = Panel::new("", vec![&results.rows[0]]).unwrap();
        let decade = (RIGHT - LEFT) / f64::from(panel.to - panel.from);
        assert!((panel.x(3100.0) - panel.x(310.0) - decade).abs() < 1e-9);
    }

    #[test]
    fn nothing_measured_is_no_panel() {
        let mut results = example();
        results.rows.clear();
        assert!(!chart(&results).contains("<rect"));
    }
}
