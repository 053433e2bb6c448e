//! S2: nothing that nobody wrote: a content appears only under names that somebody gave it.
//!
//! Judged by the oracle whenever a daemon gives a file a name.

use std::collections::BTreeSet;

use chainsync_core::policy::is_copy;

use super::Invariant;
use crate::failure::Failure;
use crate::trace::Shown;

/// `places`: where the content belongs.
pub(crate) fn in_place(
    places: &BTreeSet<Vec<u8>>,
    path: &[u8],
    now_ns: u64,
) -> Result<(), Failure> {
    // The policy `keep-both` makes copies.
    if places.contains(path) || is_copy(path) {
        return Ok(());
    }
    let example = places.first().map(|path| Shown(path).to_string()).unwrap_or_default();
    let sentence = format!(
        "the daemon published a content under a name that nobody gave it; it belongs at {example}"
    );
    Err(Failure::new(Invariant::S2, now_ns, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_belongs_where_somebody_put_it() {
        let places = BTreeSet::from([b"a".to_vec(), b"b".to_vec()]);
        for path in [&b"a"[..], b"b", b"c.conflict-apollo-1.jpg"] {
            assert_eq!(in_place(&places, path, 0), Ok(()));
        }
        let failure = in_place(&places, b"c", 0).unwrap_err();
        assert_eq!(failure.invariant, Invariant::S2);
        assert!(failure.sentence.ends_with("belongs at a"), "{failure}");
    }
}
