//! Where the Linux arm works, and what becomes of a script there.

use std::path::{Path, PathBuf};

use chainsync_env::Vfs as _;
use chainsync_host::HostVfs;
use chainsync_sim::fs::DiskOptions;

use crate::compare::{Difference, Terms, compare};
use crate::linux::Linux;
use crate::script::Operation;
use crate::simulated::Simulated;
use crate::tally::Tally;

/// A directory of one file system.
pub struct Place {
    directory: PathBuf,
    terms: Terms,
    ctime_tick_ns: i128,
}

impl Place {
    /// Memory first, if there is some, then the disk; or what the environment asks for.
    pub fn all() -> Vec<Self> {
        if let Some(directory) = std::env::var_os("CHAINSYNC_CONFORMANCE_DIR") {
            return vec![Self::new(directory.into())];
        }
        let memory = Path::new("/dev/shm");
        let usable = tempfile::tempdir_in(memory).is_ok();
        let memory = usable.then(|| memory.to_path_buf());
        memory.into_iter().chain([std::env::temp_dir()]).map(Self::new).collect()
    }

    fn new(directory: PathBuf) -> Self {
        let probe = tempfile::tempdir_in(&directory).unwrap();
        let vfs = HostVfs::open(probe.path()).unwrap();
        let root = vfs.open_dir(None).unwrap();
        vfs.make_dir(&root, b"subdir", 0o700).unwrap();
        let counts_subdirs = vfs.stat_dir(&root).unwrap().links == 3;
        let ctime_tick_ns = vfs.ctime_tick_ns();
        let fine_times = ctime_tick_ns == 0;
        let terms = Terms {
            fine_times,
            fine_dir_times: fine_times && has_fine_dir_times(&vfs),
            counts_subdirs,
        };
        Self { directory, terms, ctime_tick_ns }
    }

    /// Panics with a short script and its first difference if the arms differ.
    pub fn check(&self, seed: u64, script: &[Operation], options: &DiskOptions, tally: &mut Tally) {
        if self.compare(script, options, tally).is_some() {
            let script = self.shrink(script.to_vec(), options);
            match self.compare(&script, options, &mut Tally::default()) {
                Some(difference) => panic!("{}", self.report(seed, &script, &difference)),
                None => panic!("seed {seed}: the arms differ at times\n{script:#?}"),
            }
        }
    }

    /// The first difference.
    pub fn compare(
        &self,
        script: &[Operation],
        options: &DiskOptions,
        tally: &mut Tally,
    ) -> Option<Difference> {
        let linux = Linux::new(&self.directory, self.ctime_tick_ns);
        let simulated = Simulated::new(options.clone());
        compare(self.terms, script, (linux, simulated), tally)
    }

    /// Leaves out what is not needed for the arms to differ, in halves, quarters, ... and singly.
    fn shrink(&self, mut script: Vec<Operation>, options: &DiskOptions) -> Vec<Operation> {
        let mut length = script.len();
        loop {
            let mut start = 0;
            let before = script.len();
            while start < script.len() {
                let mut shorter = script.clone();
                shorter.drain(start..(start + length).min(script.len()));
                match self.compare(&shorter, options, &mut Tally::default()) {
                    Some(_) => script = shorter,
                    None => start += length,
                }
            }
            match length {
                0 | 1 if script.len() == before => return script,
                0 | 1 => {}
                _ => length = length.div_ceil(2),
            }
        }
    }

    fn report(&self, seed: u64, script: &[Operation], difference: &Difference) -> String {
        let directory = self.directory.display();
        let mut text = format!("seed {seed}: Linux (in {directory}) and the simulation differ\n");
        for (index, operation) in script.iter().chain([&Operation::ReadEvents]).enumerate() {
            let mark = if index == difference.operation { ">" } else { " " };
            text += &format!("{mark} {index:2} {operation:?}\n");
            if index == difference.operation {
                text += &format!("{}\n", difference.what);
            }
        }
        if difference.operation > script.len() {
            text += &format!("> at the end: {}\n", difference.what);
        }
        text + &format!(
            "again: CHAINSYNC_CONFORMANCE_DIR={directory} CHAINSYNC_CONFORMANCE_SEED={seed} \
             CHAINSYNC_CONFORMANCE_SCRIPTS=1 cargo test -p chainsync-sim --test conformance"
        )
    }
}

/// Whether a directory that was looked at never keeps its times when a name is taken from it.
fn has_fine_dir_times(vfs: &HostVfs) -> bool {
    /// One is enough to see it where it happens at all.
    const TRIALS: u8 = 20;
    let root = vfs.open_dir(None).unwrap();
    (0..TRIALS).all(|_| {
        drop(vfs.create_file(&root, b"trial", 0o600).unwrap());
        vfs.stat(&root, b"trial").unwrap();
        let before = vfs.stat_dir(&root).unwrap().ctime_ns;
        vfs.unlink(&root, b"trial").unwrap();
        vfs.stat_dir(&root).unwrap().ctime_ns != before
    })
}
