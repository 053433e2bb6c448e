//! Markdown: one row a measurement, one column a system.

use std::fmt::Write as _;

use super::number;
use crate::results::{Cell, Results, Row};
use crate::stats::times_better;

/// What the others are compared with.
const OURS: &str = "chainsync";

/// Machine, date, command, the table, what it cost, and what failed.
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let machine = &results.machine;
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "`{}` on {}: {}, {} cores, {:.0} GiB, {}, Linux {}.\n",
        results.command,
        results.date,
        machine.cpu,
        machine.cores,
        machine.memory_mib as f64 / 1024.0,
        machine.system,
        machine.kernel,
    );
    for setting in &results.settings {
        let _ = writeln!(text, "- {setting}");
    }
    let versions: Vec<_> = results.systems.iter().flat_map(|one| &one.versions).collect();
    let mut versions: Vec<&str> = versions.into_iter().map(|one| &**one).collect();
    versions.sort_unstable();
    versions.dedup();
    let _ = writeln!(text, "- versions: {}\n", versions.join(", "));
    main_table(&mut text, results);
    let _ = writeln!(
        text,
        "\nMedians; ± is half of the way from the least to the most, p99 that of the samples of one run (a median as \
         well). In brackets: how many times better chainsync is.\n"
    );
    cost_table(&mut text, results);
    failures(&mut text, results);
    text
}

/// What was run: printed before the table, and kept in the JSON.
pub fn configurations(results: &Results) -> String {
    let mut text = String::new();
    for system in &results.systems {
        let _ = writeln!(text, "== {} ({})", system.title, system.versions.join(", "));
        let _ = writeln!(text, "{}", system.configuration.trim_end());
    }
    text
}

fn main_table(text: &mut String, results: &Results) {
    let titles: Vec<_> = results.systems.iter().map(|system| &*system.title).collect();
    let _ = writeln!(text, "| | unit | {} |", titles.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "--:|".repeat(titles.len()));
    for row in &results.rows {
        let ours = row.cells.get(OURS);
        let cells: Vec<_> = results
            .systems
            .iter()
            .map(|system| shown(row, row.cells.get(&system.key), ours, system.key == OURS))
            .collect();
        let _ = writeln!(text, "| {} | {} | {} |", row.title, row.unit, cells.join(" | "));
    }
}

fn shown(row: &Row, cell: Option<&Cell>, ours: Option<&Cell>, is_ours: bool) -> String {
    let Some(cell) = cell else { return String::new() };
    let Some(summary) = cell.summary.filter(|_| !cell.failed()) else {
        return "failed".to_owned();
    };
    let mut text = number(summary.median);
    if is_ours {
        text = format!("**{text}**");
    }
    if cell.values.len() > 1 {
        let _ = write!(text, " ±{:.0} %", summary.spread() * 50.0);
    }
    if let Some(p99) = cell.beside("p99") {
        let _ = write!(text, ", p99 {}", number(p99));
    }
    if let Some(most) = cell.beside("sent_bytes_most").filter(|_| row.key == "big-edit") {
        let _ = write!(text, ", {} MiB sent", number(most / 1048576.0));
    }
    if cell.beside("without_the_middle") == Some(0.0) {
        text += ", only when it was back";
    }
    if let Some(find) = cell.beside("find_s") {
        let _ = write!(text, ", `find` {}", number(find));
    }
    if let Some(synced) = cell.beside("files_per_s_synced") {
        let _ = write!(text, ", synced {}", number(synced));
    }
    let ratio = ours
        .filter(|ours| !is_ours && !ours.failed())
        .and_then(|ours| times_better(ours.summary?.median, summary.median, row.higher_is_better));
    if let Some(ratio) = ratio {
        let _ = write!(text, " ({}×)", number(ratio));
    }
    if !cell.failures.is_empty() {
        let _ = write!(text, ", {} failed", cell.failures.len());
    }
    text
}

fn cost_table(text: &mut String, results: &Results) {
    let costs = [
        ("storm", "cpu_us_per_file", "storm on one node: CPU of all hosts", "µs a file", 1.0),
        (
            "storm",
            "sent_bytes_most",
            "storm on one node: sent by the host that sends most",
            "MiB",
            1048576.0,
        ),
        (
            "storm",
            "peak_memory_mib",
            "storm on one node: peak memory of a host's daemons",
            "MiB",
            1.0,
        ),
        (
            "million-start",
            "peak_memory_mib",
            "a million files: peak memory of a host's daemons at the first start",
            "MiB",
            1.0,
        ),
        (
            "million-storm",
            "peak_memory_mib",
            "a million files: peak memory of a host's daemons in the storm",
            "MiB",
            1.0,
        ),
        (
            "million-join",
            "peak_memory_mib",
            "a million files: peak memory of a host's daemons while one joins",
            "MiB",
            1.0,
        ),
        ("burst", "peak_memory_mib", "burst: peak memory of a host's daemons", "MiB", 1.0),
        ("burst", "memory_after_mib", "burst: memory of a host's daemons afterwards", "MiB", 1.0),
        (
            "burst",
            "backlog_most",
            "burst: the most that the writing host said is left",
            "changes",
            1.0,
        ),
        ("burst", "seconds_left_most", "burst: the longest that it said it would take", "s", 1.0),
        ("idle-cpu", "peak_memory_mib", "idle: peak memory of a host's daemons", "MiB", 1.0),
    ];
    let daemons: Vec<_> =
        results.systems.iter().filter(|one| has_any(results, &one.key, &costs)).collect();
    if daemons.is_empty() {
        return;
    }
    let titles: Vec<_> = daemons.iter().map(|system| &*system.title).collect();
    let _ = writeln!(text, "| what it costs | unit | {} |", titles.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "--:|".repeat(titles.len()));
    for (key, what, title, unit, scale) in costs {
        let Some(row) = results.rows.iter().find(|row| row.key == key) else { continue };
        let cells: Vec<_> = daemons
            .iter()
            .map(|system| row.cells.get(&system.key).and_then(|cell| cell.beside(what)))
            .map(|value| value.map_or_else(String::new, |value| number(value / scale)))
            .collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let _ = writeln!(text, "| {title} | {unit} | {} |", cells.join(" | "));
    }
}

fn has_any(results: &Results, system: &str, costs: &[(&str, &str, &str, &str, f64)]) -> bool {
    costs.iter().any(|(key, what, ..)| {
        let row = results.rows.iter().find(|row| row.key == *key);
        row.and_then(|row| row.cells.get(system)).and_then(|cell| cell.beside(what)).is_some()
    })
}

fn failures(text: &mut String, results: &Results) {
    if !results.failed() {
        return;
    }
    let _ = writeln!(text, "\nWhat failed:\n");
    for row in &results.rows {
        for (system, cell) in &row.cells {
            for why in &cell.failures {
                let _ = writeln!(text, "- {}, {system}: {why}", row.title);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn the_table() {
        insta::assert_snapshot!(markdown(&example()));
    }

    #[test]
    fn the_configurations() {
        let text = configurations(&example());
        assert!(text.starts_with("== chainsync title (chainsync 1.0)\nx = 1\n"), "{text}");
    }
}
