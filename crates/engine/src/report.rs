//! `status`: what a share looks like from here.

use chainsync_env::{Env, Watch};

use crate::flush::{at_rest, behind};
use crate::share::Share;
use crate::status::{
    Counters, LinkStatus, MemberState, MemberStatus, Problem, ShareStatus, UpstreamStatus,
};

/// Problems listed; beyond that, the last line says how many more there are.
const PROBLEMS_SHOWN_MAX: usize = 1000;

impl<E: Env> Share<E> {
    pub fn status(&self) -> ShareStatus {
        let view = self.board.view();
        let states = self.board.update_states(self.now_ms());
        let state = self.index.state();
        let known = state.knowledge.to_vector();
        let applied = self.index.applied();
        let unread = self.hints.len() as u64;
        let ring = self.ring();
        let members: Vec<MemberStatus> = ring
            .nodes()
            .iter()
            .map(|node| {
                let row = view.rows.get(node);
                let (member, since_ms) =
                    states.get(node).copied().unwrap_or((MemberState::Unknown, 0));
                MemberStatus {
                    node: node.to_string(),
                    state: member,
                    since_ms,
                    behind: match row {
                        _ if *node == self.me => 0,
                        Some(row) => behind(row, &known),
                        None => known.iter().map(|(_, counter)| counter).sum(),
                    },
                    pending: row.map_or(0, |row| row.pending),
                    problems: row.map_or(0, |row| row.problems),
                    halted: row
                        .and_then(|row| row.halted.clone())
                        .or_else(|| view.refusals.get(node).cloned()),
                }
            })
            .collect();
        let mut waiting_for = self.waits(&view, &members);
        if !applied.includes(&known) {
            waiting_for.push(format!(
                "{}: {} paths not on disk yet",
                self.me,
                self.index.pending()
            ));
        }
        let first = ring.successors(&self.me).next();
        ShareStatus {
            share: self.config.name.to_string(),
            path: self.config.path.display().to_string(),
            ring: ring.nodes().iter().map(ToString::to_string).collect(),
            halted: view.halted.clone(),
            paused: view.paused,
            converged: waiting_for.is_empty(),
            waiting_for,
            sequence: state.head,
            entries: state.entries,
            watches: self.watch.len() as u64,
            unread,
            sweeping: view.sweeping,
            pending: self.index.pending() as u64,
            problems: shown(view.problems, view.waiting, view.problems_more),
            conflicts: state.conflicts,
            link: view.link.as_ref().map(|link| LinkStatus {
                to: link.to.to_string(),
                bypass: first != Some(&link.to),
                behind: state.head.saturating_sub(link.position),
                in_flight: link.in_flight,
                seconds_left: link.pace.time_to(state.head).map(|left| left.as_secs()),
            }),
            upstream: view
                .upstream
                .iter()
                .map(|(node, upstream)| UpstreamStatus {
                    from: node.to_string(),
                    since_ms: upstream.since_ms,
                })
                .collect(),
            members,
            counters: Counters { ..view.counters },
        }
    }

    /// Whether a file that was displaced while somebody had it open is still to be judged: it may
    /// become a change.
    pub fn has_held(&self) -> bool {
        self.index.read().and_then(|reader| reader.has_held()).unwrap_or(false)
    }

    /// What keeps the ring from being converged, as far as it can be seen from here (PROTOCOL C1).
    fn waits(&self, view: &crate::board::View, members: &[MemberStatus]) -> Vec<String> {
        let mut waits = Vec::new();
        if let Some(reason) = &view.halted {
            waits.push(format!("{} is {}", self.me, at_rest(reason)));
        }
        if !*self.ready.borrow() {
            waits.push(format!("{}: the first look at the tree is not complete", self.me));
        }
        if view.sweeping || self.is_looking() || !self.hints.is_empty() {
            waits.push(format!("{}: changes not looked at yet", self.me));
        }
        if self.has_held() {
            waits.push(format!("{}: a displaced file may still be open for writing", self.me));
        }
        if view.passing {
            waits.push(format!("{}: a pass is under way", self.me));
        }
        if !view.problems.is_empty() {
            let at_least = if view.problems_more { "at least " } else { "" };
            waits.push(format!("{}: {at_least}{} problems", self.me, view.problems.len()));
        }
        let knowledge = self.index.state().knowledge;
        let known = knowledge.to_vector();
        // Fresh: written after this node last had anything new to say.
        let mine = view.rows.get(&self.me);
        for (node, member) in self.ring().nodes().iter().zip(members) {
            if *node == self.me {
                continue;
            }
            let Some(row) = view.rows.get(node) else {
                waits.push(format!("{node}: nothing heard of it yet"));
                continue;
            };
            if let Some(reason) = &row.halted {
                waits.push(format!("{node} is {}", at_rest(reason)));
            } else if member.state != MemberState::Reachable {
                waits.push(format!("{node}: unreachable"));
            } else if !knowledge.includes(&row.knowledge) || !row.applied.includes(&known) {
                waits.push(format!("{node}: {} changes behind", member.behind));
            } else if mine.is_some_and(|mine| !row.is_after(&self.me, mine.id)) {
                waits.push(format!("{node}: has not answered yet"));
            } else if row.unread || row.passing {
                waits.push(format!("{node}: changes under way"));
            } else if row.problems > 0 {
                waits.push(format!("{node}: {} problems", row.problems));
            }
        }
        waits
    }
}

fn shown(mut problems: Vec<Problem>, waiting: Vec<Problem>, at_least: bool) -> Vec<Problem> {
    problems.extend(waiting);
    if problems.len() > PROBLEMS_SHOWN_MAX {
        let more = problems.len() - PROBLEMS_SHOWN_MAX;
        problems.truncate(PROBLEMS_SHOWN_MAX);
        problems.push(Problem {
            path: String::new(),
            reason: format!("and {}{more} more", if at_least { "at least " } else { "" }),
            since_ms: 0,
        });
    }
    problems
}
