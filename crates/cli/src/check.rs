//! `check`: validates a configuration and says in words what it will do.

use std::fmt::Write;

use chainsync_engine::{Durability, ShareConfig};

use crate::args;
use crate::config::{self, Config, Open};
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};
use crate::show;

pub(crate) fn run(options: &args::Check) -> Result<Exit, Failure> {
    let open = if options.without_key { Open::Nothing } else { Open::All };
    let (config, warnings) = match config::load(&options.config, open) {
        Err(failure) if options.json => {
            let file = options.config.display().to_string();
            print_json(&Checked {
                file,
                good: false,
                errors: Some(failure.message()),
                ..Checked::default()
            });
            return Ok(failure.exit);
        }
        loaded => loaded?,
    };
    if options.json {
        print_json(&Checked {
            file: options.config.display().to_string(),
            good: true,
            node: Some(config.node.node.to_string()),
            shares: config.node.shares.iter().map(|share| share.name.to_string()).collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            errors: None,
        });
        return Ok(Exit::Good);
    }
    for warning in &warnings {
        eprintln!("{warning}\n");
    }
    let explained = explain(&config);
    let opened = match open {
        Open::All => "",
        Open::Nothing => " (neither the key nor the shares were opened)",
    };
    print(&format!("{explained}\n{} is good{opened}\n", options.config.display()));
    Ok(Exit::Good)
}

/// The JSON form. A contract: fields are added, never renamed.
#[derive(Debug, Default, serde::Serialize)]
struct Checked {
    file: String,
    good: bool,
    node: Option<String>,
    shares: Vec<String>,
    warnings: Vec<String>,
    /// The report as people read it.
    errors: Option<String>,
}

fn explain(config: &Config) -> String {
    let node = &config.node;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} listens on {} and keeps its index and archive in {}",
        node.node,
        node.listen,
        node.state.display()
    );
    let _ = writeln!(text, "control socket: {}", config.socket.display());
    let _ = writeln!(
        text,
        "a node that is silent for {:?} counts as dead and is bypassed (heartbeat {:?})",
        node.dead_after, node.heartbeat
    );
    for share in &node.shares {
        explain_share(&mut text, config, share);
    }
    text
}

fn explain_share(text: &mut String, config: &Config, share: &ShareConfig) {
    let me = &config.node.node;
    let names: Vec<String> = share.ring.nodes().iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "\nshare {}: {}", share.name, share.path.display());
    let _ = writeln!(text, "  ring        {}", show::ring(me.as_str(), &names));
    let successors: Vec<_> = share.ring.successors(me).collect();
    match successors.split_first() {
        None => {
            let _ = writeln!(text, "  sends to    nobody: a ring of one");
        }
        Some((first, rest)) => {
            let address = |name| config.node.nodes.get(name).map_or("?", |peer| &*peer.address);
            let _ = write!(text, "  sends to    {first} at {}", address(*first));
            for next in rest {
                let _ = write!(text, "; if that is dead, to {next} at {}", address(*next));
            }
            text.push('\n');
            let from = share.ring.predecessor(me).map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  hears from  {from}, or whoever bypasses it");
        }
    }
    let excluded = match share.exclude.is_empty() {
        true => "nothing".to_owned(),
        false => share
            .exclude
            .iter()
            .map(|one| one.escape_debug().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    };
    let _ = writeln!(text, "  excludes    {excluded}");
    let largest = match share.limits.max_file_size {
        None => "files of any size that this version replicates".to_owned(),
        Some(bytes) => format!("files made here of at most {bytes} bytes"),
    };
    let _ = writeln!(text, "  takes       {largest}");
    let promise = match share.durability {
        Durability::Batch => "what is acknowledged survives power loss (durability \"batch\")",
        Durability::None => {
            "what is acknowledged survives a crash of the daemon, not of the machine (durability \"none\")"
        }
    };
    let _ = writeln!(text, "  promises    {promise}");
    let owner = if share.owner {
        "content, mode, mtime, and numeric owner"
    } else {
        "content, mode and mtime; not the owner"
    };
    let _ = writeln!(text, "  replicates  {owner}");
}
