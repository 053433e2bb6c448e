//! S1: no torn or partial file under a final name.
//!
//! Judged by the oracle whenever a daemon gives a file a name or writes to one that has a name: at
//! every such call, so nothing is visible for a moment only.

use super::Invariant;
use crate::failure::Failure;

/// `known`: whether somebody once wrote just this content, whole.
pub(crate) fn whole(known: bool, bytes: usize, now_ns: u64) -> Result<(), Failure> {
    if known {
        return Ok(());
    }
    let sentence =
        format!("the daemon published {bytes} bytes that are no complete version anybody wrote");
    Err(Failure::new(Invariant::S1, now_ns, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wrote_whole_is_torn() {
        assert_eq!(whole(true, 5, 0), Ok(()));
        assert_eq!(whole(false, 5, 0).unwrap_err().invariant, Invariant::S1);
    }
}
