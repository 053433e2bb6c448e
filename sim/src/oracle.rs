//! What the web application wrote, and so what may be anywhere: the truth that the daemons are
//! judged by. Told by the workload and the disks, never by a daemon.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use crate::check;
use crate::digest::Digests;
use crate::failure::Failure;
use crate::fs::Content;
use crate::ledger::{Fact, Ledger, What};

/// Failures kept; the first one is reported, a few more may help.
const FAILURES_MAX: usize = 16;
/// Smaller contents are not one upload's alone: nobody can say which of them was lost.
pub const KNOWN_AGAIN_BYTES: u64 = 16;

#[derive(Default)]
pub struct Oracle {
    pub node_names: Vec<String>,
    /// Where a content may be.
    places: BTreeMap<ContentHash, BTreeSet<Vec<u8>>>,
    pub uploads: Vec<Upload>,
    by_hash: BTreeMap<ContentHash, usize>,
    pub failures: Vec<Failure>,
    pub digests: Digests,
    pub ledger: Ledger,
}

/// One version of one file that the web application wrote.
#[derive(Debug, Clone)]
pub struct Upload {
    pub node: usize,
    pub path: Vec<u8>,
    /// The node on which it got this path: a power loss there may give it back an older one.
    pub named_on: usize,
    /// Another node than its own gave it a name or a mode: as such its own node may get it.
    pub named_elsewhere: bool,
    pub hash: ContentHash,
    pub size: u64,
    /// Names and modes that it had, one after the other: a daemon may meet it as each of them.
    pub versions: u64,
    pub finished_ns: Option<u64>,
    /// Somebody overwrote or deleted it on a node that had it.
    pub replaced: bool,
    /// It was lost with the power before anybody promised to keep it.
    pub excused: bool,
    /// When a daemon published it, by node.
    pub published_ns: Vec<Option<u64>>,
}

impl Upload {
    fn name(&mut self, node: usize, path: &[u8]) {
        (self.path, self.named_on) = (path.to_vec(), node);
        self.named_elsewhere |= node != self.node;
    }
}

impl Oracle {
    /// Somebody is about to write `content` at `path`, perhaps by way of `temporary`.
    pub fn announce(
        &mut self,
        node: usize,
        path: &[u8],
        temporary: Option<&[u8]>,
        content: &Content,
    ) -> usize {
        let hash = self.digests.of(content);
        let places = self.places.entry(hash).or_default();
        places.insert(path.to_vec());
        places.extend(temporary.map(<[u8]>::to_vec));
        let id = self.uploads.len();
        self.by_hash.insert(hash, id);
        self.uploads.push(Upload {
            node,
            path: path.to_vec(),
            named_on: node,
            named_elsewhere: false,
            hash,
            size: content.len() as u64,
            versions: 1 + u64::from(temporary.is_some()),
            finished_ns: None,
            replaced: false,
            excused: false,
            published_ns: vec![None; self.node_names.len()],
        });
        id
    }

    /// An upload has got its final name.
    pub fn named(&mut self, id: usize, path: &[u8]) {
        self.uploads[id].path = path.to_vec();
    }

    pub fn finished(&mut self, id: usize, now_ns: u64) {
        self.uploads[id].finished_ns = Some(now_ns);
    }

    /// `content` was overwritten, deleted or renamed away on a node that had it.
    pub fn replaced(&mut self, content: &Content) {
        if let Some(id) = self.by_hash.get(&self.digests.of(content)) {
            self.uploads[*id].replaced = true;
        }
    }

    /// `content` now also belongs at `path`: it was renamed there.
    pub fn renamed(&mut self, node: usize, content: &Content, path: &[u8]) {
        let hash = self.digests.of(content);
        self.places.entry(hash).or_default().insert(path.to_vec());
        if let Some(id) = self.by_hash.get(&hash) {
            let upload = &mut self.uploads[*id];
            upload.name(node, path);
            upload.versions += 1;
        }
    }

    /// The application changed the mode of a file with `content`.
    pub fn touched(&mut self, now_ns: u64, node: usize, path: &[u8], content: &Content, mode: u32) {
        if let Some(id) = self.by_hash.get(&self.digests.of(content)) {
            let upload = &mut self.uploads[*id];
            upload.versions += 1;
            upload.named_elsewhere |= node != upload.node;
        }
        self.note(now_ns, node, path, content, What::Touched(mode));
    }

    /// A daemon shows `content` at `path` with this mode from now on.
    pub fn published_mode(
        &mut self,
        now_ns: u64,
        node: usize,
        path: &[u8],
        content: &Content,
        mode: u32,
    ) {
        self.note(now_ns, node, path, content, What::PublishedMode(mode));
    }

    /// The file that an upload is still writing got another name.
    pub fn moved(&mut self, node: usize, id: usize, path: &[u8]) {
        let upload = &mut self.uploads[id];
        upload.name(node, path);
        self.places.entry(upload.hash).or_default().insert(path.to_vec());
    }

    /// Somebody gave up in the middle: what is there is a file like any other.
    pub fn left_behind(&mut self, path: &[u8], content: &Content) {
        let hash = self.digests.of(content);
        self.places.entry(hash).or_default().insert(path.to_vec());
    }

    /// The application put `content` at `path` of a node: it wrote or renamed it.
    pub fn put(&mut self, now_ns: u64, node: usize, path: &[u8], content: &Content) {
        self.note(now_ns, node, path, content, What::Put);
    }

    /// The application took `content` away from `path` of a node, which had it.
    pub fn took(&mut self, now_ns: u64, node: usize, path: &[u8], content: &Content, what: What) {
        self.note(now_ns, node, path, content, what);
        if what == What::Removed {
            self.ledger.removed(path);
        }
    }

    /// What a node's tree holds after it lost its power.
    /// `acknowledged`: what somebody has promised to keep.
    pub fn survived(
        &mut self,
        now_ns: u64,
        node: usize,
        files: &[(Vec<u8>, Content)],
        acknowledged: &BTreeSet<check::Held>,
    ) {
        let mut present = BTreeSet::new();
        for (path, content) in files {
            self.note(now_ns, node, path, content, What::Survived);
            let hash = self.digests.of(content);
            self.places.entry(hash).or_default().insert(path.clone());
            present.insert((path, hash));
        }
        let paths: BTreeMap<ContentHash, &Vec<u8>> =
            present.iter().map(|(path, hash)| (*hash, *path)).collect();
        for upload in &mut self.uploads {
            let kept_elsewhere = upload.published_ns.iter().any(Option::is_some);
            if present.contains(&(&upload.path, upload.hash)) {
                continue;
            }
            // A file that is back under its temporary name only is an upload that never happened;
            // one that is back under an older name is a rename that never happened.
            let promised = acknowledged.contains(&(upload.path.clone(), upload.hash));
            if upload.node == node && !kept_elsewhere && !promised {
                upload.excused = true;
            } else if upload.named_on == node
                && let Some(path) = paths.get(&upload.hash)
            {
                upload.path.clone_from(path);
            }
        }
    }

    /// A daemon gave a file its final name: S1, S2.
    pub fn published(&mut self, now_ns: u64, node: usize, path: &[u8], content: &Content) {
        let hash = self.digests.of(content);
        self.note(now_ns, node, path, content, What::Published);
        let places = self.places.get(&hash);
        let judged = check::whole(places.is_some(), content.len(), now_ns)
            .and_then(|()| places.map_or(Ok(()), |places| check::in_place(places, path, now_ns)));
        if let Err(failure) = judged {
            let node = self.node_names.get(node).cloned().unwrap_or_default();
            self.fail(failure.on(&node).at_path(path));
        } else if let Some(id) = self.by_hash.get(&hash)
            && self.uploads[*id].path == path
        {
            // Under its temporary name it has not arrived.
            self.uploads[*id].published_ns[node].get_or_insert(now_ns);
        }
    }

    /// A daemon took a content away from its final name, or put another one there.
    pub fn displaced(&mut self, now_ns: u64, node: usize, path: &[u8], content: &Content) {
        self.note(now_ns, node, path, content, What::Displaced);
    }

    /// Notes what happened to a content that is one upload's alone.
    fn note(&mut self, now_ns: u64, node: usize, path: &[u8], content: &Content, what: What) {
        if matches!(what, What::Put | What::Touched(_)) {
            self.ledger.no_directory(path);
        }
        if content.len() as u64 >= KNOWN_AGAIN_BYTES {
            let hash = self.digests.of(content);
            self.ledger.note(path, hash, Fact { at_ns: now_ns, node, what });
        }
    }

    /// A daemon removed a name: S6, S8.
    pub fn removed_by_daemon(&mut self, now_ns: u64, node: usize, path: &[u8]) {
        let count = self.ledger.removed_by_daemon(node, path);
        let judged = check::removed(&self.ledger, node, path, count, now_ns);
        if let Err(failure) = judged {
            let node = self.node_names.get(node).cloned().unwrap_or_default();
            self.fail(failure.on(&node).at_path(path));
        }
    }

    pub fn fail(&mut self, failure: Failure) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        }
    }

    /// Uploads that somebody finished and nobody took back: they have to be somewhere.
    pub fn standing(&self) -> impl Iterator<Item = &Upload> {
        self.uploads.iter().filter(|upload| {
            let known_again = upload.size >= KNOWN_AGAIN_BYTES;
            upload.finished_ns.is_some() && !upload.replaced && !upload.excused && known_again
        })
    }
}
