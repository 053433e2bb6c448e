//! The page. One file that needs no network: styles, drawing and script are in it.
//!
//! maud escapes every text and attribute; only the two files beside this one go in as they are.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::fates::{self, Fate, Version};
use super::model::{Kind, Mark, Model};
use super::rows::{FOCUS_MAX, Rows};
use super::trees::{self, Cell, Difference};
use super::{Report, diagram, text};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Nothing may be loaded from anywhere, whatever gets into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
/// With some 700 bytes each, less than a megabyte.
const FATES_MAX: usize = 1_000;

pub(super) fn page(report: &Report<'_>) -> Markup {
    let model = Model::of(report);
    let path = report.failure.and_then(|failure| failure.path.as_deref());
    let rows = Rows::of(&model, path);
    let (differences, differing) = trees::differences(&report.record.trees, path);
    let paths = paths(&model, &rows, &differences, path);
    let fates = fates::of(report, &model.lanes, paths.iter().copied());
    let places = paths.iter().enumerate().map(|(place, path)| (*path, place)).collect();
    let title = match report.failure {
        Some(failure) => format!("{}: {}", failure.invariant, failure.sentence),
        None => format!("{}: every promise was kept", report.scenario.headline()),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                main {
                    section {
                        h2 #heading { (heading(path, report)) }
                        (controls(path.is_some(), &model))
                        (diagram::draw(&model, &rows, &places, path))
                        @if let (Some(_), Some(fate)) = (path, fates.first()) {
                            (in_short(fate, &model))
                        }
                        p .note { (left_out(&model, &rows, report)) }
                        (diagram::legend())
                    }
                    (side_by_side(&model, &differences, differing))
                    (stories(&model, &fates))
                    (about(report, &model))
                }
                aside #panel hidden aria-live="polite" {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// The failing path, those that differ, and those that rows are about.
fn paths<'a>(
    model: &'a Model,
    rows: &Rows,
    differences: &'a [Difference],
    path: Option<&'a str>,
) -> Vec<&'a str> {
    let of_rows = |index: &usize| model.marks[*index].paths.iter().map(String::as_str);
    let focus = rows.focus.iter().flat_map(of_rows);
    let others = rows.kept.iter().rev().flat_map(of_rows);
    let differing = differences.iter().map(|difference| difference.path.as_str());
    let mut seen = BTreeMap::new();
    for path in path.into_iter().chain(differing).chain(focus).chain(others) {
        if seen.len() < FATES_MAX {
            let place = seen.len();
            seen.entry(path).or_insert(place);
        }
    }
    let mut paths: Vec<(&str, usize)> = seen.into_iter().collect();
    paths.sort_by_key(|(_, place)| *place);
    paths.into_iter().map(|(path, _)| path).collect()
}

/// The promise, the sentence, where and when, and how to see it again.
fn head(report: &Report<'_>) -> Markup {
    let Some(failure) = report.failure else {
        return html! {
            header .kept {
                p .promise { "Seed " (report.seed) }
                h1 { "Every promise was kept" }
                p .more { (report.scenario.headline()) }
                (command(&report.command))
            }
        };
    };
    // All of it is there to be found and copied; one sees the first clause large.
    let (first, others) = match failure.sentence.split_once("; ") {
        Some((first, others)) => (first, Some(others)),
        None => (failure.sentence.as_str(), None),
    };
    let mut clauses = others.unwrap_or_default().split_inclusive("; ");
    let second = clauses.next();
    let rest: String = clauses.collect();
    html! {
        header .broken {
            p .promise {
                strong { "Broken: " (failure.invariant) }
                " " (failure.invariant.sentence())
            }
            div .sentence {
                h1 { (first) @if others.is_some() { span .joint { "; " } } }
                @match (second, rest.is_empty()) {
                    (None, _) => {}
                    (Some(second), true) => p .more { (second) },
                    (Some(second), false) => details .more { summary { (second) } (rest) },
                }
            }
            dl .facts {
                div {
                    dt { "First bad moment" }
                    dd { a href="#first-bad" { (text::moment(failure.at_ns)) " s" } }
                }
                @if let Some(node) = &failure.node { div { dt { "Node" } dd { (node) } } }
                @if let Some(path) = &failure.path {
                    div { dt { "Path" } dd { a #failing-path href="#fate-0" { (path) } } }
                }
            }
            (command(&report.command))
        }
    }
}

fn command(command: &str) -> Markup {
    html! {
        p .command {
            code #command tabindex="0" aria-label="The command that shows it again" { (command) }
            button #copy .scripted type="button" { "Copy" }
        }
    }
}

fn heading(path: Option<&str>, report: &Report<'_>) -> String {
    match (path, report.failure) {
        (Some(_), _) => format!("The last {FOCUS_MAX} events that touched it"),
        (None, Some(_)) => format!("The last {FOCUS_MAX} events before it"),
        (None, None) => "What happened".to_owned(),
    }
}

/// What to show: needs the script, and is hidden without it.
fn controls(has_path: bool, model: &Model) -> Markup {
    let views = [
        ("focus", "Last 10"),
        ("path", "This path"),
        ("matters", "Whole run"),
        ("all", "Every event"),
    ];
    let views = views.into_iter().filter(|(view, _)| has_path || *view != "path");
    let views = views.filter(|(view, _)| model.failure.is_some() || *view != "focus");
    html! {
        form #controls .scripted {
            fieldset .views {
                legend { "Show" }
                @for (place, (view, name)) in views.enumerate() {
                    label {
                        input type="radio" name="view" value=(view) checked[place == 0];
                        span { (name) }
                    }
                }
            }
            details .filter {
                summary { "Filter" }
                div {
                    label { "Path contains " input #path-filter type="search" name="path"; }
                    fieldset {
                        legend { "Nodes" }
                        @for (lane, name) in model.lanes.iter().enumerate() {
                            label { input type="checkbox" name="lane" value=(lane) checked; (name) }
                        }
                    }
                    p .note #shown role="status" {}
                }
            }
        }
    }
}

fn left_out(model: &Model, rows: &Rows, report: &Report<'_>) -> String {
    let all = text::number(model.marks.len() as u64);
    if rows.left_out == 0 {
        return format!("All {all} events of the run are in this page.");
    }
    let kept = text::number(rows.kept.len() as u64);
    let about = match report.failure {
        Some(_) => {
            "faults, phases, what touched the failing path, and what was nearest to the failure"
        }
        None => "faults, phases, and the last ones",
    };
    format!(
        "Of {all} events {kept} are in this page: {about}. {} are left out; a trace has them all.",
        text::number(rows.left_out as u64)
    )
}

fn side_by_side(model: &Model, differences: &[Difference], count: usize) -> Markup {
    html! {
        section #trees {
            h2 { "The trees side by side, where they differ" }
            @if count == 0 {
                p { "When the run ended, the trees of all nodes were equal." }
            } @else {
                p .note {
                    "When the run ended, " (text::count(count, "path was", "paths were"))
                    " not the same on all nodes"
                    @if differences.len() < count {
                        "; these are " (text::number(differences.len() as u64)) " of them"
                    }
                    ". What differs is in bold; equal contents have equal letters."
                }
                table {
                    thead {
                        tr {
                            th scope="col" { "Path" }
                            @for lane in &model.lanes { th scope="col" { (lane) } }
                        }
                    }
                    tbody {
                        @for difference in differences {
                            tr {
                                th scope="row" { (difference.path) }
                                @for (cell, lane) in difference.cells.iter().zip(&model.lanes) {
                                    (tree_cell(cell, lane))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn tree_cell(cell: &Cell, lane: &str) -> Markup {
    match cell {
        Cell::Nothing => html! { td .nothing data-node=(lane) { "nothing" } },
        Cell::Something(properties) => html! {
            td data-node=(lane) {
                @for property in properties.iter().filter(|property| !property.text.is_empty()) {
                    span .differs[property.differs] { (property.text) }
                }
            }
        },
    }
}

/// The failing path's story, in a sentence beneath its picture.
fn in_short(fate: &Fate, model: &Model) -> Markup {
    html! {
        p #in-short {
            span .path { (fate.path) } ": "
            @match fate.versions.split_last() {
                None => "uploaded by nobody",
                Some((version, before)) => {
                    @if !before.is_empty() {
                        (text::count(before.len(), "version", "versions")) " before, then "
                    }
                    (version.begin(&model.lanes)) ", "
                    @if unreported(fate, version, model) { "reported by no watcher, " }
                    (version.arrivals(&model.lanes))
                },
            }
            "; " strong .bad[fate.bad] { (fate.end) } "."
        }
    }
}

/// Whether the daemon beside the application that wrote it was never told to look there.
fn unreported(fate: &Fate, version: &Version, model: &Model) -> bool {
    let reports = |mark: &Mark| {
        mark.kind == Kind::Hint && mark.lane == Some(version.lane) && mark.touches(&fate.path)
    };
    version.finished_ns.is_some() && !model.marks.iter().any(reports)
}

/// What became of files; the panel of the diagram shows these too.
fn stories(model: &Model, fates: &[Fate]) -> Markup {
    html! {
        section #fates {
            h2 { "What became of the files" }
            @if fates.len() == FATES_MAX {
                p .note { "The first " (text::number(FATES_MAX as u64)) " of them." }
            }
            @for (place, fate) in fates.iter().enumerate() {
                details .fate .bad[fate.bad] id=(format!("fate-{place}")) open[place == 0] {
                    summary { span .path { (fate.path) } " " span .end { (fate.end) } }
                    @if fate.versions.is_empty() {
                        p { "The web application uploaded nothing under this name." }
                    }
                    ul {
                        @for version in &fate.versions {
                            li {
                                (version.begin(&model.lanes)) ": "
                                (version.arrivals(&model.lanes)) "; "
                                span .bad[version.lost] { (version.end) } "."
                            }
                        }
                    }
                }
            }
        }
    }
}

fn about(report: &Report<'_>, model: &Model) -> Markup {
    html! {
        section {
            h2 { "The run" }
            dl .facts {
                div { dt { "Scenario" } dd { (report.scenario.file.display()) } }
                div { dt { "Seed" } dd { (report.seed) } }
                div { dt { "Nodes, in ring order" } dd { (model.lanes.join(", ")) } }
            }
            p { (report.scenario.about) }
            p .note {
                "Times are seconds of the simulated world. One web application writes on every \
                 node; one daemon a node passes changes on to its successor in the ring, the last \
                 one to the first. A batch is what one daemon sends the next in one go; publishing \
                 is giving a received file its final name."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    #[test]
    fn names_and_sentences_cannot_break_out_of_the_page() {
        let mut sample = Sample::torn();
        let name = b"</script><img src=x onerror=alert(1)>\"'&";
        let failure = sample.failure.take().unwrap();
        sample.failure = Some(failure.at_path(name));
        sample.record.history.push(
            5,
            "apollo",
            "app",
            format_args!("upload {} 12", String::from_utf8_lossy(name)),
        );
        let page = page(&sample.report()).into_string();
        assert!(!page.contains("<img"), "a name became an element");
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(page.contains("&lt;anybody&gt;") && page.contains("&lt;b&gt;made&lt;/b&gt;"));
    }

    #[test]
    fn a_long_run_gives_a_page_of_a_few_megabytes() {
        let page = page(&Sample::long(25_000).report()).into_string();
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
        assert!(page.contains("are left out"));
    }

    #[test]
    fn a_run_without_a_failure_has_a_page_too() {
        let mut sample = Sample::faults();
        sample.failure = None;
        let page = page(&sample.report()).into_string();
        assert!(page.contains("Every promise was kept"));
        assert!(!page.contains("first-bad\""));
    }
}
