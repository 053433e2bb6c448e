//! S8: no mass delete by mistake: a daemon removes a name only because the application removed it,
//! on this node or another, and not more often.
//!
//! Judged at the disk, name by name, before the name is gone: so the first wrong one is reported, and
//! the ring cannot agree on it afterwards. A removal for which nobody asked, after a machine has lost
//! its power, is a loss that was taken for a deletion: that is S6.

use super::{Invariant, ahead};
use crate::failure::Failure;
use crate::ledger::{IncidentKind, Ledger};

/// A daemon is about to remove `path` for the `count`th time.
pub(crate) fn removed(
    ledger: &Ledger,
    node: usize,
    path: &[u8],
    count: u64,
    now_ns: u64,
) -> Result<(), Failure> {
    let asked = ledger.removals(path);
    if asked == 0 {
        if is_in_the_way(ledger, path) {
            return Ok(());
        }
        ahead::removed(ledger, path, now_ns)?;
        let sentence = "the daemon removed what nobody had removed, on any node";
        return Err(Failure::new(Invariant::S8, now_ns, sentence));
    }
    // A death may undo a removal, or the note of it: then it is done again.
    let deaths = ledger.incidents().iter().filter(|incident| {
        incident.node == node
            && matches!(incident.kind, IncidentKind::Died | IncidentKind::LostPower)
    });
    if count <= asked + deaths.count() as u64 || is_in_the_way(ledger, path) {
        return Ok(());
    }
    let sentence = format!(
        "the daemon removed this for the {count}th time, and on all nodes together it was removed \
         {asked} times"
    );
    Err(Failure::new(Invariant::S8, now_ns, sentence))
}

/// Where one name was wanted for a file and for a directory, the greater stamp is on disk, and the
/// other one is not, although nobody removed it: it is shadowed.
fn is_in_the_way(ledger: &Ledger, path: &[u8]) -> bool {
    let mut prefix = path.to_vec();
    prefix.push(b'/');
    let below = ledger.names_from(&prefix).next().is_some_and(|name| name.starts_with(&prefix));
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    below || slashes.any(|(at, _)| ledger.was_no_directory(&path[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_removes_what_the_application_removed_and_no_more() {
        let mut ledger = Ledger::default();
        let judge = |ledger: &Ledger, path: &[u8], count| {
            removed(ledger, 0, path, count, 0).err().map(|failure| failure.invariant)
        };
        ledger.removed(b"d/a");
        assert_eq!(judge(&ledger, b"d/a", 1), None);
        assert_eq!(judge(&ledger, b"d/b", 1), Some(Invariant::S8));
        assert_eq!(judge(&ledger, b"d/a", 2), Some(Invariant::S8));
        ledger.happened(1, 0, IncidentKind::Died);
        assert_eq!(judge(&ledger, b"d/a", 2), None);
        assert_eq!(judge(&ledger, b"d/b", 1), Some(Invariant::S8));
        ledger.happened(2, 1, IncidentKind::LostPower);
        assert_eq!(judge(&ledger, b"d/b", 1), Some(Invariant::S6));
        // A file where somebody also wants a directory, and what is below a file.
        for (path, other) in [(&b"e"[..], &b"e/x"[..]), (b"f/y/z", b"f/y")] {
            ledger.no_directory(other);
            assert_eq!(judge(&ledger, path, 1), None);
        }
        // Below a directory nothing is in the way.
        ledger.named(b"g");
        assert_eq!(judge(&ledger, b"g/a", 1), Some(Invariant::S6));
    }
}
