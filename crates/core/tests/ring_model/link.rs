//! One link: passes over snapshots of the upstream's journal, cut into batches, encoded as on the
//! wire.

use std::collections::VecDeque;

use bytes::BytesMut;
use chainsync_core::batch::BatchBuilder;
use chainsync_core::entry::Entry;
use chainsync_core::gossip::ReceiverKnows;
use chainsync_core::wire::{Batch, Cursor, Frame, PassEnd};
use chainsync_core::{Knowledge, VersionVector};

use crate::node::Node;
use crate::rules::Rules;

/// Batches in flight.
const WINDOW: usize = 4;

pub(crate) struct Link {
    in_flight: VecDeque<BytesMut>,
    position: u64,
    pass: Option<Pass>,
    /// The knowledge that the last pass ended with.
    told: Option<Knowledge>,
    knows: ReceiverKnows,
    number: u64,
}

struct Pass {
    entries: VecDeque<(u64, Entry)>,
    end: (Cursor, Knowledge),
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
            position: if resumes { cursor.sequence } else { 0 },
            pass: None,
            told: None,
            knows: ReceiverKnows::default(),
            number: 0,
        };
        link.hear(downstream);
        link
    }

    /// The handshake and every acknowledgement.
    pub(crate) fn hear(&mut self, downstream: &mut Node) {
        self.knows.hear_row(&downstream.row());
    }

    /// Sends one batch of at most `count` entries; says whether there was anything to send.
    pub(crate) fn send(&mut self, rules: Rules, upstream: &Node, count: usize) -> bool {
        let idle = self.pass.is_none()
            && self.position >= upstream.head
            && self.told.as_ref() == Some(&upstream.knowledge);
        if idle || self.in_flight.len() >= WINDOW {
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
        self.in_flight.push_back(bytes);
    }

    pub(crate) fn receive(&mut self) -> Option<Batch> {
        let mut bytes = self.in_flight.pop_front()?;
        match Frame::decode(&mut bytes) {
            Ok(Some(Frame::Batch(batch))) => Some(batch),
            other => panic!("a batch arrives as {other:?}"),
        }
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
