//! The operations, and scripts of them drawn from a seed.
//!
//! Everything is drawn from a small alphabet of names, so that operations meet: the same name is a
//! file now, a directory later, open under a handle meanwhile.

use std::fmt;

use chainsync_env::RenameMode;
use chainsync_sim::rng::Stream;

use crate::guess::{Guess, Kind};

/// Handles of each kind that a script keeps open.
pub const SLOTS: usize = 3;

/// A directory to work in.
#[derive(Clone)]
pub enum In {
    /// One that is open; the root if that handle is closed.
    Handle(usize),
    /// Opened for this operation; an empty path is the root.
    Path(Vec<u8>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Vec<u8>);

#[derive(Debug, Clone)]
pub enum Operation {
    OpenDir {
        handle: usize,
        at: Name,
    },
    CloseDir {
        handle: usize,
    },
    List {
        dir: In,
    },
    Stat {
        dir: In,
        name: Name,
    },
    StatDir {
        dir: In,
    },
    SetDirMode {
        dir: In,
        mode: u32,
    },
    OwnDir {
        dir: In,
        nobody: bool,
    },
    MakeDir {
        dir: In,
        name: Name,
        mode: u32,
    },
    RemoveDir {
        dir: In,
        name: Name,
    },
    SyncDir {
        dir: In,
    },

    OpenFile {
        handle: usize,
        dir: In,
        name: Name,
    },
    OpenOwnFile {
        handle: usize,
        dir: In,
        name: Name,
    },
    CreateFile {
        handle: usize,
        dir: In,
        name: Name,
        mode: u32,
    },
    CloseFile {
        handle: usize,
    },
    StatFile {
        handle: usize,
    },
    Read {
        handle: usize,
        offset: u64,
        length: usize,
    },
    Write {
        handle: usize,
        offset: u64,
        length: usize,
    },
    HasWriter {
        handle: usize,
    },
    SetFileMode {
        handle: usize,
        mode: u32,
    },
    SetFileMtime {
        handle: usize,
        mtime_ns: i128,
    },
    OwnFile {
        handle: usize,
        nobody: bool,
    },
    SyncData {
        handle: usize,
    },

    MakeSymlink {
        dir: In,
        name: Name,
        target: Name,
    },
    ReadLink {
        dir: In,
        name: Name,
    },
    Rename {
        from: In,
        from_name: Name,
        to: In,
        to_name: Name,
        mode: RenameMode,
    },
    Unlink {
        dir: In,
        name: Name,
    },
    SyncAll,
    Space,

    /// Another program opens a file for writing.
    OthersOpen {
        handle: usize,
        at: Name,
        truncate: bool,
    },
    OthersWrite {
        handle: usize,
        offset: u64,
        length: usize,
    },
    OthersTruncate {
        handle: usize,
        length: u64,
    },
    OthersClose {
        handle: usize,
    },
    OthersLink {
        from: Name,
        to: Name,
    },
    /// The root is renamed away, or back.
    OthersMoveRoot,

    Watch {
        at: Name,
    },
    Unwatch {
        at: Name,
    },
    /// The watcher's reader, which stands still otherwise, reads what is queued.
    ReadEvents,
}

/// A script of `length` operations, after a few that make something to work on.
pub fn draw(seed: u64, length: usize) -> Vec<Operation> {
    let mut draw = Draw(Stream::new(seed, "conformance", ""), Guess::default());
    let mut script = draw.beginning();
    script.iter().for_each(|operation| draw.1.note(operation));
    for _ in 0..length {
        let operation = draw.operation();
        // Closing is an operation by itself: it may free a number that the next file gets, and then
        // nobody could tell the two apart.
        let closing = closing_for(&operation);
        for operation in closing.into_iter().chain([operation]) {
            draw.1.note(&operation);
            script.push(operation);
        }
    }
    script
}

/// What frees the handle that an operation needs.
fn closing_for(operation: &Operation) -> Option<Operation> {
    match *operation {
        Operation::OpenDir { handle, .. } => Some(Operation::CloseDir { handle }),
        Operation::OpenFile { handle, .. }
        | Operation::OpenOwnFile { handle, .. }
        | Operation::CreateFile { handle, .. } => Some(Operation::CloseFile { handle }),
        Operation::OthersOpen { handle, .. } => Some(Operation::OthersClose { handle }),
        _ => None,
    }
}

struct Draw(Stream, Guess);

impl Draw {
    /// Some directories, files and watches. Not always the same ones.
    fn beginning(&mut self) -> Vec<Operation> {
        use Operation::{CreateFile, MakeDir, MakeSymlink, Watch};
        let (at, name) = (|path: &str| In::Path(path.into()), |name: &str| Name(name.into()));
        let all = vec![
            Watch { at: name("") },
            MakeDir { dir: at(""), name: name("a"), mode: 0o755 },
            MakeDir { dir: at("a"), name: name("b"), mode: 0o755 },
            Watch { at: name("a") },
            MakeDir { dir: at("a/b"), name: name("a"), mode: 0o755 },
            MakeDir { dir: at(""), name: name("b"), mode: 0o700 },
            Watch { at: name("b") },
            Watch { at: name("a/b") },
            CreateFile { handle: 0, dir: at("a"), name: name("c"), mode: 0o600 },
            CreateFile { handle: 1, dir: at(""), name: name("c"), mode: 0o664 },
            MakeSymlink { dir: at(""), name: name("l"), target: name("a") },
        ];
        all.into_iter().filter(|_| !self.0.one_in(5)).collect()
    }

    fn operation(&mut self) -> Operation {
        use Operation as O;
        let handle = self.below(SLOTS as u64) as usize;
        if !self.0.one_in(3)
            && let Some(operation) = self.likely(handle)
        {
            return operation;
        }
        match self.below(152) {
            0..=4 => O::OpenDir { handle, at: self.path() },
            5..=6 => O::CloseDir { handle },
            7..=8 => O::List { dir: self.dir() },
            9..=12 => O::Stat { dir: self.dir(), name: self.name() },
            13 => O::StatDir { dir: self.dir() },
            14..=16 => O::SetDirMode { dir: self.dir(), mode: self.dir_mode() },
            17 => O::OwnDir { dir: self.dir(), nobody: self.0.one_in(4) },
            18..=26 => O::MakeDir { dir: self.dir(), name: self.name(), mode: self.dir_mode() },
            27..=33 => O::RemoveDir { dir: self.dir(), name: self.name() },
            // Syncs seldom: they take milliseconds, and there is little to compare.
            34 => match self.below(16) {
                0 => O::SyncDir { dir: self.dir() },
                1 => O::SyncData { handle },
                2 => O::SyncAll,
                _ => O::Space,
            },
            35..=38 => O::OpenFile { handle, dir: self.dir(), name: self.name() },
            39..=41 => O::OpenOwnFile { handle, dir: self.dir(), name: self.name() },
            42..=50 => {
                let (dir, name) = (self.dir(), self.name());
                O::CreateFile { handle, dir, name, mode: self.file_mode() }
            }
            51..=54 => O::CloseFile { handle },
            55 => O::StatFile { handle },
            56..=57 => {
                let offset = if self.0.one_in(20) { u64::MAX } else { self.below(12) };
                O::Read { handle, offset, length: self.below(12) as usize }
            }
            58..=63 => O::Write { handle, offset: self.below(12), length: self.below(9) as usize },
            64..=65 => O::HasWriter { handle },
            66..=68 => O::SetFileMode { handle, mode: self.file_mode() },
            69..=71 => O::SetFileMtime { handle, mtime_ns: self.mtime_ns() },
            72 => O::OwnFile { handle, nobody: self.0.one_in(4) },
            73..=77 => {
                let (dir, name) = (self.dir(), self.name());
                O::MakeSymlink { dir, name, target: self.target() }
            }
            78..=79 => O::ReadLink { dir: self.dir(), name: self.name() },
            80..=109 => O::Rename {
                from: self.dir(),
                from_name: self.name(),
                to: self.dir(),
                to_name: self.name(),
                mode: match self.below(3) {
                    0 => RenameMode::NoReplace,
                    1 => RenameMode::Exchange,
                    _ => RenameMode::Replace,
                },
            },
            110..=116 => O::Unlink { dir: self.dir(), name: self.name() },
            117..=119 => O::OthersOpen { handle, at: self.path(), truncate: self.0.one_in(2) },
            120..=122 => {
                O::OthersWrite { handle, offset: self.below(12), length: self.below(9) as usize }
            }
            123 => O::OthersTruncate { handle, length: self.below(12) },
            124..=125 => O::OthersClose { handle },
            126..=131 => O::OthersLink { from: self.path(), to: self.path() },
            132 if self.0.one_in(10) => O::OthersMoveRoot,
            132..=143 => O::Watch { at: if self.0.one_in(6) { root() } else { self.path() } },
            144..=147 => O::Unwatch { at: self.path() },
            _ => O::ReadEvents,
        }
    }

    /// One that probably succeeds; `None` if there is nothing for it.
    fn likely(&mut self, handle: usize) -> Option<Operation> {
        use Operation as O;
        Some(match self.below(20) {
            0..=1 => {
                let (dir, name) = self.found(Kind::File)?;
                O::OpenOwnFile { handle, dir, name }
            }
            2 => {
                let (dir, name) = self.found(Kind::File)?;
                O::OpenFile { handle, dir, name }
            }
            3 => {
                let at = self.found_path(Kind::File)?;
                O::OthersOpen { handle, at, truncate: self.0.one_in(3) }
            }
            4 => O::OthersWrite { handle, offset: self.below(12), length: 1 },
            5 => O::OthersTruncate { handle, length: self.below(12) },
            6 => {
                let (dir, name) = self.found(Kind::Symlink)?;
                O::ReadLink { dir, name }
            }
            7..=8 => {
                let from = self.found_path(Kind::File)?;
                O::OthersLink { from, to: self.path() }
            }
            9 => {
                let kind = if self.0.one_in(4) { Kind::Symlink } else { Kind::File };
                let (dir, name) = self.found(kind)?;
                O::Unlink { dir, name }
            }
            10 => {
                let (dir, name) = self.found(Kind::Dir)?;
                O::RemoveDir { dir, name }
            }
            11..=12 => O::OpenDir { handle, at: self.found_path(Kind::Dir)? },
            13 => O::Watch { at: self.found_path(Kind::Dir)? },
            14 => O::Unwatch { at: self.found_path(Kind::Dir)? },
            15 => {
                let (dir, name) = (In::Path(self.found_path(Kind::Dir)?.0), self.name());
                O::CreateFile { handle, dir, name, mode: 0o600 }
            }
            16 => O::SetDirMode { dir: In::Path(self.found_path(Kind::Dir)?.0), mode: 0o755 },
            _ => {
                let kinds = [Kind::Dir, Kind::File, Kind::Symlink];
                let (from, to) = (kinds[self.below(3) as usize], kinds[self.below(3) as usize]);
                let (from, from_name) = self.found(from)?;
                let (mode, other) = match self.below(4) {
                    0 => (RenameMode::NoReplace, None),
                    1 => (RenameMode::Replace, None),
                    2 => (RenameMode::Replace, self.found(to)),
                    _ => (RenameMode::Exchange, self.found(to)),
                };
                let (to, to_name) = match other {
                    Some(other) => other,
                    None => (self.dir(), self.name()),
                };
                O::Rename { from, from_name, to, to_name, mode }
            }
        })
    }

    fn found_path(&mut self, kind: Kind) -> Option<Name> {
        let paths = self.1.paths(kind);
        let index = self.0.between(0, (paths.len() as u64).checked_sub(1)?);
        Some(Name(paths[index as usize].clone()))
    }

    fn found(&mut self, kind: Kind) -> Option<(In, Name)> {
        let Name(path) = self.found_path(kind)?;
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = match slash {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], &path[..]),
        };
        let dir = match self.1.handle_at(dir) {
            Some(handle) => In::Handle(handle),
            None => In::Path(dir.to_vec()),
        };
        Some((dir, Name(name.to_vec())))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0.between(0, end - 1)
    }

    fn dir(&mut self) -> In {
        match self.below(8) {
            0..=1 => In::Handle(self.below(SLOTS as u64) as usize),
            2..=4 => In::Path(Vec::new()),
            _ => In::Path(self.path().0),
        }
    }

    /// One to four of the names that may be in a path, mostly one or two.
    fn path(&mut self) -> Name {
        if self.0.one_in(100) {
            // As long as a path may be for us; the kernel counts the NUL at its end too.
            let mut names = vec![vec![b'x'; 255]; 15];
            names.extend([vec![b'x'; 127], vec![b'x'; 128]]);
            return Name(names.join(&b'/'));
        }
        let depth = [1, 1, 1, 2, 2, 2, 3, 4][self.below(8) as usize];
        let names: Vec<Vec<u8>> = (0..depth).map(|_| self.usual_name()).collect();
        Name(names.join(&b'/'))
    }

    fn usual_name(&mut self) -> Vec<u8> {
        match self.below(24) {
            0..=8 => b"a".to_vec(),
            9..=15 => b"b".to_vec(),
            16..=18 => b"c".to_vec(),
            19..=20 => b"l".to_vec(),
            21 => b"a b\n".to_vec(),
            22 => b"\xff\xfe".to_vec(),
            _ => vec![b'x'; 255],
        }
    }

    fn name(&mut self) -> Name {
        if !self.0.one_in(16) {
            return Name(self.usual_name());
        }
        Name(match self.below(10) {
            0 => b".".to_vec(),
            1 => b"..".to_vec(),
            2 => b"".to_vec(),
            3 => b"a/b".to_vec(),
            4 => b"a\0".to_vec(),
            _ => vec![b'x'; 256],
        })
    }

    fn target(&mut self) -> Name {
        match self.below(12) {
            0 => Name(Vec::new()),
            1 => Name(vec![b't'; 4095]),
            2 => Name(vec![b't'; 4096]),
            3 => Name(b"a\0b".to_vec()),
            4 => Name(b"/".to_vec()),
            _ => self.path(),
        }
    }

    // The owner may always do everything: the suite runs without root, the simulation as root.

    fn dir_mode(&mut self) -> u32 {
        [0o700, 0o755, 0o777, 0o1777, 0o711, 0o10_000][self.below(6) as usize]
    }

    fn file_mode(&mut self) -> u32 {
        [0o600, 0o644, 0o755, 0o666, 0o1600, 0o20_000][self.below(6) as usize]
    }

    fn mtime_ns(&mut self) -> i128 {
        [0, 1, -1, -1_000_000_001, 1_234_567_890_123_456_789, 4_000_000_000_999_999_999, i128::MAX]
            [self.below(7) as usize]
    }
}

fn root() -> Name {
    Name(Vec::new())
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let components = self.0.split(|byte| *byte == b'/').map(|name| match name {
            [first, ..] if name.len() > 40 => format!("{}*{}", first.escape_ascii(), name.len()),
            name => name.escape_ascii().to_string(),
        });
        write!(formatter, "\"{}\"", components.collect::<Vec<_>>().join("/"))
    }
}

impl fmt::Debug for In {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            In::Handle(handle) => write!(formatter, "#{handle}"),
            In::Path(path) => write!(formatter, "{:?}", Name(path.clone())),
        }
    }
}
