//! The command line from the outside: help, exit codes, and errors that name the next step.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that drives processes and looks at their files; a failure is a panic"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn chainsync(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync"));
    command.args(arguments).env_remove("CHAINSYNC_SOCKET").env_remove("RUST_LOG");
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Key, share and configuration of a node that is alone in its ring.
fn lonely_node(directory: &Path) -> String {
    let key = directory.join("node.key");
    let output = chainsync(&["keygen", "--out", key.to_str().unwrap()]);
    let id = stdout(&output);
    let share = directory.join("share");
    std::fs::create_dir(&share).unwrap();
    let base = directory.display();
    let text = format!(
        "node = \"apollo\"\nkey = \"{base}/node.key\"\nstate = \"{base}/state\"\n\
         listen = \"127.0.0.1:7420\"\nsocket = \"{base}/control.sock\"\n\n\
         [nodes.apollo]\naddress = \"127.0.0.1:7420\"\nid = \"{}\"\n\n\
         [shares.images]\npath = \"{base}/share\"\nring = [\"apollo\"]\nexclude = [\"*.log\"]\n",
        id.trim()
    );
    let file = directory.join("apollo.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn help_is_a_contract() {
    let mut all = String::new();
    for command in [
        "",
        "demo",
        "keygen",
        "run",
        "check",
        "status",
        "flush",
        "verify",
        "rescan",
        "pause",
        "resume",
        "conflicts",
        "conflicts list",
        "conflicts show",
        "conflicts restore",
        "generate",
    ] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let output = chainsync(&arguments);
        assert_eq!(output.status.code(), Some(0));
        all.push_str(&format!("$ chainsync {}\n{}\n", arguments.join(" "), stdout(&output)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["run"],
        &["check"],
        &["keygen"],
        &["flush", "--timeout", "30"],
        &["demo", "--kill", "zeus"],
        &["run", "--config", "/nonexistent/chainsync.toml", "--json"],
        &["conflicts", "restore"],
        &["generate", "poems", "/tmp"],
        &["generate", "man", "/dev/null/nowhere"],
        &["verify", "--timeout", "30"],
        &["demo", "--files", "0"],
        &["run", "--config", "/nonexistent/chainsync.toml"],
        &["check", "--config", "/nonexistent/chainsync.toml"],
    ] {
        let output = chainsync(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn keygen_writes_once_and_prints_the_id_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.key");
    let path = path.to_str().unwrap();
    let output = chainsync(&["keygen", "--out", path]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let id = stdout(&output);
    assert!(id.starts_with("cs1") && id.len() == 56 && id.ends_with('\n'), "{id}");
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let key = std::fs::read(path).unwrap();
    let again = chainsync(&["keygen", "--out", path]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stdout(&again).is_empty());
    assert!(stderr(&again).contains("never overwritten"), "{}", stderr(&again));
    assert_eq!(std::fs::read(path).unwrap(), key);
    let nowhere = chainsync(&["keygen", "--out", "/nonexistent/node.key"]);
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn keygen_and_check_speak_json() {
    let directory = tempfile::tempdir().unwrap();
    let json =
        |output: &Output| serde_json::from_str::<serde_json::Value>(&stdout(output)).unwrap();
    let key = directory.path().join("json.key");
    let made = json(&chainsync(&["keygen", "--json", "--out", key.to_str().unwrap()]));
    assert!(made["id"].as_str().unwrap().starts_with("cs1"), "{made}");
    let file = lonely_node(directory.path());
    let good = chainsync(&["check", "--config", &file, "--json"]);
    assert_eq!(good.status.code(), Some(0));
    let good = json(&good);
    assert!(good["good"] == true && good["shares"][0] == "images", "{good}");
    assert_eq!(good["warnings"].as_array().unwrap().len(), 1, "a ring of one: {good}");
    let text = std::fs::read_to_string(&file).unwrap().replace("ring =", "rnig =");
    std::fs::write(&file, text).unwrap();
    let bad = chainsync(&["check", "--config", &file, "--json"]);
    assert_eq!(bad.status.code(), Some(2));
    let bad = json(&bad);
    assert!(bad["good"] == false && bad["errors"].as_str().unwrap().contains("ring"), "{bad}");
}

#[test]
fn man_pages_and_completions_are_generated() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("new/man");
    let output = chainsync(&["generate", "man", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert!(page("chainsync.1").contains("chainsync\\-verify(1)"), "{}", page("chainsync.1"));
    let verify = page("chainsync-verify.1");
    assert!(verify.contains("Exit codes: 0 equal") && verify.contains("deep"), "{verify}");
    assert!(page("chainsync-conflicts-restore.1").contains("PATH"));
    let dir = directory.path().join("completions");
    let output = chainsync(&["generate", "completions", dir.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "[\"_chainsync\",\"chainsync.bash\",\"chainsync.fish\"]\n");
    let bash = std::fs::read_to_string(dir.join("chainsync.bash")).unwrap();
    assert!(bash.contains("accept-deletes"), "every command is in it");
}

#[test]
fn a_dry_run_names_problems_and_exclusions_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = lonely_node(directory.path());
    let share = directory.path().join("share");
    std::fs::create_dir(share.join("sub")).unwrap();
    std::fs::write(share.join("sub/photo"), "12345").unwrap();
    std::fs::write(share.join("debug.log"), "noise").unwrap();
    std::os::unix::fs::symlink("sub/photo", share.join("link")).unwrap();
    let name = std::os::unix::ffi::OsStrExt::as_bytes(std::ffi::OsStr::new("x")).to_vec();
    let odd = [&name[..], b"\xff"].concat();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&odd);
    let socket = std::os::unix::net::UnixListener::bind(share.join(odd)).unwrap();
    let output = chainsync(&["run", "--dry-run", "--config", &file]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let shown = stdout(&output).replace(directory.path().to_str().unwrap(), "[dir]");
    insta::assert_snapshot!(shown);
    drop(socket);
    assert!(!directory.path().join("state").exists());
    assert!(!share.join(".chainsync").exists());
    std::fs::remove_file(share.join(odd)).unwrap();
    let output = chainsync(&["run", "--dry-run", "--json", "--config", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report[0]["files"], &report[0]["bytes"]), (&1.into(), &5.into()), "{report}");
}

#[test]
fn check_explains_a_good_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = lonely_node(directory.path());
    let output = chainsync(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = format!("{}---\n{}", stdout(&output), stderr(&output));
    insta::assert_snapshot!(shown.replace(directory.path().to_str().unwrap(), "[dir]"));
}

#[test]
fn check_without_key_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = lonely_node(directory.path());
    std::fs::remove_file(directory.path().join("node.key")).unwrap();
    std::fs::remove_dir(directory.path().join("share")).unwrap();
    let opened = chainsync(&["check", "--config", &file]);
    assert_eq!(opened.status.code(), Some(2));
    let report = stderr(&opened);
    assert!(report.contains("cannot open the key") && report.contains("cannot open the share"));
    assert!(report.contains("2 errors in"), "{report}");
    let unopened = chainsync(&["check", "--config", &file, "--without-key"]);
    assert_eq!(unopened.status.code(), Some(0), "{}", stderr(&unopened));
}

#[test]
fn run_refuses_a_bad_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = lonely_node(directory.path());
    let text = std::fs::read_to_string(&file).unwrap().replace("ring =", "rnig =");
    std::fs::write(&file, text).unwrap();
    let output = chainsync(&["run", "--config", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `ring`?"), "{}", stderr(&output));
}

#[test]
fn without_a_daemon_it_is_3_with_the_next_step() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let socket = socket.to_str().unwrap();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["flush"],
        &["flush", "--live"],
        &["verify", "--deep"],
        &["rescan", "--dry-run"],
        &["pause"],
        &["resume", "--accept-deletes"],
        &["conflicts"],
        &["conflicts", "show", "1"],
        &["conflicts", "restore", "a/b", "--to", "c"],
    ] {
        let output = chainsync(&[command, &["--socket", socket]].concat());
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(stdout(&output).is_empty());
        let report = stderr(&output);
        assert!(report.contains(socket) && report.contains("chainsync run --config"), "{report}");
    }
    // A socket that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    let output = chainsync(&["status", "--socket", socket]);
    assert_eq!(output.status.code(), Some(3));
    // The environment names it as well.
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync"));
    let output = command.arg("status").env("CHAINSYNC_SOCKET", socket).output().unwrap();
    assert!(stderr(&output).contains(socket), "{}", stderr(&output));
}

#[test]
fn a_demo_does_not_touch_a_directory_with_something_in_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("precious"), "x").unwrap();
    let output = chainsync(&["demo", "--dir", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("it is not empty"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
