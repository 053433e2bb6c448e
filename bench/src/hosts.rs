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

pub const NAMES: [&str; 3] = ["apollo", "chronos", "hermes"];
pub const APOLLO: usize = 0;
pub const CHRONOS: usize = 1;
pub const HERMES: usize = 2;
/// Sparse. The largest workload holds 1 GiB four times for a moment: share, temporary file, state.
const IMAGE_SIZE: &str = "8G";
const ONE_IMAGE_SIZE: &str = "16G";
/// For a million files, and once more while a host joins empty.
const LARGE_IMAGE_SIZE: &str = "48G";
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Host {
    pub name: &'static str,
    pub address: String,
    pub group: Group,
    pub namespace: PathBuf,
    /// Its own /etc/hosts.
    pub names: PathBuf,
    /// Where its disk is seen from outside ...
    pub disk: PathBuf,
    /// ... and where the host itself sees it, as all hosts do.
    pub everywhere: PathBuf,
    pub log: PathBuf,
    /// Spawned by us and to be waited for.
    children: Mutex<Vec<Child>>,
}

pub struct World {
    pub hosts: Vec<Host>,
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
    /// `large`: its disks hold a million files.
    pub fn new(one_image: bool, large: bool, keep: bool) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("chainsync-bench.").tempdir()?;
        let mut world = Self {
            hosts: Vec::new(),
            prefix: format!("chainsync-bench-{}", std::process::id()),
            directory: temporary.path().to_owned(),
            loops: Vec::new(),
            keep,
            temporary: Some(temporary),
        };
        world.disks(one_image, large).context("cannot make the disks")?;
        world.network().context("cannot make the network; are you root?")?;
        Ok(world)
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
        let of = |name: &&str| {
            let link = links.iter().find(|link| link["ifname"] == *name);
            // What the switch receives on a host's port is what the host sent.
            let bytes = link.and_then(|link| link["stats64"]["rx"]["bytes"].as_u64());
            bytes.context("ip shows no counters")
        };
        NAMES.iter().map(of).collect()
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn disks(&mut self, one_image: bool, large: bool) -> Result<()> {
        let images = if one_image { &["all"][..] } else { &NAMES[..] };
        let size = match (large, one_image) {
            (true, _) => LARGE_IMAGE_SIZE,
            (false, true) => ONE_IMAGE_SIZE,
            (false, false) => IMAGE_SIZE,
        };
        for image in images {
            let file = self.directory.join(format!("{image}.img"));
            output("truncate", &["-s", size, &file.display().to_string()])?;
            self.loops.push(Loop::new(&file, self.directory.join(image))?);
        }
        Ok(())
    }

    fn network(&mut self) -> Result<()> {
        let names = self.directory.join("hosts");
        let everywhere = self.everywhere();
        fs::create_dir(&everywhere)?;
        let mut table = "127.0.0.1 localhost\n".to_owned();
        for (index, name) in NAMES.iter().enumerate() {
            table += &format!("10.77.0.{} {name}\n", index + 1);
        }
        fs::write(&names, table)?;
        for (index, name) in NAMES.into_iter().enumerate() {
            let at = if self.loops.len() == 1 { &self.loops[0].at } else { &self.loops[index].at };
            let disk = if self.loops.len() == 1 { at.join(name) } else { at.clone() };
            self.hosts.push(Host {
                name,
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
        for name in NAMES.iter().chain(&["switch"]) {
            let namespace = self.namespace(name);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        ip(&format!("-n {switch} link add ring type bridge"))?;
        ip(&format!("-n {switch} link set ring up"))?;
        for host in &self.hosts {
            let (name, namespace) = (host.name, self.namespace(host.name));
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
        for name in NAMES.iter().chain(&["switch"]) {
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
                eprintln!("chainsync-bench: {}: {error:#}", disk.at.display());
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
        output("mkfs.ext4", &["-q", "-F", "-E", options, &self.device])?;
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
