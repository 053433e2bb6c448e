//! The command line. Names, flags and defaults are a contract.

use std::ffi::OsString;
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
    #[command(after_help = exits::DEMO)]
    Demo(Demo),
    /// Write a private key and print the node's public id
    #[command(after_help = exits::KEYGEN)]
    Keygen(Keygen),
    /// Run the daemon
    #[command(after_help = exits::RUN)]
    Run(Run),
    /// Validate a configuration and explain it in words
    #[command(after_help = exits::CHECK)]
    Check(Check),
    /// Show ring, links, members, problems and conflicts
    #[command(after_help = exits::STATUS)]
    Status(Status),
    /// Wait until every ring member has durably applied what was changed here before
    #[command(after_help = exits::FLUSH)]
    Flush(Flush),
    /// Compare the trees of all ring members
    #[command(after_help = exits::VERIFY)]
    Verify(Verify),
    /// Sweep the whole tree for changes now
    #[command(after_help = exits::RESCAN)]
    Rescan(Rescan),
    /// Stop recording, sending and receiving until `resume`, restarts included
    #[command(after_help = exits::PAUSE)]
    Pause(Pause),
    /// Go on after a pause, or after a guard has halted a share
    #[command(after_help = exits::RESUME)]
    Resume(Resume),
    /// List edits that lost to another one, show and restore them
    #[command(after_help = exits::CONFLICTS)]
    Conflicts(Conflicts),
    /// Write man pages or shell completions into a directory
    #[command(after_help = exits::GENERATE)]
    Generate(Generate),
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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What to log, such as `info` or `chainsync_engine=debug` [default: $RUST_LOG, else `info`]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Start nothing and make nothing: say what the first import of each share would take in
    #[arg(long, conflicts_with = "log")]
    pub(crate) dry_run: bool,
    /// With --dry-run: print JSON
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Open neither the key nor the shares (on a build machine, say)
    #[arg(long)]
    pub(crate) without_key: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What all control commands take.
#[derive(Debug, Args)]
pub(crate) struct Control {
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The daemon's control socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CHAINSYNC_SOCKET",
        hide_env_values = true,
        default_value = "/run/chainsync/control.sock"
    )]
    pub(crate) socket: PathBuf,
    /// Only this share
    #[arg(long, global = true, value_name = "NAME")]
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

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Read every content on every member's disk, instead of trusting the indexes
    #[arg(long)]
    pub(crate) deep: bool,
    /// How long it may take [default: 1m, with --deep 1h]
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) control: Control,
}

#[derive(Debug, Args)]
pub(crate) struct Rescan {
    /// Record nothing: say what a sweep would find
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) control: Control,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) control: Control,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// What a guard found missing was deleted on purpose: delete it on the other nodes too
    #[arg(long)]
    pub(crate) accept_deletes: bool,
    #[command(flatten)]
    pub(crate) control: Control,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct Conflicts {
    #[command(subcommand)]
    pub(crate) action: Option<ConflictAction>,
    #[command(flatten)]
    pub(crate) control: Control,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictAction {
    /// List them, the newest first (the default)
    List,
    /// Show one, or all of a path
    Show {
        /// Its number, or a path below the share (`./7` for a file named 7)
        #[arg(value_name = "ID|PATH")]
        which: OsString,
    },
    /// Put the edit that lost back, as a new change
    Restore {
        /// Its number, or a path below the share: then the newest of that path
        #[arg(value_name = "ID|PATH")]
        which: OsString,
        /// Put it at this path below the share, where nothing may be yet
        #[arg(long, value_name = "PATH")]
        to: Option<OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// What to write
    #[arg(value_enum)]
    pub(crate) what: Generated,
    /// Where; made if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Print the names of the files as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Generated {
    /// One page a command, for section 1
    Man,
    /// For bash, fish and zsh
    Completions,
}

/// `30s`, `1m 30s`, `500ms`, `90d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    // Days of 24 hours, which `jiff` leaves to calendars.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 24 * 3600));
    }
    let wrong = || format!("`{text}` is not a duration such as `30s`, `500ms` or `1m 30s`");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

const EXIT_CODES: &str = "\
Exit codes: 0 good, 1 the answer is no, 2 usage or configuration,
3 cannot reach the daemon, 4 refused by a guard.";

/// The exit codes of each command, in its help and its man page. A contract.
mod exits {
    pub(super) const DEMO: &str =
        "Exit codes: 0 trees equal and nothing lost, 1 not, 2 usage or the directory is not empty.";
    pub(super) const KEYGEN: &str = "Exit codes: 0 written, 2 it exists or cannot be written.";
    pub(super) const RUN: &str = "\
Exit codes: 0 stopped in order, 1 ended otherwise, 2 configuration, index,
address or socket, 4 refused by a guard: a share's root marker is missing or
another one (is the file system mounted?), or the system refuses threads or
signals. With --dry-run: 0 good, 1 some files have problems, 2 as above.";
    pub(super) const CHECK: &str = "Exit codes: 0 good, 2 not.";
    pub(super) const STATUS: &str = "\
Exit codes: 0 answered, also if not converged (read `converged` in --json),
2 no such share, 3 cannot reach the daemon.";
    pub(super) const FLUSH: &str = "\
Exit codes: 0 complete, 1 not complete: each node that lacks something is
named, 2 usage or no such share, 3 cannot reach the daemon.";
    pub(super) const VERIFY: &str = "\
Exit codes: 0 equal, 1 differences (listed), or it cannot say because a member
was not compared (named), 2 usage or no such share, 3 cannot reach the daemon.";
    pub(super) const RESCAN: &str = "\
Exit codes: 0 swept (or said what a sweep would find), 1 trouble with the disk,
2 no such share, 3 cannot reach the daemon, 4 not swept: the share is paused or
halted, or the sweep found so much missing that a guard halted it.";
    pub(super) const PAUSE: &str =
        "Exit codes: 0 paused, 1 trouble, 2 no such share, 3 cannot reach the daemon.";
    pub(super) const RESUME: &str = "\
Exit codes: 0 it moves, 1 trouble, 2 no such share, 3 cannot reach the daemon,
4 refused by a guard: the reason for the halt is still there, or it was halted
because of deletions and --accept-deletes is missing.";
    pub(super) const CONFLICTS: &str = "\
Exit codes: 0 done, 1 no such conflict, or not restored (the reason is said),
2 usage or no such share, 3 cannot reach the daemon.";
    pub(super) const GENERATE: &str = "Exit codes: 0 written, 2 the directory cannot be written.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(2_592_000)));
        for wrong in ["", "30", "-1s", "soon", "1 parsec"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
