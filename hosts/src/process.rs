//! A program on one of the hosts: in its network, its control group, and with its disk at the path
//! that is the same on all hosts, as on real servers.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::world::Host;

/// Sees to it that `command` will run on `host`; its output goes to the host's log.
pub fn place(command: &mut Command, host: &Host) -> io::Result<()> {
    let network = File::open(&host.namespace)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&host.log)?;
    let door = host.group.door();
    let (names, disk, everywhere) =
        (host.names.clone(), host.disk.clone(), host.everywhere.clone());
    // Ctrl-C in the terminal is for the benchmark, which then ends its hosts in order.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: between fork and exec only system calls are made: rustix keeps paths this short on
    // the stack, and nothing takes a lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let door = rustix::fs::open(&door, flags, Mode::empty())?;
            rustix::io::write(&door, b"0")?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
            // What is mounted and unmounted outside is so in here, too.
            let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            mount_change("/", downstream)?;
            mount_bind(&names, "/etc/hosts")?;
            if let Some(everywhere) = &everywhere {
                mount_bind(&disk, everywhere)?;
            }
            Ok(())
        });
    }
    Ok(())
}
