//! One node: its index, its disk, and the commits between the two.

use std::collections::BTreeMap;
use std::rc::Rc;

use chainsync_core::decide::{Preferred, Seen, change_version, import_stamp, made_ms, see};
use chainsync_core::disk::{FileType, Stat};
use chainsync_core::entry::{Entry, Kind, Merge, merge};
use chainsync_core::gossip::{Row, RowId};
use chainsync_core::knowledge::Recorded;
use chainsync_core::record::{Identity, Published, Record};
use chainsync_core::version::{Dot, ReplicaId, Version};
use chainsync_core::wire::Cursor;
use chainsync_core::{Knowledge, RelPath, VersionVector};

use crate::check::{Violation, check_replaced};
use crate::oracle::{Oracle, edit_of, kind_of};
use crate::rules::Rules;

const DEVICE: u64 = 1;
const TICK_NS: i128 = 10_000_000;

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) replica: ReplicaId,
    /// Changes made under `replica`.
    pub(crate) counter: u64,
    /// The replica id may not be used for another change: see rule A2.
    pub(crate) unconfirmed: bool,
    /// Replicas taken in this run.
    pub(crate) authors: Vec<ReplicaId>,
    rows: u64,
    /// The head of the journal.
    pub(crate) head: u64,
    pub(crate) tags: BTreeMap<u64, u64>,
    pub(crate) records: BTreeMap<RelPath, Record>,
    pub(crate) knowledge: Knowledge,
    /// Only for rule A1 switched off.
    pub(crate) knowledge_at: BTreeMap<u64, Knowledge>,
    pub(crate) cursors: BTreeMap<usize, Cursor>,
    pub(crate) disk: BTreeMap<RelPath, Shown>,
}

/// What is at a name; a deletion leaves its edit, but no inode.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) kind: Kind,
    stat: Option<Stat>,
    pub(crate) wall_ms: u64,
}

/// What a commit needs from outside: who never repeats himself.
pub(crate) struct Commit<'a> {
    pub(crate) rules: Rules,
    pub(crate) wall_ms: u64,
    pub(crate) tag: u64,
    pub(crate) fresh: ReplicaId,
    pub(crate) oracle: &'a mut Rc<Oracle>,
}

impl Node {
    pub(crate) fn new(index: usize, replica: ReplicaId) -> Self {
        Self {
            index,
            replica,
            counter: 0,
            unconfirmed: false,
            authors: vec![replica],
            rows: 0,
            head: 0,
            tags: BTreeMap::new(),
            records: BTreeMap::new(),
            knowledge: Knowledge::new(),
            knowledge_at: BTreeMap::new(),
            cursors: BTreeMap::new(),
            disk: BTreeMap::new(),
        }
    }

    /// After a crash or on a restored machine.
    pub(crate) fn start(&mut self) {
        self.unconfirmed = true;
        self.authors.clear();
    }

    /// A writer changes the disk behind our back.
    pub(crate) fn edit(&mut self, path: &RelPath, delete: bool, wall_ms: u64, oracle: &mut Oracle) {
        let before = self.disk.get(path);
        if delete && before.is_none_or(|shown| !shown.kind.is_live()) {
            return;
        }
        if delete && self.published(path).is_none_or(|published| !published.kind.is_live()) {
            // Gone before this index ever held it: there is nothing by which anybody could tell.
            self.disk.remove(path);
            return;
        }
        let edit = oracle.edit(path, delete, wall_ms, before.map(|shown| edit_of(&shown.kind)));
        self.show(path, kind_of(edit, delete, wall_ms), wall_ms);
    }

    fn show(&mut self, path: &RelPath, kind: Kind, wall_ms: u64) {
        let stat = match &kind {
            Kind::File { size, mode, mtime_ns, .. } => Some(Stat {
                file_type: FileType::File,
                device: DEVICE,
                // Every write takes a new inode, as editors and uploads do.
                inode: wall_ms,
                links: 1,
                size: *size,
                mode: *mode,
                uid: 0,
                gid: 0,
                mtime_ns: *mtime_ns,
                ctime_ns: i128::from(wall_ms) * 1_000_000,
            }),
            _ => None,
        };
        self.disk.insert(path.clone(), Shown { kind, stat, wall_ms });
    }

    fn published(&self, path: &RelPath) -> Option<Published> {
        self.records.get(path).and_then(Record::published)
    }

    pub(crate) fn is_changed(&self, path: &RelPath) -> bool {
        let stat = self.disk.get(path).and_then(|shown| shown.stat.as_ref());
        see(self.published(path).as_ref(), stat, DEVICE) != Seen::AsPublished
    }

    /// Records a change that the disk shows; says whether there was one.
    pub(crate) fn ingest(&mut self, path: &RelPath, commit: &mut Commit) -> bool {
        let Some(shown) = self.disk.get(path).filter(|_| self.is_changed(path)).cloned() else {
            return false;
        };
        self.take_fresh_replica(commit);
        self.counter += 1;
        let base = if commit.rules.base_is_published {
            self.published(path)
        } else {
            self.records.get(path).map(|record| {
                let (kind, version) = (record.kind.clone(), record.version.clone());
                Published { kind, version, identity: None }
            })
        };
        let now_ms = commit.wall_ms;
        let wall_ms = shown.stat.as_ref().map_or(shown.wall_ms, |stat| made_ms(stat, now_ms));
        let version = change_version(base.as_ref(), wall_ms, self.replica, self.counter);
        self.record_change(path, &shown, version, commit);
        self.commit(commit);
        true
    }

    /// A first import: whatever is on disk, with an empty index.
    pub(crate) fn import(&mut self, commit: &mut Commit) {
        for (path, shown) in self.disk.clone() {
            let Some(stat) = &shown.stat else { continue };
            self.counter += 1;
            let stamp =
                import_stamp(stat, commit.wall_ms, TICK_NS, self.replica, Preferred::Nobody);
            let dot = Dot { replica: self.replica, counter: self.counter };
            let version = Version { stamp, dot, past: VersionVector::new() };
            self.record_change(&path, &shown, version, commit);
        }
        // What is not there any more, nobody remembers to have deleted.
        self.disk.retain(|_, shown| shown.stat.is_some());
        self.commit(commit);
    }

    fn take_fresh_replica(&mut self, commit: &Commit) {
        if std::mem::take(&mut self.unconfirmed) && commit.rules.new_replica_after_start {
            (self.replica, self.counter) = (commit.fresh, 0);
            self.authors.push(commit.fresh);
        }
    }

    fn record_change(
        &mut self,
        path: &RelPath,
        shown: &Shown,
        version: Version,
        commit: &mut Commit,
    ) {
        let kind = shown.kind.clone();
        let entry = Entry { path: path.clone(), kind: kind.clone(), version: version.clone() };
        Rc::make_mut(commit.oracle).version(&entry);
        let identity = shown.stat.as_ref().map(identity);
        let published = Published { kind, version, identity };
        if let Some(record) = self.records.get_mut(path) {
            record.publish(published);
            self.merge(&entry, commit);
        } else {
            self.head += 1;
            let mut record = Record::new(&entry, self.head);
            record.publish(published);
            self.records.insert(path.clone(), record);
        }
        let recorded = Recorded { counter: self.counter, tag: commit.tag };
        self.knowledge.record(self.replica, recorded);
    }

    /// Merges an entry into a record that exists; says whether it won.
    fn merge(&mut self, entry: &Entry, commit: &mut Commit) -> bool {
        let Some(record) = self.records.get_mut(&entry.path) else { return false };
        let known = (&record.kind, &record.version);
        let verdict = merge(Some(known), (&entry.kind, &entry.version));
        let loser = match verdict {
            Merge::Wins { conflict: true } => Some(&record.kind),
            Merge::Loses { conflict: true } => Some(&entry.kind),
            _ => None,
        };
        // What arrives and loses is large: announced, and nobody asks for its bytes any more.
        let shown = self.disk.get(&entry.path).map(|shown| edit_of(&shown.kind));
        if let Some(loser) = loser.map(edit_of).filter(|loser| shown == Some(*loser)) {
            Rc::make_mut(commit.oracle).archived.insert((self.index, loser));
        }
        let mut entry = entry.clone();
        match verdict {
            Merge::Wins { .. } => {
                if !commit.rules.versions_are_immutable {
                    entry.version.past.join(&record.version.as_past());
                }
                self.head += 1;
                record.supersede(&entry, self.head);
                true
            }
            Merge::Loses { .. } if !commit.rules.versions_are_immutable => {
                let mut joined = record.entry(entry.path);
                joined.version.past.join(&entry.version.as_past());
                if joined.version.past != record.version.past {
                    self.head += 1;
                    record.supersede(&joined, self.head);
                }
                false
            }
            Merge::Same | Merge::Loses { .. } => false,
        }
    }

    /// Records an entry that arrived.
    pub(crate) fn apply(
        &mut self,
        entry: &Entry,
        publish: bool,
        commit: &mut Commit,
    ) -> Result<(), Violation> {
        if !publish && !commit.rules.unpublished_is_recorded {
            return Ok(());
        }
        match self.records.get(&entry.path) {
            None if self.knowledge.covers(&entry.version.dot) => return Ok(()),
            None => {
                self.head += 1;
                self.records.insert(entry.path.clone(), Record::new(entry, self.head));
            }
            Some(record) => {
                let (known, class) = (record.kind.clone(), record.version.stamp.class);
                if self.merge(entry, commit) {
                    check_replaced(self.index, (&known, class), &entry.kind, commit.oracle)?;
                }
            }
        }
        if publish && !self.is_changed(&entry.path) {
            self.publish(&entry.path, commit)?;
        }
        Ok(())
    }

    /// Puts on the disk what is known; says whether that was needed. The disk shows what is
    /// published.
    pub(crate) fn publish(&mut self, path: &RelPath, commit: &Commit) -> Result<bool, Violation> {
        let Some(record) = self.records.get(path).filter(|it| !it.is_published_as_known()) else {
            return Ok(false);
        };
        let (kind, version) = (record.kind.clone(), record.version.clone());
        if let (Some(shown), Some(published)) = (self.disk.get(path), record.published()) {
            let class = published.version.stamp.class;
            check_replaced(self.index, (&shown.kind, class), &kind, commit.oracle)?;
        }
        self.show(path, kind.clone(), commit.wall_ms);
        let stat = self.disk.get(path).and_then(|shown| shown.stat.as_ref());
        let identity = stat.map(identity);
        if let Some(record) = self.records.get_mut(path) {
            record.publish(Published { kind, version, identity });
        }
        Ok(true)
    }

    /// Ends a transaction: the sequences that it made carry its tag.
    pub(crate) fn commit(&mut self, commit: &Commit) {
        let tagged = self.tags.last_key_value().map_or(0, |(sequence, _)| *sequence);
        self.tags.extend((tagged + 1..=self.head).map(|sequence| (sequence, commit.tag)));
        if !commit.rules.knowledge_at_pass_end {
            self.knowledge_at.insert(self.head, self.knowledge.clone());
        }
    }

    /// What the node says of itself, as far as the model has it.
    pub(crate) fn row(&mut self) -> Row {
        self.rows += 1;
        Row {
            id: RowId { run: 1, number: self.rows },
            authors: self.authors.clone(),
            knowledge: self.knowledge.clone(),
            ..Row::default()
        }
    }
}

/// Looked at long after it was written.
fn identity(stat: &Stat) -> Identity {
    Identity::of(stat, stat.ctime_ns + 2 * TICK_NS, TICK_NS)
}
