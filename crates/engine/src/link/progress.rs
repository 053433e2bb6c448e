//! How far one upstream's batches have been applied, and what can still come of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use chainsync_core::VersionVector;
use chainsync_core::gossip::Row;
use chainsync_core::wire::Batch;

use crate::full_pass::HeldPaths;
use crate::share::lock;

/// How far the batches of one connection have been applied. Lives as long as anything of that connection
/// can still be applied.
#[derive(Default)]
pub struct Progress {
    /// The number of the last one: none may be left out.
    pub applied: AtomicU64,
    /// The same of those that are staged.
    pub staged: AtomicU64,
    /// In a full pass: what the upstream has listed so far.
    pub held: Mutex<HeldPaths>,
    order: Mutex<Order>,
}

/// What the upstream had applied before it began anything that is still to come on this connection. Its
/// rows overtake its batches on other ways round the ring; these came along with them.
#[derive(Default)]
struct Order {
    before: VersionVector,
    /// The same, once the batch of this number has been applied.
    next: Option<(u64, VersionVector)>,
    /// What it said last.
    said: VersionVector,
    /// The number of the last batch that has come.
    last: u64,
}

impl Progress {
    /// The upstream has said Hello.
    pub fn begin(&self, row: &Row) {
        let order = &mut *lock(&self.order);
        (order.before, order.said) = (row.applied.clone(), row.applied.clone());
    }

    /// The upstream's own row has come.
    pub fn hear(&self, row: &Row) {
        let order = &mut *lock(&self.order);
        order.said = row.applied.clone();
        // Whatever it sends from here on, it has begun later.
        if !row.passing {
            self.note(order);
        }
    }

    /// A batch has come.
    pub fn expect(&self, batch: &Batch) {
        let order = &mut *lock(&self.order);
        order.last = batch.number;
        // Nor is anything of this pass still to come.
        if batch.end.is_some() {
            self.note(order);
        }
    }

    fn note(&self, order: &mut Order) {
        self.settle(order);
        if order.next.is_none() {
            order.next = Some((order.last, order.said.clone()));
        }
    }

    fn settle(&self, order: &mut Order) {
        let applied = self.applied.load(Ordering::Relaxed);
        if let Some((_, said)) = order.next.take_if(|(number, _)| *number <= applied) {
            order.before = said;
        }
    }

    /// What the upstream had applied before it began anything that has not been applied here.
    pub fn applied_before(&self) -> VersionVector {
        let order = &mut *lock(&self.order);
        self.settle(order);
        order.before.clone()
    }
}
