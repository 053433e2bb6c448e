//! What all nodes of one run share: the time, the trace, the oracle, the coverage counts.
//!
//! One run lives on one thread; the locks are there because the engine's traits ask for `Send` and
//! are never contended. Nothing here is global: two runs on two threads know nothing of each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frames::Frames;
use crate::oracle::Oracle;
use crate::trace::Trace;

/// The wall clock at the beginning of every run: 2026-01-01T00:00:00Z, in nanoseconds since 1970.
pub const EPOCH_NS: i128 = 1_767_225_600_000_000_000;

pub struct Shared {
    pub seed: u64,
    pub trace: Trace,
    pub oracle: Mutex<Oracle>,
    pub coverage: Mutex<BTreeMap<String, u64>>,
    pub frames: Mutex<Frames>,
    /// Virtual nanoseconds at the beginning of the present step.
    step_ns: AtomicU64,
}

impl Shared {
    pub fn new(seed: u64, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            seed,
            trace,
            oracle: Mutex::default(),
            coverage: Mutex::default(),
            frames: Mutex::default(),
            step_ns: AtomicU64::new(0),
        })
    }

    pub fn step_ns(&self) -> u64 {
        self.step_ns.load(Ordering::Relaxed)
    }

    pub fn set_step_ns(&self, step_ns: u64) {
        self.step_ns.store(step_ns, Ordering::Relaxed);
    }

    /// An event at the present step.
    pub fn event(&self, node: &str, kind: &str, detail: fmt::Arguments<'_>) {
        self.trace.event(self.step_ns(), node, kind, detail);
    }

    pub fn cover(&self, point: &str) {
        *lock(&self.coverage).entry(point.to_owned()).or_default() += 1;
    }
}

/// A panic while a lock was held ends the run anyway: what it guards is still worth reporting.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
