//! The same results for people, programs and the eye.

mod svg;
mod table;

use std::path::Path;

use anyhow::{Context, Result};

use crate::args::Args;
use crate::results::Results;
use chainsync_hosts::shell::interrupted;

/// Between these the table stands in a document.
const BEGIN: &str = "<!-- ci/bench: begin -->";
const END: &str = "<!-- ci/bench: end -->";

/// Prints the table, and writes the files that were asked for.
pub fn write(args: &Args, results: &Results) -> Result<()> {
    let table = table::markdown(results);
    println!("{}\n{table}", table::configurations(results));
    if interrupted() {
        return Ok(());
    }
    let committed =
        |name: &str| (args.is_full() && args.from.is_none()).then(|| Path::new("docs").join(name));
    if let Some(file) = args.json.clone().or_else(|| committed("bench.json")) {
        put(&file, &(serde_json::to_string_pretty(results)? + "\n"))?;
    }
    if let Some(file) = args.svg.clone().or_else(|| committed("bench.svg")) {
        put(&file, &svg::chart(results))?;
    }
    if let Some(file) = &args.markdown {
        let before = std::fs::read_to_string(file).unwrap_or_default();
        put(file, &between_marks(&before, &table))?;
    }
    Ok(())
}

fn put(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn between_marks(document: &str, table: &str) -> String {
    let marked = document.split_once(BEGIN).zip(document.split_once(END));
    match marked {
        Some(((before, _), (_, after))) => format!("{before}{BEGIN}\n\n{table}\n{END}{after}"),
        None => table.to_owned(),
    }
}

/// Three digits that mean something, and thousands apart.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let places = match size {
        _ if size >= 100.0 || size == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    let (whole, part) = text.split_once('.').map_or((&*text, None), |(w, p)| (w, Some(p)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match part {
        Some(part) => format!("{grouped}.{part}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [3123.4, 12.34, 1.234, 0.01234, 0.0, 1_234_567.0, 999.6].map(number);
        assert_eq!(shown, ["3,123", "12.3", "1.23", "0.012", "0", "1,234,567", "1,000"]);
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let document = format!("# x\n{BEGIN}\nold\n{END}\nafter\n");
        let once = between_marks(&document, "new\n");
        assert_eq!(once, format!("# x\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(between_marks(&once, "new\n"), once);
        assert_eq!(between_marks("", "new\n"), "new\n");
    }
}
