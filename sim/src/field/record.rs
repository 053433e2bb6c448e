//! What an application did: one line of JSON a fact, written as soon as it is one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::shared::lock;

/// BLAKE3-256 of a content, in hexadecimal.
pub type Digest = String;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    #[serde(flatten)]
    pub fact: Fact,
}

/// Contents are named by their hash. `displaced`: what was there before, and was overwritten by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// The script begins; all its times count from here.
    Begins,
    /// An upload has its final name, and is closed.
    Finished {
        path: String,
        hash: Digest,
        displaced: Option<Digest>,
    },
    /// Without a hash: a symlink or a directory.
    Removed {
        path: String,
        hash: Option<Digest>,
    },
    Moved {
        from: String,
        to: String,
        hash: Option<Digest>,
        displaced: Option<Digest>,
    },
    /// An upload was given up in the middle: what is there counts all the same.
    Left {
        path: String,
        hash: Digest,
    },
    /// A directory, a symlink, a mode.
    Made {
        path: String,
    },
    /// The system refused.
    Failed {
        path: String,
        error: String,
    },
    /// The script is over.
    Ends,
}

/// Several threads write into one.
pub struct Recorder(Mutex<File>);

impl Recorder {
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create(path).map(|file| Self(Mutex::new(file)))
    }

    pub fn note(&self, fact: Fact) -> io::Result<()> {
        let line = Line { at_ms: now_ms(), fact };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        lock(&self.0).write_all(&text)
    }
}

/// All lines of a record. The last one may be cut off, where the host lost its power.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut texts = BufReader::new(File::open(path)?).split(b'\n').peekable();
    while let Some(text) = texts.next() {
        match serde_json::from_slice(&text?) {
            Ok(line) => lines.push(line),
            Err(_) if texts.peek().is_none() => {}
            Err(error) => {
                let place = format!("{}, line {}: {error}", path.display(), lines.len() + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, place));
            }
        }
    }
    Ok(lines)
}

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        let hash = Digest::from("x");
        let facts = [
            Fact::Begins,
            Fact::Finished { path: "d/a".into(), hash: hash.clone(), displaced: None },
            Fact::Moved { from: "a".into(), to: "b".into(), hash: Some(hash), displaced: None },
        ];
        let recorder = Recorder::create(&path).unwrap();
        facts.iter().for_each(|fact| recorder.note(fact.clone()).unwrap());
        let found = |path: &Path| {
            let lines = read(path).unwrap();
            lines.into_iter().map(|line| line.fact).collect::<Vec<_>>()
        };
        assert_eq!(found(&path), facts);
        // The power was lost in the middle of a line.
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        assert_eq!(found(&path), facts[..2]);
        std::fs::write(&path, b"{\n{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }
}
