//! S7: no call of the daemon outside the share and its own state.
//!
//! Judged at the disk, at each directory that it opens as a root and each call that changes
//! something. Everything else is relative to such a root, and the simulated kernel follows no
//! symlink below it, as `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` does not.

use super::{Invariant, STATE};
use crate::failure::Failure;
use crate::trace::Shown;

/// `path` is absolute, and where the called-on name really is, not how the daemon came to it.
pub(crate) fn confined(
    share_root: &[u8],
    call: &str,
    path: &[u8],
    now_ns: u64,
) -> Result<(), Failure> {
    if is_at_or_below(path, share_root) || is_at_or_below(path, STATE.as_bytes()) {
        return Ok(());
    }
    let sentence = format!("the daemon's {call} reached {}", Shown(path));
    Err(Failure::new(Invariant::S7, now_ns, sentence))
}

fn is_at_or_below(path: &[u8], root: &[u8]) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_share_and_the_state_may_be_touched() {
        let judge = |path: &str| confined(b"/srv/files", "unlink", path.as_bytes(), 0);
        for path in ["/srv/files", "/srv/files/a/b", "/srv/files/.chainsync/x", STATE] {
            assert_eq!(judge(path), Ok(()), "{path}");
        }
        for path in ["/etc/passwd", "/srv/files2/a", "/srv", "/", "/var/lib/chainsync2"] {
            assert_eq!(judge(path).unwrap_err().invariant, Invariant::S7, "{path}");
        }
    }
}
