//! S10: every bound holds.
//!
//! Open handles, watches, staging and connection attempts are looked at while the world runs
//! ([`Bounds`]); batches and windows on the wire at the end ([`frames_within`]). What a daemon keeps
//! in memory cannot be seen from outside: its queues show as windows and in staging.

use std::collections::BTreeMap;

use chainsync_core::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, INLINE_BYTES_MAX};
use chainsync_core::wire::FRAME_BYTES_MAX;

use super::l03_leftovers::staging;
use super::{Invariant, Machines};
use crate::failure::Failure;
use crate::frames::Frames;
use crate::fs::Leaf;
use crate::shared::lock;

/// Between two steps: the roots, files that are hashed by tasks of their own, and what is held because
/// somebody may still write to it. Far below the 1,024 that a service gets without asking; 4 were
/// seen.
const HANDLES_MAX: usize = 64;
/// When nothing happens: the roots of share and watcher, and a task that looks at a large file; 3
/// were seen.
const HANDLES_QUIET_MAX: usize = 6;
/// Watches beyond one a directory: the root, its parent and the directory of cookies.
const WATCHES_EXTRA_MAX: usize = 3;
/// A link tries each nearer node once a second, its target again after a pause, and whoever comes
/// back is called by its neighbours: so many attempts a second for each other node, and for each
/// daemon that was started in that second.
const CONNECTS_PER_PEER_MAX: u64 = 5;
/// Contents that wait in staging to be published, those of large files apart: the batch that is being
/// staged, those in the queue before it, and what was displaced by them.
const STAGING_BYTES_MAX: u64 = 8 * (BATCH_BYTES_MAX as u64 + INLINE_BYTES_MAX);
/// Entries and cursors of a batch, beside its contents.
const BATCH_OVERHEAD_BYTES_MAX: u64 = 1 << 20;
/// As the engine has it (`WINDOW_BATCHES`): batches sent and not acknowledged, on one connection.
const WINDOW_BATCHES_MAX: usize = 6;
/// What a limited link may carry at once: a few of the pieces that it is sent in.
const BURST_BYTES_MAX: u64 = 64 << 10;
/// How often staging is looked at, in steps: listing it costs.
const STAGING_EVERY: u64 = 64;
const SECOND_NS: u64 = 1_000_000_000;

/// What is remembered from step to step.
#[derive(Debug, Default)]
pub struct Bounds {
    steps: u64,
    /// The second that is being counted, and each node's attempts before it.
    second_ns: u64,
    connects: Vec<u64>,
    /// Daemons started on each node.
    starts: Vec<u64>,
    /// The highest that was seen, by what it is.
    pub highest: BTreeMap<&'static str, u64>,
}

impl Bounds {
    /// Looks at everything that may not grow.
    pub(crate) fn look(&mut self, machines: &Machines, now_ns: u64) -> Result<(), Failure> {
        for machine in machines {
            let handles = lock(&machine.disk).handles;
            self.within("handles", handles as u64, HANDLES_MAX as u64, "open files", now_ns)
                .map_err(|failure| failure.on(&machine.name))?;
        }
        if self.steps.is_multiple_of(STAGING_EVERY) {
            for machine in machines {
                let bytes = staging_bytes(machine);
                self.within("staging", bytes, STAGING_BYTES_MAX, "bytes in staging", now_ns)
                    .map_err(|failure| failure.on(&machine.name))?;
            }
        }
        self.steps += 1;
        if now_ns >= self.second_ns + SECOND_NS || self.connects.is_empty() {
            let counts: Vec<u64> =
                machines.iter().map(|machine| machine.net.stats().connects).collect();
            let one = CONNECTS_PER_PEER_MAX * (machines.len() as u64).saturating_sub(1);
            let starts: Vec<u64> = machines.iter().map(|machine| machine.starts()).collect();
            let started = std::mem::replace(&mut self.starts, starts.clone());
            let before = std::mem::replace(&mut self.connects, counts.clone());
            self.second_ns = now_ns;
            let since = started.into_iter().zip(before).zip(starts.into_iter().zip(counts));
            for (machine, ((started, before), (starts, after))) in machines.iter().zip(since) {
                let attempts = after - before;
                let max = one * (1 + starts - started);
                self.within("connects", attempts, max, "connection attempts in a second", now_ns)
                    .map_err(|failure| failure.on(&machine.name))?;
            }
        }
        Ok(())
    }

    fn within(
        &mut self,
        what: &'static str,
        value: u64,
        max: u64,
        words: &str,
        now_ns: u64,
    ) -> Result<(), Failure> {
        let highest = self.highest.entry(what).or_default();
        *highest = value.max(*highest);
        if value <= max {
            return Ok(());
        }
        let sentence = format!("the daemon has {value} {words}, and may have {max}");
        Err(Failure::new(Invariant::S10, now_ns, sentence))
    }

    /// When nothing happens, nothing is open that need not be: a leak would show.
    pub(crate) fn quiet(&mut self, machines: &Machines, now_ns: u64) -> Result<(), Failure> {
        for machine in machines {
            let (handles, watches, dirs) = {
                let disk = lock(&machine.disk);
                (disk.handles as u64, disk.kernel.count() as u64, disk.share_dirs() as u64)
            };
            let name = &machine.name;
            let handles_max = HANDLES_QUIET_MAX as u64;
            self.within("quiet handles", handles, handles_max, "open files at rest", now_ns)
                .map_err(|failure| failure.on(name))?;
            let watches_max = dirs + WATCHES_EXTRA_MAX as u64;
            self.within("quiet watches", watches, watches_max, "watches at rest", now_ns)
                .map_err(|failure| failure.on(name))?;
        }
        Ok(())
    }
}

/// Bytes of contents in staging, those of large files apart.
fn staging_bytes(machine: &crate::machine::Machine) -> u64 {
    let sizes = staging(machine).into_values().map(|leaf| match leaf {
        Leaf::File { content, .. } => content.len() as u64,
        Leaf::Dir { .. } | Leaf::Symlink { .. } => 0,
    });
    sizes.filter(|size| *size <= INLINE_BYTES_MAX).sum()
}

/// Batches and windows.
pub(crate) fn frames_within(frames: &Frames) -> Result<(), Failure> {
    let mut windows: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    for frame in &frames.sent {
        let fail = |sentence: String| {
            Err(Failure::new(Invariant::S10, frame.sent_ns, sentence).on(&frame.from))
        };
        let bytes_max = match frame.kind {
            "Batch" => BATCH_BYTES_MAX as u64 + INLINE_BYTES_MAX + BATCH_OVERHEAD_BYTES_MAX,
            _ => FRAME_BYTES_MAX as u64,
        };
        if frame.bytes > bytes_max {
            return fail(format!(
                "a frame ({}) to {} has {} bytes, and may have {bytes_max}",
                frame.kind, frame.to, frame.bytes
            ));
        }
        if frame.entries.len() > BATCH_ENTRIES_MAX {
            let entries = frame.entries.len();
            return fail(format!(
                "a batch to {} has {entries} entries, and may have {BATCH_ENTRIES_MAX}",
                frame.to
            ));
        }
        // The sender hears of an acknowledgement after it was sent, so this counts too few, if any.
        match frame.kind {
            "Batch" => {
                let window = windows.entry((frame.connection, &frame.to)).or_default();
                *window += 1;
                if *window > WINDOW_BATCHES_MAX {
                    return fail(format!(
                        "{window} batches to {} are not acknowledged, and {WINDOW_BATCHES_MAX} may be",
                        frame.to
                    ));
                }
            }
            "Ack" => {
                let window = windows.entry((frame.connection, &frame.from)).or_default();
                *window = window.saturating_sub(1);
            }
            _ => {}
        }
    }
    Ok(())
}

/// On no connection goes more than `limit` bytes a second, whoever sends: judged frame by frame, with a
/// bucket that drains at the limit. What a receiver says is not limited, and is far less.
pub(crate) fn bandwidth_within(frames: &Frames, limit: u64) -> Result<(), Failure> {
    let mut buckets: BTreeMap<(u64, &str), (u64, u64)> = BTreeMap::new();
    for frame in &frames.sent {
        let (level, since_ns) =
            buckets.entry((frame.connection, &frame.from)).or_insert((0, frame.sent_ns));
        let elapsed_ns = u128::from(frame.sent_ns.saturating_sub(*since_ns));
        let drained = elapsed_ns * u128::from(limit) / u128::from(SECOND_NS);
        // The first frame is not held against the time before it.
        let bytes =
            if elapsed_ns == 0 { frame.bytes.min(BURST_BYTES_MAX / 2) } else { frame.bytes };
        // A frame is on its way until its last byte is written: the time before that is its own.
        *level = (*level + bytes).saturating_sub(u64::try_from(drained).unwrap_or(u64::MAX));
        *since_ns = frame.sent_ns;
        if *level > BURST_BYTES_MAX {
            let sentence = format!(
                "the link to {} carries {level} bytes more than it may at {limit} bytes a second",
                frame.to
            );
            let failure = Failure::new(Invariant::S10, frame.sent_ns, sentence);
            return Err(failure.on(&frame.from));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{EntryRecord, FrameRecord};

    #[test]
    fn what_grows_beyond_its_limit_is_seen() {
        let mut bounds = Bounds::default();
        assert_eq!(bounds.within("handles", 3, 3, "open files", 0), Ok(()));
        let failure = bounds.within("handles", 4, 3, "open files", 7).unwrap_err();
        assert_eq!((failure.invariant, failure.at_ns), (Invariant::S10, 7));
        assert_eq!(bounds.highest["handles"], 4);
    }

    #[test]
    fn a_link_beyond_its_limit_is_seen() {
        let frame = |sent_ms: u64, bytes| FrameRecord {
            kind: "Batch",
            sent_ns: sent_ms * 1_000_000,
            bytes,
            ..FrameRecord::default()
        };
        let judge = |sent| bandwidth_within(&Frames { sent, ..Frames::default() }, 1 << 20);
        let mut sent: Vec<_> = (1..20).map(|second| frame(second * 1000, 1 << 20)).collect();
        assert_eq!(judge(sent.clone()), Ok(()));
        sent.push(frame(19_500, 1 << 20));
        assert!(judge(sent).is_err());
    }

    #[test]
    fn frames_beyond_their_limits_are_seen() {
        let frame = |kind, from: &str, to: &str| FrameRecord {
            kind,
            from: from.to_owned(),
            to: to.to_owned(),
            ..FrameRecord::default()
        };
        let batch = || frame("Batch", "apollo", "hermes");
        let judge =
            |sent: Vec<FrameRecord>| frames_within(&Frames { sent, ..Frames::default() }).err();
        let window = vec![batch(); WINDOW_BATCHES_MAX];
        assert_eq!(judge(window.clone()), None);
        let ack = frame("Ack", "hermes", "apollo");
        assert_eq!(judge([window.clone(), vec![ack, batch()]].concat()), None);
        assert!(judge([window, vec![batch()]].concat()).is_some());
        let entry = EntryRecord { path: b"a".to_vec(), kind: "dir", hash: None, inline: false };
        let entries = vec![entry; BATCH_ENTRIES_MAX + 1];
        assert!(judge(vec![FrameRecord { entries, ..batch() }]).is_some());
        assert!(judge(vec![FrameRecord { bytes: 7 << 20, ..batch() }]).is_some());
        let rows = frame("Rows", "apollo", "hermes");
        assert_eq!(judge(vec![FrameRecord { bytes: 7 << 20, ..rows.clone() }]), None);
        assert!(judge(vec![FrameRecord { bytes: 17 << 20, ..rows }]).is_some());
    }
}
