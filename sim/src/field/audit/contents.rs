//! Which contents can be anywhere at all (S1), and where (S2).

use std::collections::{BTreeMap, BTreeSet};

use super::Run;
use crate::check::Invariant;
use crate::failure::Failure;
use crate::field::record::{Digest, Fact};
use crate::field::script::{What, script};
use crate::field::tree::{Leaf, Tree};
use crate::oracle::KNOWN_AGAIN_BYTES;

/// Which contents there may be, and where.
pub(super) struct Contents {
    places: BTreeMap<Digest, BTreeSet<String>>,
    /// Directories that were renamed: what was in them is in its new place.
    moved: Vec<(String, String)>,
}

impl Contents {
    /// From the scripts, not from the records: those may have been lost with the power.
    pub(super) fn of(run: &Run<'_>) -> Self {
        let mut places: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
        let mut moved = Vec::new();
        for node in &run.scenario.nodes {
            for step in script(run.scenario, run.seed, node.as_str()) {
                match step.what {
                    What::Upload(upload) => {
                        let draft = upload.draft();
                        let hash = blake3::hash(&draft.content).to_hex().to_string();
                        let names = [Some(&draft.path), draft.temporary.as_ref()];
                        let names = names.into_iter().flatten().map(ToString::to_string);
                        places.entry(hash).or_default().extend(names);
                    }
                    What::Rename(from, to) => moved.push((from.to_string(), to.to_string())),
                    _ => {}
                }
            }
        }
        for (_, line) in run.facts() {
            if let Fact::Left { path, hash } = &line.fact {
                places.entry(hash.clone()).or_default().insert(path.clone());
            }
        }
        Self { places, moved }
    }

    pub(super) fn judge(&self, node: &str, tree: &Tree) -> Result<(), Failure> {
        for (path, leaf) in &tree.leaves {
            let Leaf::File { hash, size, .. } = leaf else { continue };
            // Of a few bytes two may be equal.
            if *size < KNOWN_AGAIN_BYTES {
                continue;
            }
            let failure = match self.places.get(hash) {
                None => {
                    let sentence = format!(
                        "there is a file of {size} bytes that is no upload, nor what one left behind"
                    );
                    Failure::new(Invariant::S1, 0, sentence)
                }
                Some(places) if !self.belongs(places, path) => {
                    let home = places.first().map_or("nowhere", |place| place);
                    Failure::new(Invariant::S2, 0, format!("this content belongs at {home}"))
                }
                Some(_) => continue,
            };
            return Err(failure.on(node).at_path(path.as_bytes()));
        }
        Ok(())
    }

    /// Whether renames of the script lead from one of the places to a path.
    fn belongs(&self, places: &BTreeSet<String>, path: &str) -> bool {
        let mut known = places.clone();
        let mut todo: Vec<String> = places.iter().cloned().collect();
        while let Some(place) = todo.pop() {
            if place == path {
                return true;
            }
            for (from, to) in &self.moved {
                let rest = place.strip_prefix(from.as_str());
                let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))
                else {
                    continue;
                };
                let next = format!("{to}{rest}");
                if known.len() < 10_000 && known.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
        false
    }
}
