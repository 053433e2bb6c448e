//! One arm of the comparison: performs operations on a world and says what came of them.
//!
//! The same code drives both arms, through the traits that the engine uses.

use std::collections::BTreeMap;
use std::io;

use chainsync_core::hints::Urgency;
use chainsync_core::{FileType, RelPath, Stat};
use chainsync_env::{Added, Vfs, Watch, WatchError, WatchEvent};

use crate::MARKS;
use crate::script::{In, Name, Operation, SLOTS};

/// What an arm is made of.
pub trait World {
    type Vfs: Vfs;
    type Watch: Watch;
    /// Another program's file, open for reading and writing; closed when dropped.
    type Writer;

    fn vfs(&self) -> &Self::Vfs;
    fn watch(&self) -> &Self::Watch;
    /// Lets the reader of the watch read everything that is queued now.
    fn read_events(&mut self) -> Vec<WatchEvent>;

    fn open_writer(&self, path: &RelPath, truncate: bool) -> io::Result<Self::Writer>;
    fn write(&self, writer: &Self::Writer, data: &[u8], offset: u64) -> io::Result<()>;
    fn truncate(&self, writer: &Self::Writer, length: u64) -> io::Result<()>;
    fn link(&self, from: &RelPath, to: &RelPath) -> io::Result<()>;
    fn move_root(&mut self) -> io::Result<()>;
}

/// What came of an operation, without what differs between any two machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// No such handle is open: nothing was called.
    Skipped,
    Errno(i32),
    Names(Vec<Name>),
    Seen(Looks),
    Bytes(Name),
    HasWriter(Option<bool>),
    Watched(Added, usize),
    Unwatched(usize),
    NotWatched(&'static str),
    Events(Vec<String>),
}

/// What a `Stat` shows that is the same on two machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looks {
    pub file_type: FileType,
    /// A directory's is the file system's own business.
    pub size: Option<u64>,
    pub mode: u32,
    pub links: u64,
    /// Whether it belongs to whom the root belongs to.
    pub ours: bool,
}

/// Where something is to be found: `path`, or the handle that leads to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Path(Name),
    Dir(usize),
    File(usize),
}

pub type Snapshot = BTreeMap<Key, Stat>;

pub struct Arm<W: World> {
    // Handles are closed before the world ends.
    dirs: [Option<<W::Vfs as Vfs>::Dir>; SLOTS],
    files: [Option<<W::Vfs as Vfs>::File>; SLOTS],
    writers: [Option<W::Writer>; SLOTS],
    pub world: W,
    owner: (u32, u32),
}

impl<W: World> Arm<W> {
    pub fn new(world: W) -> io::Result<Self> {
        let root = world.vfs().stat_dir(&world.vfs().open_dir(None)?)?;
        Ok(Self {
            dirs: Default::default(),
            files: Default::default(),
            writers: [const { None }; SLOTS],
            world,
            owner: (root.uid, root.gid),
        })
    }

    pub fn perform(&mut self, operation: &Operation) -> Outcome {
        self.call(operation).unwrap_or_else(|error| {
            Outcome::Errno(error.raw_os_error().expect("errors of system calls have a number"))
        })
    }

    fn call(&mut self, operation: &Operation) -> io::Result<Outcome> {
        use Operation as O;
        let fs = self.world.vfs().clone();
        match operation {
            O::OpenDir { handle, at } => {
                if self.dirs[*handle].is_some() {
                    return Ok(Outcome::Skipped);
                }
                self.dirs[*handle] = Some(fs.open_dir(path(&at.0).as_ref())?);
            }
            O::CloseDir { handle } => self.dirs[*handle] = None,
            O::List { dir } => {
                let entries = self.within(dir, |dir| fs.list(dir))?;
                let mut names: Vec<Name> =
                    entries.into_iter().map(|entry| Name(entry.name)).collect();
                names.sort();
                return Ok(Outcome::Names(names));
            }
            O::Stat { dir, name } => {
                let stat = self.within(dir, |dir| fs.stat(dir, &name.0))?;
                return Ok(Outcome::Seen(self.looks(&stat)));
            }
            O::StatDir { dir } => {
                let stat = self.within(dir, |dir| fs.stat_dir(dir))?;
                return Ok(Outcome::Seen(self.looks(&stat)));
            }
            O::SetDirMode { dir, mode } => self.within(dir, |dir| fs.set_dir_mode(dir, *mode))?,
            O::OwnDir { dir, nobody } => {
                let (uid, gid) = self.owner_or(*nobody);
                self.within(dir, |dir| fs.set_dir_owner(dir, uid, gid))?;
            }
            O::MakeDir { dir, name, mode } => {
                self.within(dir, |dir| fs.make_dir(dir, &name.0, *mode))?;
            }
            O::RemoveDir { dir, name } => self.within(dir, |dir| fs.remove_dir(dir, &name.0))?,
            O::SyncDir { dir } => self.within(dir, |dir| fs.sync_dir(dir))?,

            O::OpenFile { handle, dir, name } => {
                if self.files[*handle].is_some() {
                    return Ok(Outcome::Skipped);
                }
                self.files[*handle] = Some(self.within(dir, |dir| fs.open_file(dir, &name.0))?);
            }
            O::OpenOwnFile { handle, dir, name } => {
                if self.files[*handle].is_some() {
                    return Ok(Outcome::Skipped);
                }
                self.files[*handle] = Some(self.within(dir, |dir| fs.open_own_file(dir, &name.0))?);
            }
            O::CreateFile { handle, dir, name, mode } => {
                if self.files[*handle].is_some() {
                    return Ok(Outcome::Skipped);
                }
                let created = self.within(dir, |dir| fs.create_file(dir, &name.0, *mode))?;
                self.files[*handle] = Some(created);
            }
            O::CloseFile { handle } => self.files[*handle] = None,
            O::StatFile { handle } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                return Ok(Outcome::Seen(self.looks(&fs.stat_file(file)?)));
            }
            O::Read { handle, offset, length } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                let mut buffer = vec![0; *length];
                let length = fs.read_at(file, &mut buffer, *offset)?;
                buffer.truncate(length);
                return Ok(Outcome::Bytes(Name(buffer)));
            }
            O::Write { handle, offset, length } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                fs.write_at(file, &vec![b'w'; *length], *offset)?;
            }
            O::HasWriter { handle } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                return Ok(Outcome::HasWriter(fs.has_writer(file)?));
            }
            O::SetFileMode { handle, mode } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                fs.set_file_mode(file, *mode)?;
            }
            O::SetFileMtime { handle, mtime_ns } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                fs.set_file_mtime(file, *mtime_ns)?;
            }
            O::OwnFile { handle, nobody } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                let (uid, gid) = self.owner_or(*nobody);
                fs.set_file_owner(file, uid, gid)?;
            }
            O::SyncData { handle } => {
                let Some(file) = &self.files[*handle] else { return Ok(Outcome::Skipped) };
                fs.sync_data(file)?;
            }

            O::MakeSymlink { dir, name, target } => {
                self.within(dir, |dir| fs.make_symlink(dir, &name.0, &target.0))?;
            }
            O::ReadLink { dir, name } => {
                let target = self.within(dir, |dir| fs.read_link(dir, &name.0))?;
                return Ok(Outcome::Bytes(Name(target)));
            }
            O::Rename { from, from_name, to, to_name, mode } => {
                let rename =
                    |from: &_, to: &_| fs.rename(from, &from_name.0, to, &to_name.0, *mode);
                self.within(from, |from| self.within(to, |to| rename(from, to)))?;
            }
            O::Unlink { dir, name } => self.within(dir, |dir| fs.unlink(dir, &name.0))?,
            O::SyncAll => fs.sync_all()?,
            O::Space => {
                let space = fs.space()?;
                assert!(space.free_bytes <= space.total_bytes, "{space:?}");
            }

            O::OthersOpen { handle, at, truncate } => {
                if self.writers[*handle].is_some() {
                    return Ok(Outcome::Skipped);
                }
                let Some(path) = path(&at.0) else { return Ok(Outcome::Skipped) };
                self.writers[*handle] = Some(self.world.open_writer(&path, *truncate)?);
            }
            O::OthersWrite { handle, offset, length } => {
                let Some(writer) = &self.writers[*handle] else { return Ok(Outcome::Skipped) };
                self.world.write(writer, &vec![b'o'; *length], *offset)?;
            }
            O::OthersTruncate { handle, length } => {
                let Some(writer) = &self.writers[*handle] else { return Ok(Outcome::Skipped) };
                self.world.truncate(writer, *length)?;
            }
            O::OthersClose { handle } => self.writers[*handle] = None,
            O::OthersLink { from, to } => {
                let (Some(from), Some(to)) = (path(&from.0), path(&to.0)) else {
                    return Ok(Outcome::Skipped);
                };
                self.world.link(&from, &to)?;
            }
            O::OthersMoveRoot => self.world.move_root()?,

            O::Watch { at } => {
                let watch = self.world.watch();
                return match watch.add(path(&at.0).as_ref()) {
                    Ok(added) => Ok(Outcome::Watched(added, watch.len())),
                    Err(WatchError::Gone) => Ok(Outcome::NotWatched("gone")),
                    Err(WatchError::Limit) => Ok(Outcome::NotWatched("limit")),
                    Err(WatchError::Io(error)) => Err(error),
                };
            }
            O::Unwatch { at } => {
                let Some(path) = path(&at.0) else { return Ok(Outcome::Skipped) };
                self.world.watch().remove(&path);
                return Ok(Outcome::Unwatched(self.world.watch().len()));
            }
            O::ReadEvents => {
                let events = self.world.read_events();
                return Ok(Outcome::Events(events.iter().map(show).collect()));
            }
        }
        Ok(Outcome::Done)
    }

    /// Everything that has a name or is open.
    pub fn snapshot(&self) -> Snapshot {
        let fs = self.world.vfs();
        let mut snapshot = Snapshot::new();
        let mut todo = vec![None];
        while let Some(at) = todo.pop() {
            let dir = fs.open_dir(at.as_ref()).expect("it was listed as a directory");
            let key = at.as_ref().map_or(Vec::new(), |path: &RelPath| path.as_bytes().to_vec());
            snapshot.insert(Key::Path(Name(key)), fs.stat_dir(&dir).expect("it is open"));
            for entry in fs.list(&dir).expect("it is open") {
                let stat = fs.stat(&dir, &entry.name).expect("it was listed");
                if at.is_none() && entry.name == MARKS.as_bytes() {
                    continue;
                }
                let path = RelPath::child(at.as_ref(), &entry.name).expect("paths are short");
                if stat.file_type == FileType::Dir {
                    todo.push(Some(path));
                } else {
                    snapshot.insert(Key::Path(Name(path.as_bytes().to_vec())), stat);
                }
            }
        }
        for (handle, dir) in self.dirs.iter().enumerate() {
            let Some(dir) = dir else { continue };
            snapshot.insert(Key::Dir(handle), fs.stat_dir(dir).expect("it is open"));
        }
        for (handle, file) in self.files.iter().enumerate() {
            let Some(file) = file else { continue };
            snapshot.insert(Key::File(handle), fs.stat_file(file).expect("it is open"));
        }
        snapshot
    }

    /// What is in each file that has a name, and where each symlink leads.
    pub fn contents(&self, snapshot: &Snapshot) -> BTreeMap<Name, Name> {
        let fs = self.world.vfs();
        let mut contents = BTreeMap::new();
        for (key, stat) in snapshot {
            let Key::Path(at) = key else { continue };
            let Some(path) = path(&at.0) else { continue };
            let dir = fs.open_dir(path.parent().as_ref()).expect("it holds a name");
            let content = match stat.file_type {
                FileType::File => {
                    let file = fs.open_file(&dir, path.name()).expect("a file");
                    let mut buffer = vec![0; stat.size as usize + 1];
                    let length = fs.read_at(&file, &mut buffer, 0).expect("a file");
                    buffer.truncate(length);
                    buffer
                }
                FileType::Symlink => fs.read_link(&dir, path.name()).expect("a symlink"),
                _ => continue,
            };
            contents.insert(at.clone(), Name(content));
        }
        contents
    }

    pub fn looks(&self, stat: &Stat) -> Looks {
        Looks {
            file_type: stat.file_type,
            size: (stat.file_type != FileType::Dir).then_some(stat.size),
            mode: stat.mode,
            links: stat.links,
            ours: (stat.uid, stat.gid) == self.owner,
        }
    }

    fn within<R>(
        &self,
        dir: &In,
        call: impl FnOnce(&<W::Vfs as Vfs>::Dir) -> io::Result<R>,
    ) -> io::Result<R> {
        let fs = self.world.vfs();
        match dir {
            In::Handle(handle) => match &self.dirs[*handle] {
                Some(dir) => call(dir),
                None => call(&fs.open_dir(None)?),
            },
            In::Path(at) => call(&fs.open_dir(path(at).as_ref())?),
        }
    }

    fn owner_or(&self, nobody: bool) -> (u32, u32) {
        if nobody { (u32::MAX, self.owner.1) } else { self.owner }
    }
}

/// `None` is the root.
fn path(bytes: &[u8]) -> Option<RelPath> {
    (!bytes.is_empty()).then(|| RelPath::new(bytes).expect("scripts have paths that are"))
}

fn show(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Hint(path, Urgency::Started) => {
            format!("started {:?}", Name(path.as_bytes().to_vec()))
        }
        WatchEvent::Hint(path, Urgency::Finished) => {
            format!("finished {:?}", Name(path.as_bytes().to_vec()))
        }
        other => format!("{other:?}"),
    }
}
