//! One upload, system call by system call, in the styles that web applications have.

use std::io;
use std::time::Duration;

use chainsync_core::RelPath;
use chainsync_env::RenameMode;
use serde::{Deserialize, Serialize};

use crate::fs::{Actor, Content, Disk, Slot};
use crate::ledger::What;
use crate::rng::Stream;
use crate::shared::lock;
use crate::trace::Shown;

use super::plan::content;

/// How an application stores a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Creates or truncates the final name, writes in pieces, closes.
    InPlace,
    /// Writes over what is there without truncating it first; creates it if it is missing.
    Over,
    /// Writes a temporary file beside it and renames it.
    Rename,
}

/// What is drawn of an upload.
pub(crate) struct Draft {
    pub path: RelPath,
    /// Written first, if the style is to rename.
    pub temporary: Option<RelPath>,
    pub content: Content,
    pub mode: u32,
    pub style: Style,
}

impl Draft {
    pub(crate) fn draw(
        node: &str,
        path: RelPath,
        size: u64,
        style: Option<Style>,
        rng: &mut Stream,
    ) -> Self {
        let content = content(&format!("{node} {path}"), size, rng);
        let drawn = match rng.between(0, 9) {
            0..=4 => Style::InPlace,
            5 => Style::Over,
            _ => Style::Rename,
        };
        let style = style.unwrap_or(drawn);
        let temporary = (style == Style::Rename).then(|| temporary_name(&path, rng));
        // A few files are private: modes have to travel too.
        let mode = if rng.one_in(8) { 0o640 } else { 0o644 };
        Self { path, temporary, content, mode, style }
    }
}

pub(crate) struct Upload {
    path: RelPath,
    temporary: Option<RelPath>,
    content: Content,
    mode: u32,
    style: Style,
    /// Its record in the oracle.
    id: usize,
    stage: Stage,
    /// Written in pieces of this many bytes, this far apart; else as it comes.
    slow: Option<(usize, u64)>,
    /// Its own: one upload less in a plan leaves the others as they were.
    rng: Stream,
}

/// An upload that takes its time comes in this many pieces at most.
const PIECES_MAX: u64 = 200;

enum Stage {
    Open,
    /// Open for writing, so far written.
    Writing {
        slot: Slot,
        handle: u64,
        offset: usize,
    },
    Closed,
}

impl Upload {
    /// Announces the content to the oracle.
    pub(crate) fn new(
        disk: &Disk,
        path: RelPath,
        size: u64,
        style: Option<Style>,
        mut rng: Stream,
    ) -> Self {
        let draft = Draft::draw(&disk.node, path, size, style, &mut rng);
        let Draft { path, temporary, content, mode, style } = draft;
        let id = lock(&disk.shared.oracle).announce(
            disk.index,
            path.as_bytes(),
            temporary.as_ref().map(RelPath::as_bytes),
            &content,
        );
        Self { path, temporary, content, mode, style, id, stage: Stage::Open, slow: None, rng }
    }

    /// Makes it last.
    pub(crate) fn slowly(mut self, over: Duration) -> Self {
        let piece = (self.content.len() as u64).div_ceil(PIECES_MAX).max(1);
        let pieces = (self.content.len() as u64).div_ceil(piece).max(1);
        self.slow = Some((piece as usize, over.as_nanos() as u64 / pieces));
        self
    }

    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.path.as_bytes() == name.as_bytes()
    }

    /// The name that is written to.
    fn target(&self) -> &RelPath {
        self.temporary.as_ref().unwrap_or(&self.path)
    }
}

/// A temporary name beside `path`. Names of uploads are short: the result always fits.
fn temporary_name(path: &RelPath, rng: &mut Stream) -> RelPath {
    let mut name = b".".to_vec();
    name.extend_from_slice(&path.name()[..path.name().len().min(200)]);
    name.extend_from_slice(format!(".{:08x}", rng.draw() & 0xffff_ffff).as_bytes());
    RelPath::child(path.parent().as_ref(), &name).unwrap_or_else(|_| path.clone())
}

impl Disk {
    /// The next system call; the rest of the upload and how long it waits first.
    pub(crate) fn step_upload(&mut self, mut upload: Upload) -> Option<(u64, Upload)> {
        match self.try_step(&mut upload) {
            Ok(true) => {
                let pause = pause_ns(&mut upload.rng);
                let wait = upload.slow.map_or(pause, |(_, apart_ns)| apart_ns);
                Some((wait, upload))
            }
            Ok(false) => None,
            Err(error) => {
                self.give_up(&upload);
                let code = error.raw_os_error().unwrap_or(0);
                let shown = Shown(upload.path.as_bytes());
                self.event("app", format_args!("upload {shown} failed {code}"));
                None
            }
        }
    }

    fn try_step(&mut self, upload: &mut Upload) -> io::Result<bool> {
        match upload.stage {
            Stage::Open => {
                let (slot, handle) = self.open_upload(upload)?;
                self.jobs.writing.entry(slot).or_default().push(upload.id);
                upload.stage = Stage::Writing { slot, handle, offset: 0 };
                Ok(true)
            }
            Stage::Writing { slot, handle, offset } if offset < upload.content.len() => {
                let rest = upload.content.len() - offset;
                // Most are written at once, some in pieces, as a body that arrives in packets.
                let length = match upload.slow {
                    Some((piece, _)) => piece.min(rest),
                    None if upload.rng.one_in(3) => upload.rng.between(1, rest as u64) as usize,
                    None => rest,
                };
                let piece = Content::clone(&upload.content);
                self.write(Actor::Writer, slot, &piece[offset..offset + length], offset as u64)?;
                upload.stage = Stage::Writing { slot, handle, offset: offset + length };
                Ok(true)
            }
            Stage::Writing { slot, handle, .. } => {
                upload.stage = Stage::Closed;
                self.judge_mixture(slot, upload.target().as_bytes());
                self.close(slot, handle);
                match upload.temporary {
                    Some(_) => Ok(true),
                    None => {
                        self.finish(upload);
                        Ok(false)
                    }
                }
            }
            Stage::Closed => {
                let dir = self.upload_dir(&upload.path)?;
                let displaced = self.lookup(dir, upload.path.name()).ok();
                let displaced = displaced.map(|slot| (slot, self.content(slot)));
                let ends = ((dir, upload.target().name()), (dir, upload.path.name()));
                let moved = self.lookup(dir, upload.target().name())?;
                let moved = self.content(moved);
                self.rename(Actor::Writer, ends.0, ends.1, RenameMode::Replace)?;
                if let Some((slot, content)) = displaced {
                    self.took_away(slot, &content);
                    self.took(upload.path.as_bytes(), &content, What::Overwritten);
                }
                self.took(upload.target().as_bytes(), &moved, What::Removed);
                self.put(upload.path.as_bytes(), &moved);
                // Its temporary name may have moved about with its directory.
                lock(&self.shared.oracle).named(upload.id, upload.path.as_bytes());
                self.finish(upload);
                Ok(false)
            }
        }
    }

    fn open_upload(&mut self, upload: &Upload) -> io::Result<(Slot, u64)> {
        let dir = self.upload_dir(&upload.path)?;
        let name = upload.target().name();
        let Ok(slot) = self.lookup(dir, name) else {
            let slot = self.create(Actor::Writer, dir, name, upload.mode)?;
            return Ok((slot, self.open(slot, Some((dir, name)), true)));
        };
        if self.inode(slot).is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        let before = self.content(slot);
        lock(&self.shared.oracle).replaced(&before);
        self.took(upload.target().as_bytes(), &before, What::Overwritten);
        // What is longer than the new content has to be cut: nobody leaves the old end behind.
        if upload.style != Style::Over || before.len() > upload.content.len() {
            self.truncate(Actor::Writer, slot, 0);
        }
        Ok((slot, self.open(slot, Some((dir, name)), true)))
    }

    fn finish(&mut self, upload: &Upload) {
        let now = self.now_ns();
        lock(&self.shared.oracle).finished(upload.id, now);
        let shown = Shown(upload.path.as_bytes());
        self.event("app", format_args!("upload {shown} {}", upload.content.len()));
    }

    fn give_up(&mut self, upload: &Upload) {
        if let Stage::Writing { slot, handle, .. } = upload.stage {
            lock(&self.shared.oracle).uploads[upload.id].replaced = true;
            self.judge_mixture(slot, upload.target().as_bytes());
            self.close(slot, handle);
        }
    }

    /// The last of a file's writers is about to close it: what is in it now counts, whether it is
    /// one upload, half of one or a mixture of two; uploads that it is not have been overwritten.
    fn judge_mixture(&mut self, slot: Slot, path: &[u8]) {
        if self.inode(slot).writers > 1 {
            return;
        }
        let content = self.content(slot);
        let writing = self.jobs.writing.remove(&slot).unwrap_or_default();
        let home = self.inode(slot).home.clone();
        let present = home.map(|(dir, name)| self.path_of(dir, &name));
        // A directory above it may have got another name meanwhile.
        let present = present.as_deref().and_then(|present| self.in_share(present));
        let present = present.map(<[u8]>::to_vec);
        if self.inode(slot).links > 0 {
            // A daemon may have taken it away meanwhile, as what it was before: it was put there.
            self.put(present.as_deref().unwrap_or(path), &content);
        }
        let mut oracle = lock(&self.shared.oracle);
        let hash = oracle.digests.of(&content);
        oracle.left_behind(path, &content);
        if let Some(present) = &present {
            oracle.left_behind(present, &content);
        }
        for id in writing {
            let upload = &mut oracle.uploads[id];
            upload.replaced |= upload.hash != hash;
            let path = upload.path.clone();
            oracle.left_behind(&path, &content);
        }
    }
}

/// Between two calls of one upload: microseconds, now and then the milliseconds of a slow client.
fn pause_ns(rng: &mut Stream) -> u64 {
    if rng.one_in(20) { rng.between(1_000_000, 8_000_000) } else { rng.between(5_000, 200_000) }
}
