//! What the machine can do at best: copying the same files with no daemon, no network, no hash.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::hosts::{APOLLO, CHRONOS, HERMES, World};
use chainsync_hosts::shell::output_of;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// One reader, two writers at once.
    TarTee,
    /// Two copies, one after the other.
    Rsync,
}

pub const ALL: [Limit; 2] = [Limit::TarTee, Limit::Rsync];
const TIMEOUT: Duration = Duration::from_secs(120);

impl Limit {
    pub fn key(self) -> &'static str {
        match self {
            Self::TarTee => "tar-tee",
            Self::Rsync => "local-rsync",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::TarTee => "limit: `tar \\| tee`",
            Self::Rsync => "limit: `rsync -a` twice",
        }
    }

    pub fn command(self) -> &'static str {
        match self {
            // Not `tee >(tar x)`: the shell would not wait for that one.
            Self::TarTee => {
                r#"mkfifo "$3"; tar -C "$1" -xf - <"$3" & tar -C "$0" -cf - . | tee "$3" | tar -C "$2" -xf - && wait $!"#
            }
            Self::Rsync => r#"rsync -a "$0/" "$1/" && rsync -a "$0/" "$2/""#,
        }
    }

    pub fn version(self) -> Result<String> {
        super::package(if self == Self::TarTee { "tar" } else { "rsync" })
    }

    /// Copies apollo's share to the others: how long that took, and how long with all of it on disk.
    pub fn copy(self, world: &World) -> Result<(Duration, Duration)> {
        let began = Instant::now();
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", self.command()]);
        command.args([APOLLO, CHRONOS, HERMES].map(|host| world.share(host)));
        command.arg(world.hosts[APOLLO].disk.join("pipe"));
        output_of(command, TIMEOUT)?;
        let copied = began.elapsed();
        for host in [CHRONOS, HERMES] {
            rustix::fs::syncfs(std::fs::File::open(world.share(host))?)?;
        }
        Ok((copied, began.elapsed()))
    }
}
