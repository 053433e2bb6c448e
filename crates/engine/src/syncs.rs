//! Syncs of a whole file system, numbered: one serves everybody who had written before it began.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct Syncs {
    begun: AtomicU64,
    /// The newest that is done, and the newest that failed.
    done: AtomicU64,
    failed: AtomicU64,
}

/// What has become of the syncs that began after a moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Since {
    /// None has ended.
    Nothing,
    Done,
    Failed,
}

impl Syncs {
    /// How many have begun: to be asked once everything is written.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Runs `sync`, which makes everything durable that was written before.
    pub fn run<T, E>(&self, sync: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = sync();
        let ended = if result.is_ok() { &self.done } else { &self.failed };
        ended.fetch_max(number, Ordering::SeqCst);
        result
    }

    /// `begun`: how many had begun then.
    pub fn since(&self, begun: u64) -> Since {
        if self.failed.load(Ordering::SeqCst) > begun {
            Since::Failed
        } else if self.done.load(Ordering::SeqCst) > begun {
            Since::Done
        } else {
            Since::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_serves_who_had_written_before_it_began() {
        let syncs = Syncs::default();
        let early = syncs.begun();
        let within = syncs.run(|| {
            assert_eq!(syncs.since(early), Since::Nothing, "not done yet");
            Ok::<_, ()>(syncs.begun())
        });
        assert_eq!(syncs.since(early), Since::Done);
        let within = within.unwrap();
        assert_eq!(syncs.since(within), Since::Nothing, "it had begun before");
        syncs.run(|| Err::<(), _>(())).unwrap_err();
        assert_eq!((syncs.since(early), syncs.since(within)), (Since::Failed, Since::Failed));
        assert_eq!(syncs.since(syncs.begun()), Since::Nothing);
    }
}
