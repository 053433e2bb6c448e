//! What was written, where, by whom, over what. In memory for the audit, and line by line in a file
//! for whoever has to understand a failure.
//!
//! Every write is announced before its content can be seen as a whole, and finished once it can not be
//! changed any more: when the last descriptor (or mapping) of the writer is closed, or the finished
//! file got its name. Only finished writes have to be accounted for; *passing* states, which only a
//! file that is open has gone through, must be seen nowhere at all, for the engine promises to read
//! only what nobody has open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::content::{self, Id};
use crate::daemons::NODES;

/// Below this each path has one writer only.
pub const PRIVATE: &str = "private/";
/// Lines of a path's story that a failure tells.
const STORY_LINES: usize = 30;
/// More than a second's lines.
const LOG_BYTES: usize = 4 << 20;

pub struct Write {
    pub id: Id,
    /// What the writer had read in the file before.
    pub parent: Option<Id>,
    /// What it took the place of, seen by taking it out in the same system call.
    pub displaced: Option<Id>,
    pub path: String,
    pub state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Announced,
    Finished,
    Passing,
}

pub struct Ledger {
    books: Mutex<Books>,
    /// Written out once a second: a writer that waits for the disk races with nobody.
    log: Mutex<BufWriter<File>>,
    violations: Mutex<Vec<String>>,
}

#[derive(Default)]
pub struct Books {
    pub writes: BTreeMap<Id, Write>,
    /// By the names of contents.
    names: BTreeMap<String, Id>,
    /// Contents that a program wrote which knows nothing of records: git.
    foreign: BTreeSet<String>,
    /// What was deleted by somebody who read it.
    pub taken: BTreeSet<Id>,
    /// What has to be at a path that only one writer uses, on its node only.
    pub expected: BTreeMap<String, String>,
    /// What was put at a path that only one writer uses, in its order.
    puts: BTreeMap<String, Vec<Id>>,
    numbers: [u64; 3],
}

/// What a content is.
pub enum Content {
    /// A whole write.
    Of(Id),
    Foreign,
    /// Whatever it is, it must not be seen.
    Wrong(String),
}

impl Books {
    pub fn content(&self, name: &str) -> Option<Content> {
        match self.names.get(name) {
            Some(id) if self.writes[id].state == State::Passing => {
                Some(Content::Wrong(format!("{id:016x} is a state of a file that was still open")))
            }
            Some(id) => Some(Content::Of(*id)),
            None => self.foreign.contains(name).then_some(Content::Foreign),
        }
    }
}

impl Ledger {
    pub fn new(log: &Path) -> Self {
        Self {
            books: Mutex::default(),
            log: Mutex::new(BufWriter::with_capacity(LOG_BYTES, File::create(log).unwrap())),
            violations: Mutex::default(),
        }
    }

    pub fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// A line for those who look at it later.
    pub fn note(&self, what: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seconds = now.as_secs() % 86_400;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let line = format!("{hour:02}:{minute:02}:{second:02}.{:06} {what}\n", now.subsec_micros());
        self.log.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }

    pub fn write_out(&self) {
        self.log.lock().unwrap().flush().unwrap();
    }

    pub fn next_id(&self, node: usize) -> Id {
        let mut books = self.books();
        books.numbers[node] += 1;
        ((node as u64 + 0xa) << 60) | books.numbers[node]
    }

    /// Before anybody can see the whole content.
    pub fn announce(
        &self,
        id: Id,
        parent: Option<Id>,
        path: &str,
        how: &str,
        content: &[u8],
        state: State,
    ) {
        let parent_name = parent.map_or("-".to_owned(), |parent| format!("{parent:016x}"));
        let (node, name) = (NODES[node_of(id)], content::name(content));
        let verb = if state == State::Passing { "passes" } else { "writes" };
        let length = content.len();
        self.note(&format!(
            "{path}: {node} {verb} {id:016x} over {parent_name} by {how} ({length} bytes, {name})"
        ));
        let write = Write { id, parent, displaced: None, path: path.to_owned(), state };
        let mut books = self.books();
        books.names.insert(name, id);
        if path.starts_with(PRIVATE) {
            books.puts.entry(path.to_owned()).or_default().push(id);
        }
        books.writes.insert(id, write);
    }

    /// Nobody has it open any more, and it has its name.
    pub fn finish(&self, id: Id) {
        let path = {
            let mut books = self.books();
            let write = books.writes.get_mut(&id).unwrap();
            write.state = State::Finished;
            write.path.clone()
        };
        self.note(&format!("{path}: finished {id:016x}"));
    }

    /// A content of an only writer gets another name. Before anybody can see it there.
    pub fn put(&self, path: &str, id: Id) {
        self.books().puts.entry(path.to_owned()).or_default().push(id);
    }

    /// The place of a content in the order of an only writer, at or after `from`.
    pub fn place(&self, path: &str, id: Id, from: usize) -> Option<usize> {
        let books = self.books();
        let puts = books.puts.get(path)?.get(from..)?;
        puts.iter().position(|put| *put == id).map(|place| from + place)
    }

    /// It could not be given its name: it was never written.
    pub fn withdraw(&self, id: Id) {
        let mut books = self.books();
        let write = books.writes.remove(&id).unwrap();
        books.names.retain(|_, named| *named != id);
        drop(books);
        self.note(&format!("{}: withdrawn {id:016x}", write.path));
    }

    pub fn displaced(&self, by: Id, what: Id) {
        self.books().writes.get_mut(&by).unwrap().displaced = Some(what);
        self.note(&format!("{by:016x} took the place of {what:016x}"));
    }

    pub fn took(&self, node: usize, path: &str, id: Id) {
        self.books().taken.insert(id);
        self.note(&format!("{path}: {} deletes {id:016x}", NODES[node]));
    }

    /// A file that git wrote, or somebody else who knows nothing of records.
    pub fn foreign(&self, path: &str, content: &[u8]) {
        let name = content::name(content);
        let mut books = self.books();
        books.expected.insert(path.to_owned(), name.clone());
        books.foreign.insert(name);
    }

    /// What has to be at a path that one writer has for itself.
    pub fn expect(&self, path: &str, content: Option<&[u8]>) {
        let mut books = self.books();
        match content {
            Some(content) => books.expected.insert(path.to_owned(), content::name(content)),
            None => books.expected.remove(path),
        };
    }

    /// Holds a whole content against the books.
    pub fn judge(&self, content: &[u8]) -> Result<Id, String> {
        let id = content::parse(content)?;
        match self.books().content(&content::name(content)) {
            Some(Content::Of(found)) if found == id => Ok(id),
            Some(Content::Wrong(why)) => Err(why),
            _ => Err(format!("nobody wrote this content, which says that it is {id:016x}")),
        }
    }

    pub fn violated(&self, what: String) {
        self.note(&format!("VIOLATION {what}"));
        self.violations.lock().unwrap().push(what);
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// What a violation is about: lines about its path, around the first that names its content.
    pub fn story(&self, log: &Path, violation: &str) -> String {
        self.write_out();
        let path = violation.split(": ").next().unwrap_or_default();
        let is_id = |word: &&str| word.len() == 16 && u64::from_str_radix(word, 16).is_ok();
        let id = violation.split([' ', ',']).find(is_id);
        let all = std::fs::read_to_string(log).unwrap();
        let about = |line: &&str| {
            line.contains(path) || line.contains("FAULT") || id.is_some_and(|id| line.contains(id))
        };
        let lines: Vec<_> = all.lines().filter(about).collect();
        let names = |line: &&str| id.is_some_and(|id| line.contains(id));
        let middle = lines.iter().position(names).unwrap_or(lines.len());
        let from = middle.saturating_sub(STORY_LINES / 3);
        let lines = &lines[from..lines.len().min(from + STORY_LINES)];
        lines.iter().fold(String::new(), |story, line| story + "    " + line + "\n")
    }
}

pub fn node_of(id: Id) -> usize {
    (id >> 60) as usize - 0xa
}
