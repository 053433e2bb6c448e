//! Three daemons on loopback, started as processes, as an operator would.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub const NODES: [&str; 3] = ["apollo", "chronos", "hermes"];
/// What a healthy ring does in milliseconds, on a machine that does five other things.
pub const SOON: Duration = Duration::from_secs(20);
/// Whom daemons run as that are not to be root: `nobody`, and its group.
pub const NOBODY: u32 = 65_534;

pub struct Ring {
    pub directory: tempfile::TempDir,
    children: [Option<Child>; 3],
    program: PathBuf,
    /// Whom the daemons run as, if not as whoever runs the test.
    user: Option<u32>,
}

impl Ring {
    /// Three empty shares, and three daemons that are in sync.
    pub fn start() -> Self {
        Self::prepare().spawn_all()
    }

    /// The same with daemons that are not root: those of whoever runs the test, or nobody's.
    pub fn start_unprivileged() -> Self {
        let mut ring = Self::prepare();
        if rustix::process::geteuid().is_root() {
            // Where the build is, nobody may be kept out of.
            let program = ring.directory.path().join("chainsync");
            std::fs::copy(&ring.program, &program).unwrap();
            let everybody = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(ring.directory.path(), everybody).unwrap();
            ring.program = program;
            ring.user = Some(NOBODY);
            NODES.iter().for_each(|name| ring.give(&ring.home(name)));
        }
        ring.spawn_all()
    }

    fn spawn_all(mut self) -> Self {
        (0..3).for_each(|index| self.spawn(index));
        for name in NODES {
            self.until(&format!("{name} is in sync"), SOON, || self.flush(name, "5s", &[]).0 == 0);
        }
        self
    }

    /// Everything but the daemons.
    pub fn prepare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listeners = NODES.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let mut nodes = String::new();
        for (name, listener) in NODES.iter().zip(&listeners) {
            let home = directory.path().join(name);
            std::fs::create_dir_all(home.join("share")).unwrap();
            let key = home.join("node.key");
            let id = run(&["keygen", "--out", key.to_str().unwrap()]);
            let (address, id) = (listener.local_addr().unwrap(), text(&id.stdout));
            let id = id.trim();
            write!(nodes, "[nodes.{name}]\naddress = \"{address}\"\nid = \"{id}\"\n").unwrap();
        }
        for (name, listener) in NODES.iter().zip(&listeners) {
            let home = directory.path().join(name);
            let (base, address) = (home.display(), listener.local_addr().unwrap());
            let config = format!(
                "node = \"{name}\"\nkey = \"{base}/node.key\"\nstate = \"{base}/state\"\n\
                 listen = \"{address}\"\nsocket = \"{base}/control.sock\"\n{nodes}\
                 [shares.images]\npath = \"{base}/share\"\nring = {NODES:?}\n"
            );
            std::fs::write(home.join("chainsync.toml"), config).unwrap();
        }
        drop(listeners);
        let program = PathBuf::from(env!("CARGO_BIN_EXE_chainsync"));
        Self { directory, children: [None, None, None], program, user: None }
    }

    /// Makes everything at and below a path the daemons' own.
    pub fn give(&self, path: &Path) {
        let Some(user) = self.user else { return };
        lchown(path, Some(user), Some(user)).unwrap();
        if path.is_dir() && !path.is_symlink() {
            for entry in std::fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn spawn(&mut self, index: usize) {
        let home = self.home(NODES[index]);
        let log = home.join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["run", "--config"]).arg(home.join("chainsync.toml"));
        if let Some(user) = self.user {
            // The supplementary groups go with the first of these.
            command.uid(user).gid(user);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children[index] = Some(command.spawn().unwrap());
    }

    pub fn signal(&self, index: usize, signal: Signal) {
        let pid = Pid::from_child(self.children[index].as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of a daemon that has been told to.
    pub fn ended(&mut self, index: usize) -> std::process::ExitStatus {
        let mut child = self.children[index].take().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > SOON {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{} did not end", NODES[index]);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn upload(&self, name: &str, path: &str, content: &str) {
        let path = self.share(name, path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn arrives(&self, name: &str, path: &str, content: &str, patience: Duration) {
        let target = self.home(name).join("share").join(path);
        let there = || std::fs::read(&target).is_ok_and(|found| found == content.as_bytes());
        self.until(&format!("{path} arrives on {name}"), patience, there);
    }

    /// Exit code and what was printed.
    pub fn flush(&self, name: &str, timeout: &str, more: &[&str]) -> (i32, String) {
        let socket = self.home(name).join("control.sock");
        let arguments = ["flush", "--timeout", timeout, "--socket", socket.to_str().unwrap()];
        let output = run(&[&arguments, more].concat());
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }

    /// A control command: exit code and what was printed, errors behind it.
    pub fn ask(&self, name: &str, arguments: &[&str]) -> (i32, String) {
        let socket = self.home(name).join("control.sock");
        let output = run(&[arguments, &["--socket", socket.to_str().unwrap()]].concat());
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }

    pub fn share(&self, name: &str, path: &str) -> PathBuf {
        self.home(name).join("share").join(path)
    }

    pub fn status(&self, name: &str) -> String {
        let socket = self.home(name).join("control.sock");
        let output = run(&["status", "--socket", socket.to_str().unwrap()]);
        text(&output.stdout) + &text(&output.stderr)
    }

    pub fn until(&self, what: &str, patience: Duration, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > patience {
                let states = NODES.map(|name| self.status(name)).join("\n");
                let logs = NODES.map(|name| tail(&self.home(name).join("log"))).join("\n");
                panic!("not within {patience:?}: {what}\n{states}\n{logs}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // A stopped process takes SIGKILL as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chainsync")).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn tail(log: &Path) -> String {
    let all = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = all.lines().collect();
    format!("{}:\n{}", log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
}
