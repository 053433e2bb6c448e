//! The commands of an operator against three real daemons: verify, pause, resume, rescan, conflicts,
//! the guards, and what a pre-filled tree costs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{NODES, Ring, SOON, run, tail, text};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn in_sync(ring: &Ring) {
    for name in NODES {
        ring.until(&format!("{name} is in sync"), SOON, || ring.flush(name, "5s", &[]).0 == 0);
    }
}

#[test]
fn pause_resume_verify_and_rescan() {
    let mut ring = Ring::start();
    for index in 0..20 {
        ring.upload("apollo", &format!("dir/{index}"), &format!("content {index}"));
    }
    in_sync(&ring);
    let (code, report) = ring.ask("hermes", &["verify"]);
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("images: equal") && report.contains("chronos: 21 paths"), "{report}");
    let (code, report) = ring.ask("apollo", &["verify", "--deep", "--json"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(json(&report)[0]["equal"], Value::Bool(true));

    // Paused: nothing comes, nothing goes, and the others say why.
    let (code, report) = ring.ask("chronos", &["pause"]);
    assert_eq!(code, 0, "{report}");
    assert!(ring.status("chronos").contains("PAUSED"), "{}", ring.status("chronos"));
    ring.until("apollo sees the pause", SOON, || {
        ring.status("apollo").contains("chronos: paused since ")
    });
    ring.upload("apollo", "while/paused", "past the paused one");
    ring.arrives("hermes", "while/paused", "past the paused one", SOON);
    ring.upload("chronos", "dir/1", "changed while paused");
    ring.upload("chronos", "made", "made while paused");
    let (code, report) = ring.flush("apollo", "1s", &[]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("chronos lacks it: paused"), "{report}");
    let (code, report) = ring.flush("chronos", "10s", &[]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("chronos lacks it: paused"), "{report}");

    // What one node lacks is a difference; what a disk hides from its index only a deep look finds.
    let (code, report) = ring.ask("apollo", &["verify", "--json"]);
    assert_eq!(code, 1, "{report}");
    let report = json(&report);
    let different = report[0]["differences"].as_array().unwrap();
    let paths: Vec<_> = different.iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["while", "while/paused"], "{report}");
    assert_eq!(report[0]["members"][1]["halted"], "paused");
    let (code, report) = ring.ask("apollo", &["verify", "--deep"]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("dir/1 on chronos: the disk does not show"), "{report}");
    assert!(report.contains("made on chronos: a file that is not in the index"), "{report}");
    assert!(report.contains("while/paused differs (existence)"), "{report}");
    let (code, report) = ring.ask("chronos", &["rescan", "--dry-run"]);
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("1 created, 1 changed, 0 deleted"), "{report}");
    assert_eq!(ring.ask("chronos", &["rescan"]).0, 4);
    assert!(!ring.share("apollo", "made").exists());
    assert!(!ring.share("chronos", "while/paused").exists());

    // A restart changes nothing about it.
    ring.signal(1, Signal::TERM);
    assert_eq!(ring.ended(1).code(), Some(0), "{}", tail(&ring.home("chronos").join("log")));
    let (code, report) = ring.ask("hermes", &["verify"]);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("cannot say: 1 member was not compared"), "{report}");
    assert!(report.contains("chronos: not compared: unreachable"), "{report}");
    ring.spawn(1);
    ring.until("chronos is up, and paused", SOON, || ring.status("chronos").contains("PAUSED"));
    let (code, report) = ring.ask("chronos", &["resume"]);
    assert_eq!(code, 0, "{report}");
    in_sync(&ring);
    assert_eq!(std::fs::read(ring.share("hermes", "dir/1")).unwrap(), b"changed while paused");
    assert_eq!(std::fs::read(ring.share("apollo", "made")).unwrap(), b"made while paused");
    assert_eq!(
        std::fs::read(ring.share("chronos", "while/paused")).unwrap(),
        b"past the paused one"
    );
    let (code, report) = ring.ask("chronos", &["verify", "--deep"]);
    assert_eq!(code, 0, "{report}");
    let (code, report) = ring.ask("chronos", &["rescan"]);
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("nothing new"), "{report}");
    assert!(ring.ask("chronos", &["resume"]).1.contains("neither paused nor halted"));

    // `status --watch` goes on saying how it is.
    let socket = ring.home("apollo").join("control.sock");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_chainsync"));
    watch.args(["status", "--watch", "--json", "--socket"]).arg(socket).stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let seen: Vec<_> = lines.take(2).map(|line| json(&line.unwrap())["node"].clone()).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(seen, ["apollo", "apollo"]);
}

#[test]
fn a_verify_in_a_storm_reports_no_nonsense() {
    let ring = Ring::start();
    let share = ring.home("apollo").join("share");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && number < 100_000 {
                std::fs::write(share.join(format!("f{}", number % 3000)), number.to_string())
                    .unwrap();
                number += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let looks: Vec<_> = ["hermes", "apollo"]
            .iter()
            .map(|name| ring.ask(name, &["verify", "--json", "--timeout", "20s"]))
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for (_, report) in looks {
            let report = json(&report);
            assert_eq!(report[0]["differences"], Value::Array(Vec::new()), "{report}");
            assert!(
                report[0]["members"].as_array().unwrap().iter().all(|one| one["missing"].is_null())
            );
        }
    });
}

#[test]
fn conflicts_are_listed_and_restored() {
    let ring = Ring::start();
    ring.upload("apollo", "page", "first");
    in_sync(&ring);
    for name in ["apollo", "hermes"] {
        assert_eq!(ring.ask(name, &["pause"]).0, 0);
    }
    ring.upload("apollo", "page", "by apollo, and it loses");
    std::thread::sleep(Duration::from_millis(20));
    ring.upload("hermes", "page", "by hermes, the younger one");
    for name in ["apollo", "hermes"] {
        assert_eq!(ring.ask(name, &["resume"]).0, 0);
    }
    in_sync(&ring);
    let keeper = NODES.iter().find(|name| {
        let (code, list) = ring.ask(name, &["conflicts", "list", "--json"]);
        assert_eq!(code, 0, "{list}");
        let list = json(&list);
        list[0]["conflicts"].as_array().unwrap().iter().any(|one| one["restorable"] == true)
    });
    let keeper = *keeper.expect("a node that kept what lost");
    let (_, list) = ring.ask(keeper, &["conflicts"]);
    assert!(list.contains("page: apollo lost to hermes, restorable"), "{list}");
    let (code, shown) = ring.ask(keeper, &["conflicts", "show", "page"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("in the archive of this node as "), "{shown}");
    assert_eq!(ring.ask(keeper, &["conflicts", "show", "99"]).0, 1);
    assert_eq!(ring.ask(keeper, &["conflicts", "restore", "99"]).0, 1);
    let (code, said) = ring.ask(keeper, &["conflicts", "restore", "page", "--to", "page"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("exists already"), "{said}");
    let (code, said) = ring.ask(keeper, &["conflicts", "restore", "1", "--to", "page.old"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = ring.ask(keeper, &["conflicts", "restore", "page"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("what was there is in the archive now"), "{said}");
    for name in NODES {
        ring.arrives(name, "page", "by apollo, and it loses", SOON);
        ring.arrives(name, "page.old", "by apollo, and it loses", SOON);
    }
    // The archive was cleaned up: it says so instead of promising.
    let archive = ring.home(keeper).join("state/images/archive");
    for entry in std::fs::read_dir(&archive).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(ring.ask(keeper, &["conflicts"]).1.contains("content not here"));
    let (code, said) = ring.ask(keeper, &["conflicts", "restore", "page"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is not in the archive"), "{said}");
}

#[test]
fn an_emptied_share_halts_until_it_is_accepted() {
    let mut ring = Ring::start();
    for index in 0..20 {
        ring.upload("apollo", &format!("{index}"), &format!("content {index}"));
    }
    in_sync(&ring);
    ring.signal(1, Signal::TERM);
    assert_eq!(ring.ended(1).code(), Some(0));
    for index in 0..20 {
        std::fs::remove_file(ring.share("chronos", &index.to_string())).unwrap();
    }
    ring.spawn(1);
    ring.until("chronos is halted", SOON, || ring.status("chronos").contains("suddenly empty"));
    let (code, said) = ring.ask("chronos", &["resume"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("NOT resumed") && said.contains("--accept-deletes"), "{said}");
    assert!(ring.share("apollo", "7").exists() && ring.share("hermes", "7").exists());
    let (code, said) = ring.ask("chronos", &["resume", "--accept-deletes"]);
    assert_eq!(code, 0, "{said}");
    ring.until("the deletions have gone round", SOON, || {
        !ring.share("apollo", "7").exists() && !ring.share("hermes", "19").exists()
    });
    in_sync(&ring);

    // Another directory in the root's place is no reason to go on, the right one is.
    let (share, away) = (ring.share("hermes", ""), ring.home("hermes").join("away"));
    std::fs::rename(&share, &away).unwrap();
    std::fs::create_dir(&share).unwrap();
    ring.until("hermes is halted", SOON, || ring.status("hermes").contains("HALTED"));
    assert_eq!(ring.ask("hermes", &["resume"]).0, 4);
    std::fs::remove_dir(&share).unwrap();
    std::fs::rename(&away, &share).unwrap();
    let (code, said) = ring.ask("hermes", &["resume"]);
    assert_eq!(code, 0, "{said}");
    ring.upload("hermes", "again", "from the one that was halted");
    for name in NODES {
        ring.arrives(name, "again", "from the one that was halted", SOON);
    }

    // Without its marker it is not the tree of this index.
    ring.signal(1, Signal::TERM);
    ring.ended(1);
    std::fs::remove_dir_all(ring.share("chronos", ".chainsync")).unwrap();
    let config = ring.home("chronos").join("chainsync.toml");
    let output = run(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("next:"), "{}", text(&output.stderr));
    assert_eq!(ring.ask("chronos", &["pause"]).0, 3);
}

#[test]
fn a_prefilled_ring_says_beforehand_what_it_takes_in() {
    let mut ring = Ring::prepare();
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for name in NODES {
        for index in 0..30 {
            let path = format!("d/{index}");
            ring.upload(name, &path, &format!("prefilled {index} {}", "x".repeat(4000)));
            let file = std::fs::File::options().write(true).open(ring.share(name, &path)).unwrap();
            file.set_modified(time).unwrap();
        }
    }
    let config = ring.home("apollo").join("chainsync.toml");
    let preview = run(&["run", "--dry-run", "--config", config.to_str().unwrap()]);
    assert_eq!(preview.status.code(), Some(0), "{}", text(&preview.stderr));
    let preview = text(&preview.stdout);
    assert!(preview.contains("take in 30 files, 1 directory and 0 symlinks"), "{preview}");
    assert!(!ring.home("apollo").join("state").exists(), "a dry run makes nothing");
    assert!(!ring.share("apollo", ".chainsync").exists(), "a dry run makes nothing");
    (0..3).for_each(|index| ring.spawn(index));
    in_sync(&ring);
    let (code, report) = ring.ask("apollo", &["verify", "--deep"]);
    assert_eq!(code, 0, "{report}");
    for name in NODES {
        let status = json(&ring.ask(name, &["status", "--json"]).1);
        let counters = &status["shares"][0]["counters"];
        assert_eq!(counters["contents_sent"], 0, "{name}: {counters}");
    }
}
