//! S5: what was acknowledged survives power loss.
//!
//! An acknowledgement says that the contents of a batch are durable at the node that sends it; of a
//! large content, which travels apart, it says nothing. So whatever the power does afterwards, to
//! its origin, to the acknowledger or to both, the content is in the ring in the end; the oracle
//! excuses no loss of it ([`acknowledged`]). That nobody has to send it again is seen by S9, which
//! calls it S5 when the receiver's power had failed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use crate::frames::{FrameRecord, Frames};

/// A content at a path.
pub(crate) type Held = (Vec<u8>, ContentHash);

/// What any node has acknowledged so far, with its content.
pub(crate) fn acknowledged(frames: &Frames) -> BTreeSet<Held> {
    let acknowledged = Acknowledged::of(frames);
    let batches = frames.sent.iter().filter(|frame| acknowledged.at(frame).is_some());
    let entries = batches.flat_map(|frame| &frame.entries).filter(|entry| entry.inline);
    entries.filter_map(|entry| Some((entry.path.clone(), entry.hash?))).collect()
}

/// The number of a batch, when its acknowledgement was said, and when it was heard.
type Acknowledgement = (u64, u64, Option<u64>);

/// Which batches were acknowledged, and when.
pub(crate) struct Acknowledged<'a> {
    /// By connection and the node that acknowledges, in order.
    by_connection: BTreeMap<(u64, &'a str), Vec<Acknowledgement>>,
}

impl<'a> Acknowledged<'a> {
    pub(crate) fn of(frames: &'a Frames) -> Self {
        let mut by_connection: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for frame in frames.sent.iter().filter(|frame| frame.kind == "Ack") {
            let acknowledgements =
                by_connection.entry((frame.connection, frame.from.as_str())).or_default();
            let said = |number| (number, frame.sent_ns, frame.received_ns);
            acknowledgements.extend(frame.batch.map(said));
        }
        Self { by_connection }
    }

    /// When a batch was acknowledged, by its receiver.
    pub(crate) fn at(&self, batch: &FrameRecord) -> Option<u64> {
        self.since(batch).next().map(|(_, said_ns, _)| *said_ns)
    }

    /// When its sender heard of it. `None`: it never did, the connection ended before.
    pub(crate) fn heard(&self, batch: &FrameRecord) -> Option<u64> {
        self.since(batch).find_map(|(_, _, heard_ns)| *heard_ns)
    }

    /// The acknowledgements that say that a batch is safe: batches are acknowledged in order.
    fn since<'b>(&'b self, batch: &'b FrameRecord) -> impl Iterator<Item = &'b Acknowledgement> {
        let number = batch.batch.filter(|_| batch.kind == "Batch");
        let all = self.by_connection.get(&(batch.connection, batch.to.as_str()));
        let since = number
            .zip(all)
            .map(|(number, all)| &all[all.partition_point(|(other, _, _)| *other < number)..]);
        since.unwrap_or_default().iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Content;
    use crate::oracle::Oracle;

    #[test]
    fn what_was_acknowledged_is_not_excused() {
        let content = Content::new(b"an upload".to_vec());
        let hash = ContentHash::of(&content);
        for (acknowledged_batch, inline, excused) in [
            (Some(2), true, false),
            (Some(1), true, true),
            (None, true, true),
            (Some(2), false, true),
        ] {
            let mut frames = Frames::default();
            frames.sent.push(FrameRecord {
                from: "apollo".into(),
                to: "hermes".into(),
                kind: "Batch",
                batch: Some(2),
                entries: vec![crate::frames::EntryRecord {
                    path: b"a".to_vec(),
                    kind: "file",
                    hash: Some(hash),
                    inline,
                }],
                ..FrameRecord::default()
            });
            frames.sent.extend(acknowledged_batch.map(|number| FrameRecord {
                from: "hermes".into(),
                to: "apollo".into(),
                kind: "Ack",
                batch: Some(number),
                ..FrameRecord::default()
            }));
            let mut oracle = Oracle::default();
            oracle.node_names = vec!["apollo".into(), "hermes".into()];
            let id = oracle.announce(0, b"a", None, &content);
            oracle.finished(id, 1);
            oracle.survived(2, 0, &[], &acknowledged(&frames));
            assert_eq!(oracle.uploads[id].excused, excused, "{acknowledged_batch:?} {inline}");
        }
    }
}
