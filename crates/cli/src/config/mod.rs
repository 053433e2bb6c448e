//! The configuration file: TOML in, an engine [`NodeConfig`] out, or everything that is wrong with
//! it at once, each with line, column, a caret and the next step.
//!
//! Three stages: [`read`] turns text into values that remember where they stood and refuses unknown
//! keys and wrong types; [`validate`] judges what the values mean together; [`opened`] looks at what
//! they point to (key, shares), unless the caller asked not to. A stage reports all it finds; the
//! next one runs on what was readable, so one typing error does not hide another.

mod diagnostic;
mod durations;
mod limits;
mod opened;
mod place;
mod read;
mod similar;
mod size;
#[cfg(test)]
mod tests;
mod validate;

use std::path::{Path, PathBuf};

use chainsync_engine::NodeConfig;
use chainsync_host::KeyAccess;

use crate::failure::{Exit, Failure};
pub(crate) use diagnostic::Diagnostic;
use diagnostic::{Level, render};

/// A configuration that holds together.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) node: NodeConfig,
    pub(crate) key: PathBuf,
    pub(crate) key_access: KeyAccess,
    pub(crate) socket: PathBuf,
}

/// Whether the things that a configuration names are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// The key is read, the shares are visited.
    All,
    /// Neither is touched: the file may be checked on another machine than its own.
    Nothing,
}

/// Reads and checks the file. Warnings come back rendered.
pub(crate) fn load(path: &Path, open: Open) -> Result<(Config, Vec<String>), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot read the configuration {}: {error}", path.display()),
            "name a readable file with --config; docs/OPERATIONS.md has an example",
        )
    })?;
    let name = path.display().to_string();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let (config, diagnostics) = parse(&text, open, credentials.as_deref());
    let shown = |level| {
        let of_level = diagnostics.iter().filter(move |found| found.level == level);
        of_level.map(|found| render(&name, &text, found)).collect::<Vec<_>>()
    };
    let (errors, warnings) = (shown(Level::Error), shown(Level::Warning));
    match config {
        Some(config) if errors.is_empty() => Ok((config, warnings)),
        _ => {
            let count = match errors.len() {
                1 => "1 error".to_owned(),
                more => format!("{more} errors"),
            };
            let report = [warnings, errors].concat().join("\n\n");
            let report = format!("{report}\n\n{count} in {name}");
            Err(Failure::rendered(Exit::Usage, report))
        }
    }
}

/// Everything that is to be said about the text, in the order of the file.
fn parse(text: &str, open: Open, credentials: Option<&Path>) -> (Option<Config>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let config = read::read(text, &mut diagnostics).and_then(|raw| {
        let config = validate::validate(&raw, open, credentials, &mut diagnostics);
        if open == Open::All {
            opened::look(&raw, credentials, &mut diagnostics);
        }
        config
    });
    diagnostics.sort_by_key(|found| (found.span.start, found.span.end));
    (config, diagnostics)
}
