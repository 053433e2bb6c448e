//! SIGHUP on real daemons: what changes takes effect, healthy links stay the connections they were,
//! and a configuration that is wrong changes nothing. Beside it: what a daemon refuses at start,
//! and that one share which cannot begin does not keep the others down.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What a healthy ring does in milliseconds, on a machine that does five other things.
const SOON: Duration = Duration::from_secs(20);

/// Nodes with keys and addresses; each test writes the rest of their configurations.
struct Cluster {
    directory: tempfile::TempDir,
    /// Name, address and id.
    nodes: Vec<(String, String, String)>,
    children: BTreeMap<String, Child>,
}

impl Cluster {
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listeners: Vec<_> =
            names.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let nodes = names.iter().zip(&listeners).map(|(name, listener)| {
            let home = directory.path().join(name);
            std::fs::create_dir_all(home.join("images")).unwrap();
            std::fs::create_dir_all(home.join("documents")).unwrap();
            let key = home.join("node.key");
            let id = run(&["keygen", "--out", key.to_str().unwrap()]);
            let address = listener.local_addr().unwrap().to_string();
            ((*name).to_owned(), address, text(&id.stdout).trim().to_owned())
        });
        let nodes = nodes.collect();
        Self { directory, nodes, children: BTreeMap::new() }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self, name: &str) -> PathBuf {
        self.home(name).join("chainsync.toml")
    }

    /// `top` comes before the tables; `shares` gets `{base}` for the node's directory.
    fn write(&self, name: &str, top: &str, known: &[&str], shares: &str) {
        let base = self.home(name).display().to_string();
        let address = &self.nodes.iter().find(|(node, ..)| node == name).unwrap().1;
        let mut config = format!(
            "node = \"{name}\"\nkey = \"{base}/node.key\"\nstate = \"{base}/state\"\n\
             listen = \"{address}\"\nsocket = \"{base}/control.sock\"\n{top}\n"
        );
        for (node, address, id) in self.nodes.iter().filter(|(node, ..)| known.contains(&&**node)) {
            write!(config, "[nodes.{node}]\naddress = \"{address}\"\nid = \"{id}\"\n").unwrap();
        }
        config.push_str(&shares.replace("{base}", &base));
        std::fs::write(self.config(name), config).unwrap();
    }

    fn spawn(&mut self, name: &str) {
        let log = self.home(name).join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync"));
        command.args(["run", "--config"]).arg(self.config(name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children.insert(name.to_owned(), command.spawn().unwrap());
    }

    fn signal(&self, name: &str, signal: Signal) {
        kill_process(Pid::from_child(&self.children[name]), signal).unwrap();
    }

    fn stop(&mut self, name: &str) {
        self.signal(name, Signal::TERM);
        self.children.remove(name).unwrap().wait().unwrap();
    }

    /// Sends SIGHUP and waits until the daemon said what it made of the file.
    fn reload(&self, name: &str) -> String {
        let said = |log: &str| log.matches("new configuration is").count();
        let before = said(&self.log(name));
        self.signal(name, Signal::HUP);
        self.until(&format!("{name} reloads"), || said(&self.log(name)) > before);
        let log = self.log(name);
        log[log.rfind("new configuration is").unwrap()..].to_owned()
    }

    fn reload_well(&self, name: &str) {
        let said = self.reload(name);
        assert!(said.contains("is in force"), "{said}");
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.home(name).join("log")).unwrap_or_default()
    }

    fn put(&self, name: &str, path: &str, content: &str) {
        std::fs::write(self.home(name).join(path), content).unwrap();
    }

    fn has(&self, name: &str, path: &str, content: &str) -> bool {
        std::fs::read(self.home(name).join(path)).is_ok_and(|found| found == content.as_bytes())
    }

    fn arrives(&self, name: &str, path: &str, content: &str) {
        self.until(&format!("{path} arrives on {name}"), || self.has(name, path, content));
    }

    fn ask(&self, name: &str, arguments: &[&str]) -> (i32, String) {
        let socket = self.home(name).join("control.sock");
        let mut all = arguments.to_vec();
        all.extend(["--socket", socket.to_str().unwrap()]);
        let output = run(&all);
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }

    fn status(&self, name: &str) -> Value {
        serde_json::from_str(&self.ask(name, &["status", "--json"]).1).unwrap_or_default()
    }

    fn share(&self, name: &str, share: &str) -> Value {
        let status = self.status(name);
        let shares = status["shares"].as_array().cloned().unwrap_or_default();
        shares.into_iter().find(|one| one["share"] == share).unwrap_or_default()
    }

    /// What tells a connection from any other: who it comes from and when it began, as the receiving
    /// end sees it, and how many the sending end has opened.
    fn connection(&self, from: &str, to: &str) -> (Value, usize) {
        let upstream = self.share(to, "images")["upstream"].clone();
        let upstream = upstream.as_array().cloned().unwrap_or_default();
        let found = upstream.into_iter().find(|one| one["from"] == from);
        (found.unwrap_or_default(), self.log(from).matches("link open").count())
    }

    /// Whether the link from one to the other is there; a flush does not need all of them.
    fn linked(&self, from: &str, to: &str) {
        self.until(&format!("{from} links to {to}"), || self.connection(from, to).0 != Value::Null);
    }

    fn in_sync(&self, name: &str) {
        self.until(&format!("{name} is in sync"), || {
            self.ask(name, &["flush", "--timeout", "5s"]).0 == 0
        });
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > SOON {
                let logs: Vec<_> = self.nodes.iter().map(|(name, ..)| self.log(name)).collect();
                panic!("not within {SOON:?}: {what}\n{}", logs.join("\n----\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
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

fn images(ring: &[&str], more: &str) -> String {
    format!("[shares.images]\npath = \"{{base}}/images\"\nring = {ring:?}\n{more}\n")
}

const DOCUMENTS: &str = "[shares.documents]\npath = \"{base}/documents\"\nring = [\"apollo\"]\n";
const TWO: [&str; 2] = ["apollo", "chronos"];
const THREE: [&str; 3] = ["apollo", "chronos", "hermes"];

fn two_in_sync() -> Cluster {
    let mut cluster = Cluster::new(&TWO);
    for name in TWO {
        cluster.write(name, "", &TWO, &images(&TWO, ""));
        cluster.spawn(name);
    }
    cluster.linked("apollo", "chronos");
    cluster.linked("chronos", "apollo");
    TWO.iter().for_each(|name| cluster.in_sync(name));
    cluster
}

#[test]
fn what_changes_takes_effect_and_the_link_stays_the_same_connection() {
    let cluster = two_in_sync();
    let before = cluster.connection("apollo", "chronos");
    let shares = images(&TWO, "exclude = [\"*.tmp\"]\nmax_file_size = \"1KiB\"") + DOCUMENTS;
    cluster.write("apollo", "heartbeat = \"500ms\"", &TWO, &shares);
    cluster.reload_well("apollo");
    cluster.until("the new share runs", || {
        cluster.share("apollo", "documents")["converged"] == Value::Bool(true)
    });
    cluster.put("apollo", "images/scratch.tmp", "excluded");
    cluster.put("apollo", "images/big", &"x".repeat(1025));
    cluster.put("apollo", "images/small", "as ever");
    cluster.arrives("chronos", "images/small", "as ever");
    cluster.until("what is too big is a problem", || {
        let problems = cluster.share("apollo", "images")["problems"].to_string();
        problems.contains("more than `max_file_size` allows here (1024)")
    });
    assert!(!cluster.home("chronos").join("images/scratch.tmp").exists());
    assert!(!cluster.home("chronos").join("images/big").exists());
    assert_eq!(cluster.connection("apollo", "chronos"), before, "the link is another one");

    // Taken out and put back: its index is released and opened again.
    cluster.write("apollo", "", &TWO, &images(&TWO, "exclude = [\"*.tmp\"]"));
    cluster.reload_well("apollo");
    assert_eq!(cluster.share("apollo", "documents"), Value::Null);
    cluster.write("apollo", "", &TWO, &(images(&TWO, "") + DOCUMENTS));
    cluster.reload_well("apollo");
    assert_eq!(cluster.share("apollo", "documents")["share"], "documents");
    // Nothing is excluded any more, and the limit is gone: a sweep finds both.
    cluster.arrives("chronos", "images/scratch.tmp", "excluded");
    cluster.arrives("chronos", "images/big", &"x".repeat(1025));
    assert_eq!(cluster.connection("apollo", "chronos"), before, "the link is another one");
}

#[test]
fn a_ring_grows_and_shrinks_by_reloads_and_its_other_links_stay() {
    let mut cluster = Cluster::new(&THREE);
    for name in TWO {
        cluster.write(name, "", &TWO, &images(&TWO, ""));
        cluster.spawn(name);
    }
    cluster.linked("apollo", "chronos");
    let before = cluster.connection("apollo", "chronos");
    for name in THREE {
        cluster.write(name, "", &THREE, &images(&THREE, ""));
    }
    cluster.spawn("hermes");
    TWO.iter().for_each(|name| cluster.reload_well(name));
    cluster.put("apollo", "images/three", "for all three");
    THREE.iter().for_each(|name| cluster.arrives(name, "images/three", "for all three"));
    THREE.iter().for_each(|name| cluster.in_sync(name));
    assert_eq!(cluster.connection("apollo", "chronos"), before, "the link is another one");
    let link = |name: &str| cluster.share(name, "images")["link"]["to"].clone();
    assert_eq!([link("chronos"), link("hermes")], ["hermes", "apollo"]);

    let without = ["apollo", "hermes"];
    cluster.linked("hermes", "apollo");
    let kept = cluster.connection("hermes", "apollo");
    for name in without {
        cluster.write(name, "", &without, &images(&without, ""));
        cluster.reload_well(name);
    }
    cluster.until("the link leads past the one that left", || link("apollo") == "hermes");
    without.iter().for_each(|name| cluster.in_sync(name));
    cluster.put("apollo", "images/two", "for two again");
    cluster.arrives("hermes", "images/two", "for two again");
    assert!(!cluster.home("chronos").join("images/two").exists());
    assert_eq!(cluster.connection("hermes", "apollo"), kept, "the link is another one");
    let members = cluster.share("apollo", "images")["members"].to_string();
    assert!(!members.contains("chronos"), "{members}");
}

#[test]
fn a_configuration_that_is_refused_changes_nothing() {
    let cluster = two_in_sync();
    let before = cluster.connection("apollo", "chronos");
    let good = std::fs::read_to_string(cluster.config("apollo")).unwrap();
    let state = cluster.home("apollo").join("state");
    let (old_state, new_state) = (state.display().to_string(), format!("{}2", state.display()));
    for (number, (text, expected)) in [
        (good.replace("ring = ", "rign = "), "unknown key `rign`"),
        (good.replace(&old_state, &new_state), "`state` cannot change while the daemon runs"),
        (good.replace("control.sock", "other.sock"), "`socket` cannot change"),
        (
            good.replace("/images\"", "/documents\""),
            "`shares.images.path` cannot change while the daemon runs",
        ),
        (
            good.replace("[shares.images]", "[shares.images]\ndurability = \"none\""),
            "`shares.images.durability` cannot change",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_ne!(text, good, "{expected}");
        std::fs::write(cluster.config("apollo"), text).unwrap();
        let said = cluster.reload("apollo");
        assert!(said.contains("is refused") && said.contains(expected), "{expected}: {said}");
        let refused = cluster.status("apollo")["refused_reload"]["reason"].to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
        let (code, shown) = cluster.ask("apollo", &["status"]);
        assert!(code == 0 && shown.contains("RELOAD REFUSED at "), "{shown}");
        let content = format!("still running {number}");
        cluster.put("apollo", "images/still", &content);
        cluster.arrives("chronos", "images/still", &content);
    }
    std::fs::write(cluster.config("apollo"), good).unwrap();
    cluster.reload_well("apollo");
    assert_eq!(cluster.status("apollo")["refused_reload"], Value::Null);
    assert_eq!(cluster.connection("apollo", "chronos"), before, "the link is another one");
}

/// A peer deletes, this node excludes: what is here stays. What was deleted here while nobody looked
/// comes back, and goes nowhere.
#[test]
fn what_is_excluded_is_not_deleted_by_a_peer_and_returns_when_it_is_wanted_again() {
    let cluster = two_in_sync();
    cluster.put("apollo", "images/a.log", "one");
    cluster.put("apollo", "images/b.log", "two");
    cluster.arrives("chronos", "images/a.log", "one");
    cluster.arrives("chronos", "images/b.log", "two");
    cluster.in_sync("apollo");
    cluster.write("chronos", "", &TWO, &images(&TWO, "exclude = [\"*.log\", \"!c.log\"]"));
    cluster.reload_well("chronos");
    std::fs::remove_file(cluster.home("chronos").join("images/b.log")).unwrap();
    std::fs::remove_file(cluster.home("apollo").join("images/a.log")).unwrap();
    cluster.put("chronos", "images/c.log", "not excluded");
    cluster.arrives("apollo", "images/c.log", "not excluded");
    TWO.iter().for_each(|name| cluster.in_sync(name));
    assert!(cluster.has("chronos", "images/a.log", "one"), "deleted by a peer");
    assert!(cluster.has("apollo", "images/b.log", "two"), "an unwatched deletion went round");

    cluster.write("chronos", "", &TWO, &images(&TWO, ""));
    cluster.reload_well("chronos");
    cluster.arrives("chronos", "images/b.log", "two");
    cluster.until("what was deleted everywhere else is deleted", || {
        !cluster.home("chronos").join("images/a.log").exists()
    });
    TWO.iter().for_each(|name| cluster.in_sync(name));
    assert!(cluster.has("apollo", "images/b.log", "two"));
}

/// A directory rule, while the daemon that has it is down: the same as with a reload.
#[test]
fn an_excluded_directory_is_nobody_elses_affair() {
    let mut cluster = two_in_sync();
    for name in ["a/cache", "b"] {
        std::fs::create_dir_all(cluster.home("apollo").join("images").join(name)).unwrap();
    }
    cluster.put("apollo", "images/a/cache/x", "kept by apollo");
    cluster.put("apollo", "images/b/y", "as ever");
    cluster.arrives("chronos", "images/a/cache/x", "kept by apollo");
    cluster.arrives("chronos", "images/b/y", "as ever");
    cluster.in_sync("apollo");
    cluster.stop("chronos");
    cluster.write("chronos", "", &TWO, &images(&TWO, "exclude = [\"cache/\"]"));
    cluster.spawn("chronos");
    cluster.in_sync("chronos");
    // With the directory above it, once seen by the watcher and once by the sweep of a start.
    std::fs::remove_dir_all(cluster.home("chronos").join("images/a")).unwrap();
    cluster.put("chronos", "images/b/seen", "after the deletion");
    cluster.arrives("apollo", "images/b/seen", "after the deletion");
    cluster.stop("chronos");
    cluster.spawn("chronos");
    TWO.iter().for_each(|name| cluster.in_sync(name));
    assert!(cluster.has("apollo", "images/a/cache/x", "kept by apollo"), "it went round");

    cluster.stop("chronos");
    cluster.write("chronos", "", &TWO, &images(&TWO, ""));
    cluster.spawn("chronos");
    cluster.arrives("chronos", "images/a/cache/x", "kept by apollo");
    TWO.iter().for_each(|name| cluster.in_sync(name));
    assert!(cluster.has("apollo", "images/a/cache/x", "kept by apollo"), "it went round");
}

#[test]
fn a_share_that_cannot_begin_is_halted_and_the_others_run() {
    let mut cluster = Cluster::new(&["apollo"]);
    let shares = images(&["apollo"], "") + DOCUMENTS;
    cluster.write("apollo", "", &["apollo"], &shares);
    cluster.spawn("apollo");
    cluster.in_sync("apollo");
    cluster.stop("apollo");
    // As if the file system were not mounted.
    let (mounted, aside) =
        (cluster.home("apollo").join("images"), cluster.home("apollo").join("x"));
    std::fs::rename(&mounted, &aside).unwrap();
    std::fs::create_dir(&mounted).unwrap();
    cluster.spawn("apollo");
    cluster.until("the other share runs", || {
        cluster.share("apollo", "documents")["converged"] == Value::Bool(true)
    });
    let halted = cluster.share("apollo", "images")["halted"].to_string();
    assert!(halted.contains("is not the one that was replicated"), "{halted}");
    let (code, report) = cluster.ask("apollo", &["flush", "--timeout", "5s"]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("images") && report.contains("halted: "), "{report}");
    assert!(std::fs::read_dir(&mounted).unwrap().next().is_none(), "the stranger was touched");

    std::fs::remove_dir(&mounted).unwrap();
    std::fs::rename(&aside, &mounted).unwrap();
    cluster.reload_well("apollo");
    cluster.in_sync("apollo");
}

#[test]
fn owners_are_refused_where_they_cannot_be_set() {
    let cluster = Cluster::new(&["apollo"]);
    cluster.write("apollo", "", &["apollo"], &images(&["apollo"], "owner = true"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync"));
    command.args(["run", "--config"]).arg(cluster.config("apollo"));
    // SAFETY: prctl(2) is a plain system call, as what runs between fork and exec has to be. It fails
    // for who is not root, who has no such right to begin with.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_CAPBSET_DROP, 0, 0, 0, 0);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("share `images` has `owner = true`"), "{said}");
    assert!(said.contains("next:") && said.contains("CAP_CHOWN"), "{said}");
    assert!(!Path::new(&cluster.home("apollo").join("state")).exists(), "it began all the same");
}

#[test]
fn an_index_of_a_newer_version_is_refused_by_name_and_stays_as_it_is() {
    let mut cluster = Cluster::new(&["apollo"]);
    cluster.write("apollo", "", &["apollo"], &images(&["apollo"], ""));
    cluster.spawn("apollo");
    cluster.in_sync("apollo");
    cluster.stop("apollo");
    let index = cluster.home("apollo").join("state/images/index.redb");
    {
        let meta: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
        let database = redb::Database::open(&index).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("schema", &[99][..]).unwrap();
        transaction.commit().unwrap();
    }
    let before = std::fs::read(&index).unwrap();
    let output = run(&["run", "--config", cluster.config("apollo").to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in ["share `images`", index.to_str().unwrap(), "schema 99", "next:"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(std::fs::read(&index).unwrap() == before, "a refused index was written to");
}
