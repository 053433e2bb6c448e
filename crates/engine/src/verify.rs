//! `verify`: compares the trees of all members of a ring, from one of them.
//!
//! Every other member is asked over a connection of its own, authenticated like a link. Digests of
//! buckets are compared first; only buckets that differ are listed. A ring at work always differs
//! somewhere for a moment: whatever differs is looked at again once every member has applied what any
//! of them knew at the first look, and counts only if it then still differs in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::wire::verify::{
    BUCKETS_MAX, BUCKETS_WANTED_MAX, Digests, Inspect, Inspected, Listed, Question, bucket_of,
};
use chainsync_core::wire::{Frame, PROTOCOL_MAX, PROTOCOL_MIN};
use chainsync_core::{Kind, NodeName, RelPath, VersionVector};
use chainsync_env::{Env, Net};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answers::{Difference, MemberDoubt, VerifiedMember, VerifyReport, Version};
use crate::link::LinkError;
use crate::link::connection::{FrameReader, write_frame};
use crate::rescan::elapsed_ms;
use crate::share::{Share, ShareError};

/// A member that does not answer a connection within this is not there.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Paths in a bucket, about: what one differing path costs on the wire.
const BUCKET_PATHS: u64 = 32;
const BUCKETS_MIN: u32 = 16;
/// Buckets listed at a time while differences are gathered.
const SLICE_BUCKETS: usize = 256;
/// Differences listed; beyond them it only says that there are more.
const DIFFERENCES_MAX: usize = 1000;
/// Entries that one member may list at a time.
const LISTED_TOTAL_MAX: usize = 1 << 20;
/// So often paths that keep changing are looked at.
const LOOKS_MAX: usize = 5;
/// Between two looks at least.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// For so long the ring may take to apply what was known at the first look, while it gets on with it.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// A ring in which nothing is applied for so long does not get on with it.
const SETTLE_STILL: Duration = Duration::from_secs(5);
const SETTLE_LOOK: Duration = Duration::from_millis(100);

/// What each member shows at a path, in the order of the members.
type Shown = BTreeMap<RelPath, Vec<Option<Kind>>>;

/// Why a member was not compared.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("it refused: {0}")]
    Refused(String),
    #[error("unreachable: {0}")]
    Link(#[from] LinkError),
    #[error("unreachable: it does not answer")]
    Silent,
    #[error(transparent)]
    Own(#[from] ShareError),
    #[error("its answer is not one to the question")]
    Confused,
}

impl<E: Env> Share<E> {
    pub async fn verify(self: &Arc<Self>, deep: bool, limit: Duration) -> VerifyReport {
        let began = Instant::now();
        let mut report = VerifyReport {
            share: self.config.name.to_string(),
            deep,
            equal: false,
            members: Vec::new(),
            differences: Vec::new(),
            more: false,
            unsettled: Vec::new(),
            doubts: Vec::new(),
            elapsed_ms: 0,
            notes: Vec::new(),
        };
        let compared = self.compare(deep, began + limit, &mut report).await;
        if let Err(error) = compared {
            report.notes.push(format!("not finished: {error}"));
        } else {
            report.equal = report.members.iter().all(|member| member.missing.is_none())
                && report.differences.is_empty()
                && report.unsettled.is_empty()
                && report.doubts.is_empty();
        }
        report.elapsed_ms = elapsed_ms(began);
        report
    }

    async fn compare(
        self: &Arc<Self>,
        deep: bool,
        deadline: Instant,
        report: &mut VerifyReport,
    ) -> Result<(), AskError> {
        let entries = self.index.state().entries / BUCKET_PATHS;
        let buckets = u32::try_from(entries).unwrap_or(u32::MAX);
        let buckets = buckets.clamp(BUCKETS_MIN, BUCKETS_MAX as u32);
        let ring = self.ring();
        let ring = ring.nodes();
        let question = Question::Digests { buckets, deep };
        let asked = ring.iter().map(|node| async {
            let answer = timeout_at(deadline, self.ask_digests(node, &question)).await;
            answer.unwrap_or(Err(AskError::Silent))
        });
        let mut members = Vec::new();
        let mut digests = Vec::new();
        for (node, answer) in ring.iter().zip(join_all(asked).await) {
            let mut member =
                VerifiedMember { node: node.to_string(), missing: None, halted: None, entries: 0 };
            match answer {
                Ok(answer) if answer.buckets.len() == buckets as usize => {
                    member.entries = answer.buckets.iter().map(|bucket| bucket.entries).sum();
                    member.halted.clone_from(&answer.halted);
                    for doubt in &answer.doubts {
                        let (path, what) = (doubt.path.to_string(), doubt.what.clone());
                        report.doubts.push(MemberDoubt { node: node.to_string(), path, what });
                    }
                    if answer.more_doubts {
                        let note = format!("{node} has more paths where disk and index differ");
                        report.notes.push(note);
                    }
                    members.push(node.clone());
                    digests.push(answer);
                }
                Ok(_) => member.missing = Some(AskError::Confused.to_string()),
                Err(error) => member.missing = Some(error.to_string()),
            }
            report.members.push(member);
        }
        let differing: Vec<u32> = (0..buckets)
            .filter(|bucket| {
                let mut each = digests.iter().map(|digests| digests.buckets[*bucket as usize]);
                let first = each.next();
                each.any(|other| Some(other) != first)
            })
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        let mut shown = Shown::new();
        for slice in differing.chunks(SLICE_BUCKETS) {
            let looked = self.list(&members, buckets, slice.to_vec(), deep);
            shown.extend(in_time(deadline, looked).await?);
            if shown.len() > DIFFERENCES_MAX {
                report.more = true;
                break;
            }
        }
        while shown.len() > DIFFERENCES_MAX {
            shown.pop_last();
        }
        self.let_settle(&members, &digests, deadline, report).await;
        let settled = self.look_again(&members, buckets, deep, shown, report);
        let settled = in_time(deadline, settled).await?;
        report.differences =
            settled.iter().map(|(path, kinds)| difference(&members, path, kinds)).collect();
        // Whatever was cut off may have been in flight.
        report.more &= !report.differences.is_empty();
        Ok(())
    }

    /// Waits until every member has applied what any of them knew, as long as they get on with it.
    async fn let_settle(
        &self,
        members: &[NodeName],
        digests: &[Digests],
        deadline: Instant,
        report: &mut VerifyReport,
    ) {
        let mut wanted = VersionVector::new();
        digests.iter().for_each(|digests| wanted.join(&digests.knowledge));
        let deadline = deadline.min(Instant::now() + SETTLE_MAX);
        let mut last = (Vec::new(), Instant::now());
        loop {
            let rows = self.board.rows();
            let applied: Vec<Option<VersionVector>> = members
                .iter()
                .map(|node| match *node == self.me {
                    true => Some(self.index.applied()),
                    false => rows.get(node).map(|row| row.applied.clone()),
                })
                .collect();
            let lacks = |applied: &Option<VersionVector>| {
                applied.as_ref().is_none_or(|applied| !applied.includes(&wanted))
            };
            if !applied.iter().any(lacks) {
                return;
            }
            let now = Instant::now();
            if applied != last.0 {
                last = (applied.clone(), now);
            }
            if now >= deadline || now >= last.1 + SETTLE_STILL {
                let late = members.iter().zip(&applied).filter(|(_, applied)| lacks(applied));
                let late: Vec<_> = late.map(|(node, _)| node.to_string()).collect();
                report.notes.push(format!(
                    "not all changes have reached {}: differences may be changes on their way",
                    late.join(" and ")
                ));
                return;
            }
            sleep(SETTLE_LOOK).await;
        }
    }

    /// Keeps what differs with two looks running in the same way.
    async fn look_again(
        self: &Arc<Self>,
        members: &[NodeName],
        buckets: u32,
        deep: bool,
        mut open: Shown,
        report: &mut VerifyReport,
    ) -> Result<Shown, AskError> {
        let mut settled = Shown::new();
        for _ in 1..LOOKS_MAX {
            if open.is_empty() {
                return Ok(settled);
            }
            sleep(LOOK_PAUSE).await;
            let wanted: BTreeSet<u32> = open.keys().map(|path| bucket_of(path, buckets)).collect();
            let mut now = Shown::new();
            for slice in wanted.into_iter().collect::<Vec<_>>().chunks(BUCKETS_WANTED_MAX) {
                now.extend(self.list(members, buckets, slice.to_vec(), deep).await?);
            }
            let mut moving = Shown::new();
            for (path, before) in open {
                match now.remove(&path) {
                    Some(kinds) if kinds == before => {
                        settled.insert(path, kinds);
                    }
                    Some(kinds) => {
                        moving.insert(path, kinds);
                    }
                    None => {}
                }
            }
            open = moving;
        }
        report.unsettled = open.keys().map(ToString::to_string).collect();
        Ok(settled)
    }

    /// The paths in some buckets that the members show differently.
    async fn list(
        self: &Arc<Self>,
        members: &[NodeName],
        buckets: u32,
        wanted: Vec<u32>,
        deep: bool,
    ) -> Result<Shown, AskError> {
        let question = Question::List { buckets, wanted, deep };
        let asked = members.iter().map(|node| self.ask_list(node, &question));
        let mut shown = Shown::new();
        for (index, listed) in join_all(asked).await.into_iter().enumerate() {
            for (path, kind) in listed? {
                let kinds = shown.entry(path).or_insert_with(|| vec![None; members.len()]);
                kinds[index] = Some(kind);
            }
        }
        shown.retain(|_, kinds| kinds.iter().any(|kind| *kind != kinds[0]));
        Ok(shown)
    }

    async fn ask_digests(
        self: &Arc<Self>,
        node: &NodeName,
        question: &Question,
    ) -> Result<Digests, AskError> {
        if *node == self.me {
            let Question::Digests { buckets, deep } = question else {
                return Err(AskError::Confused);
            };
            return Ok(self.digests(*buckets, *deep).await?);
        }
        let mut reader = self.ask(node, question).await?;
        match self.next_part(&mut reader).await? {
            Inspected::Digests(digests) => Ok(digests),
            _ => Err(AskError::Confused),
        }
    }

    async fn ask_list(
        self: &Arc<Self>,
        node: &NodeName,
        question: &Question,
    ) -> Result<Vec<(RelPath, Kind)>, AskError> {
        let mut all = Vec::new();
        let mut note = |listed: Listed| {
            all.push((listed.path, listed.kind));
            all.len() < LISTED_TOTAL_MAX
        };
        self.ask_each(node, question, &mut note).await?;
        Ok(all)
    }

    /// Asks for a list; `note` is told each entry, and says whether it can take more.
    pub async fn ask_each(
        self: &Arc<Self>,
        node: &NodeName,
        question: &Question,
        note: &mut (dyn FnMut(Listed) -> bool + Send),
    ) -> Result<(), AskError> {
        if *node == self.me {
            let Question::List { buckets, wanted, deep } = question else {
                return Err(AskError::Confused);
            };
            let wanted = Arc::new(wanted.iter().copied().collect());
            let mut after = None;
            loop {
                let (next, listed) = self.list_page(*buckets, &wanted, *deep, after).await?;
                if !listed.into_iter().all(&mut *note) {
                    return Err(AskError::Confused);
                }
                match next {
                    Some(next) => after = Some(next),
                    None => return Ok(()),
                }
            }
        }
        let mut reader = self.ask(node, question).await?;
        loop {
            match self.next_part(&mut reader).await? {
                Inspected::Entries(listed) => {
                    if !listed.into_iter().all(&mut *note) {
                        return Err(AskError::Confused);
                    }
                }
                Inspected::End => return Ok(()),
                Inspected::Digests(_) => return Err(AskError::Confused),
            }
        }
    }

    /// Opens a connection for one question.
    async fn ask(
        &self,
        node: &NodeName,
        question: &Question,
    ) -> Result<FrameReader<<E::Net as Net>::Stream>, AskError> {
        let settings = self.settings();
        let Some(peer) = settings.peers.get(node) else {
            return Err(LinkError::Protocol("no address for this node").into());
        };
        let connected = timeout(CONNECT_MAX, self.env.net().connect(peer)).await;
        let mut stream = connected.map_err(|_| AskError::Silent)?.map_err(LinkError::from)?;
        let inspect = Frame::Inspect(Inspect {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            share: self.config.name.clone(),
            node: self.me.clone(),
            question: question.clone(),
        });
        write_frame(&mut stream, &inspect).await?;
        Ok(FrameReader::new(stream))
    }

    /// The next part of an answer. A member that is at work says so every heartbeat.
    async fn next_part(
        &self,
        reader: &mut FrameReader<<E::Net as Net>::Stream>,
    ) -> Result<Inspected, AskError> {
        loop {
            let next = timeout(self.dead_after(), reader.next(|_| ())).await;
            match next.map_err(|_| AskError::Silent)?? {
                Frame::Ping => {}
                Frame::Inspected(inspected) => return Ok(inspected),
                Frame::Goodbye(reason) => return Err(AskError::Refused(reason)),
                _ => return Err(AskError::Confused),
            }
        }
    }
}

async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    timeout_at(deadline, work).await.unwrap_or(Err(AskError::Silent))
}

fn difference(members: &[NodeName], path: &RelPath, kinds: &[Option<Kind>]) -> Difference {
    let mut groups: Vec<(&Option<Kind>, Vec<String>)> = Vec::new();
    for (node, kind) in members.iter().zip(kinds) {
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, nodes)) => nodes.push(node.to_string()),
            None => groups.push((kind, vec![node.to_string()])),
        }
    }
    let mut differs = BTreeSet::new();
    for (kind, _) in &groups[1..] {
        match (groups[0].0, kind) {
            (Some(one), Some(other)) => differs.extend(differing(one, other)),
            _ => {
                differs.insert("existence");
            }
        }
    }
    let nodes = groups.into_iter().map(|(kind, nodes)| Version { nodes, shows: shows(kind) });
    Difference {
        path: path.to_string(),
        differs: differs.into_iter().map(str::to_owned).collect(),
        nodes: nodes.collect(),
    }
}

/// What is different between two things at a name.
pub fn differing(one: &Kind, other: &Kind) -> Vec<&'static str> {
    let mut differs = Vec::new();
    match (one, other) {
        (
            Kind::File { size, hash, mode, mtime_ns, owner },
            Kind::File {
                size: b_size,
                hash: b_hash,
                mode: b_mode,
                mtime_ns: b_mtime,
                owner: b_owner,
            },
        ) => {
            let pairs = [
                ("content", (size, hash) != (b_size, b_hash)),
                ("mode", mode != b_mode),
                ("mtime", mtime_ns != b_mtime),
                ("owner", owner != b_owner),
            ];
            differs.extend(pairs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name));
        }
        (Kind::Dir { mode, owner }, Kind::Dir { mode: b_mode, owner: b_owner }) => {
            let pairs = [("mode", mode != b_mode), ("owner", owner != b_owner)];
            differs.extend(pairs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name));
        }
        (Kind::Symlink { target }, Kind::Symlink { target: b_target }) if target != b_target => {
            differs.push("target");
        }
        (one, other) if one != other => differs.push("kind"),
        _ => {}
    }
    differs
}

/// What is at a name, in words.
pub fn shows(kind: &Option<Kind>) -> String {
    let owned = |owner: &Option<chainsync_core::Owner>| {
        owner.map_or(String::new(), |owner| format!(", owner {}:{}", owner.uid, owner.gid))
    };
    match kind {
        Some(Kind::File { size, hash, mode, mtime_ns, owner }) => {
            let (seconds, ns) = (mtime_ns.div_euclid(NS_PER_S), mtime_ns.rem_euclid(NS_PER_S));
            let hash = &hash.to_string()[..HASH_SHOWN];
            let owner = owned(owner);
            format!(
                "file of {size} bytes, blake3 {hash}…, mode {mode:04o}, mtime {seconds}.{ns:09}{owner}"
            )
        }
        Some(Kind::Dir { mode, owner }) => format!("directory, mode {mode:04o}{}", owned(owner)),
        Some(Kind::Symlink { target }) => {
            let mut text = "symlink to ".to_owned();
            // Writing to a String cannot fail.
            let _ = chainsync_core::path::display_bytes(target, &mut text);
            text
        }
        Some(Kind::Tombstone { .. }) | None => "nothing".to_owned(),
    }
}

const NS_PER_S: i128 = 1_000_000_000;
/// Enough to tell two contents apart by eye.
const HASH_SHOWN: usize = 12;
