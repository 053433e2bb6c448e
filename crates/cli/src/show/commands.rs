//! The answers of commands in words. Names come escaped from the engine.

use std::fmt::Write;

use chainsync_engine::answers::{
    ConflictList, ConflictShown, ConflictSide, FoundPath, ImportReport, MoveReport, RescanReport,
    RestoreReport, VerifyReport,
};

use super::{Now, count};

/// What is listed for people; `--json` has more.
const LINES_MAX: usize = 50;

// Writing to a String cannot fail, here and below.

pub(crate) fn verify(reports: &[VerifyReport]) -> String {
    let mut text = String::new();
    for report in reports {
        verify_share(&mut text, report);
    }
    text
}

fn verify_share(text: &mut String, report: &VerifyReport) {
    let seconds = report.elapsed_ms as f64 / 1000.0;
    let missing = report.members.iter().filter(|member| member.missing.is_some()).count();
    let verdict = if report.equal {
        "equal".to_owned()
    } else if !report.differences.is_empty() || !report.doubts.is_empty() {
        "NOT equal".to_owned()
    } else if missing > 0 {
        format!("cannot say: {} not compared", count(missing as u64, "member was", "members were"))
    } else {
        "cannot say".to_owned()
    };
    let deep = if report.deep { ", every content was read" } else { "" };
    let _ = writeln!(text, "{}: {verdict} ({seconds:.3} s{deep})", report.share);
    for member in &report.members {
        let what = match (&member.missing, &member.halted) {
            (Some(reason), _) => format!("not compared: {reason}"),
            (None, Some(reason)) => {
                format!(
                    "{}, but it does not move: {reason}",
                    count(member.entries, "path", "paths")
                )
            }
            (None, None) => count(member.entries, "path", "paths"),
        };
        let _ = writeln!(text, "  {}: {what}", member.node);
    }
    for difference in report.differences.iter().take(LINES_MAX) {
        let differs = difference.differs.join(", ");
        let _ = writeln!(text, "  {} differs ({differs})", difference.path);
        for version in &difference.nodes {
            let _ = writeln!(text, "    {}: {}", version.nodes.join(", "), version.shows);
        }
    }
    rest(text, report.differences.len(), report.more, "differing paths");
    for doubt in report.doubts.iter().take(LINES_MAX) {
        let _ = writeln!(text, "  {} on {}: {}", doubt.path, doubt.node, doubt.what);
    }
    rest(text, report.doubts.len(), false, "paths where a disk and its index differ");
    for path in report.unsettled.iter().take(LINES_MAX) {
        let _ = writeln!(text, "  {path}: it changed with every look");
    }
    rest(text, report.unsettled.len(), false, "paths that kept changing");
    for note in &report.notes {
        let _ = writeln!(text, "  note: {note}");
    }
}

/// Says that there are more than the lines shown.
fn rest(text: &mut String, number: usize, more: bool, what: &str) {
    if number > LINES_MAX || more {
        let at_least = if more { "at least " } else { "" };
        let rest = number.saturating_sub(LINES_MAX);
        let _ = writeln!(text, "  and {at_least}{rest} more {what}: see --json");
    }
}

pub(crate) fn paused(reports: &[MoveReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let _ = match &report.before {
            Some(before) => writeln!(text, "{}: paused (it was: {before})", report.share),
            None => writeln!(
                text,
                "{}: paused: it neither records, sends nor receives until `chainsync resume`",
                report.share
            ),
        };
    }
    text
}

pub(crate) fn resumed(reports: &[MoveReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let share = &report.share;
        let _ = match (&report.refused, &report.before) {
            (Some(reason), _) => writeln!(text, "{share}: NOT resumed: {reason}"),
            (None, Some(before)) => writeln!(
                text,
                "{share}: moves again, and looks at its whole tree first (it was: {before})"
            ),
            (None, None) => writeln!(text, "{share}: moves; it was neither paused nor halted"),
        };
        if let Some(next) = &report.next {
            let _ = writeln!(text, "  next: {next}");
        }
    }
    text
}

pub(crate) fn rescanned(reports: &[RescanReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let share = &report.share;
        if let Some(reason) = &report.refused {
            let _ = writeln!(text, "{share}: NOT swept to the end: {reason}");
            continue;
        }
        let seconds = report.elapsed_ms as f64 / 1000.0;
        let found = format!(
            "{} created, {} changed, {} deleted",
            report.created, report.changed, report.deleted
        );
        let _ = match (report.dry_run, report.created + report.changed + report.deleted) {
            (true, 0) => writeln!(text, "{share}: a sweep would find nothing new ({seconds:.3} s)"),
            (true, _) => writeln!(text, "{share}: a sweep would record {found} ({seconds:.3} s)"),
            (false, 0) => writeln!(text, "{share}: swept in {seconds:.3} s, nothing new"),
            (false, _) => writeln!(text, "{share}: swept in {seconds:.3} s: {found}"),
        };
        if report.writing > 0 {
            let _ = writeln!(
                text,
                "  {} being written just now",
                count(report.writing, "file", "files")
            );
        }
        found_paths(&mut text, &report.paths, report.more);
        let problems = count(report.problems, "problem", "problems");
        let _ =
            writeln!(text, "  {} in the index, {problems}", count(report.entries, "path", "paths"));
    }
    text
}

fn found_paths(text: &mut String, paths: &[FoundPath], more: bool) {
    for FoundPath { path, what, detail } in paths.iter().take(LINES_MAX) {
        let _ = match detail.is_empty() {
            true => writeln!(text, "  {what:<9}{path}"),
            false => writeln!(text, "  {what:<9}{path} ({detail})"),
        };
    }
    rest(text, paths.len(), more, "paths");
}

/// What `run --dry-run` says of a share.
pub(crate) fn import(report: &ImportReport) -> String {
    let mut text = format!("share {} in {}\n", report.share, report.path);
    let _ = writeln!(
        text,
        "  the first import would take in {}, {} and {}: {} bytes",
        count(report.files, "file", "files"),
        count(report.directories, "directory", "directories"),
        count(report.symlinks, "symlink", "symlinks"),
        report.bytes
    );
    if report.writing > 0 {
        let _ = writeln!(
            text,
            "  {} being written just now: taken in when closed",
            count(report.writing, "of the files is", "of the files are")
        );
    }
    let _ = writeln!(
        text,
        "  {} left out by patterns, {}",
        count(report.excluded, "name is", "names are"),
        count(report.problems, "problem", "problems")
    );
    found_paths(&mut text, &report.paths, report.more);
    text
}

pub(crate) fn conflicts(lists: &[ConflictList], now: &Now) -> String {
    let mut text = String::new();
    for list in lists {
        if list.conflicts.is_empty() {
            let _ = writeln!(text, "{}: no conflicts", list.share);
            continue;
        }
        let _ = writeln!(text, "{}: {}", list.share, count(list.total, "conflict", "conflicts"));
        for one in list.conflicts.iter().take(LINES_MAX) {
            let kept = if one.restorable { "restorable" } else { "content not here" };
            let _ = writeln!(
                text,
                "  {:>4}  {}  {}: {} lost to {}, {kept}",
                one.id,
                now.clock(one.noticed_ms),
                one.path,
                side(&one.loser),
                side(&one.winner)
            );
        }
        rest(
            &mut text,
            list.conflicts.len(),
            list.total > list.conflicts.len() as u64,
            "conflicts",
        );
    }
    text
}

pub(crate) fn conflict(lists: &[ConflictList], now: &Now) -> String {
    let mut text = String::new();
    for list in lists {
        for one in &list.conflicts {
            one_conflict(&mut text, &list.share, one, now);
        }
    }
    text
}

fn one_conflict(text: &mut String, share: &str, one: &ConflictShown, now: &Now) {
    let _ = writeln!(text, "conflict {} of share {share}: {}", one.id, one.path);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    line("noticed", &now.clock(one.noticed_ms));
    line("lost", &format!("{}, made {}", side(&one.loser), now.clock(one.loser.made_ms)));
    line("", &one.shows);
    line("won", &format!("{}, made {}", side(&one.winner), now.clock(one.winner.made_ms)));
    line("content", &one.content);
    if one.restorable {
        line("restore", &format!("chainsync conflicts restore {} --share {share}", one.id));
    }
}

fn side(side: &ConflictSide) -> String {
    match &side.node {
        Some(node) => node.clone(),
        None => format!("an earlier life of some node (replica {})", side.replica),
    }
}

pub(crate) fn restored(report: &RestoreReport) -> String {
    match (&report.path, &report.refused) {
        (_, Some(reason)) => {
            format!("{}: conflict {} NOT restored: {reason}\n", report.share, report.id)
        }
        (path, None) => {
            let path = path.as_deref().unwrap_or("?");
            let replaced = match report.replaced {
                true => "; what was there is in the archive now",
                false => "",
            };
            format!("{}: conflict {} restored to {path}{replaced}\n", report.share, report.id)
        }
    }
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
