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
fn run(seed: &str) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.toml");
    std::fs::write(&file, SCENARIO).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chainsync-sim"))
        .args(["run", file.to_str().unwrap(), "--seed", seed, "--json"])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_seed_is_a_run() {
    let (first, second, other) = (run("5"), run("5"), run("6"));
    for key in ["trace", "events", "link_bytes", "probes", "calls", "virtual_ms", "failure"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    assert!(first["events"].as_u64().unwrap() > 1_000, "{first}");
    assert_ne!(first["trace"], other["trace"]);
}

#[test]
fn a_wrong_scenario_ends_with_2_and_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    for (source, word) in [
        (SCENARIO.replace("power-loss", "powerloss"), "wrong.toml:23:1"),
        (SCENARIO.replace("power-loss", "reload"), "cannot do `reload`"),
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
