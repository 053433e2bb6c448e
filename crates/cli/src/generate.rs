//! `generate`: man pages and shell completions, from the same definitions as `--help`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{self, Arguments, Generated};
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

pub(crate) fn run(options: &args::Generate) -> Result<Exit, Failure> {
    let dir = &options.dir;
    let failed = |error: std::io::Error| {
        let message = format!("cannot write into {}: {error}", dir.display());
        Failure::new(Exit::Usage, message, "name a directory that you may write to")
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let written = match options.what {
        Generated::Man => man(dir),
        Generated::Completions => completions(dir),
    };
    let mut names = written.map_err(failed)?;
    names.sort();
    match options.json {
        true => print_json(&names),
        false => print(&names.iter().map(|name| format!("{name}\n")).collect::<String>()),
    };
    Ok(Exit::Good)
}

/// One page a command: `chainsync.1`, `chainsync-verify.1`, `chainsync-conflicts-show.1` and so on.
fn man(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut root = Arguments::command();
    root.build();
    let mut names = Vec::new();
    page(dir, &root, "chainsync", &mut names)?;
    Ok(names)
}

fn page(
    dir: &Path,
    command: &clap::Command,
    name: &str,
    names: &mut Vec<String>,
) -> std::io::Result<()> {
    let mut text = Vec::new();
    let title: &'static str = Box::leak(name.to_owned().into_boxed_str());
    clap_mangen::Man::new(command.clone().display_name(title).name(title)).render(&mut text)?;
    let file = format!("{name}.1");
    std::fs::write(dir.join(&file), text)?;
    names.push(file);
    for inner in command.get_subcommands() {
        page(dir, inner, &format!("{name}-{}", inner.get_name()), names)?;
    }
    Ok(())
}

fn completions(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for shell in SHELLS {
        let path = clap_complete::generate_to(shell, &mut Arguments::command(), "chainsync", dir)?;
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(names)
}
