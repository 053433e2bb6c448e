//! A value that tasks wait on: `tokio::sync::watch`, except that waiters are woken in the order in
//! which they began to wait. tokio's spreads its waiters over eight lists at random, which no seed
//! reaches without `tokio_unstable`, and so two runs of one seed would differ.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

struct Shared<T> {
    /// The value and how often it changed.
    state: Mutex<(T, u64)>,
    changed: Notify,
    closed: AtomicBool,
}

/// The one that changes the value.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// One that waits for changes. A new one has seen the present value.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: Option<u64>,
}

/// The sender is gone: nothing will change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// A copy of the value.
pub(crate) struct Value<T>(T);

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) fn channel<T: Copy>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, (T, u64)> {
        // A value is replaced as a whole: a panic elsewhere cannot leave half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Copy> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new((value, 0)),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        }))
    }

    pub(crate) fn subscribe(&self) -> Receiver<T> {
        let seen = Some(self.0.lock().1);
        Receiver { shared: Arc::clone(&self.0), seen }
    }

    pub(crate) fn borrow(&self) -> Value<T> {
        Value(self.0.lock().0)
    }

    pub(crate) fn send_replace(&self, value: T) -> T {
        let mut before = value;
        self.send_if_modified(|held| {
            std::mem::swap(held, &mut before);
            true
        });
        before
    }

    pub(crate) fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|held| {
            modify(held);
            true
        });
    }

    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut state = self.0.lock();
            let modified = modify(&mut state.0);
            state.1 += u64::from(modified);
            modified
        };
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }
}

impl<T: Copy + Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T: Copy> Receiver<T> {
    pub(crate) fn borrow(&self) -> Value<T> {
        Value(self.shared.lock().0)
    }

    pub(crate) fn borrow_and_update(&mut self) -> Value<T> {
        let (value, version) = *self.shared.lock();
        self.seen = Some(version);
        Value(value)
    }

    pub(crate) fn mark_changed(&mut self) {
        self.seen = None;
    }

    pub(crate) fn mark_unchanged(&mut self) {
        self.seen = Some(self.shared.lock().1);
    }

    /// Waits for a value that this receiver has not seen, and counts it as seen.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let notified = self.shared.changed.notified();
            tokio::pin!(notified);
            // Enlisted before the look: a change in between wakes it.
            notified.as_mut().enable();
            let version = self.shared.lock().1;
            if self.seen != Some(version) {
                self.seen = Some(version);
                return Ok(());
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(Closed);
            }
            notified.await;
        }
    }

    /// Waits until the value is as wanted.
    pub(crate) async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Value<T>, Closed> {
        loop {
            let value = self.borrow_and_update();
            if wanted(&value) {
                return Ok(value);
            }
            self.changed().await?;
        }
    }
}
