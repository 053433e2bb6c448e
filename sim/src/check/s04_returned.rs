//! S4: what was deleted or renamed away does not come back; and the other half of S3: an older version
//! does not take the place of a newer one.
//!
//! A content at a path lives because somebody put it there. Whoever takes it back on a node ends each
//! of its lives that this node had seen: all that began before the content came to that node. A life
//! that began elsewhere meanwhile is concurrent, and may win; who gave the content another mode began
//! one, in place of those that this node had seen, and it is by this mode that others see it. What has
//! no life left must not be there at the end, on any node.
//!
//! A taking-back is forgotten, and so ends nothing, in exactly these cases (docs/ALGORITHM.md,
//! section 9), and only if no other node's daemon had acted on it before, and still knows:
//!
//! - the machine's power failed and its disk brought the content back: nobody had synced the taking;
//! - the daemon died less than [`NOTED_WITHIN_NS`] after it had published the content: the note of a
//!   publication is not made durable by itself, and recovery publishes it again;
//! - the disk refused the daemon something right after it had published the content: as after a
//!   death it does not know that it has, and publishes it again at the next try (disk-errors, seed 2);
//! - the node's index was lost, or restored to a state from before the content came: nothing there
//!   says that the content had been.

use std::collections::BTreeMap;

use chainsync_core::ContentHash;

use super::Invariant;
use crate::failure::Failure;
use crate::ledger::{Fact, Incident, IncidentKind, Ledger, What};

/// Documented: "published less than a minute before a crash".
const NOTED_WITHIN_NS: u64 = 60_000_000_000;

/// Machines run one after the other for so long.
const TICK_NS: u64 = crate::world::TICK.as_nanos() as u64;

/// `trees`: what is at each path in the end, by node. `again`: edits are made again that lost to a
/// deletion. Such an edit may have been overwritten elsewhere by somebody who had it, and who did not
/// know of the deletion either: which of the two comes back is decided by who is heard first, and the
/// other is in the archives. So names that were deleted are not judged then.
pub(crate) fn returned(
    ledger: &Ledger,
    names: &[&str],
    trees: &[BTreeMap<Vec<u8>, ContentHash>],
    now_ns: u64,
    again: bool,
) -> Result<(), Failure> {
    for (node, tree) in trees.iter().enumerate() {
        for (path, hash) in tree {
            if again && ledger.was_removed(path) {
                continue;
            }
            let facts = ledger.of(path, hash);
            let facts = with_imports(facts, ledger.incidents());
            if let Some(taken) = taken_back(&facts, ledger.incidents()) {
                return Err(failure(&facts, taken, names, node, now_ns).at_path(path));
            }
        }
    }
    Ok(())
}

/// A node whose index was lost, or restored to a state from before a content came, and that has the
/// content on its disk, or another mode of it, finds it as if somebody had just put it there: a life of its own.
pub(super) fn with_imports(mut facts: Vec<Fact>, incidents: &[Incident]) -> Vec<Fact> {
    let mut imports = Vec::new();
    for incident in incidents {
        let since_ns = match incident.kind {
            IncidentKind::IndexLost => 0,
            IncidentKind::IndexRestored => incidents
                .iter()
                .filter(|saved| {
                    (saved.node, saved.kind) == (incident.node, IncidentKind::IndexSaved)
                        && saved.at_ns <= incident.at_ns
                })
                .map(|saved| saved.at_ns)
                .max()
                .unwrap_or(0),
            _ => continue,
        };
        let last =
            facts.iter().rfind(|fact| fact.node == incident.node && fact.at_ns <= incident.at_ns);
        let lies_there = last.is_some_and(|fact| {
            let is_there = matches!(fact.what, What::Published | What::PublishedMode(_));
            (fact.what.puts() || is_there) && fact.at_ns >= since_ns
        });
        if lies_there {
            let (at_ns, node) = (incident.at_ns, incident.node);
            imports.push(Fact { at_ns, node, what: What::Put });
        }
    }
    facts.extend(imports);
    facts.sort_by_key(|fact| fact.at_ns);
    facts
}

/// The last taking-back, if nothing has put the content there since.
fn taken_back<'a>(facts: &'a [Fact], incidents: &[Incident]) -> Option<&'a Fact> {
    let mut lives: Vec<&Fact> = facts.iter().filter(|fact| fact.what.puts()).collect();
    let mut last = None;
    let ends = |fact: &Fact| fact.what.takes() || matches!(fact.what, What::Touched(_));
    for (index, taken) in facts.iter().enumerate().filter(|(_, fact)| ends(fact)) {
        if taken.what.takes() && is_forgotten(facts, index, incidents) {
            continue;
        }
        let came_ns = came_ns(facts, index);
        let before = lives.len();
        lives.retain(|life| {
            // The same bytes put over themselves are taken and put by one act.
            let here = life.node == taken.node && life.at_ns < taken.at_ns;
            let seen = match life.what {
                What::Touched(mode) => showed_mode(&facts[..index], taken.node, life, mode),
                // What another node put there meanwhile is not what was taken.
                _ => life.at_ns <= came_ns && showed_since(&facts[..index], taken.node, life),
            };
            std::ptr::eq(*life, taken) || !(here || seen)
        });
        if !taken.what.takes() {
            continue;
        }
        if lives.len() < before || last.is_none() {
            last = Some(taken);
        }
    }
    if lives.is_empty() { last } else { None }
}

/// Whether a node has shown a content with the mode that `life` gave it, since then.
fn showed_mode(facts: &[Fact], node: usize, life: &Fact, mode: u32) -> bool {
    let shows = |what| what == What::PublishedMode(mode) || what == What::Touched(mode);
    facts.iter().any(|fact| fact.node == node && fact.at_ns >= life.at_ns && shows(fact.what))
}

/// Whether a node has shown a content since somebody put it there: it did so itself, or its daemon did.
fn showed_since(facts: &[Fact], node: usize, life: &Fact) -> bool {
    let published = |fact: &Fact| fact.what == What::Published && fact.at_ns >= life.at_ns;
    life.node == node || facts.iter().any(|fact| fact.node == node && published(fact))
}

/// Since when the content was on the node that gave it up.
fn came_ns(facts: &[Fact], taken: usize) -> u64 {
    let Fact { node, at_ns, .. } = facts[taken];
    let came = facts[..taken]
        .iter()
        .rev()
        .find(|fact| fact.node == node && (fact.what.puts() || fact.what == What::Published));
    came.map_or(at_ns, |fact| fact.at_ns)
}

/// Whether the index of the node that knew of `fact` was lost or restored since.
fn has_forgotten(fact: &Fact, incidents: &[Incident]) -> bool {
    incidents.iter().any(|incident| {
        let lost = matches!(incident.kind, IncidentKind::IndexLost | IncidentKind::IndexRestored);
        lost && incident.node == fact.node && incident.at_ns >= fact.at_ns
    })
}

fn is_forgotten(facts: &[Fact], index: usize, incidents: &[Incident]) -> bool {
    let taken = facts[index];
    let here = |incident: &&Incident| incident.node == taken.node;
    let published = facts[..index].iter().rfind(|fact| {
        fact.node == taken.node && (fact.what.puts() || fact.what == What::Published)
    });
    if published.is_some_and(|published| Ledger::is_unnoted(incidents, published)) {
        return true;
    }
    let all = incidents;
    let incidents: Vec<&Incident> = incidents.iter().filter(here).collect();
    // What happened before the daemon had looked at its tree counts from when it went down.
    let looked = incidents.iter().rposition(|incident| {
        // What happens within one tick may have happened in any order.
        incident.kind == IncidentKind::Looked && incident.at_ns + TICK_NS <= taken.at_ns
    });
    for incident in &incidents[looked.map_or(0, |looked| looked + 1)..] {
        let later = incident.at_ns > taken.at_ns;
        let acted_on = facts.iter().any(|fact| {
            fact.what == What::Displaced
                && fact.node != taken.node
                && (taken.at_ns..=incident.at_ns).contains(&fact.at_ns)
                && !has_forgotten(fact, all)
        });
        if acted_on {
            return false;
        }
        let published_since = |from_ns: u64| {
            facts.iter().any(|fact| {
                fact.node == taken.node
                    && fact.what == What::Published
                    && (from_ns..=taken.at_ns).contains(&fact.at_ns)
            })
        };
        let noted_ns = incident.at_ns.saturating_sub(NOTED_WITHIN_NS);
        let forgotten = match incident.kind {
            IncidentKind::LostPower => {
                let is_back = |fact: &Fact| {
                    (fact.node, fact.what, fact.at_ns)
                        == (taken.node, What::Survived, incident.at_ns)
                };
                (later && facts.iter().any(is_back)) || published_since(noted_ns)
            }
            IncidentKind::Died => published_since(noted_ns),
            IncidentKind::IndexLost => true,
            IncidentKind::IndexRestored => {
                let saved = incidents.iter().rfind(|saved| {
                    saved.kind == IncidentKind::IndexSaved && saved.at_ns <= incident.at_ns
                });
                saved.is_some_and(|saved| came_ns(facts, index) > saved.at_ns)
            }
            IncidentKind::Started
            | IncidentKind::Looked
            | IncidentKind::Ended
            | IncidentKind::IndexSaved
            | IncidentKind::Refused => false,
        };
        if forgotten {
            return true;
        }
    }
    false
}

fn failure(facts: &[Fact], taken: &Fact, names: &[&str], node: usize, now_ns: u64) -> Failure {
    let again = facts.iter().find(|fact| fact.at_ns > taken.at_ns && fact.what == What::Published);
    let (node, at_ns) = again.map_or((node, now_ns), |again| (again.node, again.at_ns));
    let name = |node: usize| names.get(node).copied().unwrap_or("?");
    let seconds = taken.at_ns as f64 / 1e9;
    let (invariant, what) = match taken.what {
        What::Overwritten => (Invariant::S3, "was overwritten"),
        _ => (Invariant::S4, "was deleted or renamed away"),
    };
    let sentence = format!(
        "a content that {what} on {} at {seconds:.6} s, where it had been for all to see, is there \
         again in the end, and nobody put it there",
        name(taken.node)
    );
    Failure::new(invariant, at_ns, sentence).on(name(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Seconds, node, what.
    type Story = (u64, usize, What);

    fn judge(facts: &[Story], incidents: &[(u64, usize, IncidentKind)]) -> Option<Invariant> {
        let mut ledger = Ledger::default();
        let hash = ContentHash::of(b"x");
        for (at, node, what) in facts {
            ledger.note(b"a", hash, Fact { at_ns: at * SECOND, node: *node, what: *what });
        }
        for (at, node, kind) in incidents {
            ledger.happened(at * SECOND, *node, *kind);
        }
        let trees = vec![BTreeMap::from([(b"a".to_vec(), hash)]); 2];
        let judged = returned(&ledger, &["apollo", "hermes"], &trees, 100 * SECOND, false);
        judged.err().map(|failure| failure.invariant)
    }

    const UPLOADED: [Story; 2] = [(1, 0, What::Put), (2, 1, What::Published)];

    fn after_upload(story: &[Story]) -> Vec<Story> {
        UPLOADED.iter().chain(story).copied().collect()
    }

    #[test]
    fn what_was_taken_back_must_not_be_there() {
        assert_eq!(judge(&UPLOADED, &[]), None);
        let judge = |story: &[Story]| judge(&after_upload(story), &[]);
        assert_eq!(judge(&[(3, 1, What::Removed)]), Some(Invariant::S4));
        assert_eq!(judge(&[(3, 1, What::Overwritten)]), Some(Invariant::S3));
        assert_eq!(judge(&[(3, 0, What::Removed), (4, 0, What::Published)]), Some(Invariant::S4));
        // Another mode: seen, so ended with the rest; or not seen.
        let touched = (3, 0, What::Touched(0o600));
        let seen = (4, 1, What::PublishedMode(0o600));
        assert_eq!(judge(&[touched, seen, (5, 1, What::Removed)]), Some(Invariant::S4));
        assert_eq!(judge(&[touched, (5, 1, What::Removed)]), None);
        assert_eq!(judge(&[touched, (5, 0, What::Removed)]), Some(Invariant::S4));
        // Somebody put it there again, later or meanwhile.
        assert_eq!(judge(&[(3, 1, What::Removed), (4, 0, What::Put)]), None);
        assert_eq!(judge(&[(3, 0, What::Put), (4, 1, What::Removed)]), None);
        // What came back was taken back once more.
        let twice = [(3, 1, What::Removed), (4, 0, What::Put), (5, 0, What::Removed)];
        assert_eq!(judge(&twice), Some(Invariant::S4));
    }

    #[test]
    fn what_is_forgotten_is_forgotten_only_if_nobody_had_heard_of_it() {
        use IncidentKind::{Died, IndexLost, IndexRestored, IndexSaved, Looked, LostPower};
        let removed = after_upload(&[(3, 1, What::Removed)]);
        let heard = after_upload(&[(3, 1, What::Removed), (4, 0, What::Displaced)]);
        let later = after_upload(&[(70, 1, What::Removed)]);
        for (incidents, story, excused) in [
            // A publication is noted within a minute; until then a crash forgets it.
            (&[(5, 1, Died)][..], &removed, true),
            (&[(2, 1, Died)][..], &removed, true),
            (&[(5, 0, Died)][..], &removed, false),
            (&[(5, 1, Died)][..], &heard, false),
            (&[(80, 1, Died)][..], &later, false),
            (&[(2, 1, Died), (2, 1, Looked)][..], &removed, false),
            (&[(2, 1, Died), (3, 1, Looked)][..], &removed, true),
            (&[(80, 1, LostPower)][..], &later, false),
            (&[(80, 1, IndexLost)][..], &later, true),
            (&[(80, 1, IndexLost)][..], &heard, false),
            (&[(80, 1, IndexLost), (80, 0, IndexRestored)][..], &heard, true),
            (&[(1, 1, IndexSaved), (80, 1, IndexRestored)][..], &later, true),
            (&[(9, 1, IndexSaved), (80, 1, IndexRestored)][..], &later, false),
        ] {
            let judged = judge(story, incidents);
            assert_eq!(judged.is_none(), excused, "{incidents:?} {story:?}");
        }
        // The disk refused the note of the publication, which was at 2 s.
        assert_eq!(judge(&later, &[(3, 1, IncidentKind::Refused)]), None);
        assert_eq!(judge(&later, &[(4, 1, IncidentKind::Refused)]), Some(Invariant::S4));
        assert_eq!(judge(&later, &[(3, 0, IncidentKind::Refused)]), Some(Invariant::S4));
        // The disk undid it.
        let undone = [&later[..], &[(80, 1, What::Survived)]].concat();
        assert_eq!(judge(&undone, &[(80, 1, LostPower)]), None);
    }
}
