//! Whether a machine's daemon may do anything.
//!
//! A stopped process (SIGSTOP) does nothing at all, and its connections stay open: turmoil always
//! runs every task of a host, so each way from the daemon to its world waits here instead. Timers
//! still run out meanwhile, as they have all run out when a real process continues; what the daemon
//! closes because of them is kept open until then.
//!
//! A fallen machine is one that died in the middle of a tick: for the rest of the tick its daemon's
//! tasks still run, and nothing they do may be noticed.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use turmoil::net::TcpStream;

#[derive(Default)]
pub struct Gate(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    state: State,
    /// Tasks that wait for the machine to go on. One a stream and job, so bounded by those.
    waiting: Vec<Waker>,
    /// Connections that the stopped daemon has given up.
    kept: Vec<TcpStream>,
    /// Connections that the network lost for this end alone: the other end never hears of it.
    buried: Vec<TcpStream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Runs,
    Stopped,
    /// The daemon was killed: its kernel closes what it had open.
    Killed,
    /// The power went: nobody closes anything.
    Dark,
}

impl Gate {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> State {
        self.inner().state
    }

    /// Only `Runs` lets anything through.
    pub fn set(&self, state: State) {
        let waiting = {
            let mut inner = self.inner();
            inner.state = state;
            if state == State::Runs { std::mem::take(&mut inner.waiting) } else { Vec::new() }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll_pass(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner();
        if inner.state == State::Runs {
            return Poll::Ready(());
        }
        if !inner.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            inner.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) async fn pass(&self) {
        poll_fn(|context| self.poll_pass(context)).await;
    }

    /// A connection that the daemon closes: open as long as nobody is to notice.
    pub(crate) fn close(&self, stream: TcpStream) {
        let mut inner = self.inner();
        if matches!(inner.state, State::Stopped | State::Dark) {
            inner.kept.push(stream);
        }
    }

    /// A connection of whose end nobody is to hear, whatever becomes of this machine.
    pub(crate) fn bury(&self, stream: TcpStream) {
        self.inner().buried.push(stream);
    }

    /// Closes what was kept, unless nobody is to notice yet: to be called on its host, or the
    /// peers do not hear of it.
    pub(crate) fn close_kept(&self) {
        let kept = {
            let mut inner = self.inner();
            match inner.state {
                State::Runs | State::Killed => std::mem::take(&mut inner.kept),
                State::Stopped | State::Dark => Vec::new(),
            }
        };
        drop(kept);
    }

    /// Closes what was kept when it is dropped, with the daemon that it is part of: the kernel
    /// does not wait for the next start.
    pub(crate) fn until_death(self: &Arc<Self>) -> UntilDeath {
        UntilDeath(Arc::clone(self))
    }

    /// A new life begins: nobody waits any more, and what was kept is nobody's.
    pub(crate) fn reset(&self) {
        let (waiting, kept) = {
            let mut inner = self.inner();
            inner.state = State::Runs;
            (std::mem::take(&mut inner.waiting), std::mem::take(&mut inner.kept))
        };
        drop((waiting, kept));
    }
}

/// See [`Gate::until_death`].
pub(crate) struct UntilDeath(Arc<Gate>);

impl Drop for UntilDeath {
    fn drop(&mut self) {
        self.0.close_kept();
    }
}
