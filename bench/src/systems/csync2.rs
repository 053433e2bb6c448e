//! csync2 in a ring, started by lsyncd: the classic recipe. Each link is a configuration of its own
//! in which the sender is master; lsyncd gathers events for a second and calls `csync2 -x` once for
//! all of them. SQLite, TLS off, as in the published configurations.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{System, package};
use crate::hosts::{NAMES, World};

const CSYNC2: &str = "/usr/sbin/csync2";
/// Writing twenty thousand files into its database.
const INIT_TIMEOUT: Duration = Duration::from_secs(120);

pub struct Csync2;

impl System for Csync2 {
    fn key(&self) -> &'static str {
        "csync2"
    }

    fn title(&self) -> &'static str {
        "csync2 + lsyncd, ring"
    }

    fn versions(&self) -> Result<Vec<String>> {
        Ok(vec![package("csync2")?, package("lsyncd")?])
    }

    fn configure(&mut self, world: &World) -> Result<String> {
        let (etc, database) = (etc(world), database(world));
        let share = world.share_everywhere();
        let mut shown = String::new();
        for host in world.hosts.iter().rev() {
            let local = host.disk.join("etc");
            std::fs::create_dir_all(&local)?;
            std::fs::create_dir_all(host.disk.join("db"))?;
            std::fs::create_dir_all(host.disk.join("tmp"))?;
            std::fs::write(
                local.join("key"),
                "0123456789abcdef0123456789abcdef0123456789abcdef\n",
            )?;
            // Every host knows all links: its daemon answers for the one that ends at it.
            let mut links = String::new();
            for (index, from) in NAMES.iter().enumerate() {
                let to = NAMES[(index + 1) % NAMES.len()];
                let link = link(from, to, &etc, &share);
                std::fs::write(local.join(format!("csync2_{from}.cfg")), &link)?;
                if *from == host.name {
                    links = link;
                }
            }
            let lsyncd = lsyncd(&host.name, &share, &database);
            std::fs::write(local.join("lsyncd.lua"), &lsyncd)?;
            shown = format!("# csync2_{}.cfg\n{links}\n-- lsyncd.lua\n{lsyncd}", host.name);
        }
        Ok(shown)
    }

    fn start(&self, world: &World, host: usize) -> Result<()> {
        let mut daemon = csync2(world, host);
        daemon.arg("-ii");
        world.spawn(host, daemon)?;
        let mut lsyncd = Command::new("lsyncd");
        lsyncd.arg("-nodaemon").arg(etc(world).join("lsyncd.lua"));
        lsyncd.env("CSYNC2_SYSTEM_DIR", etc(world));
        world.spawn(host, lsyncd)
    }

    /// Without this it would transfer every file once more to find out that it is there.
    fn adopt(&self, world: &World, host: usize) -> Result<()> {
        // A host writes down what it sent and what it received: both links that touch it.
        for name in [NAMES[host], NAMES[(host + NAMES.len() - 1) % NAMES.len()]] {
            let mut command = csync2(world, host);
            command.args(["-C", name, "-cIr", "/"]);
            world.run(host, command, INIT_TIMEOUT)?;
        }
        Ok(())
    }
}

fn etc(world: &World) -> PathBuf {
    world.everywhere().join("etc")
}

fn database(world: &World) -> PathBuf {
    world.everywhere().join("db")
}

fn csync2(world: &World, host: usize) -> Command {
    let mut command = Command::new(CSYNC2);
    command.env("CSYNC2_SYSTEM_DIR", etc(world));
    command.args(["-N", NAMES[host], "-D"]).arg(database(world));
    command
}

fn link(from: &str, to: &str, etc: &Path, share: &Path) -> String {
    format!(
        "nossl * *;\ntempdir {};\n\ngroup {from}\n{{\n    host {from};\n    host ({to});\n    key {};\n    include {};\n    \
         auto younger;\n}}\n",
        etc.with_file_name("tmp").display(),
        etc.join("key").display(),
        share.display(),
    )
}

fn lsyncd(name: &str, share: &Path, database: &Path) -> String {
    LSYNCD
        .replace("@NAME@", name)
        .replace("@SHARE@", &share.display().to_string())
        .replace("@DATABASE@", &database.display().to_string())
        .replace("@CSYNC2@", CSYNC2)
}

/// A failed call (the peer is away, the database locked) is made again, as in the recipe. One thing
/// is not: with lsyncd 2.2 the recipe's `init`, which spawns for a blanket event of its own, is called again and again, and
/// csync2 runs without a pause for ever.
const LSYNCD: &str = r#"settings {
    nodaemon = true,
    statusFile = "@DATABASE@/lsyncd.status",
    statusInterval = 1,
}

batch = {
    delay = 1,
    maxProcesses = 1,
    exitcodes = { [1] = "again" },
    action = function(inlet)
        local events = inlet.getEvents(function(event)
            return event.etype ~= "Init"
        end)
        spawn(events, "@CSYNC2@", "-N", "@NAME@", "-D", "@DATABASE@", "-C", "@NAME@", "-x")
    end,
    init = function(event)
        spawn(event, "@CSYNC2@", "-N", "@NAME@", "-D", "@DATABASE@", "-C", "@NAME@", "-x")
    end,
    collect = function(agent, exitcode)
        if agent.config.exitcodes[exitcode] == "again" then
            return "again"
        end
    end,
}

sync { batch, source = "@SHARE@" }
"#;
