//! Scenario files and what is written beside them.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use chainsync_sim::scenario::{Backend, Scenario};

/// Loads a scenario and refuses what the simulation cannot do.
pub(crate) fn check(file: &Path) -> anyhow::Result<Scenario> {
    let scenario = load(file)?;
    if !scenario.on.contains(&Backend::Sim) {
        bail!("{}: this scenario is not for the simulation (`on` lacks \"sim\")", file.display());
    }
    scenario.check_simulated()?;
    Ok(scenario)
}

pub(crate) fn load(file: &Path) -> anyhow::Result<Scenario> {
    let mut path = file.to_owned();
    if !path.exists() && path.components().count() == 1 && path.extension().is_none() {
        path = Path::new("scenarios").join(file).with_extension("toml");
    }
    let source = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    Ok(Scenario::parse(path, &source)?)
}

pub(crate) fn create(path: &Path) -> anyhow::Result<Box<dyn Write + Send>> {
    let file = fs::File::create(path).with_context(|| format!("{}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

pub(crate) fn list(directory: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("{}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let scenario = load(&path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let refused =
            if scenario.check_simulated().is_err() { " (not in the simulation)" } else { "" };
        println!("{name:<24} {}{refused}", scenario.headline());
    }
    Ok(())
}
