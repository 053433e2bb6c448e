//! Three daemons from three configuration files, started as processes, as an operator would: what
//! they promise when one of them dies, hangs and comes back.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that drives processes and looks at their files; a failure is a panic"
)]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const NODES: [&str; 3] = ["apollo", "chronos", "hermes"];
/// What a healthy ring does in milliseconds, on a machine that does five other things.
const SOON: Duration = Duration::from_secs(20);
/// The promise: `dead_after` is 5 s by default.
const BYPASS: Duration = Duration::from_secs(10);

struct Ring {
    directory: tempfile::TempDir,
    children: [Option<Child>; 3],
}

impl Ring {
    fn start() -> Self {
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
        let mut ring = Self { directory, children: [None, None, None] };
        (0..3).for_each(|index| ring.spawn(index));
        for name in NODES {
            ring.until(&format!("{name} is in sync"), SOON, || ring.flush(name, "5s", &[]).0 == 0);
        }
        ring
    }

    fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self, index: usize) {
        let home = self.home(NODES[index]);
        let log = home.join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync"));
        command.args(["run", "--config"]).arg(home.join("chainsync.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children[index] = Some(command.spawn().unwrap());
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = Pid::from_child(self.children[index].as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of a daemon that has been told to.
    fn ended(&mut self, index: usize) -> std::process::ExitStatus {
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

    fn upload(&self, name: &str, path: &str, content: &str) {
        let path = self.home(name).join("share").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn arrives(&self, name: &str, path: &str, content: &str, patience: Duration) {
        let target = self.home(name).join("share").join(path);
        let there = || std::fs::read(&target).is_ok_and(|found| found == content.as_bytes());
        self.until(&format!("{path} arrives on {name}"), patience, there);
    }

    /// Exit code and what was printed.
    fn flush(&self, name: &str, timeout: &str, more: &[&str]) -> (i32, String) {
        let socket = self.home(name).join("control.sock");
        let arguments = ["flush", "--timeout", timeout, "--socket", socket.to_str().unwrap()];
        let output = run(&[&arguments, more].concat());
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }

    fn status(&self, name: &str) -> String {
        let socket = self.home(name).join("control.sock");
        let output = run(&["status", "--socket", socket.to_str().unwrap()]);
        text(&output.stdout) + &text(&output.stderr)
    }

    fn until(&self, what: &str, patience: Duration, done: impl Fn() -> bool) {
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

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chainsync")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn tail(log: &Path) -> String {
    let all = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = all.lines().collect();
    format!("{}:\n{}", log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
}

#[test]
fn flush_includes_what_is_deep_in_new_directories() {
    let ring = Ring::start();
    for number in 0..10 {
        // Each level is found only when the one above it is watched.
        let path = format!("{number}/a/b/c/d/e/f/g/upload");
        ring.upload("apollo", &path, "deep");
        let (code, said) = ring.flush("apollo", "20s", &[]);
        assert_eq!(code, 0, "{said}");
        for name in ["chronos", "hermes"] {
            let target = ring.home(name).join("share").join(&path);
            let found = std::fs::read_to_string(&target);
            assert_eq!(found.ok().as_deref(), Some("deep"), "{path} on {name}, right after flush");
        }
    }
}

#[test]
fn a_killed_node_is_bypassed_and_catches_up_without_a_command() {
    let mut ring = Ring::start();
    for (index, name) in NODES.iter().enumerate() {
        ring.upload(name, &format!("from/{name}"), &format!("upload {index}"));
    }
    for receiver in NODES {
        for (index, name) in NODES.iter().enumerate() {
            ring.arrives(receiver, &format!("from/{name}"), &format!("upload {index}"), SOON);
        }
    }
    let (code, report) = ring.flush("apollo", "20s", &[]);
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("complete") && report.contains("note: "), "{report}");
    let status = ring.status("apollo");
    assert!(status.contains("[apollo] → chronos → hermes → apollo"), "{status}");
    assert!(status.contains("to chronos"), "{status}");

    ring.signal(1, Signal::KILL);
    ring.ended(1);
    ring.upload("apollo", "while/dead", "past the dead one");
    ring.arrives("hermes", "while/dead", "past the dead one", BYPASS);
    ring.upload("hermes", "while/dead-too", "the other way");
    ring.arrives("apollo", "while/dead-too", "the other way", BYPASS);
    let (code, report) = ring.flush("apollo", "1s", &[]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("NOT complete") && report.contains("chronos lacks it: "), "{report}");
    ring.until("flush --live leaves chronos out", BYPASS, || {
        let (code, report) = ring.flush("apollo", "5s", &["--live"]);
        code == 0 && report.contains("chronos left out: ")
    });
    let status = ring.status("apollo");
    assert!(status.contains("to hermes, bypassing chronos"), "{status}");
    assert!(status.contains("chronos: unreachable since "), "{status}");
    assert!(status.contains(", bypassed, ") && status.contains(" behind"), "{status}");
    assert!(status.contains("not converged"), "{status}");

    ring.spawn(1);
    ring.arrives("chronos", "while/dead", "past the dead one", SOON);
    ring.arrives("chronos", "while/dead-too", "the other way", SOON);
    ring.upload("apollo", "after", "through the middle again");
    for name in NODES {
        ring.arrives(name, "after", "through the middle again", SOON);
    }
    for name in NODES {
        let (code, report) = ring.flush(name, "20s", &[]);
        assert_eq!(code, 0, "{name}: {report}");
    }
    ring.until("the link goes to chronos again", SOON, || {
        let status = ring.status("apollo");
        status.contains("to chronos") && status.contains("chronos: reachable")
    });
    ring.until("it says converged", SOON, || ring.status("apollo").contains(": converged: "));
}

#[test]
fn a_hanging_node_is_bypassed_and_catches_up_when_it_goes_on() {
    let ring = Ring::start();
    ring.signal(1, Signal::STOP);
    ring.upload("apollo", "while/hanging", "past the hanging one");
    ring.arrives("hermes", "while/hanging", "past the hanging one", BYPASS);
    let (code, report) = ring.flush("apollo", "1s", &[]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("chronos lacks it: "), "{report}");
    let (code, report) = ring.flush("apollo", "10s", &["--live"]);
    assert_eq!(code, 0, "{report}");
    ring.signal(1, Signal::CONT);
    ring.arrives("chronos", "while/hanging", "past the hanging one", SOON);
    ring.upload("chronos", "again", "from the one that hung");
    for name in NODES {
        ring.arrives(name, "again", "from the one that hung", SOON);
    }
    for name in NODES {
        let (code, report) = ring.flush(name, "20s", &[]);
        assert_eq!(code, 0, "{name}: {report}");
    }
}

#[test]
fn a_daemon_stops_in_order_and_refuses_to_run_twice() {
    let mut ring = Ring::start();
    let config = ring.home("apollo").join("chainsync.toml");
    let second = run(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(2), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("next:"), "{}", text(&second.stderr));
    assert_eq!(ring.flush("apollo", "5s", &["--share", "nonesuch"]).0, 2);
    // Reads its file again, and goes on.
    ring.signal(0, Signal::HUP);
    assert_eq!(ring.flush("apollo", "20s", &[]).0, 0);
    ring.signal(0, Signal::TERM);
    assert_eq!(ring.ended(0).code(), Some(0), "{}", tail(&ring.home("apollo").join("log")));
    assert!(!ring.home("apollo").join("control.sock").exists());
    assert_eq!(ring.flush("apollo", "1s", &[]).0, 3);
    ring.signal(1, Signal::INT);
    assert_eq!(ring.ended(1).code(), Some(0));
}
