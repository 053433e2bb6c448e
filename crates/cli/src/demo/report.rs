//! The numbers of a demo and how they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What was measured. The JSON keys are a contract; what could not be measured is null.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Report {
    /// Uploads of the undisturbed storm by the time from the first write until everybody had all.
    pub(super) files_per_second: Option<f64>,
    pub(super) lag_ms_p50: Option<f64>,
    pub(super) lag_ms_p99: Option<f64>,
    pub(super) idle_lag_ms_p50: Option<f64>,
    pub(super) idle_lag_ms_p99: Option<f64>,
    pub(super) link_bytes_ratio: Option<f64>,
    pub(super) bypass_ms: Option<f64>,
    pub(super) catchup_ms: Option<f64>,
    pub(super) conflicts: u64,
    pub(super) lost: u64,
    /// Node by node, over the sorted tree.
    pub(super) digests: BTreeMap<String, String>,
    /// The trees are equal and as they were written, and every daemon says so too.
    pub(super) converged: bool,
    /// Uploads of the undisturbed storm.
    pub(super) files: u32,
    /// The whole demo.
    pub(super) seconds: f64,
}

impl Report {
    pub(super) fn in_words(&self, killed: &str) -> String {
        let number = |value: Option<f64>, unit: &str| match value {
            Some(value) if value >= 100.0 => format!("{value:.0}{unit}"),
            Some(value) => format!("{value:.2}{unit}"),
            None => "not measured".to_owned(),
        };
        let mut rows = vec![
            (
                "undisturbed storm",
                format!(
                    "{} uploads, {} until all three nodes held them durably",
                    self.files,
                    number(self.files_per_second, " files/s")
                ),
            ),
            (
                "lag in the storm",
                format!(
                    "p50 {}, p99 {}",
                    number(self.lag_ms_p50, " ms"),
                    number(self.lag_ms_p99, " ms")
                ),
            ),
            (
                "lag of one upload",
                format!(
                    "p50 {}, p99 {} to the last node of an idle ring",
                    number(self.idle_lag_ms_p50, " ms"),
                    number(self.idle_lag_ms_p99, " ms")
                ),
            ),
            (
                "bytes on a link",
                format!(
                    "{} of the contents that had to pass",
                    number(self.link_bytes_ratio, " times")
                ),
            ),
            ("bypass", format!("{} after {killed} was killed", number(self.bypass_ms, " ms"))),
            ("catch-up", format!("{} after {killed} was started", number(self.catchup_ms, " ms"))),
            ("conflicts", self.conflicts.to_string()),
            ("lost", self.lost.to_string()),
        ];
        for (node, digest) in &self.digests {
            rows.push(("tree", format!("{} {node}", &digest[..digest.len().min(16)])));
        }
        rows.push((
            "verdict",
            match (self.converged, self.lost) {
                (true, 0) => "the three trees are equal and nothing is lost".to_owned(),
                (false, 0) => "NOT converged; nothing is lost".to_owned(),
                (_, lost) => format!("LOST {lost}"),
            },
        ));
        rows.iter().map(|(name, value)| format!("{name:<18}{value}\n")).collect()
    }
}

pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The value that `percent` of them do not exceed (nearest rank).
pub(super) fn percentile(values: &mut [f64], percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50), Some(100.0));
        assert_eq!(percentile(&mut values, 99), Some(198.0));
        assert_eq!(percentile(&mut [7.0], 99), Some(7.0));
        assert_eq!(percentile(&mut [], 50), None);
    }

    #[test]
    fn a_verdict_in_words_and_in_keys() {
        let mut report = Report {
            files_per_second: Some(4512.3),
            lag_ms_p50: Some(12.0),
            digests: [("apollo".to_owned(), "ab".repeat(32))].into(),
            converged: true,
            files: 3000,
            seconds: 12.5,
            ..Report::default()
        };
        let good = report.in_words("chronos");
        report.lost = 2;
        let bad = report.in_words("chronos");
        let json = serde_json::to_string(&report).unwrap();
        insta::assert_snapshot!(format!("{good}---\n{bad}---\n{json}"));
    }
}
