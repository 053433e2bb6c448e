//! What the web application wrote, and so what may be anywhere: the truth that the daemons are
//! judged by. Told by the workload and the disks, never by a daemon.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use crate::check::Invariant;
use crate::failure::Failure;
use crate::fs::Content;

/// Failures kept; the first one is reported, a few more may help.
const FAILURES_MAX: usize = 16;
/// The part of a name that marks a copy which the policy `keep-both` makes.
const CONFLICT_MARK: &[u8] = b".conflict-";

#[derive(Default)]
pub struct Oracle {
    pub node_names: Vec<String>,
    /// Where a content may be.
    places: BTreeMap<ContentHash, BTreeSet<Vec<u8>>>,
    pub uploads: Vec<Upload>,
    by_hash: BTreeMap<ContentHash, usize>,
    pub failures: Vec<Failure>,
}

/// One version of one file that the web application wrote.
#[derive(Debug, Clone)]
pub struct Upload {
    pub node: usize,
    pub path: Vec<u8>,
    /// The node on which it got this path: a power loss there may give it back an older one.
    pub named_on: usize,
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

impl Oracle {
    /// Somebody is about to write `content` at `path`, perhaps by way of `temporary`.
    pub fn announce(
        &mut self,
        node: usize,
        path: &[u8],
        temporary: Option<&[u8]>,
        content: &Content,
    ) -> usize {
        let hash = ContentHash::of(content);
        let places = self.places.entry(hash).or_default();
        places.insert(path.to_vec());
        places.extend(temporary.map(<[u8]>::to_vec));
        let id = self.uploads.len();
        self.by_hash.insert(hash, id);
        self.uploads.push(Upload {
            node,
            path: path.to_vec(),
            named_on: node,
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

    pub fn finished(&mut self, id: usize, now_ns: u64) {
        self.uploads[id].finished_ns = Some(now_ns);
    }

    /// `content` was overwritten, deleted or renamed away on a node that had it.
    pub fn replaced(&mut self, content: &Content) {
        if let Some(id) = self.by_hash.get(&ContentHash::of(content)) {
            self.uploads[*id].replaced = true;
        }
    }

    /// `content` now also belongs at `path`: it was renamed there.
    pub fn renamed(&mut self, node: usize, content: &Content, path: &[u8]) {
        let hash = ContentHash::of(content);
        self.places.entry(hash).or_default().insert(path.to_vec());
        if let Some(id) = self.by_hash.get(&hash) {
            let upload = &mut self.uploads[*id];
            (upload.path, upload.named_on) = (path.to_vec(), node);
            upload.versions += 1;
        }
    }

    /// The mode of a file with `content` was changed.
    pub fn touched(&mut self, content: &Content) {
        if let Some(id) = self.by_hash.get(&ContentHash::of(content)) {
            self.uploads[*id].versions += 1;
        }
    }

    /// The file that an upload is still writing got another name.
    pub fn moved(&mut self, node: usize, id: usize, path: &[u8]) {
        let upload = &mut self.uploads[id];
        (upload.path, upload.named_on) = (path.to_vec(), node);
        self.places.entry(upload.hash).or_default().insert(path.to_vec());
    }

    /// Somebody gave up in the middle: what is there is a file like any other.
    pub fn left_behind(&mut self, path: &[u8], content: &Content) {
        self.places.entry(ContentHash::of(content)).or_default().insert(path.to_vec());
    }

    /// What a node's tree holds after it lost its power.
    pub fn survived(&mut self, node: usize, files: &[(Vec<u8>, Content)]) {
        let mut present = BTreeSet::new();
        for (path, content) in files {
            let hash = ContentHash::of(content);
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
            if upload.node == node && !kept_elsewhere {
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
        let hash = ContentHash::of(content);
        let failure = match self.places.get(&hash) {
            Some(places) if places.contains(path) || is_conflict_copy(path) => {
                // Under its temporary name it has not arrived.
                if let Some(id) = self.by_hash.get(&hash)
                    && self.uploads[*id].path == path
                {
                    self.uploads[*id].published_ns[node].get_or_insert(now_ns);
                }
                return;
            }
            Some(places) => {
                let example = places.first().map(|path| crate::trace::Shown(path).to_string());
                let sentence = format!(
                    "the daemon published a content under a name that nobody gave it; it belongs \
                     at {}",
                    example.unwrap_or_default()
                );
                Failure::new(Invariant::S2, now_ns, sentence)
            }
            None => {
                let sentence = format!(
                    "the daemon published {} bytes that are no complete version anybody wrote",
                    content.len()
                );
                Failure::new(Invariant::S1, now_ns, sentence)
            }
        };
        let node = self.node_names.get(node).cloned().unwrap_or_default();
        self.fail(failure.on(&node).at_path(path));
    }

    pub fn fail(&mut self, failure: Failure) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        }
    }

    /// Uploads that somebody finished and nobody took back: they have to be somewhere.
    pub fn standing(&self) -> impl Iterator<Item = &Upload> {
        self.uploads
            .iter()
            .filter(|upload| upload.finished_ns.is_some() && !upload.replaced && !upload.excused)
    }
}

fn is_conflict_copy(path: &[u8]) -> bool {
    path.windows(CONFLICT_MARK.len()).any(|window| window == CONFLICT_MARK)
}
