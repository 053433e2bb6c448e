//! `host`: what a host of a ring does when a scenario runs on real machines. `--on live` does all of it
//! by itself; in virtual machines these commands run inside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use chainsync_sim::field::audit::{Found, Happened, Host, Run, audit, check};
use chainsync_sim::field::record::{self, Recorder};
use chainsync_sim::field::script::script;
use chainsync_sim::field::{application, tree::Tree};
use chainsync_sim::scenario::Span;
use clap::Subcommand;

use super::files;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Does what the scenario's uploads, deletes and renames are on one node, in real time
    Write {
        /// The scenario file
        file: PathBuf,
        /// Which of its nodes this is
        #[arg(long)]
        node: String,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The share
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Gets what was done, one fact a line
        #[arg(long, value_name = "FILE")]
        record: PathBuf,
        /// The scenario began so long ago, and what was due by now is not done
        #[arg(long, value_name = "TIME", default_value = "0s")]
        elapsed: Span,
    },
    /// Prints what a share, its archive and its staging hold, as JSON
    Tree {
        /// The share
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The daemon's state
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Judges a run: exit 0 if every promise was kept, 1 if not, 2 if it cannot be judged
    Audit {
        /// The scenario file
        file: PathBuf,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Has NODE.record, NODE.tree and NODE.status (of `chainsync status --json`) of each node, and
        /// `happened`: the events, one `{"event": NUMBER, "at_ms": TIME}` a line, the first of them
        /// `{"began_ms": TIME}`
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Whether the answer is yes.
pub(crate) fn done(command: Task) -> anyhow::Result<bool> {
    match command {
        Task::Write { file, node, seed, root, record, elapsed } => {
            let scenario = files::load(&file)?;
            let known = scenario.nodes.iter().any(|known| known.as_str() == node);
            ensure!(known, "{}: there is no node `{node}`", file.display());
            ensure!(root.is_dir(), "{}: no directory", root.display());
            let recorder =
                Recorder::create(&record).with_context(|| record.display().to_string())?;
            let mut steps = script(&scenario, seed, &node);
            steps.retain(|step| step.at >= elapsed.0);
            application::carry_out(&root, &steps, elapsed.0, &recorder)
                .with_context(|| record.display().to_string())?;
            Ok(true)
        }
        Task::Tree { root, state } => {
            let tree = Tree::of(&root, &state).with_context(|| root.display().to_string())?;
            println!("{}", serde_json::to_string(&tree)?);
            Ok(true)
        }
        Task::Audit { file, seed, from, json } => {
            let scenario = files::load(&file)?;
            check(&scenario).map_err(|reason| anyhow::anyhow!("{}: {reason}", file.display()))?;
            let (began_ms, happened) = read_happened(&from.join("happened"))?;
            let mut hosts = BTreeMap::new();
            for node in &scenario.nodes {
                hosts.insert(node.to_string(), read_host(&from, node.as_str())?);
            }
            let run = Run { scenario: &scenario, seed, began_ms, happened, hosts };
            Ok(show(audit(&run), json))
        }
    }
}

fn show(verdict: Result<Found, chainsync_sim::failure::Failure>, json: bool) -> bool {
    let (found, failure) = match verdict {
        Ok(found) => (found, None),
        Err(failure) => (Found::default(), Some(failure)),
    };
    if json {
        println!("{}", serde_json::json!({ "found": found, "failure": failure }));
    } else if let Some(failure) = &failure {
        println!("FAILED  {failure}");
    } else {
        println!(
            "passed  {} uploads, {} files on every host, {} lost",
            found.uploads, found.files, found.lost
        );
    }
    failure.is_none()
}

fn read_host(from: &Path, node: &str) -> anyhow::Result<Host> {
    let file = |kind: &str| from.join(format!("{node}.{kind}"));
    let record = record::read(&file("record")).with_context(|| show_path(&file("record")))?;
    let text = fs::read_to_string(file("tree")).with_context(|| show_path(&file("tree")))?;
    let tree = serde_json::from_str(&text).with_context(|| show_path(&file("tree")))?;
    let text = fs::read_to_string(file("status")).with_context(|| show_path(&file("status")))?;
    let status: serde_json::Value =
        serde_json::from_str(&text).with_context(|| show_path(&file("status")))?;
    let conflicts = status["shares"][0]["conflicts"].as_u64();
    Ok(Host { record, tree, conflicts })
}

fn read_happened(path: &Path) -> anyhow::Result<(u64, Vec<Happened>)> {
    let text = fs::read_to_string(path).with_context(|| show_path(path))?;
    let mut lines = text.lines();
    let first: serde_json::Value = serde_json::from_str(lines.next().unwrap_or_default())
        .with_context(|| format!("{}, line 1", path.display()))?;
    let began = first["began_ms"].as_u64();
    let began = began.with_context(|| format!("{}, line 1: no `began_ms`", path.display()))?;
    let happened = lines.enumerate().map(|(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), number + 2))
    });
    Ok((began, happened.collect::<anyhow::Result<_>>()?))
}

fn show_path(path: &Path) -> String {
    path.display().to_string()
}
