//! Arbitrary triples out of small alphabets. Half of each is drawn freely, the other half derived
//! from the rest of the triple, since what is drawn freely is rarely what was published, or what a
//! known version was made from.

use chainsync_core::disk::{FileType, Stat};
use chainsync_core::entry::{Entry, Kind, Owner};
use chainsync_core::record::{Identity, Published, Record};
use chainsync_core::version::{Class, Dot, ReplicaId, Stamp, Version};
use chainsync_core::{ContentHash, RelPath, VersionVector};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

pub(crate) const ROOT_DEVICE: u64 = 1;

/// What `decide` is asked about, and the time and name that a change found there would get.
#[derive(Debug, Clone)]
pub(crate) struct Triple {
    pub(crate) record: Option<Record>,
    pub(crate) disk: Option<Stat>,
    pub(crate) incoming: Option<Entry>,
    pub(crate) made_ms: u64,
    pub(crate) dot: Dot,
}

pub(crate) struct Generator {
    random: ChaCha8Rng,
    contents: [(u64, ContentHash); 3],
    path: RelPath,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let contents = ["", "a", "bb"];
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            contents: contents.map(|it| (it.len() as u64, ContentHash::of(it.as_bytes()))),
            path: RelPath::new("f").unwrap(),
        }
    }

    pub(crate) fn triple(&mut self) -> Triple {
        let known = self.chance(90).then(|| self.entry());
        let published = known.as_ref().and_then(|known| self.published(known));
        let disk = self.disk(published.as_ref());
        let incoming = match &known {
            Some(known) if self.chance(60) => Some(self.relative(known)),
            _ => self.chance(85).then(|| self.entry()),
        };
        let record = known.map(|known| {
            let mut record = Record::new(&known, 1);
            if let Some(published) = published {
                record.publish(published);
            }
            record
        });
        Triple { record, disk, incoming, made_ms: self.wall_ms(), dot: self.dot() }
    }

    /// What this node last put or read there: often what it knows, sometimes nothing yet.
    fn published(&mut self, known: &Entry) -> Option<Published> {
        let of = match self.below(10) {
            0..2 => return None,
            2..6 => known.clone(),
            6..8 => self.relative(known),
            _ => self.entry(),
        };
        let stat = self.shown(&of.kind);
        let identity = stat.filter(|_| self.chance(90)).map(|stat| Identity {
            inode: stat.inode,
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            settled: self.chance(80),
        });
        Some(Published { kind: of.kind, version: of.version, identity })
    }

    /// The inode of what was published, the same with one thing changed, another one, or none.
    fn disk(&mut self, published: Option<&Published>) -> Option<Stat> {
        let mut stat = self.stat();
        let chosen = self.below(100);
        let as_published = published.and_then(|published| self.put(published, stat));
        match (as_published, chosen) {
            (same, 0..50) => return same,
            (Some(same), 50..80) => stat = self.changed(same),
            (_, 80..85) => return None,
            _ => {}
        }
        Some(stat)
    }

    /// What a stat shows right after `published` was put there.
    fn put(&mut self, published: &Published, spare: Stat) -> Option<Stat> {
        let file_type = self.shown(&published.kind)?.file_type;
        let mut stat = Stat { file_type, device: ROOT_DEVICE, ..spare };
        if let Some(identity) = published.identity.filter(|_| file_type != FileType::Dir) {
            (stat.inode, stat.size) = (identity.inode, identity.size);
            (stat.mtime_ns, stat.ctime_ns) = (identity.mtime_ns, identity.ctime_ns);
        }
        if let Kind::Dir { mode, owner } = &published.kind {
            // Bits that are not replicated may be there too.
            stat.mode = mode | (stat.mode & 0o6000);
            if let Some(owner) = owner {
                (stat.uid, stat.gid) = (owner.uid, owner.gid);
            }
        }
        Some(stat)
    }

    fn changed(&mut self, stat: Stat) -> Stat {
        let other = self.stat();
        match self.below(9) {
            0 => Stat { inode: 3 - stat.inode, ..stat },
            1 => Stat { size: stat.size + 1, ..stat },
            2 => Stat { mtime_ns: stat.mtime_ns + 1, ..stat },
            3 => Stat { ctime_ns: stat.ctime_ns + 1, ..stat },
            4 => Stat { mode: other.mode, ..stat },
            5 => Stat { uid: 1 - stat.uid, ..stat },
            6 => Stat { gid: 1 - stat.gid, ..stat },
            7 => Stat { file_type: other.file_type, ..stat },
            _ => Stat { device: other.device, ..stat },
        }
    }

    fn stat(&mut self) -> Stat {
        use FileType::{Device, Dir, Fifo, File, Socket, Symlink};
        let file_type = self.one_of([File, File, Dir, Dir, Symlink, Symlink, Fifo, Socket, Device]);
        Stat {
            file_type,
            device: if self.chance(92) { ROOT_DEVICE } else { 2 },
            inode: 1 + self.below(2),
            links: 1,
            size: self.below(3),
            mode: self.one_of([0o644, 0o755, 0o4755, 0o2755, 0o1777]),
            uid: self.below(2) as u32,
            gid: self.below(2) as u32,
            mtime_ns: i128::from(self.below(2)),
            ctime_ns: i128::from(self.below(2)),
        }
    }

    /// Some inode that shows a kind; none for a tombstone.
    fn shown(&mut self, kind: &Kind) -> Option<Stat> {
        let stat = self.stat();
        let (file_type, size) = match kind {
            Kind::File { size, .. } => (FileType::File, *size),
            Kind::Dir { .. } => (FileType::Dir, 0),
            Kind::Symlink { target } => (FileType::Symlink, target.len() as u64),
            Kind::Tombstone { .. } => return None,
        };
        Some(Stat { file_type, size, device: ROOT_DEVICE, ..stat })
    }

    fn entry(&mut self) -> Entry {
        Entry { path: self.path.clone(), kind: self.kind(), version: self.version() }
    }

    /// Made from an entry, under it, or the same but for one thing.
    fn relative(&mut self, entry: &Entry) -> Entry {
        let mut other = self.entry();
        match self.below(6) {
            0 => return entry.clone(),
            1 => other.version.past = entry.version.as_past(),
            2 => {
                let past: Vec<_> = entry.version.past.iter().collect();
                if let Some((replica, counter)) = past.first() {
                    other.version.dot = Dot { replica: *replica, counter: *counter };
                    other.version.past = VersionVector::new();
                }
            }
            3 => other.version = entry.version.clone(),
            4 => other.version.stamp = entry.version.stamp,
            _ => other.kind = entry.kind.clone(),
        }
        other
    }

    fn version(&mut self) -> Version {
        let class = if self.chance(75) { Class::Made } else { Class::Imported };
        let dot = self.dot();
        let stamp = Stamp {
            class,
            wall_ms: self.wall_ms(),
            counter: self.one_of([0, 0, 1, u32::MAX]),
            replica: if self.chance(80) { dot.replica } else { self.replica() },
        };
        let mut past = VersionVector::new();
        for replica in (1..=3).map(replica_id) {
            let counter = if self.chance(40) { self.below(4) } else { 0 };
            // Nobody has seen a later change of his own.
            past.set(
                replica,
                if replica == dot.replica { counter.min(dot.counter - 1) } else { counter },
            );
        }
        Version { stamp, dot, past }
    }

    fn kind(&mut self) -> Kind {
        let owner =
            self.chance(50).then(|| Owner { uid: self.below(2) as u32, gid: self.below(2) as u32 });
        let mode = self.one_of([0o644, 0o755]);
        match self.below(8) {
            0..4 => {
                let (size, hash) = self.one_of(self.contents);
                Kind::File { size, hash, mode, mtime_ns: i128::from(self.below(2)), owner }
            }
            4 => Kind::Dir { mode, owner },
            5 => Kind::Symlink { target: self.one_of([b"a".to_vec(), b"b".to_vec()]) },
            _ => Kind::Tombstone { mode: self.chance(70).then_some(mode), owner },
        }
    }

    fn dot(&mut self) -> Dot {
        Dot { replica: self.replica(), counter: 1 + self.below(3) }
    }

    fn replica(&mut self) -> ReplicaId {
        replica_id(1 + self.below(3))
    }

    fn wall_ms(&mut self) -> u64 {
        self.below(3)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.random_range(0..end)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Clone, const COUNT: usize>(&mut self, choices: [T; COUNT]) -> T {
        choices[self.below(COUNT as u64) as usize].clone()
    }
}

/// Written with its first digits only.
fn replica_id(number: u64) -> ReplicaId {
    ReplicaId(number << 48)
}
