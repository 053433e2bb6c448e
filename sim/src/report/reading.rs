//! Events of a history, read as marks: what each line of the trace means to somebody who does not
//! know the code.

use std::collections::BTreeMap;

use crate::check::SHARE;
use crate::history::Event;
use crate::scenario::{Direction, Event as Planned, Keeps};

use super::model::{Kind, Mark, planned};
use super::{Report, text};

/// chainsync's own directory in a share.
const OWN_DIR: &str = ".chainsync";

/// Reads a history.
pub(super) struct Reader<'a> {
    lanes: &'a [String],
    /// Which path a file in staging is or was for, by lane and place.
    staged: BTreeMap<(usize, String), String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lanes: &'a [String]) -> Self {
        Self { lanes, staged: BTreeMap::new() }
    }

    /// All marks, in the order of the history.
    pub(super) fn read(mut self, report: &Report<'_>) -> Vec<Mark> {
        let mut marks = Vec::with_capacity(report.record.history.len());
        let mut in_staging = Vec::new();
        for (event, planned) in planned(report) {
            // The frames' own record says more.
            if matches!(event.kind, "frame" | "got") {
                continue;
            }
            let lane = self.lanes.iter().position(|lane| lane == event.node);
            let mark = match planned {
                Some(planned) => self.planned(&event, planned),
                None => self.told(&event, lane),
            };
            if let (Some(lane), true, Place::Own(place)) =
                (lane, mark.paths.is_empty(), Place::of(event.detail))
            {
                let place = place.split(' ').next().unwrap_or_default().to_owned();
                in_staging.push((marks.len(), (lane, place)));
            }
            marks.push(mark);
        }
        for (index, key) in in_staging {
            let mark: &mut Mark = &mut marks[index];
            if let Some(path) = self.staged.get(&key) {
                mark.paths.push(path.clone());
                mark.path = Some(path.clone());
            }
        }
        marks
    }

    /// An event that the scenario had planned.
    fn planned(&self, event: &Event<'_>, planned: &Planned) -> Mark {
        let (kind, what) = meaning(planned);
        // What a workload does is told when it does it.
        let paths = planned.paths();
        let kind = if paths.is_empty() { kind } else { Kind::Detail };
        let nodes = planned.nodes();
        let lane = match (planned, &nodes[..]) {
            (Planned::Partition(_) | Planned::Hold(_) | Planned::CutConnections(_), _) => None,
            (_, [node]) => self.lanes.iter().position(|lane| lane == node.get_ref()),
            _ => None,
        };
        let path = paths.first().map(|path| path.get_ref().clone());
        let paths = paths.into_iter().map(|path| path.get_ref().clone()).collect();
        Mark { lane, path, paths, ..mark(event, None, kind, what) }
    }

    /// Any other event.
    fn told(&mut self, event: &Event<'_>, lane: Option<usize>) -> Mark {
        let detail = event.detail;
        let plain = |kind, what: String| mark(event, lane, kind, what);
        match event.kind {
            "app" => application(event, lane),
            "rename" | "exchange" => self.renamed(event, lane),
            "event" => match detail.split_once(' ') {
                Some(("storm" | "churn", nodes)) => {
                    plain(Kind::Phase, format!("the application is busy on {nodes}"))
                }
                // The daemon says so itself.
                Some(("start", _)) => plain(Kind::Detail, detail.to_owned()),
                _ => plain(Kind::Fault, detail.replace('-', " ")),
            },
            "lost" => plain(Kind::Fault, format!("loses its connection to {detail}")),
            "heal" => plain(Kind::Repair, "every fault is healed".into()),
            "flushed" if detail.starts_with("true") => {
                plain(Kind::Note, "flush: everybody has everything".into())
            }
            "flushed" => plain(Kind::Note, "flush: not complete".into()),
            "phase" => plain(Kind::Phase, phase(detail)),
            "audit" => plain(Kind::Phase, format!("the audit found nothing: {detail}")),
            "start" if detail == "1" => plain(Kind::Detail, "daemon starts".into()),
            "start" => plain(Kind::Repair, "daemon starts again".into()),
            "end" => plain(Kind::Fault, "daemon ends in good order".into()),
            "fall" => plain(Kind::Fault, format!("dies {detail}")),
            "fault" => {
                let (trouble, class) = detail.split_once(' ').unwrap_or((detail, ""));
                let class = class.to_lowercase().replace("index", "index ");
                plain(
                    Kind::Note,
                    format!("a call ({class}) comes to this: {}", trouble_text(trouble)),
                )
            }
            "watch" => watched(event, lane),
            "probe" => probe(event, lane),
            "unlink" | "rmdir" | "mkdir" | "symlink" | "chmod" | "utimes" | "write" | "create"
            | "truncate" | "sync" | "sync-dir" | "sync-all" | "sync-index" => disk(event, lane),
            "connect" => plain(Kind::Detail, format!("calls {detail}")),
            "connected" => plain(Kind::Detail, format!("is connected to {detail}")),
            "accepted" => plain(Kind::Detail, format!("takes the call of {detail}")),
            "closed" => plain(Kind::Detail, format!("closes its connection to {detail}")),
            "garbled" => plain(Kind::Note, format!("what is on the wire cannot be read: {detail}")),
            kind => {
                let what = format!("{kind} {detail}");
                with_path(plain(Kind::Detail, what), Place::within(detail))
            }
        }
    }

    /// A daemon's rename: publishing, taking away, or something of its own.
    fn renamed(&mut self, event: &Event<'_>, lane: Option<usize>) -> Mark {
        let Some((from, to)) = two_paths(event.detail) else {
            return mark(event, lane, Kind::Detail, format!("{} {}", event.kind, event.detail));
        };
        match (Place::of(from), Place::of(to)) {
            (Place::Own(own), Place::Share(path)) => {
                self.stage(lane, own, path);
                let what = "publishes".to_owned();
                let mut mark = with_path(mark(event, lane, Kind::Published, what), Some(path));
                if event.kind == "exchange" {
                    mark.more = "over what was there".into();
                }
                mark
            }
            (Place::Share(path), Place::Own(own)) => {
                self.stage(lane, own, path);
                let (kind, what) = match event.kind {
                    "exchange" => (Kind::Published, "publishes"),
                    _ => (Kind::Removed, "takes away"),
                };
                with_path(mark(event, lane, kind, what.into()), Some(path))
            }
            (Place::Share(from), Place::Share(to)) => {
                let what = "renames".to_owned();
                let mut mark = with_path(mark(event, lane, Kind::Published, what), Some(from));
                mark.more = format!("to {to}");
                mark.paths.push(to.to_owned());
                mark
            }
            _ => mark(event, lane, Kind::Detail, format!("{} {}", event.kind, event.detail)),
        }
    }

    fn stage(&mut self, lane: Option<usize>, own: &str, path: &str) {
        if let Some(lane) = lane {
            self.staged.insert((lane, own.to_owned()), path.to_owned());
        }
    }
}

/// Where an absolute path of a simulated machine lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    /// In the share, relative.
    Share(&'a str),
    /// In chainsync's own directory there.
    Own(&'a str),
    Elsewhere,
}

impl<'a> Place<'a> {
    fn of(absolute: &'a str) -> Self {
        match absolute.strip_prefix(SHARE).and_then(|rest| rest.strip_prefix('/')) {
            Some(relative) if relative.split('/').next() == Some(OWN_DIR) => Place::Own(relative),
            Some(relative) => Place::Share(relative),
            None => Place::Elsewhere,
        }
    }

    /// The first path of the share in a text of an unknown form.
    fn within(text: &'a str) -> Option<&'a str> {
        let begin = text.find(SHARE)?;
        match Place::of(text[begin..].split(' ').next()?) {
            Place::Share(path) => Some(path),
            Place::Own(_) | Place::Elsewhere => None,
        }
    }
}

fn mark(event: &Event<'_>, lane: Option<usize>, kind: Kind, what: String) -> Mark {
    let more = String::new();
    Mark { at_ns: event.at_ns, lane, kind, what, path: None, more, paths: Vec::new() }
}

fn with_path(mut mark: Mark, path: Option<&str>) -> Mark {
    mark.path = path.map(str::to_owned);
    mark.paths = path.map(str::to_owned).into_iter().collect();
    mark
}

/// Two absolute paths with a space between them; names may hold spaces of their own.
fn two_paths(detail: &str) -> Option<(&str, &str)> {
    let second = detail.match_indices(" /").map(|(index, _)| index);
    let mut likely = second.filter(|index| {
        let rest = &detail[index + 1..];
        rest.starts_with(SHARE) || rest.starts_with(crate::check::STATE)
    });
    likely.next().map(|index| (&detail[..index], &detail[index + 1..]))
}

/// `upload PATH BYTES`, `upload PATH failed CODE`, `rename to PATH: PATH CODE`, `CALL PATH CODE`.
fn application(event: &Event<'_>, lane: Option<usize>) -> Mark {
    let app = |what: &str| mark(event, lane, Kind::Application, what.to_owned());
    let Some((rest, last)) = event.detail.rsplit_once(' ') else { return app(event.detail) };
    let failed = |code: &str| match code.parse() {
        Ok(0) => String::new(),
        Ok(code) => format!("failed: {}", text::errno(code)),
        Err(_) => code.to_owned(),
    };
    if let Some(upload) = rest.strip_prefix("upload ") {
        let (path, more) = match upload.strip_suffix(" failed") {
            Some(path) => (path, failed(last)),
            None => (upload, last.parse().map_or(last.to_owned(), text::bytes)),
        };
        return Mark { more, ..with_path(app("uploads"), Some(path)) };
    }
    if let Some((to, from)) = rest.strip_prefix("rename to ").and_then(|ends| ends.split_once(": "))
    {
        let mut mark = with_path(app("renames"), Some(from));
        mark.more = [format!("to {to}"), failed(last)].join(" ").trim_end().to_owned();
        mark.paths.push(to.to_owned());
        return mark;
    }
    let Some((call, path)) = rest.split_once(' ') else { return app(event.detail) };
    let what = match call {
        "delete" => "deletes",
        "mkdir" => "makes the directory",
        "symlink" => "makes the symlink",
        "chmod" => "changes the mode of",
        other => other,
    };
    Mark { more: failed(last), ..with_path(app(what), Some(path)) }
}

/// A daemon's call on its disk: in the share it is seen, elsewhere it is a detail.
fn disk(event: &Event<'_>, lane: Option<usize>) -> Mark {
    let (call, detail) = (event.kind, event.detail);
    let (verb, kind) = match call {
        "unlink" | "rmdir" => ("takes away", Kind::Removed),
        "mkdir" => ("makes the directory", Kind::Published),
        "symlink" => ("makes the symlink", Kind::Published),
        "chmod" => ("sets the mode of", Kind::Published),
        "create" => ("creates", Kind::Published),
        "write" => ("writes", Kind::Published),
        "truncate" => ("empties", Kind::Published),
        "utimes" => ("sets the time of", Kind::Detail),
        "sync-all" => ("syncs the whole disk", Kind::Detail),
        "sync-index" => ("syncs its index,", Kind::Detail),
        _ => ("syncs", Kind::Detail),
    };
    let (name, more) = match detail.rsplit_once(' ') {
        Some((name, length)) if call == "write" => {
            (name, length.parse().map_or(length.to_owned(), text::bytes))
        }
        _ => (detail, String::new()),
    };
    match Place::of(name) {
        Place::Share(path) => {
            Mark { more, ..with_path(mark(event, lane, kind, verb.into()), Some(path)) }
        }
        Place::Own(_) => {
            let aside =
                if more.is_empty() { "of its own".into() } else { format!("{more}, of its own") };
            Mark { more: aside, ..mark(event, lane, Kind::Detail, verb.into()) }
        }
        Place::Elsewhere => {
            let more = if call == "sync-index" { format!("{detail} bytes") } else { detail.into() };
            Mark { more, ..mark(event, lane, Kind::Detail, verb.into()) }
        }
    }
}

fn watched(event: &Event<'_>, lane: Option<usize>) -> Mark {
    match event.detail.split_once(' ') {
        Some((urgency @ ("Finished" | "Started"), path)) => {
            let what = if urgency == "Finished" { "watcher reports" } else { "watcher announces" };
            with_path(mark(event, lane, Kind::Hint, what.into()), Some(path))
        }
        _ => {
            let what = format!("the watcher says: {}", event.detail);
            mark(event, lane, Kind::Note, what)
        }
    }
}

/// A place in the engine that is passed rarely.
fn probe(event: &Event<'_>, lane: Option<usize>) -> Mark {
    let (kind, what) = match event.detail {
        "IntentsDurable" => (Kind::Detail, "has its intents on disk"),
        "Published" => (Kind::Detail, "has published a whole batch"),
        "StillWriting" => (Kind::Detail, "waits: the file is still being written"),
        "TornRead" => (Kind::Detail, "reads again: the file changed meanwhile"),
        "DisplacedChange" => (Kind::Note, "finds that it displaced a change"),
        "NameTaken" => (Kind::Note, "finds a name taken that should be free"),
        "IntentFoundDone" => (Kind::Note, "finds an intent of before its death done"),
        "IntentFoundUndone" => (Kind::Note, "finds an intent of before its death undone"),
        "IntentFoundOvertaken" => (Kind::Note, "finds a change where it had an intent"),
        "Bypass" => (Kind::Note, "links past a node that is gone"),
        "Rejoin" => (Kind::Note, "links to a nearer node again"),
        "CursorUnknown" => (Kind::Note, "begins its journal anew: the cursor is unknown"),
        "Overflow" => (Kind::Note, "lost events: it will sweep"),
        "ChangeLost" => (Kind::Note, "finds a change that loses to what is known"),
        "Archived" => (Kind::Note, "puts a content into its archive"),
        "ContentMissing" => (Kind::Note, "records an entry without its content"),
        "FirstLook" => (Kind::Detail, "has looked at its whole tree"),
        "Abandoned" => (Kind::Note, "gives up a content that nobody has any more"),
        "CopyKept" => (Kind::Note, "gives an edit that lost a name beside the winner"),
        "EditAgain" => (Kind::Note, "makes an edit again that lost to a deletion"),
        "Expired" => (Kind::Note, "removes a content from its archive: it is beyond the limits"),
        "DeletedAgain" => (Kind::Note, "deletes once more what others may have forgotten"),
        "ClockAhead" => (Kind::Note, "refuses a change that was made in the future"),
        "MassDelete" => (Kind::Note, "finds so much missing that it asks first"),
        "NoRoom" => (Kind::Note, "waits: too little room would be left on the disk"),
        "NewReplica" => (Kind::Note, "takes a new replica id"),
        other => {
            return mark(event, lane, Kind::Note, format!("passes {other}"));
        }
    };
    mark(event, lane, kind, what.into())
}

/// What a disk's fault is, by its name in the trace.
fn trouble_text(trouble: &str) -> &str {
    match trouble {
        "Io" => "input/output error",
        "Full" => "no space left",
        "OverQuota" => "over its quota",
        "Exhausted" => "too many open files",
        "Forbidden" => "permission denied",
        "Slow" => "it takes long",
        other => other,
    }
}

fn phase(detail: &str) -> String {
    match detail {
        "events" => "the links are up, the scenario begins".into(),
        "converge" => "from here on the trees have to become equal".into(),
        "quiet" => "all agree; from here on nothing may move".into(),
        other if other.starts_with("verify") => "the daemons compare their trees".into(),
        other => other.to_owned(),
    }
}

/// What a planned event does.
fn meaning(planned: &Planned) -> (Kind, String) {
    let names = |group: &[toml::Spanned<String>]| {
        group.iter().map(|name| name.get_ref().as_str()).collect::<Vec<_>>().join(", ")
    };
    let death = |how: &str, before: Option<std::num::NonZeroU64>| match before {
        None => (Kind::Fault, how.to_owned()),
        Some(number) => (Kind::Detail, format!("{how}, but only before its operation {number}")),
    };
    match planned {
        Planned::Storm(storm) => {
            let each = text::count(usize::try_from(storm.files).unwrap_or(0), "file", "files");
            (Kind::Phase, format!("storm: {each} each on {}", names(&storm.nodes)))
        }
        Planned::Churn(churn) => {
            let count = usize::try_from(churn.operations).unwrap_or(0);
            let each = text::count(count, "operation", "operations");
            (Kind::Phase, format!("churn: {each} each on {}", names(&churn.nodes)))
        }
        Planned::Crash(death_event) => death("daemon is killed", death_event.before_operation),
        Planned::PowerLoss(loss) => death(
            match loss.keeps {
                Keeps::Nothing => "loses power, and all that was not synced",
                Keeps::Some => "loses power, and some of what was not synced",
                Keeps::Journal => "loses power, and the end of its file system's journal",
            },
            loss.before_operation,
        ),
        Planned::Stop(_) => (Kind::Fault, "daemon hangs (SIGSTOP)".into()),
        Planned::Continue(_) => (Kind::Repair, "daemon goes on (SIGCONT)".into()),
        Planned::Restart(_) => (Kind::Fault, "daemon is told to restart".into()),
        // The daemon says so itself.
        Planned::Start(_) => (Kind::Detail, "is started".into()),
        Planned::Partition(partition) => {
            let (left, right) = (names(&partition.between.0), names(&partition.between.1));
            let arrow = match partition.direction {
                Direction::Both => "between",
                Direction::Forward => "one way, from",
                Direction::Backward => "one way, to",
            };
            let joint = match partition.direction {
                Direction::Both => "and",
                Direction::Forward => "to",
                Direction::Backward => "from",
            };
            (Kind::Fault, format!("the network is cut {arrow} {left} {joint} {right}"))
        }
        Planned::Hold(hold) => {
            let (left, right) = (names(&hold.between.0), names(&hold.between.1));
            (Kind::Fault, format!("the network holds everything back between {left} and {right}"))
        }
        Planned::CutConnections(cut) => {
            let (left, right) = (names(&cut.between.0), names(&cut.between.1));
            (Kind::Fault, format!("connections between {left} and {right} are lost"))
        }
        Planned::Heal(_) => (Kind::Repair, "the network is whole again".into()),
        Planned::DiskFault(fault) => {
            let trouble = format!("{:?}", fault.error);
            (
                Kind::Fault,
                format!("from here on some calls come to this: {}", trouble_text(&trouble)),
            )
        }
        Planned::Quota(quota) => match quota.bytes {
            Some(_) => (Kind::Fault, "may have no more than its quota".into()),
            None => (Kind::Repair, "has no quota any more".into()),
        },
        Planned::DiskFull(_) => (Kind::Fault, "disk is full".into()),
        Planned::DiskFree(_) => (Kind::Repair, "disk has room again".into()),
        Planned::Clock(_) => (Kind::Fault, "clock is wrong from here on".into()),
        Planned::WatchOverflow(_) => (Kind::Fault, "watcher loses count".into()),
        Planned::WatchLimit(limit) => {
            (Kind::Fault, format!("only {} watches are allowed", limit.watches))
        }
        Planned::WipeIndex(_) => (Kind::Fault, "index is wiped".into()),
        Planned::SaveIndex(_) => (Kind::Note, "index is saved".into()),
        Planned::RestoreFiles(_) => (Kind::Fault, "old files are restored".into()),
        Planned::Reload(reload) => match &reload.ring {
            Some(ring) => (Kind::Fault, format!("is told that the ring is {}", names(ring))),
            None => (Kind::Repair, "is told of the whole ring".into()),
        },
        Planned::Flush(_) => (Kind::Note, "is asked to flush".into()),
        Planned::RestoreIndex(_) => (Kind::Fault, "an old index is restored".into()),
        other if other.paths().is_empty() => (Kind::Fault, other.key().replace('-', " ")),
        other => (Kind::Detail, format!("planned: {}", other.key())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, detail: &str) -> Mark {
        let lanes = ["apollo".to_owned()];
        let mut reader = Reader::new(&lanes);
        reader.told(&Event { number: 0, at_ns: 1, node: "apollo", kind, detail }, Some(0))
    }

    #[test]
    fn every_line_says_what_it_means() {
        for (kind, detail, class, text) in [
            ("app", "upload a b/c 5120", Kind::Application, "uploads a b/c 5,120 bytes"),
            (
                "app",
                "upload a failed 28",
                Kind::Application,
                "uploads a failed: No space left on device",
            ),
            ("app", "delete a b 0", Kind::Application, "deletes a b"),
            ("app", "rename to c: a b 0", Kind::Application, "renames a b to c"),
            (
                "rename",
                "/srv/files/.chainsync/staging/7-1 /srv/files/a b",
                Kind::Published,
                "publishes a b",
            ),
            (
                "rename",
                "/srv/files/a b /srv/files/.chainsync/staging/7-1",
                Kind::Removed,
                "takes away a b",
            ),
            (
                "exchange",
                "/srv/files/.chainsync/staging/7-1 /srv/files/a",
                Kind::Published,
                "publishes a over what was there",
            ),
            ("rename", "/srv/files/a /srv/files/b", Kind::Published, "renames a to b"),
            (
                "write",
                "/srv/files/.chainsync/staging/7-1 12",
                Kind::Detail,
                "writes 12 bytes, of its own",
            ),
            ("unlink", "/srv/files/a b", Kind::Removed, "takes away a b"),
            ("watch", "Finished a b", Kind::Hint, "watcher reports a b"),
            ("watch", "Overflow", Kind::Note, "the watcher says: Overflow"),
            ("probe", "Archived", Kind::Note, "puts a content into its archive"),
            ("start", "3", Kind::Repair, "daemon starts again"),
            (
                "fault",
                "Io IndexSync",
                Kind::Note,
                "a call (index sync) comes to this: input/output error",
            ),
            ("mkdir", "/srv/files/.chainsync", Kind::Detail, "makes the directory of its own"),
            ("eio", "at /srv/files/a x", Kind::Detail, "eio at /srv/files/a x a"),
        ] {
            let mark = read(kind, detail);
            assert_eq!((mark.kind, mark.text().as_str()), (class, text), "{kind} {detail}");
        }
        assert!(read("app", "rename to c: a b 0").touches("c"));
        assert!(read("eio", "at /srv/files/a x").touches("a"));
    }
}
