//! The web application of a real host: carries a script out on a directory, and records what came of
//! it.
//!
//! What a call displaced has to be known exactly, while a daemon changes the same names: what was
//! overwritten by a writer who had it is not lost, and everything else is. So a name is taken over by
//! exchange, and what then has the temporary name is looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chainsync_core::RelPath;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::record::{Digest, Fact, Recorder};
use super::script::{Step, Upload, What};
use crate::workload::{Draft, Style};

/// An upload that takes its time comes in this many pieces at most.
const PIECES_MAX: usize = 200;

/// Carries out all steps, each at its time or as soon as it can be. `elapsed`: since the scenario
/// began. Refusals of the system are facts; an error is one of the record.
pub fn carry_out(
    root: &Path,
    steps: &[Step],
    elapsed: Duration,
    record: &Recorder,
) -> io::Result<()> {
    let application = Application { root, record };
    record.note(Fact::Begins)?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let mut slow = Vec::new();
        for step in steps {
            std::thread::sleep(step.at.saturating_sub(elapsed + began.elapsed()));
            match &step.what {
                What::Upload(upload) if upload.over.is_some() => {
                    slow.push(scope.spawn(|| application.carry_out(&step.what)));
                }
                what => application.carry_out(what)?,
            }
        }
        slow.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("an upload panicked")))
        })
    })?;
    record.note(Fact::Ends)
}

struct Application<'a> {
    root: &'a Path,
    record: &'a Recorder,
}

impl Application<'_> {
    fn carry_out(&self, what: &What) -> io::Result<()> {
        let (path, result) = match what {
            What::Upload(upload) => {
                let draft = upload.draft();
                let result = self.upload(upload, &draft);
                (draft.path, result)
            }
            What::Delete(path) => (path.clone(), self.delete(path)),
            What::Rename(from, to) => (from.clone(), self.rename(from, to)),
            What::MakeDir(path) => {
                let made = self.parent(path).and_then(|()| fs::create_dir(self.at(path)));
                (path.clone(), made.map(|()| Fact::Made { path: shown(path) }))
            }
            What::Symlink(path, target) => {
                let made = self.parent(path).and_then(|()| symlink(target, self.at(path)));
                (path.clone(), made.map(|()| Fact::Made { path: shown(path) }))
            }
            What::Chmod(path, mode) => {
                let mode = fs::Permissions::from_mode(*mode);
                let made = fs::set_permissions(self.at(path), mode);
                (path.clone(), made.map(|()| Fact::Made { path: shown(path) }))
            }
        };
        self.record.note(
            result.unwrap_or_else(|error| Fact::Failed {
                path: shown(&path),
                error: error.to_string(),
            }),
        )
    }

    fn at(&self, path: &RelPath) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Makes the directories above a path, as an application does before it stores an upload.
    fn parent(&self, path: &RelPath) -> io::Result<()> {
        self.at(path).parent().map_or(Ok(()), fs::create_dir_all)
    }

    fn upload(&self, upload: &Upload, draft: &Draft) -> io::Result<Fact> {
        self.parent(&draft.path)?;
        let path = self.at(&draft.path);
        let (displaced, written) = match &draft.temporary {
            None => {
                let (file, displaced) = open_in_place(&path, draft)?;
                (displaced, write(file, &draft.content, upload.over))
            }
            Some(temporary) => {
                let temporary = self.at(temporary);
                let file = options(draft.mode).create_new(true).open(&temporary)?;
                write(file, &draft.content, upload.over)?;
                (take_over(&temporary, &path)?, Ok(()))
            }
        };
        if let Err(error) = written {
            // Half of it is there, under the final name.
            let hash = digest(File::open(&path)?)?;
            self.record.note(Fact::Left { path: shown(&draft.path), hash })?;
            return Err(error);
        }
        let hash = blake3::hash(&draft.content).to_hex().to_string();
        Ok(Fact::Finished { path: shown(&draft.path), hash, displaced })
    }

    fn delete(&self, path: &RelPath) -> io::Result<Fact> {
        let at = self.at(path);
        let found = fs::symlink_metadata(&at)?;
        if found.is_dir() {
            fs::remove_dir(&at)?;
            return Ok(Fact::Removed { path: shown(path), hash: None });
        }
        if !found.is_file() {
            fs::remove_file(&at)?;
            return Ok(Fact::Removed { path: shown(path), hash: None });
        }
        // Whatever has the name at that moment is what is deleted.
        let file = File::open(&at)?;
        fs::remove_file(&at)?;
        Ok(Fact::Removed { path: shown(path), hash: Some(digest(file)?) })
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<Fact> {
        self.parent(to)?;
        let (source, target) = (self.at(from), self.at(to));
        let (from, to) = (shown(from), shown(to));
        if fs::symlink_metadata(&source)?.is_file() {
            let file = File::open(&source)?;
            let displaced = take_over(&source, &target)?;
            return Ok(Fact::Moved { from, to, hash: Some(digest(file)?), displaced });
        }
        fs::rename(&source, &target)?;
        // What went along is at a new name each.
        for below in files_below(&target)? {
            let Ok(rest) = below.strip_prefix(&target) else { continue };
            let rest = rest.display();
            let hash = Some(digest(File::open(&below)?)?);
            let (from, to) = (format!("{from}/{rest}"), format!("{to}/{rest}"));
            self.record.note(Fact::Moved { from, to, hash, displaced: None })?;
        }
        Ok(Fact::Moved { from, to, hash: None, displaced: None })
    }
}

fn shown(path: &RelPath) -> String {
    path.to_string()
}

fn options(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
    options
}

/// The file to write into, and the content that it had.
fn open_in_place(path: &Path, draft: &Draft) -> io::Result<(File, Option<Digest>)> {
    match options(draft.mode).create_new(true).open(path) {
        Ok(file) => Ok((file, None)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut file = options(draft.mode).open(path)?;
            let length = file.metadata()?.len();
            let before = digest(&mut file)?;
            file.rewind()?;
            // What is longer than the new content has to be cut: nobody leaves the old end behind.
            if draft.style != Style::Over || length > draft.content.len() as u64 {
                file.set_len(0)?;
            }
            Ok((file, Some(before)))
        }
        Err(error) => Err(error),
    }
}

fn write(mut file: File, content: &[u8], over: Option<Duration>) -> io::Result<()> {
    let Some(over) = over else { return file.write_all(content) };
    let piece = content.len().div_ceil(PIECES_MAX).max(1);
    let apart = over / content.len().div_ceil(piece).max(1) as u32;
    for piece in content.chunks(piece) {
        file.write_all(piece)?;
        std::thread::sleep(apart);
    }
    Ok(())
}

/// Gives `source` the name `target`. Returns the content that had it.
fn take_over(source: &Path, target: &Path) -> io::Result<Option<Digest>> {
    loop {
        match renameat_with(CWD, source, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(None),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        match renameat_with(CWD, source, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // Deleted between the two.
            Err(rustix::io::Errno::NOENT) if fs::symlink_metadata(source).is_ok() => continue,
            Err(error) => return Err(error.into()),
        }
        let file = File::open(source)?;
        if file.metadata()?.is_dir() {
            // As rename(2) has it. Back to where it was.
            renameat_with(CWD, source, CWD, target, RenameFlags::EXCHANGE)?;
            return Err(io::ErrorKind::IsADirectory.into());
        }
        fs::remove_file(source)?;
        return digest(file).map(Some);
    }
}

fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        if !fs::symlink_metadata(&directory)?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

pub(super) fn digest(file: impl Read) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::record;
    use crate::field::script::script;
    use crate::scenario::Scenario;

    const SCENARIO: &str = r#"
about = "x"
on    = ["live"]
nodes = ["apollo"]

[[at]]
time  = "0s"
write = { node = "apollo", path = "d/a", size = "1KiB", style = "in-place" }

[[at]]
time      = "1ms"
overwrite = { node = "apollo", path = "d/a", size = "2KiB", style = "rename" }

[[at]]
time  = "2ms"
write = { node = "apollo", path = "d/b", size = "3KiB", style = "in-place", over = "20ms" }

[[at]]
time   = "60ms"
rename = { node = "apollo", from = "d/b", to = "d/a" }

[[at]]
time   = "61ms"
rename = { node = "apollo", from = "d", to = "e" }

[[at]]
time   = "62ms"
delete = { node = "apollo", path = "e/a" }

[[at]]
time   = "63ms"
delete = { node = "apollo", path = "e/nothing" }
"#;

    #[test]
    fn what_was_displaced_is_recorded() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("record");
        let share = root.path().join("share");
        fs::create_dir(&share).unwrap();
        let scenario = Scenario::parse("x.toml", SCENARIO).unwrap();
        let steps = script(&scenario, 1, "apollo");
        carry_out(&share, &steps, Duration::ZERO, &Recorder::create(&log).unwrap()).unwrap();
        let facts: Vec<Fact> =
            record::read(&log).unwrap().into_iter().map(|line| line.fact).collect();
        let hash_of = |step: usize| {
            let What::Upload(upload) = &steps[step].what else { panic!("{:?}", steps[step]) };
            blake3::hash(&upload.draft().content).to_hex().to_string()
        };
        let [first, second, third] = [0, 1, 2].map(hash_of);
        let finished = |path: &str, hash: &Digest, displaced: Option<&Digest>| Fact::Finished {
            path: path.into(),
            hash: hash.clone(),
            displaced: displaced.cloned(),
        };
        let moved = |from: &str, to: &str, hash: Option<&Digest>, displaced: Option<&Digest>| {
            let (hash, displaced) = (hash.cloned(), displaced.cloned());
            Fact::Moved { from: from.into(), to: to.into(), hash, displaced }
        };
        let expected = [
            Fact::Begins,
            finished("d/a", &first, None),
            finished("d/a", &second, Some(&first)),
            finished("d/b", &third, None),
            moved("d/b", "d/a", Some(&third), Some(&second)),
            moved("d/a", "e/a", Some(&third), None),
            moved("d", "e", None, None),
            Fact::Removed { path: "e/a".into(), hash: Some(third) },
        ];
        assert_eq!(facts[..expected.len()], expected);
        let [Fact::Failed { path, .. }, Fact::Ends] = &facts[expected.len()..] else {
            panic!("{facts:?}")
        };
        assert_eq!(path, "e/nothing");
        assert_eq!(fs::read_dir(share.join("e")).unwrap().count(), 0);
    }
}
