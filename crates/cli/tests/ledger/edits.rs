//! Ways to change one file, as programs do it. Each is finished when its last descriptor or mapping is
//! closed, or, for what is renamed into its place, when it has its name. Until then nobody may see
//! anything of it: the engine reads only what no writer has open.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

use crate::content::{self, HEADER, Id};
use crate::draw::Draw;
use crate::ledger::State;
use crate::mapping::Mapping;
use crate::site::{InPlace, Site};

/// Small enough to travel with their entries, and several pages.
const LENGTH_MAX: u64 = 20_000;
/// Appending goes on until a content is so long; then it is written anew.
const APPEND_MAX: usize = 200_000;
/// An ambush waits no longer: its daemon may be dead.
const AMBUSH_MAX: Duration = Duration::from_secs(5);
/// What chainsync needs to publish a file, and more.
const APART_US_MAX: u64 = 400;
/// Tries to give a name to a finished file while others give and take it.
const NAMING_TRIES: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As `>` in a shell.
    Truncate,
    /// From the start, and the rest cut off.
    Over,
    /// With the length that it has.
    SameSize,
    Append,
    /// Through a mapping, with the length that it has.
    Mapped,
    /// Made longer or shorter, then through a mapping.
    MappedResized,
}

pub const STYLES: [Style; 6] = [
    Style::Truncate,
    Style::Over,
    Style::SameSize,
    Style::Append,
    Style::Mapped,
    Style::MappedResized,
];

pub fn length(draw: &mut Draw) -> usize {
    HEADER + draw.below(LENGTH_MAX) as usize
}

/// A file that is open for changes in place, and what is in it.
struct Opened<'s> {
    file: File,
    in_place: InPlace<'s>,
    before: Vec<u8>,
    parent: Option<Id>,
}

fn open<'s>(site: &'s Site, path: &str, flags: OFlags) -> Result<Opened<'s>, Errno> {
    let in_place = site.in_place(path);
    let mut file = site.open(path, OFlags::RDWR | flags)?;
    let mut before = Vec::new();
    file.read_to_end(&mut before).unwrap();
    // Nothing is in what was just made by us.
    let parent = if before.is_empty() { None } else { judged(site, path, &before) };
    Ok(Opened { file, in_place, before, parent })
}

/// Changes a file in place; makes it if it is not there and `make` says so. What is read and what is
/// written is the same inode, so that the parent is what is overwritten, whatever happens to the name
/// meanwhile.
pub fn edit(
    site: &Site,
    path: &str,
    style: Style,
    make: bool,
    draw: &mut Draw,
) -> Result<Vec<u8>, Errno> {
    let make = if make { OFlags::CREATE } else { OFlags::empty() };
    let Opened { mut file, in_place, before, parent } = open(site, path, make)?;
    let id = site.ledger.next_id(site.index);
    let style = if before.len() < HEADER || (style == Style::Append && before.len() > APPEND_MAX) {
        Style::Truncate
    } else {
        style
    };
    let keep_size = matches!(style, Style::SameSize | Style::Mapped);
    let size = if keep_size { before.len() } else { length(draw) };
    let record = content::record(id, parent, size);
    let content =
        if style == Style::Append { [&before[..], &record].concat() } else { record.clone() };
    let how = format!("{style:?}");
    if draw.below(4) == 0 {
        // Open, and not written yet: it may be displaced now.
        std::thread::sleep(Duration::from_micros(draw.below(40_000)));
    }
    site.ledger.announce(id, parent, path, &how, &content, State::Announced);
    let mut pace = || std::thread::sleep(Duration::from_micros(draw.below(1500)));
    match style {
        Style::Truncate => {
            file.set_len(0).unwrap();
            pieces(&record, |piece, offset| {
                file.write_all_at(piece, offset).unwrap();
                pace();
            });
        }
        Style::Over | Style::SameSize => {
            pieces(&record, |piece, offset| {
                file.write_all_at(piece, offset).unwrap();
                pace();
            });
            file.set_len(record.len() as u64).unwrap();
        }
        Style::Append => {
            file.seek(SeekFrom::End(0)).unwrap();
            pieces(&record, |piece, _| {
                file.write_all(piece).unwrap();
                pace();
            });
        }
        Style::Mapped | Style::MappedResized => {
            file.set_len(record.len() as u64).unwrap();
            let mut mapping = Mapping::new(&file, record.len());
            if draw.below(2) == 0 {
                // The mapping alone keeps it open.
                drop(file);
            }
            pieces(&record, |piece, offset| {
                mapping.write(piece, offset as usize);
                std::thread::sleep(Duration::from_micros(300));
            });
            drop(mapping);
            site.ledger.finish(id);
            return Ok(content);
        }
    }
    drop(file);
    drop(in_place);
    site.ledger.finish(id);
    Ok(content)
}

/// In three, of which the last holds what makes it whole.
fn pieces(record: &[u8], mut write: impl FnMut(&[u8], u64)) {
    let third = record.len() / 3;
    let (first, rest) = record.split_at(third);
    let (second, last) = rest.split_at(third);
    write(first, 0);
    write(second, third as u64);
    write(last, 2 * third as u64);
}

/// Several times, of equal length, as fast as it goes: within one tick of a clock of 10 ms.
pub fn rewrite_in_a_tick(site: &Site, path: &str, draw: &mut Draw) -> Result<Vec<u8>, Errno> {
    let mut content = Vec::new();
    for _ in 0..4 {
        let Opened { file, in_place, before, parent } = open(site, path, OFlags::empty())?;
        let id = site.ledger.next_id(site.index);
        content = content::record(id, parent, before.len().max(HEADER));
        site.ledger.announce(id, parent, path, "Tick", &content, State::Announced);
        file.write_all_at(&content, 0).unwrap();
        drop(file);
        drop(in_place);
        site.ledger.finish(id);
        if draw.below(4) == 0 {
            std::thread::sleep(Duration::from_micros(draw.below(3000)));
        }
    }
    Ok(content)
}

/// Holds the file open for long, half-written, whatever happens to its name meanwhile.
pub fn hold(
    site: &Site,
    path: &str,
    long: Duration,
    stop: &AtomicBool,
    draw: &mut Draw,
) -> Result<(), Errno> {
    let Opened { file, in_place, parent, .. } = open(site, path, OFlags::empty())?;
    let id = site.ledger.next_id(site.index);
    let record = content::record(id, parent, length(draw));
    site.ledger.announce(id, parent, path, "Hold", &record, State::Announced);
    // Once something was written, chainsync waits for the end before it publishes anything here; a
    // file that is only open is displaced, and what is written then must not be lost.
    if draw.below(3) == 0 {
        file.write_all_at(&record[..HEADER / 2], 0).unwrap();
    }
    pause(long, stop);
    file.write_all_at(&record, 0).unwrap();
    file.set_len(record.len() as u64).unwrap();
    drop(file);
    drop(in_place);
    site.ledger.finish(id);
    Ok(())
}

/// Appends to an open file again and again, as a log does; finished when it is closed.
pub fn append_for_long(
    site: &Site,
    path: &str,
    long: Duration,
    stop: &AtomicBool,
    draw: &mut Draw,
) -> Result<(), Errno> {
    let Opened { mut file, in_place, before: mut content, mut parent } =
        open(site, path, OFlags::APPEND)?;
    if content.len() > APPEND_MAX {
        file.set_len(0).unwrap();
        content.clear();
    }
    let begun = Instant::now();
    loop {
        let last = begun.elapsed() > long || stop.load(Ordering::Relaxed);
        let id = site.ledger.next_id(site.index);
        let record = content::record(id, parent, HEADER + draw.below(2000) as usize);
        content.extend_from_slice(&record);
        let state = if last { State::Announced } else { State::Passing };
        site.ledger.announce(id, parent, path, "AppendForLong", &content, state);
        let (first, second) = record.split_at(record.len() / 2);
        file.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(draw.below(20)));
        file.write_all(second).unwrap();
        parent = Some(id);
        if last {
            drop(file);
            drop(in_place);
            site.ledger.finish(id);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100 + draw.below(400)));
    }
}

/// Writes a new file and gives it the name of the old one, in one call. By `RENAME_EXCHANGE`, where a
/// program would use plain rename(2): the same to chainsync, and what was displaced is seen rather than
/// guessed. chainsync may have published something between our look and our rename, and then it is the
/// application that overwrote it unseen, not chainsync.
pub fn replace(site: &Site, path: &str, beside: bool, draw: &mut Draw) -> Result<Vec<u8>, Errno> {
    let parent = match site.read(path) {
        Ok(content) => Some(judged(site, path, &content)),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(error),
    };
    let parent = parent.flatten();
    let id = site.ledger.next_id(site.index);
    let content = content::record(id, parent, length(draw));
    let (how, temporary) = if beside {
        let (dir, name) = path.rsplit_once('/').unwrap();
        ("ReplaceBeside", format!("{dir}/{TEMPORARY}{name}-{id:016x}"))
    } else {
        ("Replace", format!("{id:016x}"))
    };
    site.ledger.announce(id, parent, path, how, &content, State::Announced);
    if beside {
        let in_place = site.in_place(&temporary);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let written = site.open(&temporary, flags).map(|mut file| file.write_all(&content));
        drop(in_place);
        if let Err(error) = written {
            site.ledger.withdraw(id);
            return Err(error);
        }
    } else {
        std::fs::write(site.prepared.join(&temporary), &content).unwrap();
    }
    let named = |flags: RenameFlags| {
        if !beside {
            return site.bring(&temporary, path, flags);
        }
        let (parent, name) = site.parent(path)?;
        let (_, from) = temporary.rsplit_once('/').unwrap();
        rustix::fs::renameat_with(&parent, from, &parent, name, flags)
    };
    for _ in 0..NAMING_TRIES {
        match named(RenameFlags::EXCHANGE) {
            Ok(()) => {
                site.ledger.finish(id);
                let displaced = if beside {
                    // In the share until now, and a file like any other.
                    read_and_remove(&site.trash.join(site.take(&temporary)?))
                } else {
                    read_and_remove(&site.prepared.join(&temporary))
                };
                if let Some(displaced) = judged(site, path, &displaced) {
                    site.ledger.displaced(id, displaced);
                }
                return Ok(content);
            }
            Err(Errno::NOENT) => {}
            Err(error) => return give_up(site, id, beside, &temporary, error),
        }
        match named(RenameFlags::NOREPLACE) {
            Ok(()) => {
                site.ledger.finish(id);
                return Ok(content);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return give_up(site, id, beside, &temporary, error),
        }
    }
    give_up(site, id, beside, &temporary, Errno::BUSY)
}

/// What is renamed over something else in the same directory begins so.
pub const TEMPORARY: &str = ".tmp-";

/// A finished temporary file may have been replicated meanwhile: it was written, and it was deleted.
fn give_up(
    site: &Site,
    id: Id,
    beside: bool,
    temporary: &str,
    error: Errno,
) -> Result<Vec<u8>, Errno> {
    if beside {
        site.ledger.finish(id);
        match site.take(temporary) {
            Ok(_) => site.ledger.took(site.index, temporary, id),
            Err(error) => {
                site.ledger.violated(format!("{temporary}: a writer's own file is gone: {error}"))
            }
        }
    } else {
        site.ledger.withdraw(id);
    }
    Err(error)
}

/// Replaces several files, all of which are ready for it, `apart` from each other.
pub fn replace_all(
    site: &Site,
    paths: &[String],
    how: &str,
    apart: Duration,
    draw: &mut Draw,
    when: impl FnOnce(),
) {
    let mut ready = Vec::new();
    for path in paths {
        let parent = site.read(path).ok().and_then(|content| judged(site, path, &content));
        let id = site.ledger.next_id(site.index);
        let content = content::record(id, parent, length(draw));
        let prepared = format!("{id:016x}");
        std::fs::write(site.prepared.join(&prepared), &content).unwrap();
        site.ledger.announce(id, parent, path, how, &content, State::Announced);
        ready.push((path, id, prepared));
    }
    when();
    // Whether something was displaced, if it was done.
    let bring = |(path, _, prepared): &(&String, Id, String)| {
        let exchanged = site.bring(prepared, path, RenameFlags::EXCHANGE).map(|()| true);
        exchanged.or_else(|_| site.bring(prepared, path, RenameFlags::NOREPLACE).map(|()| false))
    };
    let begun = Instant::now();
    let paced = |(place, it): (u32, _)| {
        // No sleep is so short.
        while begun.elapsed() < apart * place {
            std::hint::spin_loop();
        }
        bring(it)
    };
    let done: Vec<_> = (0..).zip(&ready).map(paced).collect();
    for ((path, id, prepared), done) in ready.into_iter().zip(done) {
        let Ok(displaced) = done else {
            site.ledger.withdraw(id);
            continue;
        };
        site.ledger.finish(id);
        if displaced
            && let Some(what) = judged(site, path, &read_and_remove(&site.prepared.join(prepared)))
        {
            site.ledger.displaced(id, what);
        }
    }
}

/// Waits until chainsync publishes the first of some files that another node has written at once, and
/// then replaces the others, about as fast as chainsync goes: between two steps of a publication.
pub fn ambush(site: &Site, paths: &[String], stop: &AtomicBool, draw: &mut Draw) {
    let inode =
        || site.open(&paths[0], OFlags::PATH).and_then(rustix::fs::fstat).map(|it| it.st_ino);
    let Ok(before) = inode() else { return };
    let apart = Duration::from_micros(draw.below(APART_US_MAX));
    let begun = Instant::now();
    replace_all(site, &paths[1..], "Ambush", apart, draw, || {
        while inode() == Ok(before) && begun.elapsed() < AMBUSH_MAX && !stop.load(Ordering::Relaxed)
        {
            std::thread::sleep(Duration::from_micros(1));
        }
    });
}

/// Removed at once: a disk full of what is done with makes the end slow.
fn read_and_remove(file: &Path) -> Vec<u8> {
    let content = std::fs::read(file).unwrap();
    std::fs::remove_file(file).unwrap();
    content
}

fn judged(site: &Site, path: &str, content: &[u8]) -> Option<Id> {
    let node = crate::daemons::NODES[site.index];
    let judged = site.ledger.judge(content);
    judged
        .map_err(|why| {
            site.ledger.violated(format!("{path}: a writer on {node} reads what is torn: {why}"));
        })
        .ok()
}

/// Moved out of the share rather than unlinked: the same to chainsync, and what was deleted is seen.
pub fn delete(site: &Site, path: &str) -> Result<Option<Id>, Errno> {
    let trashed = site.take(path)?;
    let content = read_and_remove(&site.trash.join(trashed));
    let id = judged(site, path, &content);
    if let Some(id) = id {
        site.ledger.took(site.index, path, id);
    }
    Ok(id)
}

/// Deletes and makes again.
pub fn recreate(site: &Site, path: &str, draw: &mut Draw) -> Result<(), Errno> {
    let parent = delete(site, path)?;
    // At once, or after a look.
    let longest = if draw.below(2) == 0 { 100 } else { 20_000 };
    std::thread::sleep(Duration::from_micros(draw.below(longest)));
    let in_place = site.in_place(path);
    let mut file = site.open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?;
    let id = site.ledger.next_id(site.index);
    let content = content::record(id, parent, length(draw));
    site.ledger.announce(id, parent, path, "Recreate", &content, State::Announced);
    pieces(&content, |piece, _| file.write_all(piece).unwrap());
    drop(file);
    drop(in_place);
    site.ledger.finish(id);
    Ok(())
}

/// Sleeps, but not past the end.
pub fn pause(long: Duration, stop: &AtomicBool) {
    let begun = Instant::now();
    while begun.elapsed() < long && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20).min(long));
    }
}
