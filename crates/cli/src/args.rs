//! The command line. Names, flags and defaults are a contract.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "chainsync",
    version,
    about = "Keeps a directory identical on several web servers, one way round a ring",
    after_help = EXIT_CODES,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Three real nodes on loopback: a storm, a failure, a verdict
    Demo(Demo),
    /// Write a private key and print the node's public id
    Keygen(Keygen),
    /// Run the daemon
    Run(Run),
    /// Validate a configuration and explain it in words
    Check(Check),
    /// Show ring, links, members, problems and conflicts
    Status(Status),
    /// Wait until every ring member has durably applied what was changed here before
    Flush(Flush),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Uploads in the undisturbed storm
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(30..=1_000_000))]
    pub(crate) files: u32,
    /// Bytes of each upload
    #[arg(long, default_value_t = 5120, value_parser = clap::value_parser!(u32).range(64..=64 << 20))]
    pub(crate) size: u32,
    /// The node that gets SIGKILL in the second storm
    #[arg(long, value_name = "NODE", default_value = "chronos", value_parser = ["apollo", "chronos", "hermes"])]
    pub(crate) kill: String,
    /// Work in this directory, which must be empty or missing, and keep it
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Print one JSON object on the last line of stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The file to write (mode 0600); never overwritten
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What to log, such as `info` or `chainsync_engine=debug` [default: $RUST_LOG, else `info`]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Open neither the key nor the shares (on a build machine, say)
    #[arg(long)]
    pub(crate) without_key: bool,
}

/// What all control commands take.
#[derive(Debug, Args)]
pub(crate) struct Control {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The daemon's control socket
    #[arg(
        long,
        value_name = "PATH",
        env = "CHAINSYNC_SOCKET",
        hide_env_values = true,
        default_value = "/run/chainsync/control.sock"
    )]
    pub(crate) socket: PathBuf,
    /// Only this share
    #[arg(long, value_name = "NAME")]
    pub(crate) share: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Redraw each second until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) control: Control,
}

#[derive(Debug, Args)]
pub(crate) struct Flush {
    /// How long to wait
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Leave out nodes that cannot be reached, and name them
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) control: Control,
}

/// `30s`, `1m 30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `30s`, `500ms` or `1m 30s`");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

const EXIT_CODES: &str = "\
Exit codes: 0 good, 1 the answer is no, 2 usage or configuration,
3 cannot reach the daemon, 4 refused by a guard.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "30", "-1s", "soon", "1 parsec"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
