//! S6: the index is never ahead of the disk: what a power loss took is not missed by the index, so no
//! daemon takes the loss for a deletion.
//!
//! Seen in two places: at a disk, when a daemon removes what nobody removed ([`removed`], asked by
//! S8), and on the wire, when one sends a tombstone for a path that nobody removed ([`tombstones`]),
//! which is earlier. That nothing is missing in the end is L1, that no content is lost S3.

use super::Invariant;
use crate::failure::Failure;
use crate::frames::Frames;
use crate::ledger::Ledger;

/// A daemon removed what nobody removed: is it a loss that was taken for a deletion?
pub(crate) fn removed(ledger: &Ledger, path: &[u8], now_ns: u64) -> Result<(), Failure> {
    if !ledger.lost_power() {
        return Ok(());
    }
    let sentence = "the daemon removed what nobody had removed, on any node: what a power loss took \
                    was taken for a deletion";
    Err(Failure::new(Invariant::S6, now_ns, sentence).at_path(path))
}

/// Every tombstone that was sent is about a path that somebody removed; or chainsync did, to put a file in
/// the place of its directory, and the index that knew of it was rolled back (docs/ALGORITHM.md, section 9).
pub(crate) fn tombstones(ledger: &Ledger, frames: &Frames) -> Result<(), Failure> {
    for frame in &frames.sent {
        for entry in frame.entries.iter().filter(|entry| entry.kind == "tombstone") {
            if ledger.was_removed(&entry.path) || ledger.may_seem_removed(&entry.path) {
                continue;
            }
            let (invariant, why) = match ledger.lost_power() {
                true => (Invariant::S6, "what a power loss took was taken for a deletion"),
                false => (Invariant::S8, "an accident was taken for a deletion"),
            };
            let sentence = format!(
                "{} told {} that this was deleted, and nobody had deleted it: {why}",
                frame.from, frame.to
            );
            let failure = Failure::new(invariant, frame.sent_ns, sentence);
            return Err(failure.on(&frame.from).at_path(&entry.path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{EntryRecord, FrameRecord};
    use crate::ledger::IncidentKind;

    #[test]
    fn a_tombstone_that_nobody_asked_for_is_seen() {
        let entry = |path: &[u8], kind| EntryRecord {
            path: path.to_vec(),
            kind,
            hash: None,
            inline: false,
        };
        let frame = |entries| FrameRecord {
            from: "apollo".into(),
            to: "hermes".into(),
            kind: "Batch",
            sent_ns: 7,
            entries,
            ..FrameRecord::default()
        };
        let mut ledger = Ledger::default();
        ledger.removed(b"d");
        let good = vec![entry(b"d", "tombstone"), entry(b"d/x", "tombstone"), entry(b"e", "dir")];
        let mut frames = Frames { sent: vec![frame(good)], ..Frames::default() };
        assert_eq!(tombstones(&ledger, &frames), Ok(()));
        frames.sent.push(frame(vec![entry(b"e", "tombstone")]));
        let judge = |ledger: &Ledger| tombstones(ledger, &frames).unwrap_err();
        assert_eq!(judge(&ledger).invariant, Invariant::S8);
        ledger.happened(1, 0, IncidentKind::LostPower);
        let failure = judge(&ledger);
        assert_eq!((failure.invariant, failure.at_ns), (Invariant::S6, 7));
        assert_eq!(failure.path.as_deref(), Some("e"));
    }
}
