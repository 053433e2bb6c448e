//! The ledger: where each content was put and taken away, by whom, and what happened to the machines
//! meanwhile. Kept by the oracle, told by the workload, the disks and the world; it judges nothing.
//!
//! Times are virtual and the same on all machines, whatever their clocks show.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

/// Something that happened to a content at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    pub at_ns: u64,
    /// The node's place in the ring.
    pub node: usize,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The application put it there: it wrote or renamed it.
    Put,
    /// The application gave it this mode.
    Touched(u32),
    /// It was there when the machine came back from a power loss.
    Survived,
    /// The daemon gave it this name.
    Published,
    /// With this mode; or the daemon changed the mode to it.
    PublishedMode(u32),
    /// The application wrote something else there.
    Overwritten,
    /// The application deleted it or renamed it away.
    Removed,
    /// The daemon took it away or put something else there.
    Displaced,
}

/// Something that happened to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incident {
    pub at_ns: u64,
    pub node: usize,
    pub kind: IncidentKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentKind {
    /// The daemon begins to run.
    Started,
    /// It has looked at its whole tree for the first time.
    Looked,
    /// It ended in good order.
    Ended,
    /// It was killed.
    Died,
    LostPower,
    IndexLost,
    IndexSaved,
    IndexRestored,
    /// A call of the daemon was refused by a fault of the disk.
    Refused,
}

/// From a name to the note of it in the index: a batch of publications, its syncs and one commit.
const PUBLICATION_MAX_NS: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub struct Ledger {
    facts: BTreeMap<Vec<u8>, BTreeMap<ContentHash, Vec<Fact>>>,
    /// Names of any kind that the application gave.
    names: BTreeSet<Vec<u8>>,
    /// Those of files and symlinks among them.
    no_directories: BTreeSet<Vec<u8>>,
    /// How often the application removed a name of any kind, on any node.
    removed: BTreeMap<Vec<u8>, u64>,
    /// The same of the daemons.
    removed_by_daemon: BTreeMap<(usize, Vec<u8>), u64>,
    incidents: Vec<Incident>,
}

impl Ledger {
    pub fn note(&mut self, path: &[u8], hash: ContentHash, fact: Fact) {
        if !self.facts.contains_key(path) {
            self.facts.insert(path.to_vec(), BTreeMap::new());
        }
        if let Some(contents) = self.facts.get_mut(path) {
            contents.entry(hash).or_default().push(fact);
        }
    }

    /// The application gave something a name.
    pub fn named(&mut self, path: &[u8]) {
        if !self.names.contains(path) {
            self.names.insert(path.to_vec());
        }
    }

    /// It was a file or a symlink.
    pub fn no_directory(&mut self, path: &[u8]) {
        self.named(path);
        if !self.no_directories.contains(path) {
            self.no_directories.insert(path.to_vec());
        }
    }

    pub fn was_no_directory(&self, path: &[u8]) -> bool {
        self.no_directories.contains(path)
    }

    /// The application removed a name.
    pub fn removed(&mut self, path: &[u8]) {
        *self.removed.entry(path.to_vec()).or_default() += 1;
    }

    /// A daemon removed a name; how often it has done so.
    pub fn removed_by_daemon(&mut self, node: usize, path: &[u8]) -> u64 {
        let count = self.removed_by_daemon.entry((node, path.to_vec())).or_default();
        *count += 1;
        *count
    }

    /// How often the application removed a name, on any node.
    pub fn removals(&self, path: &[u8]) -> u64 {
        self.removed.get(path).copied().unwrap_or(0)
    }

    /// Whether the application removed a name or a directory above it, on any node.
    pub fn was_removed(&self, path: &[u8]) -> bool {
        above(path).chain([path]).any(|name| self.removed.contains_key(name))
    }

    /// Whether something that is no directory ever was above a name, and an index was rolled back: its node
    /// may take what was hidden there for deleted.
    pub fn may_seem_removed(&self, path: &[u8]) -> bool {
        let restored =
            self.incidents.iter().any(|incident| incident.kind == IncidentKind::IndexRestored);
        restored && above(path).any(|name| self.was_no_directory(name))
    }

    pub fn happened(&mut self, at_ns: u64, node: usize, kind: IncidentKind) {
        self.incidents.push(Incident { at_ns, node, kind });
    }

    /// Whether any machine lost its power.
    pub fn lost_power(&self) -> bool {
        self.incidents.iter().any(|incident| incident.kind == IncidentKind::LostPower)
    }

    /// Whether any disk refused its daemon anything.
    pub fn was_refused(&self) -> bool {
        self.incidents.iter().any(|incident| incident.kind == IncidentKind::Refused)
    }

    /// Whether a node's disk refused something just after `published`, so that its daemon may not
    /// know of its own publication.
    pub fn is_unnoted(incidents: &[Incident], published: &Fact) -> bool {
        let until_ns = published.at_ns + PUBLICATION_MAX_NS;
        published.what == What::Published
            && incidents.iter().any(|incident| {
                (incident.node, incident.kind) == (published.node, IncidentKind::Refused)
                    && (published.at_ns..=until_ns).contains(&incident.at_ns)
            })
    }

    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// What happened to a content at a path, in order of time.
    pub fn of(&self, path: &[u8], hash: &ContentHash) -> Vec<Fact> {
        let facts = self.facts.get(path).and_then(|contents| contents.get(hash));
        let mut facts = facts.cloned().unwrap_or_default();
        // Within one tick machines run one after the other: what is noted later may be earlier.
        facts.sort_by_key(|fact| fact.at_ns);
        facts
    }

    /// What happened at a path, whatever the content.
    pub fn at(&self, path: &[u8]) -> impl Iterator<Item = &Fact> {
        self.facts.get(path).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// What happened anywhere below a path.
    pub fn below(&self, path: &[u8]) -> impl Iterator<Item = &Fact> {
        let from = [path, b"/"].concat();
        let below =
            self.facts.range(from.clone()..).take_while(move |(at, _)| at.starts_with(&from));
        below.flat_map(|(_, contents)| contents.values()).flatten()
    }

    /// Everything that ever was somewhere.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], &ContentHash, &[Fact])> {
        self.facts.iter().flat_map(|(path, contents)| {
            contents.iter().map(move |(hash, facts)| (path.as_slice(), hash, facts.as_slice()))
        })
    }

    /// The names that the application gave, from `path` on.
    pub fn names_from<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.names.range(path.to_vec()..).map(Vec::as_slice)
    }
}

/// The directories above a path.
pub fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    ends.map(|(end, _)| &path[..end])
}

impl What {
    /// Whether from here on it may be there because of the application, or of a disk.
    pub fn puts(self) -> bool {
        matches!(self, What::Put | What::Touched(_) | What::Survived)
    }

    /// Whether the application took it back.
    pub fn takes(self) -> bool {
        matches!(self, What::Overwritten | What::Removed)
    }
}
