//! rsync started by lsyncd on each host, one `sync` for each other host, over rsync's own daemon.
//!
//! Whole files, because on a network as fast as a disk comparing blocks costs more than sending
//! them; no compression, no ssh. Temporary files lie beside the share: in it, each of them wakes
//! the receiver's lsyncd, which costs a third of the rate. `delete = "running"`: with `true`, a host
//! that comes back would delete at its start what the others got meanwhile.

use std::process::Command;

use anyhow::Result;

use super::{System, package};
use crate::hosts::World;

pub struct Rsync;

impl System for Rsync {
    fn key(&self) -> &'static str {
        "rsync"
    }

    fn title(&self) -> &'static str {
        "rsync + lsyncd, mesh"
    }

    fn versions(&self) -> Result<Vec<String>> {
        Ok(vec![package("rsync")?, package("lsyncd")?])
    }

    fn configure(&mut self, world: &World) -> Result<String> {
        let share = world.share_everywhere();
        let etc = world.everywhere().join("etc");
        let daemon = format!(
            "uid = root\ngid = root\nuse chroot = no\nmax connections = 0\nlog file = /dev/null\n\
             pid file = {}\n\n[disk]\n    path = {}\n    read only = no\n",
            etc.join("rsyncd.pid").display(),
            world.everywhere().display()
        );
        let mut shown = String::new();
        for host in world.hosts.iter().rev() {
            let local = host.disk.join("etc");
            std::fs::create_dir_all(&local)?;
            std::fs::create_dir_all(host.disk.join("tmp"))?;
            std::fs::write(local.join("rsyncd.conf"), &daemon)?;
            let mut lsyncd = format!(
                "settings {{\n    nodaemon = true,\n    insist = true,\n    statusFile = {:?},\n}}\n",
                etc.join("lsyncd.status")
            );
            for other in world.hosts.iter().filter(|other| other.name != host.name) {
                lsyncd += &format!(
                    "\nsync {{\n    default.rsync,\n    source = {share:?},\n    target = \"rsync://{}/disk/share/\",\n    \
                     delay = 1,\n    delete = \"running\",\n    rsync = {{ archive = true, whole_file = true, compress = false, temp_dir = \"/tmp\" }},\n}}\n",
                    other.name
                );
            }
            std::fs::write(local.join("lsyncd.lua"), &lsyncd)?;
            shown = format!("# rsyncd.conf\n{daemon}\n-- lsyncd.lua\n{lsyncd}");
        }
        Ok(shown)
    }

    fn start(&self, world: &World, host: usize) -> Result<()> {
        let etc = world.everywhere().join("etc");
        // Left over from a host that lost its power.
        let _ = std::fs::remove_file(world.hosts[host].disk.join("etc/rsyncd.pid"));
        let mut daemon = Command::new("rsync");
        daemon.args(["--daemon", "--no-detach", "--config"]).arg(etc.join("rsyncd.conf"));
        world.spawn(host, daemon)?;
        let mut lsyncd = Command::new("lsyncd");
        lsyncd.arg("-nodaemon").arg(etc.join("lsyncd.lua"));
        world.spawn(host, lsyncd)
    }
}
