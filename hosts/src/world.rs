//! Three hosts: a network namespace, a disk and a control group each.
//!
//! As in `ci/netns`, the switch between them has a namespace of its own: a bridge among the real
//! host's interfaces would meet its firewall. Nothing outside of these namespaces is touched, and
//! [`World`] takes everything away when it is dropped, also after a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::group::Group;
use crate::process;
use crate::shell::{output, output_of};

const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a world is to be.
pub struct WorldOptions {
    /// Of the hosts.
    pub names: Vec<String>,
    /// Part of the names of everything that is made.
    pub purpose: &'static str,
    pub disks: Disks,
    /// Of each image, as truncate(1) takes it; sparse.
    pub size: &'static str,
    /// All hosts see their disks at the same path, each in a mount namespace of its own. Otherwise
    /// a mount is one for all of them.
    pub one_path: bool,
    /// Nothing is taken away in the end.
    pub keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    OneEach,
    OneForAll,
}

pub struct Host {
    pub name: String,
    pub address: String,
    pub group: Group,
    pub namespace: PathBuf,
    /// Its own /etc/hosts.
    pub names: PathBuf,
    /// Where its disk is seen from outside ...
    pub disk: PathBuf,
    /// ... and where the host itself sees it, if that is another path.
    pub everywhere: Option<PathBuf>,
    pub log: PathBuf,
    /// Spawned by us and to be waited for.
    children: Mutex<Vec<Child>>,
}

pub struct World {
    pub hosts: Vec<Host>,
    names: Vec<String>,
    prefix: String,
    directory: PathBuf,
    loops: Vec<Loop>,
    keep: bool,
    /// Kept for its drop; `keep` takes it out.
    temporary: Option<tempfile::TempDir>,
}

/// An image, the device that makes a disk of it, and where that is mounted.
struct Loop {
    device: String,
    at: PathBuf,
    mounted: bool,
}

impl Host {
    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    pub fn new(options: &WorldOptions) -> Result<Self> {
        let prefix = format!("chainsync-{}", options.purpose);
        let temporary = tempfile::Builder::new().prefix(&format!("{prefix}.")).tempdir()?;
        let mut world = Self {
            hosts: Vec::new(),
            names: options.names.clone(),
            prefix: format!("{prefix}-{}", std::process::id()),
            directory: temporary.path().to_owned(),
            loops: Vec::new(),
            keep: options.keep,
            temporary: Some(temporary),
        };
        world.disks(options).context("cannot make the disks")?;
        world.network(options).context("cannot make the network; are you root?")?;
        Ok(world)
    }

    /// Where everything is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// New file systems, so that nothing of an earlier run is in the way.
    pub fn fresh(&mut self) -> Result<()> {
        self.stop()?;
        for disk in &mut self.loops {
            disk.unmount()?;
            disk.format()?;
        }
        for host in &self.hosts {
            fs::create_dir_all(host.disk.join("share"))?;
            // Its log is not on its disk: what a program prints is not what it replicates.
            fs::write(&host.log, "")?;
        }
        Ok(())
    }

    pub fn share(&self, host: usize) -> PathBuf {
        self.hosts[host].disk.join("share")
    }

    /// The share as the hosts themselves name it.
    pub fn share_everywhere(&self) -> PathBuf {
        self.everywhere().join("share")
    }

    /// The disk as the hosts themselves name it.
    pub fn everywhere(&self) -> PathBuf {
        self.directory.join("host")
    }

    /// Starts a daemon. It is ended with its host.
    pub fn spawn(&self, host: usize, mut command: Command) -> Result<()> {
        let host = &self.hosts[host];
        process::place(&mut command, host)?;
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        host.children().push(child);
        Ok(())
    }

    /// Runs a command on a host to its end.
    pub fn run(&self, host: usize, mut command: Command, patience: Duration) -> Result<String> {
        process::place(&mut command, &self.hosts[host])?;
        output_of(command, patience)
    }

    /// All processes of a host end at once, as when it loses its power; its disk stays.
    pub fn kill(&self, host: usize) -> Result<()> {
        let host = &self.hosts[host];
        host.group.kill()?;
        for mut child in host.children().drain(..) {
            child.wait()?;
        }
        host.group.wait_until_empty()
    }

    /// Whether something that was spawned on a host has not ended yet.
    pub fn is_running(&self, host: usize) -> bool {
        let mut children = self.hosts[host].children();
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        !children.is_empty()
    }

    /// A signal to all processes of a host.
    pub fn signal(&self, host: usize, signal: libc::c_int) {
        for pid in self.hosts[host].group.pids() {
            // SAFETY: kill has no conditions; the processes are ours.
            unsafe { libc::kill(pid as libc::pid_t, signal) };
        }
    }

    /// All processes of a host are asked to end, as a service manager does it.
    pub fn terminate(&self, host: usize) -> Result<()> {
        let host = &self.hosts[host];
        // Waited for beside: a process that nobody has waited for still counts as one.
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| host.group.terminate());
            for mut child in host.children().drain(..) {
                child.wait()?;
            }
            ended.join().map_err(|_| anyhow!("ending a host panicked"))?
        })
    }

    pub fn stop(&self) -> Result<()> {
        (0..self.hosts.len()).try_for_each(|host| self.kill(host))
    }

    /// Since the hosts were made.
    pub fn cpu(&self) -> Result<Duration> {
        self.hosts.iter().map(|host| host.group.cpu()).sum()
    }

    /// Of the host that needed most.
    pub fn peak_memory(&self) -> u64 {
        self.hosts.iter().map(|host| host.group.peak_memory()).max().unwrap_or(0)
    }

    /// What the host that needs most has resident now.
    pub fn memory(&self) -> u64 {
        self.hosts.iter().map(|host| host.group.memory()).max().unwrap_or(0)
    }

    pub fn forget_peak_memory(&self) -> Result<()> {
        self.hosts.iter().try_for_each(|host| host.group.forget_peak_memory())
    }

    /// Bytes that each host has sent.
    pub fn sent(&self) -> Result<Vec<u64>> {
        let switch = self.namespace("switch");
        let text = output("ip", &["-n", &switch, "-s", "-j", "link", "show"])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let links = links.as_array().context("ip shows no links")?;
        let of = |name: &String| {
            let link = links.iter().find(|link| link["ifname"] == *name);
            // What the switch receives on a host's port is what the host sent.
            let bytes = link.and_then(|link| link["stats64"]["rx"]["bytes"].as_u64());
            bytes.context("ip shows no counters")
        };
        self.names.iter().map(of).collect()
    }

    /// Runs a program of this machine in a host's network, to its end.
    pub fn inside(&self, host: usize, program: &str, arguments: &[&str]) -> Result<String> {
        let namespace = self.namespace(&self.hosts[host].name);
        let mut all = vec!["netns", "exec", &namespace, program];
        all.extend(arguments);
        output("ip", &all)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn disks(&mut self, options: &WorldOptions) -> Result<()> {
        let all = ["all".to_owned()];
        let images = match options.disks {
            Disks::OneForAll => &all[..],
            Disks::OneEach => &options.names,
        };
        for image in images {
            let file = self.directory.join(format!("{image}.img"));
            output("truncate", &["-s", options.size, &file.display().to_string()])?;
            self.loops.push(Loop::new(&file, self.directory.join(image))?);
        }
        Ok(())
    }

    fn network(&mut self, options: &WorldOptions) -> Result<()> {
        let names = self.directory.join("hosts");
        let everywhere = options.one_path.then(|| self.everywhere());
        everywhere.as_ref().map_or(Ok(()), fs::create_dir)?;
        let mut table = "127.0.0.1 localhost\n".to_owned();
        for (index, name) in options.names.iter().enumerate() {
            table += &format!("10.77.0.{} {name}\n", index + 1);
        }
        fs::write(&names, table)?;
        for (index, name) in options.names.iter().enumerate() {
            let disk = match options.disks {
                Disks::OneForAll => self.loops[0].at.join(name),
                Disks::OneEach => self.loops[index].at.clone(),
            };
            self.hosts.push(Host {
                name: name.clone(),
                address: format!("10.77.0.{}", index + 1),
                group: Group::new(&self.namespace(name))?,
                namespace: Path::new("/run/netns").join(self.namespace(name)),
                names: names.clone(),
                disk,
                everywhere: everywhere.clone(),
                log: self.directory.join(format!("{name}.log")),
                children: Mutex::default(),
            });
        }
        let switch = self.namespace("switch");
        let ip = |line: &str| output("ip", &line.split(' ').collect::<Vec<_>>());
        for name in self.names.iter().map(String::as_str).chain(["switch"]) {
            let namespace = self.namespace(name);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        ip(&format!("-n {switch} link add ring type bridge"))?;
        ip(&format!("-n {switch} link set ring up"))?;
        for host in &self.hosts {
            let (name, namespace) = (&host.name, self.namespace(&host.name));
            ip(&format!("-n {switch} link add {name} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("-n {switch} link set {name} master ring up"))?;
            ip(&format!("-n {namespace} address add {}/24 dev eth0", host.address))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.stop();
        self.hosts.clear();
        for name in self.names.iter().map(String::as_str).chain(["switch"]) {
            // Half-made worlds lack some.
            let _ = output("ip", &["netns", "del", &self.namespace(name)]);
        }
        if self.keep {
            self.temporary.take().map(tempfile::TempDir::keep);
            eprintln!("kept, and still mounted: {}", self.directory.display());
            return;
        }
        for disk in &mut self.loops {
            if let Err(error) = disk.unmount().and_then(|()| disk.detach()) {
                eprintln!("{}: {error:#}", disk.at.display());
            }
        }
    }
}

impl Loop {
    fn new(file: &Path, at: PathBuf) -> Result<Self> {
        fs::create_dir(&at)?;
        let file = file.display().to_string();
        // Without direct I/O every block would be cached twice.
        let direct = output("losetup", &["-f", "--show", "--direct-io=on", &file]);
        let device = match direct {
            Ok(device) => device,
            Err(_) => output("losetup", &["-f", "--show", &file])?,
        };
        Ok(Self { device: device.trim().to_owned(), at, mounted: false })
    }

    /// The defaults, journal included. What a new file system would do in the background for
    /// minutes (write its tables, discard) is left out: it would disturb the measurement.
    fn format(&mut self) -> Result<()> {
        let options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
        // No blocks for root alone: who fills the disk fills it for everybody.
        output("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", options, &self.device])?;
        let at = self.at.display().to_string();
        output("mount", &["-o", "noinit_itable", &self.device, &at])?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let deadline = Instant::now() + UNMOUNT_TIMEOUT;
        while self.mounted {
            let unmounted = output("umount", &[&self.at]);
            self.mounted = unmounted.is_err();
            if Instant::now() >= deadline {
                return unmounted.map(drop);
            }
            if self.mounted {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    fn detach(&self) -> Result<()> {
        ensure!(!self.device.is_empty(), "no device");
        output("losetup", &["-d", &self.device]).map(drop)
    }
}
