//! S9 on the wire: each content crosses each link at most once per connection, and again only if that
//! connection ended before its batch was acknowledged; nothing goes back to its origin.
//!
//! A content that the application put at a path more than once (it renamed it there and back, it
//! changed its mode) is as many versions, and may cross as often. A node whose index was lost or
//! restored has forgotten what it knew: links to and from it are not judged, and as it imports its
//! tree, each content in it is a version of its own, which the others lack. Copies that a
//! policy makes are not judged, several nodes may make them; an edit that is made again over a deletion
//! crosses again, once for each deletion at most. Own writes that cause batches show in the daemons'
//! counters (`s09_echo`).

use std::collections::BTreeMap;

use chainsync_core::ContentHash;
use chainsync_core::policy::is_copy;

use super::Invariant;
use super::s05_acknowledged::Acknowledged;
use crate::failure::Failure;
use crate::frames::{FrameRecord, Frames};
use crate::ledger::{IncidentKind, Ledger};

/// `names`: the nodes, in ring order. `again`: edits are made again that lost to a deletion.
pub(crate) fn crossings(
    ledger: &Ledger,
    names: &[&str],
    frames: &Frames,
    again: bool,
) -> Result<(), Failure> {
    let acknowledged = Acknowledged::of(frames);
    let imports = ledger.incidents().iter().filter(|incident| {
        matches!(incident.kind, IncidentKind::IndexLost | IncidentKind::IndexRestored)
    });
    let imports: Vec<usize> = imports.map(|incident| incident.node).collect();
    let index = |name: &str| names.iter().position(|other| *other == name);
    let mut crossed: BTreeMap<(&str, &str, &[u8], ContentHash), Crossed> = BTreeMap::new();
    for frame in &frames.sent {
        let (Some(from), Some(to)) = (index(&frame.from), index(&frame.to)) else { continue };
        if imports.contains(&from) || imports.contains(&to) {
            continue;
        }
        for entry in frame.entries.iter().filter(|entry| entry.inline && !is_copy(&entry.path)) {
            let Some(hash) = entry.hash else { continue };
            let facts = ledger.of(&entry.path, &hash);
            let puts = facts.iter().filter(|fact| fact.what.puts()).map(|fact| fact.node);
            let puts: Vec<usize> = puts.chain(imports.iter().copied()).collect();
            if facts.is_empty() {
                // So small that it is not one upload's alone.
                continue;
            }
            let blame = |failure: Failure| failure.on(&frame.from).at_path(&entry.path);
            // What a power loss took may be asked for again.
            let lost_power = ledger.incidents().iter().any(|incident| {
                (incident.node, incident.kind) == (to, IncidentKind::LostPower)
                    && incident.at_ns <= frame.sent_ns
            });
            let arrived = frame.received_ns.is_some();
            let removals = if again { ledger.removals(&entry.path) as usize } else { 0 };
            if arrived
                && !lost_power
                && removals == 0
                && !puts.is_empty()
                && puts.iter().all(|node| *node == to)
            {
                return Err(blame(returned(frame)));
            }
            let key = (frame.from.as_str(), frame.to.as_str(), entry.path.as_slice(), hash);
            let crossed = crossed.entry(key).or_default();
            crossed.judge(frame, puts.len().max(1) + removals, ledger, to).map_err(blame)?;
            if crossed.connection != frame.connection {
                (crossed.connection, crossed.on_it) = (frame.connection, 0);
            }
            crossed.on_it += 1;
            if let Some(at_ns) = acknowledged.heard(frame) {
                crossed.acknowledged += 1;
                crossed.last_ns = at_ns;
            }
        }
    }
    Ok(())
}

/// How often a content has crossed a link.
#[derive(Default)]
struct Crossed {
    /// On which connection last, and how often on that one.
    connection: u64,
    on_it: usize,
    /// In batches that were acknowledged, on all connections; the last of them when.
    acknowledged: usize,
    last_ns: u64,
}

impl Crossed {
    /// Whether it may cross once more.
    fn judge(
        &self,
        frame: &FrameRecord,
        versions: usize,
        ledger: &Ledger,
        to: usize,
    ) -> Result<(), Failure> {
        let (from_name, to_name) = (&frame.from, &frame.to);
        if self.connection == frame.connection && self.on_it >= versions {
            let sentence =
                format!("{from_name} sent {to_name} the same content again on the same connection");
            return Err(Failure::new(Invariant::S9, frame.sent_ns, sentence));
        }
        // What is asked for again before its acknowledgement has come back was never known.
        if self.acknowledged < versions || frame.sent_ns <= self.last_ns {
            return Ok(());
        }
        let lost_power = ledger.incidents().iter().any(|incident| {
            incident.node == to
                && incident.kind == IncidentKind::LostPower
                && (self.last_ns..=frame.sent_ns).contains(&incident.at_ns)
        });
        let (invariant, why) = match lost_power {
            true => (Invariant::S5, "has lost it with its power"),
            false => (Invariant::S9, "is sent it again"),
        };
        let sentence = format!(
            "{to_name} had acknowledged this content to {from_name} at {:.6} s, and {why}",
            self.last_ns as f64 / 1e9
        );
        Err(Failure::new(invariant, frame.sent_ns, sentence))
    }
}

fn returned(frame: &FrameRecord) -> Failure {
    let sentence =
        format!("{} sent this content to {}, where it had been written", frame.from, frame.to);
    Failure::new(Invariant::S9, frame.sent_ns, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::EntryRecord;
    use crate::ledger::{Fact, What};

    const NAMES: [&str; 2] = ["apollo", "hermes"];

    fn batch(connection: u64, number: u64, from: usize, sent_ns: u64) -> FrameRecord {
        FrameRecord {
            connection,
            from: NAMES[from].into(),
            to: NAMES[1 - from].into(),
            kind: "Batch",
            sent_ns,
            received_ns: Some(sent_ns + 1),
            batch: Some(number),
            entries: vec![EntryRecord {
                path: b"a".to_vec(),
                kind: "file",
                hash: Some(ContentHash::of(b"x")),
                inline: true,
            }],
            ..FrameRecord::default()
        }
    }

    fn ack(connection: u64, number: u64, sent_ns: u64) -> FrameRecord {
        let frame = batch(connection, number, 1, sent_ns);
        FrameRecord { kind: "Ack", entries: Vec::new(), ..frame }
    }

    fn judge(ledger: &Ledger, sent: &[FrameRecord]) -> Option<Invariant> {
        let frames = Frames { sent: sent.to_vec(), ..Frames::default() };
        crossings(ledger, &NAMES, &frames, false).err().map(|failure| failure.invariant)
    }

    #[test]
    fn a_content_crosses_once_until_it_is_acknowledged() {
        let mut ledger = Ledger::default();
        let put = |node| Fact { at_ns: 0, node, what: What::Put };
        ledger.note(b"a", ContentHash::of(b"x"), put(0));
        let once = [batch(1, 1, 0, 1)];
        assert_eq!(judge(&ledger, &once), None);
        assert_eq!(judge(&ledger, &[batch(1, 1, 0, 1), batch(1, 2, 0, 2)]), Some(Invariant::S9));
        // The connection ended first.
        assert_eq!(judge(&ledger, &[batch(1, 1, 0, 1), batch(2, 1, 0, 2)]), None);
        let again = [batch(1, 1, 0, 1), ack(1, 1, 2), batch(2, 1, 0, 9)];
        assert_eq!(judge(&ledger, &again), Some(Invariant::S9));
        // The acknowledgement was lost with its connection.
        let unheard = FrameRecord { received_ns: None, ..ack(1, 1, 2) };
        assert_eq!(judge(&ledger, &[batch(1, 1, 0, 1), unheard, batch(2, 1, 0, 9)]), None);
        ledger.happened(5, 1, IncidentKind::LostPower);
        assert_eq!(judge(&ledger, &again), Some(Invariant::S5));
        ledger.happened(6, 1, IncidentKind::IndexLost);
        assert_eq!(judge(&ledger, &again), None);
    }

    #[test]
    fn a_node_that_has_lost_its_index_makes_versions_of_its_own() {
        let mut ledger = Ledger::default();
        let put = Fact { at_ns: 0, node: 0, what: What::Put };
        ledger.note(b"a", ContentHash::of(b"x"), put);
        assert_eq!(judge(&ledger, &[batch(1, 1, 1, 1)]), Some(Invariant::S9));
        ledger.happened(0, 2, IncidentKind::IndexLost);
        assert_eq!(judge(&ledger, &[batch(1, 1, 1, 1)]), None);
    }

    #[test]
    fn nothing_goes_back_to_its_origin() {
        let mut ledger = Ledger::default();
        let hash = ContentHash::of(b"x");
        ledger.note(b"a", hash, Fact { at_ns: 0, node: 0, what: What::Put });
        assert_eq!(judge(&ledger, &[batch(1, 1, 1, 1)]), Some(Invariant::S9));
        // To a daemon that is gone.
        let unread = FrameRecord { received_ns: None, ..batch(1, 1, 1, 1) };
        assert_eq!(judge(&ledger, &[unread]), None);
        // Renamed there, and so hermes' version as well: it may come, and cross twice.
        ledger.note(b"a", hash, Fact { at_ns: 0, node: 1, what: What::Put });
        assert_eq!(judge(&ledger, &[batch(1, 1, 1, 1), batch(1, 2, 1, 1)]), None);
        let thrice = [batch(1, 1, 1, 1), batch(1, 2, 1, 1), batch(1, 3, 1, 1)];
        assert_eq!(judge(&ledger, &thrice), Some(Invariant::S9));
    }
}
