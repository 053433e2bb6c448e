//! Rare places of the engine that the scenario is about: a run that does not get there shows nothing.

use std::collections::BTreeMap;

use super::Invariant;
use crate::failure::Failure;

/// `reached`: how often the engine passed each of its marks. `expected`: how often at least.
pub(crate) fn passes(
    reached: &BTreeMap<String, u64>,
    expected: &BTreeMap<String, u64>,
    now_ns: u64,
) -> Result<(), Failure> {
    for (mark, least) in expected {
        let times = reached.get(mark).copied().unwrap_or(0);
        if times < *least {
            let sentence = format!(
                "the engine passed `{mark}` {times} times, and the scenario expects {least} at least"
            );
            return Err(Failure::new(Invariant::Passes, now_ns, sentence));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached_is_missed() {
        let of = |times: u64| BTreeMap::from([("Collected".to_owned(), times)]);
        assert_eq!(passes(&of(2), &of(2), 0), Ok(()));
        assert_eq!(passes(&of(2), &BTreeMap::new(), 0), Ok(()));
        let failure = passes(&BTreeMap::new(), &of(1), 7).unwrap_err();
        assert_eq!((failure.invariant, failure.at_ns), (Invariant::Passes, 7));
    }
}
