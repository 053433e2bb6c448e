//! Death at a certain disk operation: the daemon is killed, or its machine loses power, just before
//! the operation takes effect, or, if it is a write, perhaps in the middle of it.
//!
//! An operation is a call of the daemon that changes something: on the file system, or in the files
//! of its index. Reading is none. They are counted from the machine's first boot on.

use std::io;
use std::time::Duration;

use super::disk::Disk;
use super::durability::Loss;
use super::errno::{EIO, fail};
use crate::gate::State;

/// How a machine dies, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fall {
    /// What a power loss takes. `None`: only the daemon is killed.
    pub loss: Option<Loss>,
    pub back_after: Duration,
}

impl Disk {
    /// Sets a trap: death just before the `number`th operation, the first one being 1.
    pub fn fall_before(&mut self, number: u64, fall: Fall) {
        self.falls.insert(number, fall);
    }

    /// Removes all traps.
    pub fn disarm(&mut self) {
        self.falls.clear();
    }

    /// What kind of call each operation so far was.
    pub fn operations(&self) -> &[&'static str] {
        &self.operations
    }

    /// Counts an operation of the daemon's life `process`, or ends that life.
    pub(crate) fn operation(&mut self, process: u64, call: &'static str) -> io::Result<()> {
        if !self.is_current(process) {
            return fail(EIO);
        }
        self.operations.push(call);
        let number = self.operations.len() as u64;
        let Some(fall) = self.falls.remove(&number) else { return Ok(()) };
        self.event("fall", format_args!("before operation {number}, {call}"));
        self.new_process();
        self.gate.set(if fall.loss.is_some() { State::Dark } else { State::Killed });
        self.fallen = Some(fall);
        fail(EIO)
    }

    /// How many bytes of a write still reach the disk, asked after `operation`.
    pub(crate) fn torn(&mut self, fell: &io::Result<()>, bytes: usize) -> usize {
        match fell {
            Ok(()) => bytes,
            Err(_) if self.fallen.is_some() && self.rng.one_in(2) => {
                self.rng.between(0, bytes as u64) as usize
            }
            Err(_) => 0,
        }
    }
}
