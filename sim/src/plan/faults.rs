//! What happens to nodes, links and disks in a plan.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use toml::Spanned;

use super::draw::log_between;
use super::operations::{AWAY, pick, text};
use crate::fs::{CallClass, Trouble};
use crate::rng::Stream;
use crate::scenario::{
    ClockEvent, CutConnectionsEvent, DeathEvent, Direction, DiskFaultEvent, Event, HealEvent,
    HoldEvent, Keeps, NodeEvent, NoticedBy, PartitionEvent, PowerLossEvent, QuotaEvent, Scenario,
    SignedSpan, Size, Span, WatchLimitEvent,
};

/// The classes of faults of one run.
pub(super) struct Faults {
    classes: Vec<Class>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Crash,
    CrashAtOperation,
    PowerLoss,
    PowerLossAtOperation,
    Restart,
    Hang,
    Partition,
    Hold,
    DiskFull,
    Clock,
    WatchOverflow,
    WatchLimit,
    WipeIndex,
    RestoreIndex,
    CutConnections,
    DiskErrors,
    SlowDisk,
    Quota,
    Unmount,
}

const CLASSES: [Class; 19] = [
    Class::Crash,
    Class::CrashAtOperation,
    Class::PowerLoss,
    Class::PowerLossAtOperation,
    Class::Restart,
    Class::Hang,
    Class::Partition,
    Class::Hold,
    Class::DiskFull,
    Class::Clock,
    Class::WatchOverflow,
    Class::WatchLimit,
    Class::WipeIndex,
    Class::RestoreIndex,
    Class::CutConnections,
    Class::DiskErrors,
    Class::SlowDisk,
    Class::Quota,
    Class::Unmount,
];

/// How long a fault lasts, in milliseconds: shorter than a heartbeat, and longer than a node may be
/// silent.
const LASTS_MS: (u64, u64) = (20, 9_000);
/// Disk operations of a daemon within which it dies.
const OPERATIONS: (u64, u64) = (1, 300);
/// Crystals are off by tens of millionths, virtual machines by thousands.
const DRIFT_MAX: u64 = 10_000;
/// Clocks are off by up to an hour.
const SKEW_MS: (u64, u64) = (1, 3_600_000);

impl Faults {
    pub(super) fn draw(rng: &mut Stream, clashes: bool) -> Self {
        let mut classes: Vec<Class> = CLASSES.to_vec();
        classes.retain(|class| rng.one_in(4) || (clashes && *class == Class::RestoreIndex));
        Self { classes }
    }

    /// Adds up to `count` faults that begin within `span`.
    pub(super) fn add(&self, plan: &mut Scenario, rng: &mut Stream, count: u64, span: Duration) {
        if self.classes.is_empty() {
            return;
        }
        for _ in 0..count {
            let begin = Duration::from_micros(rng.between(0, span.as_micros() as u64));
            let lasts = Duration::from_millis(log_between(rng, LASTS_MS.0, LASTS_MS.1));
            let class = *pick(rng, &self.classes);
            let events = fault(plan, rng, class, begin, lasts);
            if is_excepted(plan, &events) {
                continue;
            }
            for (time, event) in events {
                plan.add(time, event);
            }
        }
    }
}

/// What docs/ALGORITHM.md, section 9, excepts, so that nobody can say what is right:
///
/// - a node that loses its root and all that says that it has one cannot be told from a new one, and
///   begins in the empty mount point;
/// - a node whose index is lost or rolled back has nothing but the clocks to tell what its edits were
///   made on, and one of them is wrong: its own, or that of whoever made what it edits;
/// - a node whose index is rolled back cannot tell that a directory was moved away and back.
fn is_excepted(plan: &Scenario, events: &[(Duration, Event)]) -> bool {
    let planned = plan.events.iter().map(|timed| &timed.event);
    let all: Vec<&Event> = planned.chain(events.iter().map(|(_, event)| event)).collect();
    let is_one = |forgets: &Event, other: &Event| {
        let node = |event: &Event| event.nodes().first().map(|name| name.get_ref().clone());
        match (forgets, other) {
            (Event::WipeIndex(_) | Event::RestoreIndex(_), Event::Clock(_)) => true,
            (Event::WipeIndex(_), Event::UnmountRoot(_)) => node(forgets) == node(other),
            (Event::RestoreIndex(_), Event::Rename(back)) => {
                back.from.get_ref() == AWAY && node(forgets) == node(other)
            }
            _ => false,
        }
    };
    all.iter().any(|forgets| all.iter().any(|other| is_one(forgets, other)))
}

/// One fault, from its beginning to its end.
fn fault(
    plan: &Scenario,
    rng: &mut Stream,
    class: Class,
    begin: Duration,
    lasts: Duration,
) -> Vec<(Duration, Event)> {
    let end = begin + lasts;
    let node = text(pick(rng, &plan.nodes).to_string());
    let of = |node: &Spanned<String>| NodeEvent { node: node.clone() };
    let back_after = Some(Span(lasts));
    match class {
        Class::Crash | Class::CrashAtOperation => {
            let exact = class == Class::CrashAtOperation;
            let before_operation = exact.then(|| operation(rng)).flatten();
            vec![(begin, Event::Crash(DeathEvent { node, before_operation, back_after }))]
        }
        Class::PowerLoss | Class::PowerLossAtOperation => {
            let exact = class == Class::PowerLossAtOperation;
            let before_operation = exact.then(|| operation(rng)).flatten();
            let keeps = *pick(rng, &[Keeps::Nothing, Keeps::Some, Keeps::Journal]);
            let event = PowerLossEvent { node, before_operation, back_after, keeps };
            vec![(begin, Event::PowerLoss(event))]
        }
        Class::Restart => vec![(begin, Event::Restart(of(&node)))],
        Class::Hang => {
            vec![(begin, Event::Stop(of(&node))), (end, Event::Continue(of(&node)))]
        }
        Class::Partition => {
            let direction = *pick(
                rng,
                &[Direction::Both, Direction::Both, Direction::Forward, Direction::Backward],
            );
            let between = groups(plan, rng);
            let partition = Event::Partition(PartitionEvent { between, direction });
            vec![(begin, partition), (end, Event::Heal(HealEvent {}))]
        }
        Class::Hold => {
            let hold = Event::Hold(HoldEvent { between: groups(plan, rng) });
            vec![(begin, hold), (end, Event::Heal(HealEvent {}))]
        }
        Class::DiskFull => {
            vec![(begin, Event::DiskFull(of(&node))), (end, Event::DiskFree(of(&node)))]
        }
        Class::Clock => {
            let span = Duration::from_millis(log_between(rng, SKEW_MS.0, SKEW_MS.1));
            let skew = SignedSpan { negative: rng.one_in(2), span };
            let drift = rng.one_in(2).then(|| log_between(rng, 1, DRIFT_MAX) as i64);
            let drift = drift.map(|drift| if rng.one_in(2) { -drift } else { drift });
            vec![(begin, Event::Clock(ClockEvent { node, skew, drift }))]
        }
        Class::WatchOverflow => vec![(begin, Event::WatchOverflow(of(&node)))],
        Class::WatchLimit => {
            let watches = log_between(rng, 1, 16);
            vec![(begin, Event::WatchLimit(WatchLimitEvent { node, watches }))]
        }
        Class::WipeIndex => {
            let (crash, start) = down(&node);
            let wipe = Event::WipeIndex(of(&node));
            vec![(begin, crash), (begin, wipe), (end, start)]
        }
        Class::RestoreIndex => {
            let (crash, start) = down(&node);
            let again = end + Duration::from_millis(log_between(rng, 50, 4_000));
            let back = again + Duration::from_millis(log_between(rng, 1, 2_000));
            vec![
                (begin, crash.clone()),
                (begin, Event::SaveIndex(of(&node))),
                (end, start.clone()),
                (again, crash),
                (again, Event::RestoreIndex(of(&node))),
                (back, start),
            ]
        }
        Class::CutConnections => {
            let noticed_by = *pick(
                rng,
                &[NoticedBy::Both, NoticedBy::Both, NoticedBy::First, NoticedBy::Second],
            );
            let between = groups(plan, rng);
            let cut = CutConnectionsEvent { between, noticed_by };
            vec![(begin, Event::CutConnections(cut))]
        }
        Class::DiskErrors => {
            let (error, on) = error(rng);
            let exact = rng.one_in(3);
            let one_in = (!exact).then(|| NonZeroU64::new(log_between(rng, 2, 200))).flatten();
            let at_operation = exact.then(|| operation(rng)).flatten();
            let lasts = Some(Span(lasts));
            let fault = DiskFaultEvent { node, error, on, one_in, at_operation, lasts, by: None };
            vec![(begin, Event::DiskFault(fault))]
        }
        Class::SlowDisk => {
            let by = Some(Span(Duration::from_millis(log_between(rng, 1, 1_000))));
            let one_in = NonZeroU64::new(log_between(rng, 1, 50));
            let (on, lasts) = (BTreeSet::new(), Some(Span(lasts)));
            let error = Trouble::Slow;
            let fault = DiskFaultEvent { node, error, on, one_in, at_operation: None, lasts, by };
            vec![(begin, Event::DiskFault(fault))]
        }
        Class::Quota => {
            let bytes = Some(Size(log_between(rng, 1 << 10, 1 << 20)));
            let full = Event::Quota(QuotaEvent { node: node.clone(), bytes });
            vec![(begin, full), (end, Event::Quota(QuotaEvent { node, bytes: None }))]
        }
        Class::Unmount => {
            vec![(begin, Event::UnmountRoot(of(&node))), (end, Event::MountRoot(of(&node)))]
        }
    }
}

/// An error, and the calls that it befalls: of the file system, or of the index.
fn error(rng: &mut Stream) -> (Trouble, BTreeSet<CallClass>) {
    let errors =
        [Trouble::Io, Trouble::Full, Trouble::OverQuota, Trouble::Exhausted, Trouble::Forbidden];
    let error = *pick(rng, &errors);
    // A sync that failed on the node that was written to, and a power loss there: what was uploaded is
    // lost, because the next sync says yes. Known (docs/ALGORITHM.md, section 9), so not drawn.
    let usual = error.usual().into_iter().filter(|class| *class != CallClass::Sync);
    let usual: Vec<CallClass> = usual.collect();
    let on = match rng.between(0, 4) {
        0 if error == Trouble::Io => {
            [*pick(rng, &[CallClass::IndexRead, CallClass::IndexWrite, CallClass::IndexSync])]
                .into()
        }
        0 | 1 => usual.into_iter().collect(),
        _ => [*pick(rng, &usual)].into(),
    };
    (error, on)
}

fn down(node: &Spanned<String>) -> (Event, Event) {
    let node = node.clone();
    let crash = DeathEvent { node: node.clone(), before_operation: None, back_after: None };
    (Event::Crash(crash), Event::Start(NodeEvent { node }))
}

fn operation(rng: &mut Stream) -> Option<NonZeroU64> {
    NonZeroU64::new(log_between(rng, OPERATIONS.0, OPERATIONS.1))
}

/// Two groups of nodes, neither of them empty.
fn groups(plan: &Scenario, rng: &mut Stream) -> (Vec<Spanned<String>>, Vec<Spanned<String>>) {
    let names: Vec<String> = plan.nodes.iter().map(ToString::to_string).collect();
    let alone = rng.between(0, names.len() as u64 - 1) as usize;
    let other = (alone + 1 + rng.between(0, names.len() as u64 - 2) as usize) % names.len();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (index, name) in names.into_iter().enumerate() {
        // The rest of the ring is on either side, or on none and sees both.
        let side = match index {
            _ if index == alone => 0,
            _ if index == other => 1,
            _ => rng.between(0, 2),
        };
        match side {
            0 => left.push(text(name)),
            1 => right.push(text(name)),
            _ => {}
        }
    }
    (left, right)
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<String> =
            self.classes.iter().map(|class| format!("{class:?}").to_lowercase()).collect();
        f.write_str(&names.join(", "))
    }
}
