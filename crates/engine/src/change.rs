//! Recording a change: what this node's disk shows against what was published there.

use bytes::Bytes;
use chainsync_core::batch::INLINE_BYTES_MAX;
use chainsync_core::decide::{Preferred, change_version, import_stamp};
use chainsync_core::entry::{Merge, merge};
use chainsync_core::{
    ContentHash, Entry, Identity, Kind, NodeName, Published, Record, RelPath, ReplicaId, Stat,
};
use chainsync_env::{Env, Point, Vfs};

use crate::index::{Conflict, ConflictNote, Intent, Rows, Writer};
use crate::share::{Share, ShareError, intent_for};

/// A change that was found.
#[derive(Debug, Clone)]
pub struct Change {
    pub path: RelPath,
    pub kind: Kind,
    pub made: Made,
    pub content: Option<Bytes>,
    pub place: Place,
}

/// When it was made.
#[derive(Debug, Clone, Copy)]
pub enum Made {
    /// Milliseconds since 1970.
    At(u64),
    /// Found by a first import.
    Import(Stat),
}

/// Where it is.
#[derive(Debug, Clone)]
pub enum Place {
    /// At its name.
    Name { identity: Option<Identity> },
    /// In staging: it came out when something was published over it. `base` is what had been
    /// published before, which is what the change was made to.
    Staged { name: String, base: Published },
}

/// What recording leaves to do once the commit is made.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// Staged names that nothing refers to any more.
    pub garbage: Vec<String>,
    /// Paths whose intents should be tried.
    pub publish: Vec<RelPath>,
    /// Staged names of large contents that nothing refers to any more, and may be wanted again.
    pub spare: Vec<(String, ContentHash)>,
    /// Paths that are gone: directories above them may have been there only for them.
    pub gone: Vec<RelPath>,
    /// Whether the journal has something new.
    pub moved: bool,
}

impl<E: Env> Share<E> {
    /// Records a change within a commit: merges it with what is known, like an entry from a peer. It
    /// may lose.
    pub fn record_change(
        &self,
        writer: &mut Writer,
        change: Change,
        author: ReplicaId,
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        let record = writer.record(&change.path)?;
        let base = match &change.place {
            // Of what is shadowed nobody has seen anything here.
            Place::Name { .. } => {
                let record = record.as_ref().filter(|record| !record.is_shadowed());
                record.and_then(Record::published)
            }
            Place::Staged { base, .. } => Some(base.clone()),
        };
        let dot = writer.next_dot(author);
        // Knows of the counter at once: the dot is covered by whatever wins below.
        let made_ms = match change.made {
            Made::At(ms) => ms,
            Made::Import(_) => 0,
        };
        let mut version = change_version(base.as_ref(), made_ms, author, dot.counter);
        if let (Made::Import(stat), None) = (change.made, &base) {
            version.stamp = import_stamp(
                &stat,
                self.now_ms(),
                self.vfs.ctime_tick_ns(),
                author,
                self.preferred(),
            );
        } else if record.is_none()
            && let Some(floor) = writer.state.collected_stamp
        {
            // A tombstone that was collected here may still be somewhere (PROTOCOL A7).
            version.stamp = version.stamp.above(&floor);
        }
        let entry = Entry { path: change.path.clone(), kind: change.kind.clone(), version };
        let known = record.as_ref().map(|record| (&record.kind, &record.version));
        match merge(known, (&entry.kind, &entry.version)) {
            Merge::Wins { conflict } => {
                if conflict && let Some(record) = &record {
                    self.keep_loser(writer, record, &entry)?;
                }
                let mut known = writer.know(&entry)?;
                if !entry.kind.is_live() {
                    after.gone.push(entry.path.clone());
                }
                if let Some(Intent { staged: Some(name), .. }) =
                    writer.remove_intent(&entry.path)?
                {
                    after.garbage.push(name);
                }
                match change.place {
                    Place::Name { identity } => {
                        known.publish(Published {
                            kind: entry.kind.clone(),
                            version: entry.version.clone(),
                            identity,
                        });
                        writer.put_record(&entry.path, known);
                    }
                    Place::Staged { name, .. } => {
                        if let (Some((hash, _)), Some(content)) =
                            (entry.kind.content(), &change.content)
                        {
                            // Until it is back at its name there is one copy, and only the index
                            // knows whose: one that is lost or rolled back must not take it along.
                            let kept = self.archive.put(&hash, content);
                            kept.map_err(ShareError::disk("writing to the archive"))?;
                        }
                        writer.put_intent(&entry.path, intent_for(&entry, Some(name), None));
                        after.publish.push(entry.path.clone());
                    }
                }
                self.project_around(writer, &entry, record.as_ref(), after)?;
                after.moved = true;
            }
            Merge::Loses { conflict } => {
                self.env.probe(Point::ChangeLost);
                if conflict {
                    if let (Place::Staged { name, .. }, Some((hash, _)), None) =
                        (&change.place, entry.kind.content(), &change.content)
                    {
                        self.staged_to_archive(&hash, name)?;
                    }
                    self.keep_refused(writer, &entry, change.content.as_ref(), record.as_ref())?;
                }
                match change.place {
                    Place::Name { identity } => {
                        if let Some(mut record) = record {
                            let known = record.entry(entry.path.clone());
                            let (kind, version) = (entry.kind, entry.version);
                            record.publish(Published { kind, version, identity });
                            writer.put_record(&entry.path, record);
                            if writer.intent(&entry.path)?.is_none() {
                                writer.put_intent(&entry.path, intent_for(&known, None, None));
                            }
                        }
                        after.publish.push(entry.path);
                    }
                    Place::Staged { name, .. } => after.garbage.push(name),
                }
                // The knowledge of this node grew even so.
                after.moved = true;
            }
            Merge::Same => {}
        }
        self.board.count(|counters| counters.changes += 1);
        Ok(())
    }

    /// Makes an entry the known one of its path, and notes that it is to be published, in the place of
    /// what was to be. `before`: what was known.
    pub fn know_and_intend(
        &self,
        writer: &mut Writer,
        entry: &Entry,
        before: Option<&Record>,
        (staged, from): (Option<String>, Option<NodeName>),
        after: &mut Aftermath,
    ) -> Result<(), ShareError> {
        writer.know(entry)?;
        after.garbage.extend(writer.remove_intent(&entry.path)?.and_then(|old| old.staged));
        writer.put_intent(&entry.path, intent_for(entry, staged, from));
        self.project_around(writer, entry, before, after)
    }

    /// Whether this node's files are known to be right, or another's.
    fn preferred(&self) -> Preferred {
        match &self.settings().prefer {
            None => Preferred::Nobody,
            Some(node) if *node == self.me => Preferred::ThisNode,
            Some(_) => Preferred::AnotherNode,
        }
    }

    /// Keeps what a winner displaces, if its content is at hand, and reports the conflict. What is
    /// published is kept when it is displaced from its name.
    pub fn keep_loser(
        &self,
        writer: &mut Writer,
        loser: &Record,
        winner: &Entry,
    ) -> Result<(), ShareError> {
        match loser.kind.content() {
            // At its name it is kept when it is displaced from there.
            Some((hash, size)) if size > INLINE_BYTES_MAX => {
                if let Some(Intent { staged: Some(name), .. }) = writer.intent(&winner.path)? {
                    self.staged_to_archive(&hash, &name)?;
                }
            }
            Some((hash, _)) => {
                if let Some(content) =
                    self.find_content(&winner.path, &hash, Some(loser), writer)?
                {
                    self.to_archive(&hash, &content)?;
                }
            }
            None => {}
        }
        // A large one at its name, or one that is found there, is kept when it is displaced.
        let kept = match loser.kind.content() {
            Some((hash, _)) => {
                loser.is_published_as_known()
                    || self.archive.has(&hash).map_err(ShareError::disk("reading the archive"))?
            }
            None => true,
        };
        self.report_conflict(writer, &loser.entry(winner.path.clone()), winner, kept)
    }

    /// Keeps the content of an entry that lost on arrival.
    pub fn keep_refused(
        &self,
        writer: &mut Writer,
        loser: &Entry,
        content: Option<&Bytes>,
        winner: Option<&Record>,
    ) -> Result<(), ShareError> {
        let mut kept = loser.kind.content().is_none();
        if let (Some((hash, _)), Some(content)) = (loser.kind.content(), content) {
            self.to_archive(&hash, content)?;
            kept = true;
        } else if let Some((hash, _)) = loser.kind.content() {
            kept = self.archive.has(&hash).map_err(ShareError::disk("reading the archive"))?;
        }
        match winner {
            Some(winner) => {
                self.report_conflict(writer, loser, &winner.entry(loser.path.clone()), kept)
            }
            None => Ok(()),
        }
    }

    pub fn to_archive(&self, hash: &ContentHash, content: &[u8]) -> Result<(), ShareError> {
        self.env.probe(Point::Archived);
        self.board.count(|counters| counters.archived += 1);
        self.archive.put(hash, content).map_err(ShareError::disk("writing to the archive"))
    }

    /// The same for a content that is in staging.
    pub fn staged_to_archive(&self, hash: &ContentHash, name: &str) -> Result<(), ShareError> {
        let mut dirs = crate::disk::Dirs::new(&self.vfs);
        let copied = dirs
            .staging()
            .and_then(|staging| self.vfs.open_file(&staging, name.as_bytes()))
            .and_then(|file| self.archive.put_file(hash, &self.vfs, &file));
        match copied {
            Ok(true) => {
                self.env.probe(Point::Archived);
                self.board.count(|counters| counters.archived += 1);
                Ok(())
            }
            // Changed since, or gone: then it is judged as what it is now.
            Ok(false) => Ok(()),
            Err(error) if crate::disk::is_absent(&error) => Ok(()),
            Err(error) => Err(ShareError::disk("writing to the archive")(error)),
        }
    }

    fn report_conflict(
        &self,
        writer: &mut Writer,
        loser: &Entry,
        winner: &Entry,
        kept: bool,
    ) -> Result<(), ShareError> {
        let by = |entry: &Entry| self.board.author(entry.version.dot.replica);
        let note = ConflictNote { loser: by(loser), winner: by(winner) };
        let named =
            |node: &Option<NodeName>| node.as_ref().map_or("?".to_owned(), |n| n.to_string());
        tracing::warn!(
            path = %loser.path,
            loser = %loser.version.dot,
            loser_node = named(&note.loser),
            winner = %winner.version.dot,
            winner_node = named(&note.winner),
            "conflict: two edits without knowledge of each other, {}",
            if kept {
                "the older one is kept: `chainsync conflicts` restores it"
            } else {
                "the content of the older one is not on this node, and so not in its archive"
            }
        );
        writer.add_conflict(&Conflict {
            path: loser.path.clone(),
            kind: loser.kind.clone(),
            version: loser.version.clone(),
            winner: winner.version.clone(),
            noticed_ms: self.now_ms(),
        })?;
        writer.note_conflict(&note)?;
        Ok(())
    }

    /// A small content from wherever it is on this node: memory, its path, staging, the archive.
    pub fn find_content(
        &self,
        path: &RelPath,
        hash: &ContentHash,
        record: Option<&Record>,
        rows: &impl IntentRows,
    ) -> Result<Option<Bytes>, ShareError> {
        if let Some(content) = self.content(hash) {
            return Ok(Some(content));
        }
        let mut dirs = crate::disk::Dirs::new(&self.vfs);
        let published = record.and_then(Record::published);
        let at_its_name = |dirs: &mut crate::disk::Dirs<E::Vfs>| {
            let parent = dirs.parent(path).ok()?;
            read_matching(&self.vfs, &parent, path.name(), hash)
        };
        if published
            .is_some_and(|published| published.kind.content().is_some_and(|it| it.0 == *hash))
            && let Some(content) = at_its_name(&mut dirs)
        {
            return Ok(Some(content));
        }
        if let Some(Intent { staged: Some(name), .. }) = rows.intent_of(path)?
            && let Ok(staging) = dirs.staging()
        {
            if let Some(content) = read_matching(&self.vfs, &staging, name.as_bytes(), hash) {
                return Ok(Some(content));
            }
            // Published since `rows` was read.
            if let Some(content) = at_its_name(&mut dirs) {
                return Ok(Some(content));
            }
        }
        self.archive.get(hash).map_err(ShareError::disk("reading from the archive"))
    }

    /// What has to happen once the commit is made.
    pub fn finish(&self, after: Aftermath) -> Result<(), ShareError> {
        // First what must not be left undone: the commit is made, whatever the disk says to the rest.
        if !after.publish.is_empty() {
            self.publish_later(after.publish);
        }
        if after.moved {
            self.moved();
        }
        let mut garbage = after.garbage;
        for (name, hash) in after.spare {
            if let Err(error) = self.keep_spare(&name, hash) {
                tracing::warn!(%error, "a displaced file was not kept");
                garbage.push(name);
            }
        }
        if let Err(error) = self.discard(garbage) {
            tracing::warn!(%error, "a staged file was not removed: again soon");
        }
        self.prune_implied(&after.gone)
    }
}

/// Where intents can be looked up.
pub trait IntentRows {
    fn intent_of(&self, path: &RelPath) -> Result<Option<Intent>, ShareError>;
}

impl IntentRows for Writer {
    fn intent_of(&self, path: &RelPath) -> Result<Option<Intent>, ShareError> {
        Ok(self.intent(path)?)
    }
}

impl IntentRows for crate::index::Reader {
    fn intent_of(&self, path: &RelPath) -> Result<Option<Intent>, ShareError> {
        Ok(self.intent(path)?)
    }
}

/// A file's content, if it is the one that is looked for.
fn read_matching<V: Vfs>(vfs: &V, dir: &V::Dir, name: &[u8], hash: &ContentHash) -> Option<Bytes> {
    let file = vfs.open_file(dir, name).ok()?;
    let size = vfs.stat_file(&file).ok()?.size;
    if size > INLINE_BYTES_MAX {
        return None;
    }
    let content = crate::disk::read_all(vfs, &file, size).ok()?;
    (ContentHash::of(&content) == *hash).then(|| content.into())
}
