//! L5: delivering a batch twice changes nothing.
//!
//! One batch at the door of one node, three times, is `tests/runs/delivered_twice.rs`. This is about runs.
//! A connection that ends after a batch has arrived, and before its acknowledgement has come back,
//! delivers it twice. Then no name may change hands again: on each node, each content is published at
//! a path as often as the application put it there, on any node, and once more for each death of that
//! node's daemon, whose recovery does again what it cannot know to be done; and so it is when the disk
//! refuses something right after a publication. Where edits that lost to a deletion are made again, they
//! are published again, once for each deletion at that name at most. What was hidden by a file or symlink
//! above it, or by what was below it, is published again when that is gone, once for each that was there
//! (PROTOCOL B5). That the times stay as they are is part of L1.

use chainsync_core::policy::is_copy;

use super::Invariant;
use super::s04_returned::with_imports;
use crate::failure::Failure;
use crate::ledger::{Fact, IncidentKind, Ledger, What, above};

/// `names`: the nodes, in ring order. `again`: edits are made again that lost to a deletion.
pub(crate) fn twice(ledger: &Ledger, names: &[&str], again: bool) -> Result<(), Failure> {
    let deaths = |node: usize| {
        let incidents = ledger.incidents().iter().filter(|incident| incident.node == node);
        // A daemon that begins anew, in whatever way the one before it ended, but for the first.
        incidents.filter(|incident| incident.kind == IncidentKind::Started).count().max(1) - 1
    };
    let deaths: Vec<usize> = (0..names.len()).map(deaths).collect();
    // Copies that a policy makes are put by nobody.
    for (path, _, facts) in ledger.all().filter(|(path, ..)| !is_copy(path)) {
        // What a lost or restored index finds on its disk is put there by that node once more.
        let facts = with_imports(facts.to_vec(), ledger.incidents());
        let puts = facts.iter().filter(|fact| fact.what.puts()).count();
        for (node, name) in names.iter().enumerate() {
            let published = facts.iter().filter(|fact| {
                fact.what == What::Published
                    && fact.node == node
                    && !Ledger::is_unnoted(ledger.incidents(), fact)
            });
            let published: Vec<u64> = published.map(|fact| fact.at_ns).collect();
            let removals = if again { ledger.removals(path) } else { 0 };
            let due = puts.max(1) + deaths[node] + removals as usize + hidden(ledger, node, path);
            if published.len() > due {
                let sentence = format!(
                    "the daemon published the same content {} times, and the application had put \
                     it there {puts} times; the daemon had begun anew {} times",
                    published.len(),
                    deaths[node]
                );
                let failure = Failure::new(Invariant::L5, published[due], sentence);
                return Err(failure.on(name).at_path(path));
            }
        }
    }
    Ok(())
}

/// How often something above a path, or below it, can have hidden it on a node: a file that was known of
/// or published; a symlink, or a directory below it, of which only the name is in the ledger.
fn hidden(ledger: &Ledger, node: usize, path: &[u8]) -> usize {
    let facts = above(path).flat_map(|name| ledger.at(name)).chain(ledger.below(path));
    let hides =
        |fact: &&Fact| fact.what.puts() || (fact.what == What::Published && fact.node == node);
    let below = [path, b"/"].concat();
    let names = ledger.names_from(&below).take_while(|name| name.starts_with(&below));
    // Below it directories hide it, too.
    let names = names.chain(above(path).filter(|name| ledger.was_no_directory(name)));
    let named = |name: &[u8]| 1 + ledger.removals(name) as usize;
    facts.filter(hides).count() + names.map(named).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainsync_core::ContentHash;

    #[test]
    fn a_content_is_published_as_often_as_it_was_put() {
        let mut ledger = Ledger::default();
        let note = |ledger: &mut Ledger, at_ns, node, what| {
            ledger.note(b"a", ContentHash::of(b"x"), Fact { at_ns, node, what });
        };
        let judge = |ledger: &Ledger| twice(ledger, &["apollo", "hermes"], false).err();
        note(&mut ledger, 1, 0, What::Put);
        note(&mut ledger, 2, 1, What::Published);
        ledger.happened(0, 1, IncidentKind::Started);
        assert_eq!(judge(&ledger), None);
        note(&mut ledger, 3, 1, What::Published);
        let failure = judge(&ledger).unwrap();
        assert_eq!((failure.invariant, failure.at_ns), (Invariant::L5, 3));
        assert_eq!(failure.node.as_deref(), Some("hermes"));
        ledger.happened(3, 0, IncidentKind::Started);
        ledger.happened(4, 0, IncidentKind::Refused);
        assert!(judge(&ledger).is_some());
        ledger.happened(3, 1, IncidentKind::Started);
        assert_eq!(judge(&ledger), None);
    }

    #[test]
    fn what_was_hidden_is_published_again() {
        let mut ledger = Ledger::default();
        for (at_ns, node, what) in
            [(1, 0, What::Put), (2, 1, What::Published), (9, 1, What::Published)]
        {
            ledger.note(b"d/a", ContentHash::of(b"x"), Fact { at_ns, node, what });
        }
        let judge = |ledger: &Ledger| twice(ledger, &["apollo", "hermes"], false).err();
        let file = |node| Fact { at_ns: 5, node, what: What::Published };
        ledger.note(b"d", ContentHash::of(b"y"), file(0));
        assert!(judge(&ledger).is_some(), "it was elsewhere");
        ledger.note(b"d", ContentHash::of(b"y"), file(1));
        assert_eq!(judge(&ledger), None);
    }
}
