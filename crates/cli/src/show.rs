//! A status in words that people understand. Pure: text out of a [`Status`], a clock and a zone.
//!
//! Names and paths come escaped from the engine; nothing here writes other control bytes.

pub(crate) mod commands;

use std::fmt::Write;

use chainsync_engine::status::{MemberState, MemberStatus, Problem, ShareStatus};
use chainsync_engine::{FlushReport, Status};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The first ones show what is wrong; `--json` has them all.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// When and where the reader is.
#[derive(Debug, Clone)]
pub(crate) struct Now(Zoned);

impl Now {
    pub(crate) fn here() -> Self {
        Self(Zoned::now())
    }

    #[cfg(test)]
    fn at(ms: i64) -> Self {
        Self(Timestamp::from_millisecond(ms).unwrap().to_zoned(TimeZone::UTC))
    }

    /// `12:03:44`, with the date unless it is today's.
    pub(crate) fn clock(&self, ms: u64) -> String {
        let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let zone: TimeZone = self.0.time_zone().clone();
        match time.map(|time| time.to_zoned(zone)) {
            None => "an unknown time".to_owned(),
            Some(time) if time.date() == self.0.date() => time.strftime("%H:%M:%S").to_string(),
            Some(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        }
    }
}

pub(crate) fn status(status: &Status, now: &Now) -> String {
    let mut text = format!(
        "{}: chainsync {}, running since {}\n",
        status.node,
        status.version,
        now.clock(status.started_ms)
    );
    if let Some(refused) = &status.refused_reload {
        let (at, why) = (now.clock(refused.at_ms), &refused.reason);
        let _ = writeln!(
            text,
            "RELOAD REFUSED at {at}, the configuration before it is in force: {why}"
        );
    }
    if status.shares.is_empty() {
        text.push_str("no shares\n");
    }
    for one in &status.shares {
        text.push('\n');
        share(&mut text, &status.node, one, now);
    }
    text
}

fn share(text: &mut String, node: &str, share: &ShareStatus, now: &Now) {
    let verdict = match (&share.halted, share.converged) {
        (Some(reason), _) if share.paused => {
            format!("{}: `chainsync resume` goes on", reason.replacen("paused", "PAUSED", 1))
        }
        (Some(reason), _) => format!("HALTED: {reason}"),
        (None, true) => "converged: all members hold the same".to_owned(),
        (None, false) => "not converged".to_owned(),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "share {} in {}: {verdict}", share.share, share.path);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<10}{value}");
    };
    let bypassed = bypassed(node, share);
    line("ring", &ring(node, &share.ring));
    line("link", &link(share, &bypassed));
    line("upstream", &upstream(share, now));
    for (index, one) in share.members.iter().enumerate() {
        let name = if index == 0 { "members" } else { "" };
        line(name, &member(one, bypassed.contains(&&*one.node), now));
    }
    line("here", &here(share));
    line("problems", &problems(&share.problems, now));
    line(
        "conflicts",
        &match share.conflicts {
            0 => "none".to_owned(),
            some => format!("{some}: `chainsync conflicts` lists them"),
        },
    );
    for (index, reason) in share.waiting_for.iter().enumerate() {
        line(if index == 0 { "waits for" } else { "" }, reason);
    }
}

/// `[apollo] → chronos → hermes → apollo`.
pub(crate) fn ring(node: &str, ring: &[String]) -> String {
    let name = |name: &String| match name == node {
        true => format!("[{name}]"),
        false => name.clone(),
    };
    let mut names: Vec<String> = ring.iter().map(name).collect();
    if names.len() > 1 {
        names.push(ring[0].clone());
    }
    names.join(" → ")
}

/// The members between this node and the end of its link.
fn bypassed<'s>(node: &str, share: &'s ShareStatus) -> Vec<&'s str> {
    let Some(link) = &share.link else { return Vec::new() };
    let Some(at) = share.ring.iter().position(|name| name == node) else { return Vec::new() };
    let onward = share.ring[at + 1..].iter().chain(&share.ring[..at]);
    onward.map(String::as_str).take_while(|name| *name != link.to).collect()
}

fn link(share: &ShareStatus, bypassed: &[&str]) -> String {
    let Some(link) = &share.link else {
        return match share.ring.len() {
            0 | 1 => "none: this node is alone in its ring".to_owned(),
            _ => "none: no other node of the ring can be reached".to_owned(),
        };
    };
    let mut text = format!("to {}", link.to);
    if link.bypass || !bypassed.is_empty() {
        let _ = write!(text, ", bypassing {}", bypassed.join(" and "));
    }
    match (link.behind, link.in_flight) {
        (0, 0) => text.push_str(", nothing to send"),
        (behind, 0) => {
            let _ = write!(text, ", {} to send", count(behind, "entry", "entries"));
        }
        (behind, flying) => {
            let entries = count(behind, "entry", "entries");
            let _ = write!(
                text,
                ", {entries} to send, {} under way",
                count(flying, "batch", "batches")
            );
        }
    }
    if let Some(seconds) = link.seconds_left.filter(|seconds| *seconds > 0) {
        let _ = write!(text, ", about {} left", time_left(seconds));
    }
    text
}

fn time_left(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn upstream(share: &ShareStatus, now: &Now) -> String {
    if share.upstream.is_empty() {
        return "none: no node sends to this one at the moment".to_owned();
    }
    let each = share.upstream.iter();
    let each: Vec<_> =
        each.map(|from| format!("{} since {}", from.from, now.clock(from.since_ms))).collect();
    each.join(", ")
}

/// `chronos: unreachable since 12:03:44, bypassed, 211 changes behind`.
fn member(member: &MemberStatus, bypassed: bool, now: &Now) -> String {
    let since = now.clock(member.since_ms);
    let paused = member.halted.as_deref().is_some_and(|reason| reason.starts_with("paused"));
    let mut parts = vec![match member.state {
        MemberState::Me => "this node".to_owned(),
        // Whoever is paused has no links: unreachable would be true, and misleading.
        _ if paused => format!("paused since {since}"),
        MemberState::Reachable => format!("reachable since {since}"),
        MemberState::Unreachable => format!("unreachable since {since}"),
        MemberState::Unknown => "not heard of since this daemon started".to_owned(),
    }];
    if bypassed {
        parts.push("bypassed".to_owned());
    }
    match member.behind {
        0 if member.state == MemberState::Reachable => parts.push("up to date".to_owned()),
        0 => {}
        behind => parts.push(format!("{} behind", count(behind, "change", "changes"))),
    }
    if member.pending > 0 {
        parts.push(format!("{} not published yet", count(member.pending, "path", "paths")));
    }
    if member.problems > 0 {
        parts.push(count(member.problems, "problem", "problems"));
    }
    if let Some(reason) =
        member.halted.as_ref().filter(|_| !paused || member.state == MemberState::Me)
    {
        parts.push(if paused { reason.clone() } else { format!("halted: {reason}") });
    }
    format!("{}: {}", member.node, parts.join(", "))
}

fn here(share: &ShareStatus) -> String {
    let mut parts = vec![
        count(share.entries, "path", "paths"),
        format!("{} watched", count(share.watches, "directory", "directories")),
    ];
    if share.unread > 0 {
        parts.push(format!("{} not looked at yet", count(share.unread, "hint", "hints")));
    }
    if share.pending > 0 {
        parts.push(format!("{} not published yet", count(share.pending, "path", "paths")));
    }
    if share.sweeping {
        parts.push("sweeping the whole tree".to_owned());
    }
    parts.join(", ")
}

fn problems(problems: &[Problem], now: &Now) -> String {
    let Some((first, rest)) = problems.split_first() else { return "none".to_owned() };
    let one = |problem: &Problem| {
        format!("{}: {} (since {})", problem.path, problem.reason, now.clock(problem.since_ms))
    };
    let mut lines = vec![one(first)];
    lines.extend(rest.iter().take(PROBLEMS_SHOWN_MAX - 1).map(one));
    if problems.len() > PROBLEMS_SHOWN_MAX {
        lines.push(format!("and {} more: see --json", problems.len() - PROBLEMS_SHOWN_MAX));
    }
    // Under the first one.
    lines.join(&format!("\n{:12}", ""))
}

pub(crate) fn flush(reports: &[FlushReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let seconds = report.elapsed_ms as f64 / 1000.0;
        let (share, applied) = (&report.share, report.applied.join(", "));
        let _ = match (report.complete, applied.is_empty()) {
            (true, _) => writeln!(text, "{share}: complete after {seconds:.3} s: {applied}"),
            (false, false) => {
                writeln!(text, "{share}: NOT complete after {seconds:.3} s; have it: {applied}")
            }
            (false, true) => {
                writeln!(text, "{share}: NOT complete after {seconds:.3} s; nobody has it")
            }
        };
        for lacking in &report.lacking {
            let _ = writeln!(text, "  {} lacks it: {}", lacking.node, lacking.reason);
        }
        for left in &report.left_out {
            let _ = writeln!(text, "  {} left out: {}", left.node, left.reason);
        }
    }
    let mut notes: Vec<&str> = reports.iter().map(|report| &*report.note).collect();
    notes.dedup();
    for note in notes.into_iter().filter(|note| !note.is_empty()) {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// `1 change`, `211 changes`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use chainsync_engine::status::{Counters, Lacking, LinkStatus, RefusedReload, UpstreamStatus};

    use super::*;

    const NOON: u64 = 1_760_000_000_000;

    fn member(node: &str, state: MemberState, behind: u64) -> MemberStatus {
        let node = node.to_owned();
        MemberStatus { node, state, since_ms: NOON, behind, pending: 0, problems: 0, halted: None }
    }

    fn example() -> Status {
        let share = ShareStatus {
            share: "images".to_owned(),
            path: "/var/www/html/images".to_owned(),
            ring: ["apollo", "chronos", "hermes"].map(str::to_owned).to_vec(),
            halted: None,
            paused: false,
            converged: false,
            waiting_for: vec!["chronos lacks 211 changes".to_owned(), "1 problem here".to_owned()],
            sequence: 4711,
            entries: 3000,
            watches: 51,
            unread: 2,
            sweeping: false,
            pending: 1,
            problems: vec![Problem {
                path: r"a/\xff.jpg".to_owned(),
                reason: "permission denied".to_owned(),
                since_ms: NOON - 86_400_000,
            }],
            conflicts: 0,
            link: Some(LinkStatus {
                to: "hermes".to_owned(),
                bypass: true,
                behind: 3,
                in_flight: 1,
                seconds_left: Some(95),
            }),
            upstream: vec![UpstreamStatus { from: "hermes".to_owned(), since_ms: NOON }],
            members: vec![
                member("apollo", MemberState::Me, 0),
                member("chronos", MemberState::Unreachable, 211),
                member("hermes", MemberState::Reachable, 0),
            ],
            counters: Counters::default(),
        };
        let (node, version) = ("apollo".to_owned(), "0.1.0".to_owned());
        Status {
            node,
            version,
            started_ms: NOON - 3_600_000,
            shares: vec![share],
            refused_reload: None,
        }
    }

    #[test]
    fn a_status_with_a_dead_node() {
        let now = Now::at(NOON as i64 + 60_000);
        insta::assert_snapshot!(status(&example(), &now));
    }

    #[test]
    fn a_status_when_all_is_well_and_one_when_alone() {
        let now = Now::at(NOON as i64);
        let mut well = example();
        let share = &mut well.shares[0];
        (share.converged, share.unread, share.pending) = (true, 0, 0);
        share.waiting_for.clear();
        share.problems.clear();
        share.link = Some(LinkStatus {
            to: "chronos".to_owned(),
            bypass: false,
            behind: 0,
            in_flight: 0,
            seconds_left: None,
        });
        share.members[1] = member("chronos", MemberState::Reachable, 0);
        let mut alone = share.clone();
        alone.share = "alone".to_owned();
        alone.ring.truncate(1);
        alone.members.truncate(1);
        alone.link = None;
        alone.upstream.clear();
        alone.halted = Some("its root is not the directory that was indexed".to_owned());
        well.shares.push(alone);
        let reason = "/etc/chainsync.toml:15:11: the ring is empty, in share `images`".to_owned();
        well.refused_reload = Some(RefusedReload { at_ms: NOON, reason });
        insta::assert_snapshot!(status(&well, &now));
    }

    #[test]
    fn many_problems_are_cut() {
        let mut many = example();
        let problem = many.shares[0].problems[0].clone();
        many.shares[0].problems = vec![problem; PROBLEMS_SHOWN_MAX + 5];
        let text = status(&many, &Now::at(NOON as i64));
        assert_eq!(text.matches("permission denied").count(), PROBLEMS_SHOWN_MAX);
        assert!(text.contains("and 5 more: see --json"));
    }

    #[test]
    fn flush_reports() {
        let lacking =
            |reason: &str| Lacking { node: "chronos".to_owned(), reason: reason.to_owned() };
        let mut report = FlushReport {
            share: "images".to_owned(),
            complete: false,
            applied: vec!["apollo".to_owned(), "hermes".to_owned()],
            lacking: vec![lacking("unreachable since 12:03:44")],
            left_out: vec![],
            elapsed_ms: 30_000,
            note: "files that are still open for writing are not included".to_owned(),
        };
        let not = flush(std::slice::from_ref(&report));
        report.complete = true;
        report.left_out = std::mem::take(&mut report.lacking);
        report.elapsed_ms = 7;
        insta::assert_snapshot!(format!("{not}---\n{}", flush(&[report.clone(), report])));
    }
}
