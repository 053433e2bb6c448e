//! The board: what a share knows of its ring and of its own troubles, for gossip, `status` and
//! `flush`. Only words and counters; nothing here decides what happens to a file.

mod troubles;

use std::collections::BTreeMap;
use std::sync::Mutex;

use chainsync_core::gossip::{Row, RowId, Rows};
use chainsync_core::{NodeName, RelPath, ReplicaId, Ring, Stat};

use crate::link::pace::Pace;
use crate::share::lock;
use crate::signal;
use crate::status::{Counters, MemberState, Problem};

pub struct Board {
    me: NodeName,
    ring: Mutex<Ring>,
    inner: Mutex<Inner>,
    counters: Mutex<Counters>,
    /// Counts changes of the rows; connections wait for it.
    pub rows_moved: signal::Sender<u64>,
    /// Counts what a new row of this node should tell.
    pub touched: signal::Sender<u64>,
    /// Neither paused nor halted.
    pub moving: signal::Sender<bool>,
}

/// Why a share was halted, and so what it takes to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    pub cause: Cause,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The root is gone, or is another one.
    Root,
    /// More was found deleted than a sweep may take for meant.
    Deletes,
}

/// What peers read in the row of a paused node.
pub const PAUSED: &str = "paused";

#[derive(Default)]
struct Inner {
    rows: Rows,
    id: RowId,
    problems: BTreeMap<RelPath, (String, u64)>,
    /// There were more problems than are kept; forgotten when there are none.
    problems_more: bool,
    /// Paths whose intent waits for something that passes.
    waiting: BTreeMap<RelPath, (String, u64)>,
    /// Directories that could not be watched, and why; `unwatched_more`: and others.
    unwatched: BTreeMap<RelPath, (String, u64)>,
    unwatched_more: bool,
    second_looks: BTreeMap<RelPath, Stat>,
    /// In the order in which they were opened. Two while a nearer successor takes over from a farther
    /// one: then the newer counts.
    links: BTreeMap<LinkId, Link>,
    links_opened: u64,
    upstream: BTreeMap<NodeName, Upstream>,
    halted: Option<Halt>,
    paused: bool,
    trouble: Option<String>,
    sweeping: bool,
    states: BTreeMap<NodeName, (MemberState, u64)>,
    /// Members that answered and would have no link, and why.
    refusals: BTreeMap<NodeName, String>,
}

impl Inner {
    /// The one that counts.
    fn link(&self) -> Option<&Link> {
        self.links.values().next_back()
    }

    fn halted(&self) -> Option<String> {
        match (self.paused, &self.halted) {
            (true, None) => Some(PAUSED.to_owned()),
            (true, Some(halt)) => Some(format!("{PAUSED}, and halted: {}", halt.reason)),
            (false, halt) => halt.as_ref().map(|halt| halt.reason.clone()),
        }
    }
}

/// One of this node's links, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(u64);

#[derive(Debug, Clone)]
pub struct Link {
    pub to: NodeName,
    pub position: u64,
    pub in_flight: u64,
    pub pace: Pace,
    /// A pass is under way on it.
    pub sending: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Upstream {
    pub since_ms: u64,
    /// Which connection: a newer one of the same node replaces it.
    pub connection: u64,
    /// A pass has arrived in part.
    pub mid_pass: bool,
}

/// A consistent look at the board.
pub struct View {
    pub rows: Rows,
    pub problems: Vec<Problem>,
    /// There are more than these.
    pub problems_more: bool,
    pub waiting: Vec<Problem>,
    pub link: Option<Link>,
    pub upstream: BTreeMap<NodeName, Upstream>,
    pub halted: Option<String>,
    pub paused: bool,
    pub refusals: BTreeMap<NodeName, String>,
    pub sweeping: bool,
    pub passing: bool,
    pub counters: Counters,
}

impl Board {
    pub fn new(me: NodeName, ring: Ring, run: u64) -> Self {
        let inner = Inner { id: RowId { run, number: 0 }, ..Inner::default() };
        Self {
            me,
            ring: Mutex::new(ring),
            inner: Mutex::new(inner),
            counters: Mutex::default(),
            rows_moved: signal::Sender::new(0),
            touched: signal::Sender::new(0),
            moving: signal::Sender::new(true),
        }
    }

    /// A reload may bring another one. Who is not in it any more is forgotten.
    pub fn set_ring(&self, ring: Ring) {
        let mut inner = lock(&self.inner);
        inner.rows.retain(|node| ring.contains(node));
        inner.states.retain(|node, _| ring.contains(node));
        inner.refusals.retain(|node, _| ring.contains(node));
        *lock(&self.ring) = ring;
        drop(inner);
        self.rows_moved.send_modify(|count| *count += 1);
        self.touch();
    }

    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut lock(&self.counters));
    }

    /// Something changed that a new row should tell.
    pub fn touch(&self) {
        self.touched.send_modify(|count| *count += 1);
    }

    pub fn halt(&self, reason: &str) {
        self.halt_for(Cause::Root, reason);
    }

    pub fn halt_for(&self, cause: Cause, reason: &str) {
        let halt = Halt { cause, reason: reason.to_owned() };
        let before = lock(&self.inner).halted.replace(halt);
        if before.is_none_or(|before| before.reason != reason) {
            tracing::error!(reason, "the share is halted");
        }
        self.moving.send_replace(false);
        self.touch();
    }

    /// The guard that halted the share, if one did.
    pub fn halt_held(&self) -> Option<Halt> {
        lock(&self.inner).halted.clone()
    }

    pub fn pause(&self) {
        lock(&self.inner).paused = true;
        self.moving.send_replace(false);
        self.touch();
    }

    /// Ends pause and halt.
    pub fn go_on(&self) {
        let mut inner = lock(&self.inner);
        (inner.paused, inner.halted) = (false, None);
        drop(inner);
        self.moving.send_replace(true);
        self.touch();
    }

    /// The node that makes changes as `replica`, if its row says so.
    pub fn author(&self, replica: ReplicaId) -> Option<NodeName> {
        let inner = lock(&self.inner);
        let mut rows = inner.rows.iter();
        rows.find(|(_, row)| row.authors.contains(&replica)).map(|(node, _)| node.clone())
    }

    /// What keeps the share from starting or from applying what comes, shown until it does.
    pub fn note_trouble(&self, reason: Option<String>) {
        lock(&self.inner).trouble = reason;
    }

    /// The root is back: what it halted goes on, unless it is paused.
    pub fn root_is_back(&self) {
        let mut inner = lock(&self.inner);
        let paused = inner.paused;
        if let Some(halt) = inner.halted.take_if(|halt| halt.cause == Cause::Root) {
            tracing::warn!(reason = halt.reason, "the share goes on");
            self.moving.send_replace(!paused);
        }
        drop(inner);
        self.touch();
    }

    pub fn halted(&self) -> Option<String> {
        lock(&self.inner).halted()
    }

    pub fn set_sweeping(&self, sweeping: bool) {
        lock(&self.inner).sweeping = sweeping;
        self.touch();
    }

    /// Notes why a member refuses a link, or that it does not. Says whether that is news.
    pub fn note_refusal(&self, node: &NodeName, reason: Option<&str>) -> bool {
        let refusals = &mut lock(&self.inner).refusals;
        match reason {
            Some(reason) => {
                refusals.insert(node.clone(), reason.to_owned()).as_deref() != Some(reason)
            }
            None => refusals.remove(node).is_some(),
        }
    }

    /// For a link about to be noted here, until it is dropped.
    pub fn open_link(&self) -> LinkId {
        let mut inner = lock(&self.inner);
        inner.links_opened += 1;
        LinkId(inner.links_opened)
    }

    pub fn note_link(&self, id: LinkId, link: Link) {
        let mut inner = lock(&self.inner);
        let told = |link: &Link| (link.to.clone(), link.sending);
        let now = told(&link);
        let moved = inner.links.insert(id, link).is_none_or(|before| told(&before) != now);
        drop(inner);
        if moved {
            self.touch();
        }
    }

    pub fn drop_link(&self, id: LinkId) {
        lock(&self.inner).links.remove(&id);
        self.touch();
    }

    pub fn set_upstream(&self, node: &NodeName, upstream: Upstream) {
        lock(&self.inner).upstream.insert(node.clone(), upstream);
        self.touch();
    }

    pub fn drop_upstream(&self, node: &NodeName, connection: u64) {
        let mut inner = lock(&self.inner);
        if inner.upstream.get(node).is_some_and(|upstream| upstream.connection == connection) {
            inner.upstream.remove(node);
        }
        drop(inner);
        self.touch();
    }

    /// Takes in a row that came along a link. A row of this node from an earlier run that is still
    /// talked about raises this run above it.
    pub fn hear(&self, node: &NodeName, row: Row) -> bool {
        if !lock(&self.ring).contains(node) {
            return false;
        }
        let mut inner = lock(&self.inner);
        if *node == self.me {
            if row.id.run > inner.id.run {
                inner.id = RowId { run: row.id.run + 1, number: 0 };
                drop(inner);
                self.touch();
            }
            return false;
        }
        let news = inner.rows.update(node, row);
        drop(inner);
        if news {
            self.rows_moved.send_modify(|count| *count += 1);
            // To be echoed.
            self.touch();
        }
        news
    }

    /// Writes this node's next row. `make` gets what the board knows; what has changed decides
    /// whether it is a new row, the old one with new echoes, or none. `challenge`: a new number in
    /// any case, so that who echoes it has written afterwards.
    pub fn write_row(&self, challenge: bool, make: impl FnOnce(&View) -> Row) -> RowId {
        let view = self.view();
        let mut row = make(&view);
        let mut inner = lock(&self.inner);
        row.heard = inner.rows.heard();
        row.heard.remove(&self.me);
        let old = inner.rows.get(&self.me).cloned();
        let same = old.as_ref().is_some_and(|old| {
            let echo =
                Row { id: old.id, revision: old.revision, heard: old.heard.clone(), ..row.clone() };
            *old == echo && old.id.run == inner.id.run
        });
        match old {
            Some(old) if same && !challenge => {
                if old.heard == row.heard {
                    return inner.id;
                }
                row.id = old.id;
                row.revision = old.revision + 1;
            }
            _ => {
                inner.id.number += 1;
                row.id = inner.id;
                row.revision = 0;
            }
        }
        let id = row.id;
        let me = self.me.clone();
        inner.rows.update(&me, row);
        drop(inner);
        self.rows_moved.send_modify(|count| *count += 1);
        id
    }

    pub fn is_mine(&self, node: &NodeName) -> bool {
        *node == self.me
    }

    /// This node's newest row.
    pub fn my_row(&self) -> Option<Row> {
        lock(&self.inner).rows.get(&self.me).cloned()
    }

    pub fn rows(&self) -> Rows {
        lock(&self.inner).rows.clone()
    }

    pub fn view(&self) -> View {
        let inner = lock(&self.inner);
        let problem = |(path, (reason, since_ms)): (&RelPath, &(String, u64))| Problem {
            path: path.to_string(),
            reason: reason.clone(),
            since_ms: *since_ms,
        };
        View {
            rows: inner.rows.clone(),
            problems: inner
                .problems
                .iter()
                .map(problem)
                .chain(troubles::unwatched(&inner))
                .collect(),
            problems_more: inner.problems_more,
            waiting: inner.waiting.iter().map(problem).collect(),
            link: inner.link().cloned(),
            upstream: inner.upstream.clone(),
            halted: inner.halted().or_else(|| inner.trouble.clone()),
            paused: inner.paused,
            refusals: inner.refusals.clone(),
            sweeping: inner.sweeping,
            passing: inner.links.values().any(|link| link.sending)
                || inner.upstream.values().any(|upstream| upstream.mid_pass),
            counters: lock(&self.counters).clone(),
        }
    }

    /// Who can be reached along the links: whoever comes behind this node as the links stand, and
    /// whoever holds a link to it.
    pub fn reachable(&self) -> Vec<NodeName> {
        let inner = lock(&self.inner);
        let mut reached = vec![self.me.clone()];
        let mut next = inner.link().map(|link| link.to.clone());
        while let Some(node) = next {
            if reached.contains(&node) {
                break;
            }
            next = inner.rows.get(&node).and_then(|row| row.successor.clone());
            reached.push(node);
        }
        for node in inner.upstream.keys() {
            if !reached.contains(node) {
                reached.push(node.clone());
            }
        }
        reached
    }

    /// Notes who is reachable now; returns since when each member is in its state.
    pub fn update_states(&self, now_ms: u64) -> BTreeMap<NodeName, (MemberState, u64)> {
        let reachable = self.reachable();
        let mut inner = lock(&self.inner);
        let ring = lock(&self.ring).clone();
        for node in ring.nodes() {
            let known = inner.rows.get(node).is_some();
            let state = match (*node == self.me, reachable.contains(node), known) {
                (true, _, _) => MemberState::Me,
                (_, true, _) => MemberState::Reachable,
                (_, false, true) => MemberState::Unreachable,
                (_, false, false) => MemberState::Unknown,
            };
            let held = inner.states.entry(node.clone()).or_insert((state, now_ms));
            if held.0 != state {
                tracing::info!(%node, ?state, "member");
                *held = (state, now_ms);
            }
        }
        inner.states.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chronos comes back: apollo's link to hermes is kept until chronos has caught up.
    #[tokio::test(start_paused = true)]
    async fn while_a_successor_takes_over_the_newer_link_counts() {
        let [apollo, chronos, hermes] =
            ["apollo", "chronos", "hermes"].map(|name| NodeName::new(name).unwrap());
        let ring = Ring::new(vec![apollo.clone(), chronos.clone(), hermes.clone()]).unwrap();
        let board = Board::new(apollo, ring, 1);
        let link = |to: &NodeName, sending| Link {
            to: to.clone(),
            position: 0,
            in_flight: 0,
            pace: Pace::new(0),
            sending,
        };
        let (far, near) = (board.open_link(), board.open_link());
        board.note_link(near, link(&chronos, false));
        board.note_link(far, link(&hermes, true));
        assert_eq!(board.view().link.unwrap().to, chronos);
        assert!(board.view().passing, "the other one still sends");
        board.note_link(far, link(&hermes, false));
        assert!(!board.view().passing);
        board.drop_link(near);
        assert_eq!(board.view().link.unwrap().to, hermes);
        board.drop_link(far);
        assert!(board.view().link.is_none());
    }
}
