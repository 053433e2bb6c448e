//! M1: the same seed gives the same trace, also in another process; another seed another one.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the scenario is a real file for a real process; a test may panic"
)]

use std::process::Command;

const SCENARIO: &str = r#"
about = "A bit of everything"
on    = ["sim"]
nodes = ["apollo", "chronos", "hermes"]

[network]
latency = "200us..5ms"

[[at]]
time  = "0s"
churn = { nodes = ["apollo", "hermes"], files = 20, size = "2KiB", operations = 100, over = "2s" }

[[at]]
time  = "700ms"
crash = { node = "chronos" }

[[at]]
time  = "1s"
start = { node = "chronos" }

[[at]]
time       = "1500ms"
power-loss = { node = "hermes" }
"#;

/// The JSON line of a run.
fn run(source: &str, seed: &str) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.toml");
    std::fs::write(&file, source).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chainsync-sim"))
        .args(["run", file.to_str().unwrap(), "--seed", seed, "--json"])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_seed_is_a_run() {
    // The handshakes of TLS are random: nothing of them may show.
    let over_tls = SCENARIO.replace("[network]", "[network]\ntls = true");
    let mut traces = std::collections::BTreeSet::new();
    for source in [SCENARIO, &over_tls] {
        let (first, second, other) = (run(source, "5"), run(source, "5"), run(source, "6"));
        for key in ["trace", "events", "link_bytes", "probes", "calls", "virtual_ms", "failure"] {
            assert_eq!(first[key], second[key], "{key}");
        }
        assert!(first["events"].as_u64().unwrap() > 1_000, "{first}");
        traces.extend([first, other].map(|outcome| outcome["trace"].to_string()));
    }
    assert_eq!(traces.len(), 4);
}

#[test]
fn a_wrong_scenario_ends_with_2_and_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    for (source, word) in [
        (SCENARIO.replace("power-loss", "powerloss"), "wrong.toml:23:1"),
        (SCENARIO.replace("power-loss", "start"), "runs already"),
        (SCENARIO.replace("[\"sim\"]", "[\"vm\"]"), "not for the simulation"),
    ] {
        std::fs::write(&file, source).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_chainsync-sim"))
            .args(["run", file.to_str().unwrap()])
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_promise_broken_twice_is_the_same_way_and_no_pass() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.toml");
    let source = format!("{SCENARIO}\n[expect]\nconverged-within = \"1ms\"\n");
    std::fs::write(&file, source).unwrap();
    let twice = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chainsync-sim"));
        command.arg("twice").arg(&file).args(arguments).output().unwrap().status.code()
    };
    assert_eq!(twice(&[]), Some(0));
    assert_eq!(twice(&["--passing"]), Some(1));
}
