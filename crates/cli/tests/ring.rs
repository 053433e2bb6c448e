//! Three daemons from three configuration files, started as processes, as an operator would: what
//! they promise when one of them dies, hangs and comes back.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{NODES, Ring, SOON, run, tail, text};

/// The promise: `dead_after` is 5 s by default.
const BYPASS: Duration = Duration::from_secs(10);

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
fn one_large_content_under_many_names_does_not_wait_for_each() {
    let ring = Ring::start();
    let content = "the same everywhere, ".repeat(150_000);
    let paths: Vec<_> = (0..12).map(|number| format!("copies/{number}")).collect();
    for path in &paths {
        ring.upload("apollo", path, &content);
    }
    // Each name but the first used to wait for another try, and those are 5 s apart.
    let (code, said) = ring.flush("apollo", "30s", &[]);
    assert_eq!(code, 0, "{said}");
    for name in ["chronos", "hermes"] {
        for path in &paths {
            let found = std::fs::read_to_string(ring.home(name).join("share").join(path));
            assert!(found.is_ok_and(|found| found == content), "{path} on {name}");
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
