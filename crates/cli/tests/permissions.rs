//! What the kernel refuses a daemon that is not root. The path is a problem of that node, in words,
//! everything else goes on, nothing is deleted anywhere, and once the permissions are mended it is over
//! without a command.
//!
//! Run by root, the daemons are nobody's; else they are the user's own, and what only root can make (a
//! directory that is somebody else's) is left out, saying so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::kinds::trees;
use crate::support::{NOBODY, NODES, Ring, run};

/// A path with a problem is looked at again every minute, if nothing was told of it before.
const PATIENCE: Duration = Duration::from_secs(100);
const DENIED: &str = "Permission denied";

#[test]
fn a_file_that_cannot_be_read_is_a_problem_until_it_can_be() {
    let ring = Ring::start_unprivileged();
    put(&ring, "apollo", "d/page", "at first");
    reach(&ring, &NODES, "d/page", "at first");
    // Moved in as they are: no look is early enough to read them.
    for (path, content) in [("d/secret", "not yet"), ("d/page", "again")] {
        let prepared = ring.home("apollo").join("prepared");
        fs::write(&prepared, content).unwrap();
        permit(&prepared, 0o000);
        fs::rename(&prepared, ring.share("apollo", path)).unwrap();
    }
    put(&ring, "apollo", "d/beside", "goes on");
    reach(&ring, &["chronos", "hermes"], "d/beside", "goes on");
    denied(&ring, "apollo", "d/secret");
    denied(&ring, "apollo", "d/page");
    let said = ring.status("apollo");
    for path in ["d/secret", "d/page"] {
        let line = said.lines().find(|line| line.contains(path)).unwrap_or_default();
        assert!(line.contains(DENIED), "{said}");
    }
    let (code, said) = ring.flush("apollo", "1s", &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("apollo lacks it: 2 paths have problems here"), "{said}");
    for name in ["chronos", "hermes"] {
        assert!(!ring.share(name, "d/secret").exists());
        assert_eq!(fs::read_to_string(ring.share(name, "d/page")).unwrap(), "at first");
        assert!(problems(&ring, name).is_empty());
    }

    permit(&ring.share("apollo", "d/secret"), 0o644);
    permit(&ring.share("apollo", "d/page"), 0o604);
    reach(&ring, &NODES, "d/secret", "not yet");
    reach(&ring, &NODES, "d/page", "again");
    all_is_well(&ring);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_a_problem_until_it_can_be() {
    if !rustix::process::geteuid().is_root() {
        // Its mode would travel to the others.
        return println!("left out: only root takes a directory away from its owner");
    }
    let mut ring = Ring::start_unprivileged();
    for path in ["d/page", "d/gone", "d/mode", "d/dir/below"] {
        put(&ring, "apollo", path, "at first");
        reach(&ring, &NODES, path, "at first");
    }
    chown(ring.share("chronos", "d"), Some(0), Some(0)).unwrap();
    put(&ring, "apollo", "d/page", "again");
    put(&ring, "apollo", "d/new", "an upload");
    put(&ring, "apollo", "d/more/deep", "in a new directory");
    fs::remove_file(ring.share("apollo", "d/gone")).unwrap();
    fs::remove_dir_all(ring.share("apollo", "d/dir")).unwrap();
    permit(&ring.share("apollo", "d/mode"), 0o600);
    put(&ring, "apollo", "beside", "goes on");
    reach(&ring, &NODES, "beside", "goes on");
    for (path, content) in
        [("d/page", "again"), ("d/new", "an upload"), ("d/more/deep", "in a new directory")]
    {
        reach(&ring, &["hermes"], path, content);
    }
    ring.until("d/gone is gone on hermes", PATIENCE, || !ring.share("hermes", "d/gone").exists());

    let refused = ["d/page", "d/new", "d/more", "d/gone", "d/dir"];
    let shown = |ring: &Ring| {
        refused.iter().for_each(|path| denied(ring, "chronos", path));
        // What is in the directory, rather than its names, is not refused.
        for path in ["d", "d/mode"] {
            assert!(!has_problem(ring, "chronos", path, ""), "{}", ring.status("chronos"));
        }
        assert_eq!(fs::read_to_string(ring.share("chronos", "d/page")).unwrap(), "at first");
        assert!(ring.share("chronos", "d/gone").exists());
    };
    shown(&ring);
    let (code, said) = ring.flush("apollo", "2s", &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("chronos lacks it: "), "{said}");
    // Nor is it forgotten, or taken for an edit of chronos, by one that was not there to see it.
    ring.signal(1, Signal::TERM);
    assert_eq!(ring.ended(1).code(), Some(0));
    ring.spawn(1);
    shown(&ring);
    put(&ring, "hermes", "after", "goes on");
    reach(&ring, &NODES, "after", "goes on");

    chown(ring.share("chronos", "d"), Some(NOBODY), Some(NOBODY)).unwrap();
    reach(&ring, &["chronos"], "d/page", "again");
    reach(&ring, &["chronos"], "d/new", "an upload");
    reach(&ring, &["chronos"], "d/more/deep", "in a new directory");
    all_is_well(&ring);
    assert!(!ring.share("chronos", "d/gone").exists() && !ring.share("chronos", "d/dir").exists());
}

#[test]
fn a_directory_that_cannot_be_listed_deletes_nothing() {
    let mut ring = Ring::start_unprivileged();
    let below = ["d/page", "d/one/page", "d/one/two/page"];
    for path in below {
        put(&ring, "apollo", path, "kept");
        reach(&ring, &NODES, path, "kept");
    }
    let kept = |ring: &Ring| {
        for (name, path) in ["chronos", "hermes"].into_iter().flat_map(|n| below.map(|p| (n, p))) {
            let content = fs::read_to_string(ring.share(name, path));
            assert_eq!(content.ok().as_deref(), Some("kept"), "{path} on {name}");
            // Nor has a mode travelled that would keep the daemons out there, too.
            assert_eq!(fs::metadata(ring.share(name, "d")).unwrap().mode() & 0o777, 0o755);
            assert!(problems(ring, name).is_empty(), "{}", ring.status(name));
        }
    };
    permit(&ring.share("apollo", "d"), 0o000);
    // Says so by itself, not only when asked.
    denied(&ring, "apollo", "d");
    let (code, said) = ring.ask("apollo", &["rescan"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(" problem") && !said.contains(" 0 problems"), "{said}");
    denied(&ring, "apollo", "d");
    put(&ring, "apollo", "beside", "goes on");
    reach(&ring, &NODES, "beside", "goes on");
    kept(&ring);
    // One that starts now has no other look at it.
    ring.signal(0, Signal::TERM);
    assert_eq!(ring.ended(0).code(), Some(0));
    ring.spawn(0);
    denied(&ring, "apollo", "d");
    put(&ring, "chronos", "after", "goes on");
    reach(&ring, &NODES, "after", "goes on");
    kept(&ring);
    let (code, said) = ring.flush("apollo", "1s", &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("apollo lacks it: "), "{said}");

    permit(&ring.share("apollo", "d"), 0o755);
    all_is_well(&ring);
    kept(&ring);
    put(&ring, "apollo", "d/one/page", "watched again");
    reach(&ring, &NODES, "d/one/page", "watched again");
}

/// An upload that the daemons may read, and in directories that are theirs.
fn put(ring: &Ring, name: &str, path: &str, content: &str) {
    ring.upload(name, path, content);
    let top = Path::new(path).iter().next().unwrap().to_str().unwrap();
    ring.give(&ring.share(name, top));
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn reach(ring: &Ring, names: &[&str], path: &str, content: &str) {
    names.iter().for_each(|name| ring.arrives(name, path, content, PATIENCE));
}

/// Paths with problems, and the reasons, as `status --json` has them.
fn problems(ring: &Ring, name: &str) -> Vec<(String, String)> {
    let socket = ring.home(name).join("control.sock");
    let output = run(&["status", "--json", "--socket", socket.to_str().unwrap()]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let problems = status["shares"][0]["problems"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    problems.iter().map(|problem| (text(&problem["path"]), text(&problem["reason"]))).collect()
}

fn has_problem(ring: &Ring, name: &str, path: &str, why: &str) -> bool {
    problems(ring, name).iter().any(|(at, reason)| at == path && reason.contains(why))
}

fn denied(ring: &Ring, name: &str, path: &str) {
    ring.until(&format!("{path} is a problem on {name}"), PATIENCE, || {
        has_problem(ring, name, path, DENIED)
    });
}

/// No problem is left, everybody says that all is well, and it is so.
fn all_is_well(ring: &Ring) {
    for name in NODES {
        ring.until(&format!("{name} has no problem"), PATIENCE, || problems(ring, name).is_empty());
        ring.until(&format!("flush on {name}"), PATIENCE, || ring.flush(name, "5s", &[]).0 == 0);
        ring.until(&format!("{name} is converged"), PATIENCE, || {
            ring.status(name).contains(": converged: ")
        });
    }
    let trees = NODES.map(|name| trees::read(&ring.share(name, "")));
    for tree in &trees[1..] {
        trees::equal(&trees[0], tree).unwrap();
    }
    let output = ring.ask("apollo", &["verify", "--deep"]);
    assert_eq!(output.0, 0, "{}", output.1);
}
