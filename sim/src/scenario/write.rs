//! A scenario as the text of its file: what is drawn or shrunk is written as people write, one event
//! a table, and read back to the same.

use std::fmt::Write as _;

use serde::Serialize;
use toml::Value;

use super::Scenario;

impl Scenario {
    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "about = {}", about(&self.about));
        let _ = writeln!(text, "on    = {}", inline(&value(&self.on)));
        if let Some(seed) = self.seed {
            let _ = writeln!(text, "seed  = {seed}");
        }
        let _ = writeln!(text, "nodes = {}", inline(&value(&self.nodes)));
        table(&mut text, "config", &value(&self.config));
        table(&mut text, "network", &value(&self.network));
        table(&mut text, "machine", &value(&self.machine));
        for (name, knobs) in &self.machines {
            table(&mut text, &format!("machines.{name}"), &value(knobs));
        }
        for timed in &self.events {
            let time = super::Span(timed.time).to_string();
            let _ = writeln!(text, "\n[[at]]\ntime = {}", inline(&Value::String(time)));
            if let Value::Table(event) = value(&timed.event) {
                for (key, what) in event {
                    let _ = writeln!(text, "{key} = {}", inline(&what));
                }
            }
        }
        table(&mut text, "expect", &value(&self.expect));
        text
    }
}

fn value(of: &impl Serialize) -> Value {
    // Structs, strings, numbers and lists of them: all that TOML has.
    Value::try_from(of).unwrap_or_else(|_| Value::Table(toml::Table::new()))
}

/// Stories of several lines stay readable.
fn about(text: &str) -> String {
    match text.contains('\n') && !text.contains("\"\"\"") && !text.contains('\\') {
        true => format!("\"\"\"{text}\"\"\""),
        false => inline(&Value::String(text.to_owned())),
    }
}

fn table(text: &mut String, name: &str, value: &Value) {
    let Value::Table(table) = value else { return };
    if table.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n[{name}]");
    for (key, value) in table {
        let _ = writeln!(text, "{key} = {}", inline(value));
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let pairs: Vec<String> = table
                .iter()
                .map(|(key, value)| format!("{} = {}", bare(key), inline(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// A key in quotes where it needs them: a path does.
fn bare(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !key.is_empty() && key.bytes().all(is_bare) {
        true => key.to_owned(),
        false => Value::String(key.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_project_is_read_back_as_it_was() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = [directory.clone(), directory.join("regressions")];
        let mut count = 0;
        for entry in files.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap()) {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let first = Scenario::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
            let written = first.to_toml();
            let second =
                Scenario::parse(&path, &written).unwrap_or_else(|e| panic!("{written}{e}"));
            assert_eq!(second.to_toml(), written, "{}", path.display());
            let events = |scenario: &Scenario| {
                let events = scenario.events.iter();
                events.map(|timed| (timed.time, value(&timed.event))).collect::<Vec<_>>()
            };
            assert_eq!(events(&first), events(&second), "{}", path.display());
            assert_eq!((&first.about, &first.config), (&second.about, &second.config));
            assert_eq!((&first.network, &first.expect), (&second.network, &second.expect));
            count += 1;
        }
        assert!(count > 20, "{count} scenarios found");
    }
}
