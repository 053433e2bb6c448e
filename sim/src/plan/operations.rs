//! What the web application does in a plan: over how many names, where, how, and how often each kind.

use std::fmt;
use std::time::Duration;

use chainsync_core::NodeName;
use toml::Spanned;

use super::draw::log_between;
use crate::oracle::KNOWN_AGAIN_BYTES;
use crate::rng::Stream;
use crate::scenario::{
    ChmodEvent, DeleteEvent, Event, MkdirEvent, RenameEvent, Scenario, Size, Span, SymlinkEvent,
    WriteEvent,
};
use crate::workload::Style;

/// The classes of operations of one run.
pub(super) struct Operations {
    /// How many different names there are, of files and of directories.
    files: u64,
    directories: u64,
    depth: u64,
    size_max: u64,
    /// One file in so many is large: it does not travel inside a batch.
    large_one_in: Option<u64>,
    /// Names that are now a file and now a directory.
    clashes: bool,
    /// Each name belongs to one node; else anybody writes anything.
    owned: bool,
    /// One write in so many takes its time.
    slow_one_in: Option<u64>,
    style: Option<Style>,
    weights: Vec<(Kind, u64)>,
    /// Who writes at all.
    writers: Vec<NodeName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Delete,
    Rename,
    RenameDir,
    Mkdir,
    RemoveDir,
    Symlink,
    Chmod,
    Swap,
}

/// Larger contents are announced and fetched in chunks.
const LARGE: (u64, u64) = (1 << 20, 3 << 20);

/// Where a directory is while it is swapped, and how long it takes to the next step.
pub(super) const AWAY: &str = "away";
const SWAPPED_US_MAX: u64 = 500_000;

impl Operations {
    pub(super) fn draw(rng: &mut Stream, nodes: &[NodeName], clashes: bool) -> Self {
        let mut weights = vec![(Kind::Write, 10)];
        let others = [
            (Kind::Delete, 4),
            (Kind::Rename, 4),
            (Kind::RenameDir, 2),
            (Kind::Mkdir, 1),
            (Kind::RemoveDir, 2),
            (Kind::Symlink, 1),
            (Kind::Chmod, 1),
            (Kind::Swap, 2),
        ];
        for (kind, weight) in others {
            if (kind != Kind::Swap || clashes) && rng.one_in(2) {
                weights.push((kind, weight * rng.between(1, 3)));
            }
        }
        let writers: Vec<NodeName> = match rng.between(0, 3) {
            0 => vec![pick(rng, nodes).clone()],
            1 => nodes.iter().filter(|_| rng.one_in(2)).cloned().collect(),
            _ => nodes.to_vec(),
        };
        Self {
            files: log_between(rng, 2, 200),
            directories: log_between(rng, 1, 12),
            depth: rng.between(0, 3),
            size_max: log_between(rng, 64, 16 << 10),
            large_one_in: rng.one_in(8).then(|| rng.between(10, 40)),
            clashes: rng.one_in(5) || clashes,
            owned: rng.one_in(3) && !clashes,
            slow_one_in: rng.one_in(3).then(|| rng.between(4, 20)),
            style: match rng.between(0, 7) {
                0 => Some(Style::InPlace),
                1 => Some(Style::Over),
                2 => Some(Style::Rename),
                _ => None,
            },
            weights,
            writers: if writers.is_empty() { nodes.to_vec() } else { writers },
        }
    }

    /// Adds `count` operations within `span`.
    pub(super) fn add(&self, plan: &mut Scenario, rng: &mut Stream, count: u64, span: Duration) {
        // Bursts: a storm is denser than its average.
        let bursts: Vec<u64> =
            (0..rng.between(1, 4)).map(|_| rng.between(0, span.as_micros() as u64)).collect();
        for _ in 0..count {
            let time = match rng.one_in(2) {
                true => pick(rng, &bursts) + rng.between(0, 200_000),
                false => rng.between(0, span.as_micros() as u64),
            };
            for (after, event) in self.operation(plan, rng) {
                plan.add(Duration::from_micros(time + after), event);
            }
        }
    }

    /// Most are one event. With the microseconds after the first.
    fn operation(&self, plan: &Scenario, rng: &mut Stream) -> Vec<(u64, Event)> {
        let path = self.file(rng);
        let node = self.writer(plan, rng, &path);
        let mut at = rng.between(1, self.weights.iter().map(|(_, weight)| weight).sum());
        let drawn = self.weights.iter().find(|(_, weight)| {
            let found = at <= *weight;
            at = at.saturating_sub(*weight);
            found
        });
        let event = match drawn.map_or(Kind::Write, |(kind, _)| *kind) {
            Kind::Swap => return self.swap(rng, &node),
            Kind::Write => self.write(rng, node, path),
            Kind::Delete => Event::Delete(DeleteEvent { node, path: text(path) }),
            Kind::Rename => {
                Event::Rename(RenameEvent { node, from: text(path), to: text(self.file(rng)) })
            }
            Kind::RenameDir => {
                let (from, to) = (self.directory(rng), self.directory(rng));
                Event::Rename(RenameEvent { node, from: text(from), to: text(to) })
            }
            Kind::Mkdir => Event::Mkdir(MkdirEvent { node, path: text(self.directory(rng)) }),
            // Of an empty directory; the others refuse.
            Kind::RemoveDir => Event::Delete(DeleteEvent { node, path: text(self.directory(rng)) }),
            Kind::Symlink => {
                let target = self.file(rng);
                Event::Symlink(SymlinkEvent { node, path: text(path), target })
            }
            Kind::Chmod => {
                let mode = *pick(rng, &[0o600, 0o640, 0o644, 0o755, 0o444]);
                Event::Chmod(ChmodEvent { node, path: text(path), mode })
            }
        };
        vec![(0, event)]
    }

    /// A directory is moved away and back again, with a symlink in its place meanwhile, or nothing.
    fn swap(&self, rng: &mut Stream, node: &Spanned<String>) -> Vec<(u64, Event)> {
        let path = self.directory(rng);
        let node = || node.clone();
        let dir = || text(path.clone());
        let away = || text(AWAY.to_owned());
        let mut events = vec![Event::Rename(RenameEvent { node: node(), from: dir(), to: away() })];
        if rng.one_in(2) {
            let target = self.file(rng);
            events.push(Event::Symlink(SymlinkEvent { node: node(), path: dir(), target }));
            events.push(Event::Delete(DeleteEvent { node: node(), path: dir() }));
        }
        events.push(Event::Rename(RenameEvent { node: node(), from: away(), to: dir() }));
        let mut after = 0;
        let time = |event| {
            let time = after;
            after += log_between(rng, 1, SWAPPED_US_MAX);
            (time, event)
        };
        events.into_iter().map(time).collect()
    }

    fn write(&self, rng: &mut Stream, node: Spanned<String>, path: String) -> Event {
        let large = self.large_one_in.is_some_and(|one_in| rng.one_in(one_in));
        let size = match large {
            true => rng.between(LARGE.0, LARGE.1),
            false if rng.one_in(20) => 0,
            false => log_between(rng, KNOWN_AGAIN_BYTES, self.size_max),
        };
        let slow = self.slow_one_in.is_some_and(|one_in| rng.one_in(one_in));
        let over = slow.then(|| Span(Duration::from_millis(log_between(rng, 5, 3_000))));
        let style = self.style.unwrap_or_else(|| {
            *pick(rng, &[Style::InPlace, Style::Over, Style::Rename, Style::Rename])
        });
        Event::Write(WriteEvent {
            node,
            path: text(path),
            size: Size(size),
            over,
            style: Some(style),
        })
    }

    fn writer(&self, plan: &Scenario, rng: &mut Stream, path: &str) -> Spanned<String> {
        let node = match self.owned {
            true => {
                let sum: usize = path.bytes().map(usize::from).sum();
                &plan.nodes[sum % plan.nodes.len()]
            }
            false => pick(rng, &self.writers),
        };
        text(node.to_string())
    }

    fn file(&self, rng: &mut Stream) -> String {
        let file = rng.between(0, self.files - 1);
        let name = if self.clashes && rng.one_in(8) {
            format!("d{}", rng.between(0, self.directories - 1))
        } else {
            format!("f{file}")
        };
        // A file's name has its directory: else the same name is everywhere and nothing ever meets.
        match (file * 7) % (self.depth + 1) {
            0 => name,
            depth => format!("{}/{name}", self.directory_of_depth(file, depth)),
        }
    }

    fn directory_of_depth(&self, file: u64, depth: u64) -> String {
        let names = (0..depth).map(|level| format!("d{}", (file + level) % self.directories));
        names.collect::<Vec<_>>().join("/")
    }

    fn directory(&self, rng: &mut Stream) -> String {
        let (file, depth) = (rng.between(0, self.files - 1), rng.between(1, self.depth.max(1)));
        self.directory_of_depth(file, depth)
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> =
            self.weights.iter().map(|(kind, weight)| format!("{kind:?} {weight}")).collect();
        write!(f, "{} names in {} directories, ", self.files, self.directories)?;
        let writers = if self.owned { "each name one node's" } else { "anybody's" };
        write!(f, "{writers}, {}", kinds.join(", ").to_lowercase())?;
        if self.clashes {
            f.write_str(", names that are files and directories")?;
        }
        if self.large_one_in.is_some() {
            f.write_str(", large files")?;
        }
        Ok(())
    }
}

pub(super) fn text(text: String) -> Spanned<String> {
    Spanned::new(0..0, text)
}

pub(super) fn pick<'a, T>(rng: &mut Stream, from: &'a [T]) -> &'a T {
    &from[rng.between(0, from.len() as u64 - 1) as usize]
}
