//! The core that converges while a node stays dead, through whole runs.

use chainsync_sim::check::Invariant;
use chainsync_sim::fs::Defect;
use chainsync_sim::run::{Options, Outcome, run_with};
use chainsync_sim::scenario::Scenario;

use crate::text::Text;

const STAYS_DEAD: &str = r#"
about = "Chronos is dead from early on, apollo and hermes go on"
on    = ["sim"]
nodes = ["apollo", "chronos", "hermes"]

[[at]]
time  = "0s"
storm = { nodes = ["apollo", "hermes"], files = 50, size = "5KiB", directories = 5, over = "1s" }

[[at]]
time  = "200ms"
crash = { node = "chronos" }

[expect]
converged-within = "5s"
dead             = ["chronos"]
"#;

fn outcome(source: &str, defect: Option<Defect>) -> (Outcome, String) {
    let scenario = Scenario::parse("core.toml", source).unwrap();
    let text = Text::default();
    let options = Options { defect, ..Options::default() };
    let outcome = run_with(&scenario, 1, Some(Box::new(text.clone())), &options);
    let text = text.read();
    (outcome, text)
}

#[test]
fn the_others_converge_without_the_dead_one_and_then_with_it() {
    // As the runner heals, a node that is to be dead is killed if it still runs.
    let lives_until_then = STAYS_DEAD.replace("crash = { node = \"chronos\" }", "heal = {}");
    for source in [STAYS_DEAD, &lives_until_then] {
        let (outcome, text) = outcome(source, None);
        assert_eq!(outcome.failure, None);
        let all = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let phases: Vec<String> = all
            .clone()
            .filter(|words| {
                matches!(words[2], "phase" | "heal") || words[2..] == ["event", "start", "chronos"]
            })
            .map(|words| words[2..].join(" "))
            .collect();
        let expected = [
            "phase events",
            "heal",
            "phase converge",
            "phase quiet",
            "event start chronos",
            "phase converge",
            "phase quiet",
        ];
        assert_eq!(phases[phases.len() - 8..phases.len() - 1], expected);
        let meanwhile = all
            .skip_while(|words| words[2..] != ["phase", "quiet"])
            .take_while(|words| words[2..] != ["event", "start", "chronos"]);
        assert_eq!(meanwhile.filter(|words| words[1] == "chronos").count(), 0);
    }
}

#[test]
fn a_core_that_differs_is_seen_before_the_dead_one_is_back() {
    let (outcome, text) = outcome(STAYS_DEAD, Some(Defect::LosesEvents));
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.invariant, Invariant::L1, "{failure}");
    assert!(!failure.touched.is_empty(), "{failure}");
    assert!(!text.contains("event        start chronos"));
}
