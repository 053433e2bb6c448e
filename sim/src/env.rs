//! `chainsync_env::Env` for one life of one simulated daemon.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chainsync_env::{Env, Point, StorageBackend, WatchError, WatchSink};

use crate::fs::{CallClass, SimFs, SimStorage};
use crate::ledger::IncidentKind;
use crate::machine::Machine;
use crate::net::SimNet;
use crate::shared::lock;
use crate::watch::SimWatch;

#[derive(Clone)]
pub struct SimEnv {
    machine: Arc<Machine>,
    process: u64,
}

/// The grain of turmoil's clocks: shorter sleeps become this long.
const GRAIN: Duration = Duration::from_millis(1);

impl SimEnv {
    pub fn new(machine: Arc<Machine>, process: u64) -> Self {
        Self { machine, process }
    }
}

impl Env for SimEnv {
    type Vfs = SimFs;
    type Watch = SimWatch;
    type Net = SimNet;

    fn open_root(&self, path: &Path) -> io::Result<SimFs> {
        SimFs::open(&self.machine.disk, path.as_os_str().as_bytes(), self.process)
    }

    fn create_state_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = lock(&self.machine.disk);
        disk.enter(self.process)?;
        disk.operation(self.process, "mkdir")?;
        disk.fault(CallClass::Create)?;
        disk.create_state_dir(path.as_os_str().as_bytes())
    }

    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let Machine { storages, disk, .. } = &*self.machine;
        let path = path.as_os_str().as_bytes();
        Ok(Box::new(SimStorage::open(storages, disk, path, self.process)?))
    }

    fn watch(&self, root: &Path, sink: WatchSink) -> Result<SimWatch, WatchError> {
        SimWatch::new(&self.machine.disk, root.as_os_str().as_bytes(), self.process, sink)
    }

    fn net(&self) -> &SimNet {
        &self.machine.net
    }

    fn wall_ns(&self) -> i128 {
        lock(&self.machine.disk).wall_ns()
    }

    fn random_u64(&self) -> u64 {
        lock(&self.machine.random).draw()
    }

    /// Inline; then the caller sleeps for as long as the calls took. Time below the clock's grain is
    /// carried over, so that many short jobs cost what one long one does.
    async fn blocking<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        let gate = Arc::clone(&self.machine.gate);
        gate.pass().await;
        let result = work();
        let wait = {
            let debt = lock(&self.machine.disk).take_debt();
            let mut latency = lock(&self.machine.latency);
            let jitter = latency.rng.between(debt / 2, debt * 2);
            latency.carried_ns += jitter;
            let grains = latency.carried_ns / GRAIN.as_nanos() as u64;
            latency.carried_ns %= GRAIN.as_nanos() as u64;
            GRAIN * u32::try_from(grains).unwrap_or(u32::MAX)
        };
        match wait {
            Duration::ZERO => tokio::task::yield_now().await,
            wait => tokio::time::sleep(wait).await,
        }
        gate.pass().await;
        result
    }

    fn probe(&self, point: Point) {
        if point == Point::FirstLook {
            self.machine.note(IncidentKind::Looked);
        }
        let point = format!("{point:?}");
        self.machine.shared.cover(&point);
        lock(&self.machine.disk).event("probe", format_args!("{point}"));
    }
}
