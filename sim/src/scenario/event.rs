//! The events of a scenario: what the world does, named as in real life.
//!
//! All of them are parsed everywhere; a backend that cannot do one says so before it starts
//! ([`Event::simulated`] is the simulation's answer).

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::disk::{DiskFaultEvent, QuotaEvent};
use super::units::{SignedSpan, Size, Span};
use crate::workload::Style;

/// A node's name, with its place in the file.
pub(super) type Name = Spanned<String>;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StormEvent {
    pub nodes: Vec<Name>,
    /// On each node.
    pub files: u64,
    pub size: Size,
    #[serde(default = "one")]
    pub directories: u64,
    /// How deep below each other the directories of a file are.
    #[serde(default = "one")]
    pub depth: u64,
    pub over: Span,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChurnEvent {
    pub nodes: Vec<Name>,
    /// Names that are used over and over.
    pub files: u64,
    pub size: Size,
    /// On each node.
    pub operations: u64,
    /// Of a hundred operations so many delete a file.
    #[serde(default = "ten")]
    pub deletes: u64,
    /// And so many rename a file.
    #[serde(default = "ten")]
    pub renames: u64,
    /// And so many rename a directory.
    #[serde(default)]
    pub directory_renames: u64,
    pub over: Span,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WriteEvent {
    pub node: Name,
    pub path: Spanned<String>,
    pub size: Size,
    /// How long the upload takes, in many pieces; without it, a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Span>,
    /// How the application stores it; without it, drawn by the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
}

/// A new, empty directory.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MkdirEvent {
    pub node: Name,
    pub path: Spanned<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SymlinkEvent {
    pub node: Name,
    pub path: Spanned<String>,
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChmodEvent {
    pub node: Name,
    pub path: Spanned<String>,
    /// As in `0o640`.
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeleteEvent {
    pub node: Name,
    pub path: Spanned<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RenameEvent {
    pub node: Name,
    pub from: Spanned<String>,
    pub to: Spanned<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeEvent {
    pub node: Name,
}

/// The end of a daemon, or of its machine.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeathEvent {
    pub node: Name,
    /// Not at `time`, but just before this disk operation of the daemon, counted from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_operation: Option<NonZeroU64>,
    /// It starts again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_after: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PowerLossEvent {
    pub node: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_operation: Option<NonZeroU64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_after: Option<Span>,
    #[serde(default)]
    pub keeps: Keeps,
}

/// What a power loss leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeps {
    #[default]
    Nothing,
    /// Each name, content and page of the index for itself: drawn.
    Some,
    /// As on a journaled file system: names in the order of their changes, up to a drawn one after
    /// the last sync of anything; contents and pages of the index for themselves, also in part.
    Journal,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PartitionEvent {
    /// Two groups of nodes.
    pub between: (Vec<Name>, Vec<Name>),
    #[serde(default)]
    pub direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    #[default]
    Both,
    /// Only what the first group sends to the second is lost.
    Forward,
    /// Only what the second group sends to the first is lost.
    Backward,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HoldEvent {
    pub between: (Vec<Name>, Vec<Name>),
}

/// Connections that exist are lost; new ones can be made at once.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CutConnectionsEvent {
    pub between: (Vec<Name>, Vec<Name>),
    #[serde(default, skip_serializing_if = "is_default")]
    pub noticed_by: NoticedBy,
}

/// Which ends of a lost connection are told. An end that is not believes in it, and what it writes
/// vanishes: the connection is half open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticedBy {
    #[default]
    Both,
    /// Those of the first group.
    First,
    /// Those of the second group.
    Second,
}

/// Ends all partitions and holds.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HealEvent {}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClockEvent {
    pub node: Name,
    /// How far it is off from now on.
    pub skew: SignedSpan,
    /// How much faster than true time it goes from now on, in millionths; below zero, slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WatchLimitEvent {
    pub node: Name,
    /// Watches that may exist from now on.
    pub watches: u64,
}

/// The configuration is edited, and the daemon told so (SIGHUP).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReloadEvent {
    pub node: Name,
    /// The share's ring from now on; without it, the whole ring again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Vec<Name>>,
}

/// An operator runs `chainsync flush` on a node.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FlushEvent {
    pub node: Name,
    pub within: Span,
    #[serde(default, skip_serializing_if = "is_default")]
    pub live: bool,
    /// What it has to answer, if the scenario is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Storm(StormEvent),
    Write(WriteEvent),
    Overwrite(WriteEvent),
    Delete(DeleteEvent),
    Rename(RenameEvent),
    Mkdir(MkdirEvent),
    Symlink(SymlinkEvent),
    Chmod(ChmodEvent),
    Churn(ChurnEvent),
    Crash(DeathEvent),
    PowerLoss(PowerLossEvent),
    Stop(NodeEvent),
    Continue(NodeEvent),
    Restart(NodeEvent),
    Start(NodeEvent),
    Partition(PartitionEvent),
    Hold(HoldEvent),
    CutConnections(CutConnectionsEvent),
    Heal(HealEvent),
    DiskFull(NodeEvent),
    DiskFree(NodeEvent),
    DiskFault(DiskFaultEvent),
    Quota(QuotaEvent),
    Clock(ClockEvent),
    WatchOverflow(NodeEvent),
    WatchLimit(WatchLimitEvent),
    WipeIndex(NodeEvent),
    SaveIndex(NodeEvent),
    RestoreIndex(NodeEvent),
    RestoreFiles(NodeEvent),
    UnmountRoot(NodeEvent),
    MountRoot(NodeEvent),
    Reload(ReloadEvent),
    Flush(FlushEvent),
}

/// `[[at]]`: a time and exactly one event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct At {
    pub time: Span,
    storm: Option<StormEvent>,
    write: Option<WriteEvent>,
    overwrite: Option<WriteEvent>,
    delete: Option<DeleteEvent>,
    rename: Option<RenameEvent>,
    mkdir: Option<MkdirEvent>,
    symlink: Option<SymlinkEvent>,
    chmod: Option<ChmodEvent>,
    churn: Option<ChurnEvent>,
    crash: Option<DeathEvent>,
    power_loss: Option<PowerLossEvent>,
    stop: Option<NodeEvent>,
    r#continue: Option<NodeEvent>,
    restart: Option<NodeEvent>,
    start: Option<NodeEvent>,
    partition: Option<PartitionEvent>,
    hold: Option<HoldEvent>,
    cut_connections: Option<CutConnectionsEvent>,
    heal: Option<HealEvent>,
    disk_full: Option<NodeEvent>,
    disk_free: Option<NodeEvent>,
    disk_fault: Option<DiskFaultEvent>,
    quota: Option<QuotaEvent>,
    clock: Option<ClockEvent>,
    watch_overflow: Option<NodeEvent>,
    watch_limit: Option<WatchLimitEvent>,
    wipe_index: Option<NodeEvent>,
    save_index: Option<NodeEvent>,
    restore_index: Option<NodeEvent>,
    restore_files: Option<NodeEvent>,
    unmount_root: Option<NodeEvent>,
    mount_root: Option<NodeEvent>,
    reload: Option<ReloadEvent>,
    flush: Option<FlushEvent>,
}

impl At {
    /// The events of the table; it should hold one.
    pub(super) fn events(self) -> Vec<Event> {
        [
            self.storm.map(Event::Storm),
            self.write.map(Event::Write),
            self.overwrite.map(Event::Overwrite),
            self.delete.map(Event::Delete),
            self.rename.map(Event::Rename),
            self.mkdir.map(Event::Mkdir),
            self.symlink.map(Event::Symlink),
            self.chmod.map(Event::Chmod),
            self.churn.map(Event::Churn),
            self.crash.map(Event::Crash),
            self.power_loss.map(Event::PowerLoss),
            self.stop.map(Event::Stop),
            self.r#continue.map(Event::Continue),
            self.restart.map(Event::Restart),
            self.start.map(Event::Start),
            self.partition.map(Event::Partition),
            self.hold.map(Event::Hold),
            self.cut_connections.map(Event::CutConnections),
            self.heal.map(Event::Heal),
            self.disk_full.map(Event::DiskFull),
            self.disk_free.map(Event::DiskFree),
            self.disk_fault.map(Event::DiskFault),
            self.quota.map(Event::Quota),
            self.clock.map(Event::Clock),
            self.watch_overflow.map(Event::WatchOverflow),
            self.watch_limit.map(Event::WatchLimit),
            self.wipe_index.map(Event::WipeIndex),
            self.save_index.map(Event::SaveIndex),
            self.restore_index.map(Event::RestoreIndex),
            self.restore_files.map(Event::RestoreFiles),
            self.unmount_root.map(Event::UnmountRoot),
            self.mount_root.map(Event::MountRoot),
            self.reload.map(Event::Reload),
            self.flush.map(Event::Flush),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Event {
    /// The key in the file.
    pub fn key(&self) -> &'static str {
        match self {
            Event::Storm(_) => "storm",
            Event::Write(_) => "write",
            Event::Overwrite(_) => "overwrite",
            Event::Delete(_) => "delete",
            Event::Rename(_) => "rename",
            Event::Mkdir(_) => "mkdir",
            Event::Symlink(_) => "symlink",
            Event::Chmod(_) => "chmod",
            Event::Churn(_) => "churn",
            Event::Crash(_) => "crash",
            Event::PowerLoss(_) => "power-loss",
            Event::Stop(_) => "stop",
            Event::Continue(_) => "continue",
            Event::Restart(_) => "restart",
            Event::Start(_) => "start",
            Event::Partition(_) => "partition",
            Event::Hold(_) => "hold",
            Event::CutConnections(_) => "cut-connections",
            Event::Heal(_) => "heal",
            Event::DiskFull(_) => "disk-full",
            Event::DiskFree(_) => "disk-free",
            Event::DiskFault(_) => "disk-fault",
            Event::Quota(_) => "quota",
            Event::Clock(_) => "clock",
            Event::WatchOverflow(_) => "watch-overflow",
            Event::WatchLimit(_) => "watch-limit",
            Event::WipeIndex(_) => "wipe-index",
            Event::SaveIndex(_) => "save-index",
            Event::RestoreIndex(_) => "restore-index",
            Event::RestoreFiles(_) => "restore-files",
            Event::UnmountRoot(_) => "unmount-root",
            Event::MountRoot(_) => "mount-root",
            Event::Reload(_) => "reload",
            Event::Flush(_) => "flush",
        }
    }

    /// Whether the simulation can do it as it is, or why not.
    pub fn simulated(&self) -> Result<(), &'static str> {
        match self {
            Event::DiskFault(event) => event.check(),
            _ => Ok(()),
        }
    }

    /// Every node that it names.
    pub fn nodes(&self) -> Vec<&Name> {
        match self {
            Event::Storm(event) => event.nodes.iter().collect(),
            Event::Churn(event) => event.nodes.iter().collect(),
            Event::Write(event) | Event::Overwrite(event) => vec![&event.node],
            Event::Delete(event) => vec![&event.node],
            Event::Rename(event) => vec![&event.node],
            Event::Mkdir(event) => vec![&event.node],
            Event::Symlink(event) => vec![&event.node],
            Event::Chmod(event) => vec![&event.node],
            Event::Crash(event) => vec![&event.node],
            Event::PowerLoss(event) => vec![&event.node],
            Event::Partition(PartitionEvent { between, .. })
            | Event::Hold(HoldEvent { between })
            | Event::CutConnections(CutConnectionsEvent { between, .. }) => {
                between.0.iter().chain(&between.1).collect()
            }
            Event::Heal(_) => Vec::new(),
            Event::DiskFault(event) => vec![&event.node],
            Event::Quota(event) => vec![&event.node],
            Event::Clock(event) => vec![&event.node],
            Event::WatchLimit(event) => vec![&event.node],
            Event::Stop(event)
            | Event::Continue(event)
            | Event::Restart(event)
            | Event::Start(event)
            | Event::DiskFull(event)
            | Event::DiskFree(event)
            | Event::WatchOverflow(event)
            | Event::WipeIndex(event)
            | Event::SaveIndex(event)
            | Event::RestoreIndex(event)
            | Event::RestoreFiles(event)
            | Event::UnmountRoot(event)
            | Event::MountRoot(event) => vec![&event.node],
            Event::Reload(event) => {
                [&event.node].into_iter().chain(event.ring.iter().flatten()).collect()
            }
            Event::Flush(event) => vec![&event.node],
        }
    }

    /// Takes a node out of it; false if nothing is left.
    pub fn forget_node(&mut self, name: &str) -> bool {
        let keep = |names: &mut Vec<Name>| {
            names.retain(|other| other.get_ref() != name);
            !names.is_empty()
        };
        match self {
            Event::Storm(event) => keep(&mut event.nodes),
            Event::Churn(event) => keep(&mut event.nodes),
            Event::Partition(PartitionEvent { between, .. })
            | Event::Hold(HoldEvent { between })
            | Event::CutConnections(CutConnectionsEvent { between, .. }) => {
                let (left, right) = (keep(&mut between.0), keep(&mut between.1));
                left && right
            }
            Event::Reload(event) if event.node.get_ref() != name => {
                event.ring.as_mut().is_none_or(keep)
            }
            other => other.nodes().iter().all(|other| other.get_ref() != name),
        }
    }

    /// Every path that it names.
    pub fn paths(&self) -> Vec<&Spanned<String>> {
        match self {
            Event::Write(event) | Event::Overwrite(event) => vec![&event.path],
            Event::Delete(event) => vec![&event.path],
            Event::Rename(event) => vec![&event.from, &event.to],
            Event::Mkdir(event) => vec![&event.path],
            Event::Symlink(event) => vec![&event.path],
            Event::Chmod(event) => vec![&event.path],
            _ => Vec::new(),
        }
    }

    /// How long it goes on.
    pub fn lasts(&self) -> std::time::Duration {
        match self {
            Event::Storm(event) => event.over.0,
            Event::Churn(event) => event.over.0,
            Event::Write(event) | Event::Overwrite(event) => {
                event.over.map_or(std::time::Duration::ZERO, |over| over.0)
            }
            Event::DiskFault(event) => {
                event.lasts.map_or(std::time::Duration::ZERO, |lasts| lasts.0)
            }
            Event::Flush(event) => event.within.0,
            _ => std::time::Duration::ZERO,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u64 {
    1
}

fn ten() -> u64 {
    10
}
