//! A control group per host: what its processes used, and an end to all of them at once.
//!
//! Neither a daemon's forks nor children that nobody waits for escape it, which both CPU accounting
//! by process and killing by pid would let happen (csync2's server ignores its children).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const END_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    pub fn new(name: &str) -> Result<Self> {
        let path = mount()?.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The file that a process writes "0" to in order to belong to the group.
    pub fn door(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    pub fn cpu(&self) -> Result<Duration> {
        let text = fs::read_to_string(self.0.join("cpu.stat"))?;
        let field = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let micros = field.context("cpu.stat has no usage_usec")?.trim().parse()?;
        Ok(Duration::from_micros(micros))
    }

    pub fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.door()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The largest resident sizes that the living processes ever had, together.
    pub fn peak_memory(&self) -> u64 {
        self.pids().into_iter().filter_map(|pid| memory_of(pid, "VmHWM:")).sum()
    }

    /// What the living processes have resident now, together.
    pub fn memory(&self) -> u64 {
        self.pids().into_iter().filter_map(|pid| memory_of(pid, "VmRSS:")).sum()
    }

    /// From now on [`peak_memory`](Self::peak_memory) counts anew (proc(5), clear_refs).
    pub fn forget_peak_memory(&self) -> Result<()> {
        for pid in self.pids() {
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(())
    }

    /// SIGTERM to all, and waits until they have ended.
    pub fn terminate(&self) -> Result<()> {
        for pid in self.pids() {
            // SAFETY: kill has no conditions; the processes are ours.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
        self.wait_until_empty()
    }

    /// SIGKILL to all.
    pub fn kill(&self) -> Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1").context("cgroup.kill needs Linux 5.14")
    }

    pub fn wait_until_empty(&self) -> Result<()> {
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.empty()? {
            if Instant::now() >= deadline {
                bail!("{} still has processes", self.0.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn empty(&self) -> Result<bool> {
        Ok(fs::read_to_string(self.0.join("cgroup.events"))?.contains("populated 0"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.kill().and_then(|()| self.wait_until_empty());
        let _ = fs::remove_dir(&self.0);
    }
}

fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let of_version_2 = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| Path::new(at).to_owned())
    });
    of_version_2.context("no cgroup2 file system is mounted")
}

fn memory_of(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
