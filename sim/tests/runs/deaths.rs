//! Stopped processes and deaths at an operation, through whole runs.

use chainsync_sim::check::Invariant;
use chainsync_sim::everywhere::{Baseline, Case, Fault};
use chainsync_sim::run::run;
use chainsync_sim::scenario::Scenario;

use crate::text::Text;

const HANGING: &str = r#"
about = "A daemon hangs for a second in a storm, shorter than the time after which it counts as dead"
on    = ["sim"]
nodes = ["apollo", "chronos", "hermes"]

[[at]]
time  = "0s"
storm = { nodes = ["apollo", "chronos"], files = 40, size = "1KiB", over = "3s" }

[[at]]
time = "1s"
stop = { node = "chronos" }

[[at]]
time     = "2s"
continue = { node = "chronos" }
"#;

const PLAN: &str = r#"
about = "One file"
on    = ["sim"]
nodes = ["apollo", "hermes"]

[[at]]
time  = "0s"
write = { node = "apollo", path = "a", size = "1KiB" }
"#;

fn scenario(source: &str) -> Scenario {
    Scenario::parse("deaths.toml", source).unwrap()
}

#[test]
fn a_stopped_daemon_does_nothing_and_keeps_its_connections() {
    let text = Text::default();
    let outcome = run(&scenario(HANGING), 1, Some(Box::new(text.clone())));
    assert_eq!(outcome.failure, None);
    let text = text.read();
    let stopped = text.lines().skip_while(|line| !line.contains("stop chronos"));
    let stopped: Vec<&str> =
        stopped.take_while(|line| !line.contains("continue chronos")).collect();
    let of = |node: &str| -> Vec<&str> {
        let all = stopped.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
        all.filter(|words| words[1] == node).map(|words| words[2]).collect()
    };
    // Its application goes on, its daemon does not.
    let events = of("chronos");
    assert!(events.contains(&"app"), "{events:?}");
    assert!(events.iter().all(|kind| *kind == "app"), "{events:?}");
    // Nobody notices within a second.
    for node in ["apollo", "hermes"] {
        let events = of(node);
        assert!(events.contains(&"frame") && !events.contains(&"closed"), "{node}: {events:?}");
    }
}

#[test]
fn every_operation_is_a_case_and_each_case_is_a_death() {
    let scenario = scenario(PLAN);
    let baseline = Baseline::of(&scenario, 1).unwrap();
    let operations = baseline.operations[1].len();
    assert!(operations > 50, "{operations}");
    assert_eq!(baseline.cases(1, Fault::Crash).len(), operations);
    assert_eq!(baseline.cases(1, Fault::PowerLossSome).len(), operations);
    let syncs = baseline.operations[1].iter().filter(|call| call.starts_with("sync")).count();
    assert_eq!(baseline.cases(1, Fault::PowerLoss).len(), syncs);
    for fault in [Fault::Crash, Fault::PowerLoss, Fault::PowerLossSome] {
        let operation = operations as u64 - 5;
        let outcome = baseline.run(&scenario, 1, Case { node: 1, fault, operation }, None);
        assert_eq!((outcome.failure, outcome.deaths), (None, 1), "{fault}");
    }
    // A death that never comes is a failure, not a success.
    let beyond = Case { node: 1, fault: Fault::Crash, operation: 1_000_000 };
    let failure = baseline.run(&scenario, 1, beyond, None).failure.unwrap();
    assert_eq!(failure.invariant, Invariant::M1);
}
