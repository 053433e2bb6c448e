//! chainsync as an operator sets it up: keys, one list of nodes, nothing else. Durable before
//! visible, TLS, and all limits are the defaults.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{Backlog, System, first_line};
use crate::hosts::{NAMES, World};

const PORT: u16 = 7420;
const KEYGEN_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Chainsync {
    binary: PathBuf,
}

impl Chainsync {
    pub fn new(binary: &Path) -> Self {
        Self { binary: binary.to_owned() }
    }
}

impl System for Chainsync {
    fn key(&self) -> &'static str {
        "chainsync"
    }

    fn title(&self) -> &'static str {
        "chainsync"
    }

    fn versions(&self) -> Result<Vec<String>> {
        Ok(vec![first_line(&self.binary, "--version")?])
    }

    fn configure(&mut self, world: &World) -> Result<String> {
        let home = world.everywhere();
        let (key, state) = (home.join("state/node.key"), home.join("state"));
        let mut nodes = String::new();
        for (host, name) in NAMES.iter().enumerate() {
            std::fs::create_dir_all(world.hosts[host].disk.join("state"))?;
            let mut keygen = Command::new(&self.binary);
            keygen.args(["keygen", "--out"]).arg(world.hosts[host].disk.join("state/node.key"));
            let id = chainsync_hosts::shell::output_of(keygen, KEYGEN_TIMEOUT)?;
            let address = &world.hosts[host].address;
            // Writing to a String cannot fail.
            let _ = writeln!(
                nodes,
                "[nodes.{name}]\naddress = \"{address}:{PORT}\"\nid      = \"{}\"\n",
                id.trim()
            );
        }
        let mut shown = String::new();
        for host in world.hosts.iter().rev() {
            let text = format!(
                "node   = \"{}\"\nkey    = {key:?}\nstate  = {state:?}\nlisten = \"0.0.0.0:{PORT}\"\n\
                 socket = {:?}\n\n{nodes}[shares.uploads]\npath = {:?}\nring = {NAMES:?}\n",
                host.name,
                home.join("control.sock"),
                world.share_everywhere(),
            );
            std::fs::write(host.disk.join("chainsync.toml"), &text)?;
            shown = text;
        }
        Ok(shown)
    }

    fn start(&self, world: &World, host: usize) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--config"]).arg(world.everywhere().join("chainsync.toml"));
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "RUST_LOG"] {
            command.env_remove(name);
        }
        world.spawn(host, command)
    }

    fn backlog(&self, world: &World, host: usize) -> Result<Option<Backlog>> {
        let mut status = Command::new(&self.binary);
        // The socket is on the host's disk, and seen from outside as well.
        let socket = world.hosts[host].disk.join("control.sock");
        status.args(["status", "--json", "--socket"]).arg(socket);
        let status: serde_json::Value =
            serde_json::from_str(&chainsync_hosts::shell::output_of(status, STATUS_TIMEOUT)?)?;
        let share = &status["shares"][0];
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        let changes = number(&share["unread"]) + number(&share["link"]["behind"]);
        Ok(Some(Backlog { changes, seconds_left: share["link"]["seconds_left"].as_u64() }))
    }
}
