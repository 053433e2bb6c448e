//! What a share leaves out: patterns in the syntax of gitignore, relative to the root.
//!
//! An excluded path is *not looked at*: what is made, changed or deleted there stays this node's own
//! affair. What a peer sends for it is put on disk as long as the name is free or shows what was
//! put there before, so that contents travel on through nodes with other patterns; anything else
//! that is at the name is left alone, and nothing excluded is ever deleted on a peer's word.
//!
//! Patterns may change between runs and while the daemon runs. What becomes excluded stays where it
//! is. What is no longer excluded is found by a sweep; what was deleted here meanwhile comes back,
//! because nobody was looking when it went.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chainsync_core::{Published, Record, RelPath};
use chainsync_env::Env;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::disk::Dirs;
use crate::index::Intent;
use crate::share::{Share, ShareError};

/// Compiled patterns.
#[derive(Debug, Clone)]
pub struct Exclude {
    patterns: Vec<String>,
    matcher: Gitignore,
}

impl Exclude {
    pub fn new(patterns: &[String]) -> Result<Self, ignore::Error> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns {
            builder.add_line(None, pattern)?;
        }
        Ok(Self { patterns: patterns.to_vec(), matcher: builder.build()? })
    }

    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// As git does it: what lies in an excluded directory is excluded, whatever later patterns say of
    /// it, because nobody looks into that directory.
    pub fn matches(&self, path: &RelPath, is_dir: bool) -> bool {
        let ignored = |path: &RelPath, is_dir| {
            self.matcher.matched(Path::new(OsStr::from_bytes(path.as_bytes())), is_dir).is_ignore()
        };
        !self.matcher.is_empty()
            && (ignored(path, is_dir) || path.ancestors().any(|above| ignored(&above, true)))
    }
}

impl<E: Env> Share<E> {
    /// Whether a path is left out by the configuration.
    pub fn is_excluded(&self, path: &RelPath, is_dir: bool) -> bool {
        self.settings().exclude.matches(path, is_dir)
    }

    /// Brings the index in line with the present patterns, if they are not those it was left with.
    /// The caller holds the gate, and sweeps afterwards.
    pub fn retrack(&self) -> Result<(), ShareError> {
        let settings = self.settings();
        let reader = self.index.read()?;
        let before = reader.exclude()?;
        if before.as_deref() == Some(settings.exclude.patterns()) {
            return Ok(());
        }
        let mut writer = self.index.begin()?;
        writer.set_exclude(settings.exclude.patterns())?;
        // An index that never heard of patterns was written under the ones that it is opened with.
        // Patterns that do not compile any more excluded nothing that could be told now.
        let old = before.and_then(|patterns| Exclude::new(&patterns).ok());
        let mut again = Vec::new();
        if let Some(old) = old {
            let mut dirs = Dirs::new(&self.vfs);
            let freed = reader.matching(|path, record| {
                let was_dir = record.published().is_some_and(|published| published.kind.is_dir());
                let is_dir = record.kind.is_dir() || was_dir;
                old.matches(path, is_dir) && !settings.exclude.matches(path, is_dir)
            })?;
            for (path, record) in freed {
                if let Some((record, intent)) = self.resumed(&mut dirs, &path, record)? {
                    writer.put_record(&path, record);
                    if reader.intent(&path)?.is_none() {
                        writer.put_intent(&path, intent);
                    }
                    again.push(path);
                }
            }
        }
        writer.commit(self.env.random_u64(), true)?;
        if !again.is_empty() {
            tracing::info!(share = %self.config.name, paths = again.len(), "no longer excluded");
            self.publish_later(again);
        }
        Ok(())
    }

    /// The record and the intent of a path that is looked at again, unless the disk shows what is
    /// known.
    fn resumed(
        &self,
        dirs: &mut Dirs<'_, E::Vfs>,
        path: &RelPath,
        mut record: Record,
    ) -> Result<Option<(Record, Intent)>, ShareError> {
        let stat = dirs.stat(path).map_err(ShareError::disk("looking at a path"))?;
        let vanished = record.is_live_on_disk() && stat.is_none();
        if let (true, Some(published)) = (vanished, record.published()) {
            // Nothing is published there: not a deletion, which would go round the ring.
            let kind = published.kind.tombstone();
            record.publish(Published { kind, version: published.version, identity: None });
        } else if record.is_published_as_known() {
            return Ok(None);
        }
        let (kind, version) = (record.kind.clone(), record.version.clone());
        Ok(Some((record, Intent { kind, version, staged: None, from: None })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let (path, is_dir) = match path.strip_suffix('/') {
            Some(dir) => (dir, true),
            None => (path, false),
        };
        Exclude::new(&patterns).unwrap().matches(&RelPath::new(path).unwrap(), is_dir)
    }

    /// The cases of gitignore(5).
    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        for (patterns, path, expected) in [
            (&["*.log"][..], "a.log", true),
            (&["*.log"], "a/b/c.log", true),
            (&["*.log"], "a.logs", false),
            (&["*.log", "!keep.log"], "a/keep.log", false),
            (&["!keep.log", "*.log"], "keep.log", true),
            (&["/cache"], "cache", true),
            (&["/cache"], "cache/a/b", true),
            (&["/cache"], "a/cache", false),
            (&["cache/"], "cache", false),
            (&["cache/"], "a/cache/", true),
            (&["cache/"], "a/cache/x", true),
            (&["a/cache"], "a/cache", true),
            (&["a/cache"], "b/a/cache", false),
            (&["**/cache"], "b/a/cache/x", true),
            (&["a/**"], "a/b/c", true),
            (&["a/**"], "a/", false),
            (&["a/**/z"], "a/z", true),
            (&["a/**/z"], "a/b/c/z", true),
            (&["/a/*", "!/a/keep"], "a/keep", false),
            (&["/a/*", "!/a/keep"], "a/other", true),
            // git cannot re-include what lies in an excluded directory.
            (&["/a/", "!/a/keep"], "a/keep", true),
            (&["/*", "!/images/"], "images/x", false),
            (&["/*", "!/images/"], "other/x", true),
            (&["[ab].txt", "x?z"], "b.txt", true),
            (&["[ab].txt", "x?z"], "xyz", true),
            (&["x?z"], "x/z", false),
            (&[r"\#a", r"\!b"], "#a", true),
            (&[r"\#a", r"\!b"], "!b", true),
            (&["# a comment", ""], "# a comment", false),
            (&[], "a", false),
        ] {
            assert_eq!(excluded(patterns, path), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn names_that_are_not_text_match_too() {
        let exclude = Exclude::new(&["*.log".to_owned()]).unwrap();
        assert!(exclude.matches(&RelPath::new(b"\xff\xfe.log").unwrap(), false));
        assert!(!exclude.matches(&RelPath::new(b"\xff\xfe.txt").unwrap(), false));
    }
}
