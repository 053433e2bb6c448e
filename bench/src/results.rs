//! What a run found out: the one thing that table, JSON and chart are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Summary;

/// Everything of one run of the benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub date: String,
    pub command: String,
    pub machine: Machine,
    /// How it was measured: sizes, repetitions, disks, what was reduced.
    pub settings: Vec<String>,
    /// In the order of the table's columns.
    pub systems: Vec<SystemInfo>,
    /// In the order of the table's rows.
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub system: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemInfo {
    pub key: String,
    pub title: String,
    pub versions: Vec<String>,
    /// Of apollo; the others' differ in names and addresses.
    pub configuration: String,
}

/// One thing that was measured, of all systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub key: String,
    pub title: String,
    pub unit: String,
    pub higher_is_better: bool,
    pub cells: BTreeMap<String, Cell>,
}

/// One thing of one system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub summary: Option<Summary>,
    /// One per repetition that went well.
    pub values: Vec<f64>,
    /// One per repetition that did not.
    pub failures: Vec<String>,
    /// What else was seen, one value per repetition: CPU, traffic, memory, percentiles.
    pub beside: BTreeMap<String, Vec<f64>>,
}

/// What a workload hands over: one number of one row, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    pub row: &'static RowInfo,
    pub value: Result<f64, String>,
    pub beside: BTreeMap<String, f64>,
}

/// What is known of a row before anything is measured.
#[derive(Debug, PartialEq, Eq)]
pub struct RowInfo {
    pub key: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub higher_is_better: bool,
}

impl Results {
    pub fn add(&mut self, system: &str, measurement: Measurement) {
        let info = measurement.row;
        let index = self.rows.iter().position(|row| row.key == info.key).unwrap_or_else(|| {
            self.rows.push(Row {
                key: info.key.to_owned(),
                title: info.title.to_owned(),
                unit: info.unit.to_owned(),
                higher_is_better: info.higher_is_better,
                cells: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        let cell = self.rows[index].cells.entry(system.to_owned()).or_default();
        match measurement.value {
            Ok(value) => cell.values.push(value),
            Err(why) => cell.failures.push(why),
        }
        for (what, value) in measurement.beside {
            cell.beside.entry(what).or_default().push(value);
        }
        cell.summary = Summary::of(&cell.values);
    }

    /// Rows come in the order in which they were first measured, which is drawn.
    pub fn sort_rows(&mut self, order: &[&str]) {
        self.rows.sort_by_key(|row| order.iter().position(|key| *key == row.key));
    }

    pub fn failed(&self) -> bool {
        self.rows.iter().any(|row| row.cells.values().any(|cell| !cell.failures.is_empty()))
    }
}

impl Cell {
    /// Most of the repetitions failed, or all.
    pub fn failed(&self) -> bool {
        self.failures.len() > self.values.len()
    }

    pub fn beside(&self, what: &str) -> Option<f64> {
        self.beside.get(what).and_then(|values| Summary::of(values)).map(|summary| summary.median)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub static STORM: RowInfo = RowInfo {
        key: "storm",
        title: "storm on one node",
        unit: "files/s",
        higher_is_better: true,
    };
    static LAG: RowInfo =
        RowInfo { key: "lag", title: "lag, idle", unit: "ms", higher_is_better: false };

    pub fn example() -> Results {
        let mut results = Results {
            date: "2026-11-27".to_owned(),
            command: "ci/bench --quick".to_owned(),
            machine: Machine {
                cpu: "a processor".to_owned(),
                cores: 2,
                memory_mib: 1000,
                kernel: "6.1".to_owned(),
                system: "Debian".to_owned(),
            },
            settings: vec!["one repetition".to_owned()],
            systems: ["chainsync", "rsync", "syncthing"].map(system).to_vec(),
            rows: Vec::new(),
        };
        let mut add = |system: &str, row, value: Result<f64, &str>| {
            let value = value.map_err(str::to_owned);
            let beside = [("cpu_us_per_file".to_owned(), 250.0)].into();
            results.add(system, Measurement { row, value, beside });
        };
        add("chainsync", &STORM, Ok(3000.0));
        add("chainsync", &STORM, Ok(3300.0));
        add("chainsync", &STORM, Ok(3100.0));
        add("rsync", &STORM, Ok(310.0));
        add("syncthing", &STORM, Err("hermes lacks 3 files"));
        add("chainsync", &LAG, Ok(5.0));
        add("rsync", &LAG, Ok(1050.0));
        results
    }

    fn system(key: &str) -> SystemInfo {
        let (title, versions) = (format!("{key} title"), vec![format!("{key} 1.0")]);
        SystemInfo { key: key.to_owned(), title, versions, configuration: "x = 1".to_owned() }
    }

    #[test]
    fn json_round_trip() {
        let results = example();
        let text = serde_json::to_string_pretty(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    }

    #[test]
    fn one_cell_per_system_with_all_repetitions() {
        let results = example();
        let cell = &results.rows[0].cells["chainsync"];
        assert_eq!(cell.values, [3000.0, 3300.0, 3100.0]);
        assert_eq!(cell.summary.unwrap().median, 3100.0);
        assert_eq!(cell.beside("cpu_us_per_file"), Some(250.0));
        assert!(results.rows[0].cells["syncthing"].failed());
        assert!(results.failed());
    }

    #[test]
    fn rows_are_put_in_order() {
        let mut results = example();
        results.sort_rows(&["lag", "storm"]);
        assert_eq!(results.rows[0].key, "lag");
    }
}
