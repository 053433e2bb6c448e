//! `run --dry-run`: what the first import of each share would take in.

use chainsync_engine::answers::ImportReport;
use chainsync_host::tls::TlsConfig;
use chainsync_host::{HostEnv, PrivateKey};
use serde::Serialize;

use crate::args;
use crate::config::{self, Open};
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};
use crate::show::commands as show;

/// One share, and whether it was imported before.
#[derive(Serialize)]
struct Preview {
    #[serde(flatten)]
    report: ImportReport,
    /// There is an index: no first import will take place.
    imported: bool,
    peers: Vec<String>,
}

pub(crate) fn run(options: &args::Run) -> Result<Exit, Failure> {
    let (config, warnings) = config::load(&options.config, Open::All)?;
    for warning in &warnings {
        eprintln!("{warning}\n");
    }
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, error, "`chainsync check` explains the configuration")
    };
    let key = PrivateKey::load(&config.key, config.key_access).map_err(|error| broken(&error))?;
    let tls = TlsConfig::new(&key, std::iter::empty()).map_err(|error| broken(&error))?;
    let env = HostEnv::new(tls);
    let mut previews = Vec::new();
    for share in &config.node.shares {
        let report = chainsync_engine::preview(&env, share).map_err(|error| broken(&error))?;
        let index = config.node.state.join(share.name.as_str()).join("index.redb");
        let others = share.ring.nodes().iter().filter(|node| **node != config.node.node);
        let peers = others.map(ToString::to_string).collect();
        previews.push(Preview { report, imported: index.exists(), peers });
    }
    if options.json {
        print_json(&previews);
    } else {
        let texts: Vec<String> = previews.iter().map(text).collect();
        print(&texts.join("\n"));
    }
    let problems = previews.iter().any(|preview| preview.report.problems > 0);
    Ok(if problems { Exit::No } else { Exit::Good })
}

fn text(preview: &Preview) -> String {
    let mut text = show::import(&preview.report);
    if preview.imported {
        text.push_str(
            "  it was imported before: a start looks for what changed since, and \
             `chainsync rescan --dry-run` says so beforehand\n",
        );
    } else if !preview.peers.is_empty() {
        text.push_str(&format!(
            "  where {} hold other contents under the same names, the newer one wins and the other \
             one is kept in an archive\n",
            preview.peers.join(" and ")
        ));
    }
    text
}
