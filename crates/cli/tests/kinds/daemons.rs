//! Three daemons on loopback, started, killed and asked as an operator would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub const NODES: [&str; 3] = ["apollo", "chronos", "hermes"];
/// What a healthy ring does in milliseconds, on a machine that does five other things.
const SOON: Duration = Duration::from_secs(20);
/// Between two looks at trees of thousands of files.
const LOOK: Duration = Duration::from_millis(100);

pub struct Ring {
    directory: tempfile::TempDir,
    children: [Option<Child>; 3],
    story: String,
}

impl Ring {
    /// `story` is told by every failure.
    pub fn start(story: &str) -> Self {
        Self::start_with(story, "")
    }

    /// `keys`: more lines for each share's table.
    pub fn start_with(story: &str, keys: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listeners = NODES.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let mut nodes = String::new();
        for (name, listener) in NODES.iter().zip(&listeners) {
            let home = directory.path().join(name);
            std::fs::create_dir_all(home.join("share")).unwrap();
            let key = home.join("node.key");
            let id = chainsync(&["keygen", "--out", key.to_str().unwrap()]).stdout;
            let (address, id) = (listener.local_addr().unwrap(), String::from_utf8(id).unwrap());
            let id = id.trim();
            write!(nodes, "[nodes.{name}]\naddress = \"{address}\"\nid = \"{id}\"\n").unwrap();
        }
        for (name, listener) in NODES.iter().zip(&listeners) {
            let home = directory.path().join(name);
            let (base, address) = (home.display(), listener.local_addr().unwrap());
            let config = format!(
                "node = \"{name}\"\nkey = \"{base}/node.key\"\nstate = \"{base}/state\"\n\
                 listen = \"{address}\"\nsocket = \"{base}/control.sock\"\n{nodes}\
                 [shares.images]\npath = \"{base}/share\"\nring = {NODES:?}\n{keys}"
            );
            std::fs::write(home.join("chainsync.toml"), config).unwrap();
        }
        drop(listeners);
        let mut ring = Self { directory, children: [None, None, None], story: story.to_owned() };
        (0..3).for_each(|index| ring.spawn(index));
        for (index, name) in NODES.iter().enumerate() {
            ring.until(&format!("{name} is up"), SOON, || ring.converged(index));
        }
        ring
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn home(&self, index: usize) -> PathBuf {
        self.directory.path().join(NODES[index])
    }

    pub fn share(&self, index: usize) -> PathBuf {
        self.home(index).join("share")
    }

    pub fn spawn(&mut self, index: usize) {
        let home = self.home(index);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join("log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync"));
        command.args(["run", "--config"]).arg(home.join("chainsync.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        self.children[index] = Some(command.spawn().unwrap());
    }

    /// The exit code of a daemon that does not start.
    pub fn refused(&mut self, index: usize) -> Option<i32> {
        self.spawn(index);
        self.children[index].take().unwrap().wait().unwrap().code()
    }

    pub fn is_running(&self, index: usize) -> bool {
        self.children[index].is_some()
    }

    /// SIGKILL, and nothing left of it.
    pub fn kill(&mut self, index: usize) {
        let mut child = self.children[index].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGSTOP, SIGCONT.
    pub fn signal(&self, index: usize, signal: Signal) {
        kill_process(Pid::from_child(self.children[index].as_ref().unwrap()), signal).unwrap();
    }

    /// How a daemon that nobody told to has ended.
    pub fn has_ended(&mut self, index: usize) -> Option<std::process::ExitStatus> {
        self.children[index].as_mut()?.try_wait().unwrap()
    }

    /// Keeps files and logs, and says where they are.
    pub fn keep(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    /// Exit code of `flush`, and what it said.
    pub fn flush(&self, index: usize) -> (Option<i32>, String) {
        let socket = self.home(index).join("control.sock");
        let output = chainsync(&["flush", "--timeout", "5s", "--socket", socket.to_str().unwrap()]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    fn status(&self, index: usize) -> Option<Value> {
        let socket = self.home(index).join("control.sock");
        let output = chainsync(&["status", "--json", "--socket", socket.to_str().unwrap()]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["shares"].get(0).cloned()
    }

    /// Paths with problems, and the reasons.
    pub fn problems(&self, index: usize) -> BTreeMap<String, String> {
        let status = self.status(index).unwrap_or_default();
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        problems.iter().map(|problem| (text(&problem["path"]), text(&problem["reason"]))).collect()
    }

    /// Why the share does not move, if it does not.
    pub fn halted(&self, index: usize) -> Option<String> {
        Some(self.status(index)?["halted"].as_str()?.to_owned())
    }

    /// Both `flush` and `status` say so.
    pub fn converged(&self, index: usize) -> Result<(), String> {
        let (code, said) = self.flush(index);
        if code != Some(0) {
            return Err(said);
        }
        match self.status(index) {
            Some(status) if status["converged"] == Value::Bool(true) => Ok(()),
            Some(status) => Err(status["waiting_for"].to_string()),
            None => Err("no status".to_owned()),
        }
    }

    pub fn until(&self, what: &str, patience: Duration, check: impl Fn() -> Result<(), String>) {
        let begun = Instant::now();
        loop {
            let Err(why) = check() else {
                // Shown by `--nocapture`: how long everything took.
                println!("{}: {what} after {:?}", self.story, begun.elapsed());
                return;
            };
            if begun.elapsed() > patience {
                let states = [0, 1, 2].map(|index| self.words(index)).join("\n");
                let said = format!("not within {patience:?}: {what}: {why}\n{states}");
                // Some paths here have four thousand bytes.
                let lines = said.lines().map(|line| line.chars().take(400).collect::<String>());
                panic!("{}: {}", self.story, lines.collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(LOOK);
        }
    }

    pub fn words(&self, index: usize) -> String {
        let home = self.home(index);
        let socket = home.join("control.sock");
        let status = chainsync(&["status", "--socket", socket.to_str().unwrap()]);
        let log = std::fs::read_to_string(home.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n");
        format!("{}{tail}\n", String::from_utf8_lossy(&status.stdout))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn chainsync(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chainsync")).args(arguments).output().unwrap()
}
