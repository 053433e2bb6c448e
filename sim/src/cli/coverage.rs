//! `coverage`: whether plans reach the rare places that the engine marks.

use std::collections::BTreeMap;

use chainsync_env::Point;

use super::search::{Found, summary};

/// Prints how many runs passed each mark; whether none was missed.
pub(crate) fn print(found: &Found, json: bool) -> bool {
    let marks: BTreeMap<String, (u64, u64)> = Point::ALL
        .iter()
        .map(|point| format!("{point:?}"))
        .map(|point| (point.clone(), found.probes.get(&point).copied().unwrap_or_default()))
        .collect();
    let missed: Vec<&String> =
        marks.iter().filter(|(_, (runs, _))| *runs == 0).map(|(point, _)| point).collect();
    if json {
        let value = serde_json::json!({ "plans": found.plans, "marks": marks, "missed": missed });
        println!("{value}");
    } else {
        println!("{:<24} {:>8} {:>8}  {:>10}", "mark", "runs", "of all", "passes");
        for (point, (runs, passes)) in &marks {
            let share = *runs as f64 * 100.0 / found.plans.max(1) as f64;
            println!("{point:<24} {runs:>8} {share:>7.1}%  {passes:>10}");
        }
        println!("{}", summary(found, found.took));
        for point in &missed {
            println!("never reached: {point}");
        }
    }
    missed.is_empty()
}
