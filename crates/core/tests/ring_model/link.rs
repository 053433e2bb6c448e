//! One link: passes over snapshots of the upstream's journal, cut into batches, encoded as on the
//! wire.

use std::collections::VecDeque;

use bytes::BytesMut;
use chainsync_core::batch::BatchBuilder;
use chainsync_core::entry::Entry;
use chainsync_core::gossip::{ReceiverKnows, Row};
use chainsync_core::wire::{Batch, Cursor, Frame, PassEnd};
use chainsync_core::{Knowledge, VersionVector};

use crate::node::Node;
use crate::rules::Rules;

/// Batches in flight.
pub(crate) const WINDOW: usize = 4;

#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) in_flight: VecDeque<Batch>,
    /// Acknowledgements that the upstream has not heard yet.
    pub(crate) acks: VecDeque<Row>,
    pub(crate) position: u64,
    pub(crate) pass: Option<Pass>,
    /// The knowledge that the last pass ended with.
    pub(crate) told: Option<Knowledge>,
    pub(crate) knows: ReceiverKnows,
    number: u64,
}

#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) entries: VecDeque<(u64, Entry)>,
    pub(crate) end: (Cursor, Knowledge),
}

impl Link {
    pub(crate) fn open(rules: Rules, upstream: &Node, downstream: &mut Node) -> Self {
        let cursor = downstream.cursors.get(&upstream.index).copied().unwrap_or_default();
        let resumes = if rules.cursor_tags {
            upstream.tags.get(&cursor.sequence) == Some(&cursor.tag)
        } else {
            cursor.sequence <= upstream.head
        };
        let mut link = Self {
            in_flight: VecDeque::new(),
            acks: VecDeque::new(),
            position: if resumes { cursor.sequence } else { 0 },
            pass: None,
            told: None,
            knows: ReceiverKnows::default(),
            number: 0,
        };
        link.acknowledge(downstream);
        link.hear();
        link
    }

    /// At the handshake and for every batch.
    pub(crate) fn acknowledge(&mut self, downstream: &mut Node) {
        self.acks.push_back(downstream.row());
    }

    /// The oldest acknowledgement under way arrives.
    pub(crate) fn hear(&mut self) {
        if let Some(row) = self.acks.pop_front() {
            self.knows.hear_row(&row);
        }
    }

    /// Whether there is anything to send, and room for it.
    pub(crate) fn has_more(&self, upstream: &Node) -> bool {
        let idle = self.pass.is_none()
            && self.position >= upstream.head
            && self.told.as_ref() == Some(&upstream.knowledge);
        !idle && self.in_flight.len() < WINDOW
    }

    /// Batches of one entry until the pass that is open, or would be opened now, ends.
    pub(crate) fn batches_left(&self, upstream: &Node) -> usize {
        let entries = self
            .pass
            .as_ref()
            .map_or_else(|| journal(upstream, self.position).len(), |pass| pass.entries.len());
        entries.max(1)
    }

    /// Sends one batch of at most `count` entries; says whether there was anything to send.
    pub(crate) fn send(&mut self, rules: Rules, upstream: &Node, count: usize) -> bool {
        if !self.has_more(upstream) {
            return false;
        }
        let mut pass = self.pass.take().unwrap_or_else(|| Pass {
            entries: journal(upstream, self.position),
            end: (cursor_at(upstream, upstream.head), upstream.knowledge.clone()),
        });
        let part: Vec<(u64, Entry)> = pass.entries.drain(..count.min(pass.entries.len())).collect();
        let ended = pass.entries.is_empty();
        let cursor = match part.last() {
            Some((sequence, _)) if !ended => cursor_at(upstream, *sequence),
            _ => pass.end.0,
        };
        let knowledge = if ended {
            self.told = Some(pass.end.1.clone());
            Some(pass.end.1.clone())
        } else {
            let so_far = upstream.knowledge_at.range(..=cursor.sequence).next_back();
            so_far.filter(|_| !rules.knowledge_at_pass_end).map(|(_, knowledge)| knowledge.clone())
        };
        // The old rule has no passes: whatever comes next is read from the journal as it is then.
        if !ended && rules.knowledge_at_pass_end {
            self.pass = Some(pass);
        }
        self.position = self.position.max(cursor.sequence);
        let entries = part.into_iter().map(|(_, entry)| entry);
        self.put(entries, cursor, knowledge);
        true
    }

    fn put(
        &mut self,
        entries: impl Iterator<Item = Entry>,
        cursor: Cursor,
        knowledge: Option<Knowledge>,
    ) {
        let mut builder = BatchBuilder::default();
        for entry in entries.filter(|entry| !self.knows.covers(entry)) {
            builder.push(entry, None);
        }
        let (entries, packs) = builder.finish();
        self.number += 1;
        let end = knowledge.map(|knowledge| PassEnd {
            knowledge,
            collected: VersionVector::new(),
            collected_stamp: None,
            full: false,
        });
        let held = Vec::new();
        let mut bytes = BytesMut::new();
        Frame::Batch(Batch { number: self.number, entries, cursor, end, held, packs })
            .encode(&mut bytes);
        match Frame::decode(&mut bytes) {
            Ok(Some(Frame::Batch(batch))) => self.in_flight.push_back(batch),
            other => panic!("a batch arrives as {other:?}"),
        }
    }

    pub(crate) fn receive(&mut self) -> Option<Batch> {
        self.in_flight.pop_front()
    }
}

fn journal(node: &Node, after: u64) -> VecDeque<(u64, Entry)> {
    let mut entries: Vec<(u64, Entry)> = node
        .records
        .iter()
        .filter(|(_, record)| record.sequence > after)
        .map(|(path, record)| (record.sequence, record.entry(path.clone())))
        .collect();
    entries.sort_by_key(|(sequence, _)| *sequence);
    entries.into()
}

fn cursor_at(node: &Node, sequence: u64) -> Cursor {
    Cursor { sequence, tag: node.tags.get(&sequence).copied().unwrap_or_default() }
}
