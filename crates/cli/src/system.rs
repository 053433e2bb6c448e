//! What the daemon needs of the system before it starts: descriptors, and for `owner = true` the
//! right to give files away.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::failure::{Exit, Failure};

/// Below this a few batches at once run out of descriptors.
const DESCRIPTORS_MIN: u64 = 4096;
/// CAP_CHOWN, the first bit of a capability set (capabilities(7)).
const CAP_CHOWN: u64 = 1;

/// Raises the soft limit on open files to the hard one. The soft one is low for the sake of programs
/// that use select(2); this one does not.
pub(crate) fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    let now = getrlimit(Resource::Nofile).current;
    if let Some(limit) = now.filter(|limit| *limit < DESCRIPTORS_MIN) {
        tracing::warn!(limit, "few files may be open at once: set LimitNOFILE=65536");
    }
}

/// A share that replicates owners, on a node that may not set them, is refused by name: half of it
/// would arrive with the wrong owner, and look right.
pub(crate) fn refuse_owner(config: &Config) -> Result<(), Failure> {
    let Some(share) = config.node.shares.iter().find(|share| share.owner) else { return Ok(()) };
    // Without /proc nothing else works either: the first open of a share says so.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match may_chown(&status) {
        Some(false) => Err(Failure::new(
            Exit::Usage,
            format!(
                "share `{}` has `owner = true`, and this process may not change owners",
                share.name
            ),
            "run it as root or with CAP_CHOWN (AmbientCapabilities= in a systemd unit), or take \
             `owner = true` out on every node",
        )),
        _ => Ok(()),
    }
}

/// Whether a process with this `/proc/PID/status` has CAP_CHOWN. Root in a container may lack it.
fn may_chown(status: &str) -> Option<bool> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(effective & CAP_CHOWN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_to_give_files_away_is_the_first_bit() {
        assert_eq!(may_chown("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(true));
        assert_eq!(may_chown("CapEff:\t0000000000000001\n"), Some(true));
        assert_eq!(
            may_chown("CapPrm:\t0000000000000001\nCapEff:\t0000000000000000\n"),
            Some(false)
        );
        assert_eq!(may_chown("CapEff:\t00000000a80425fa\n"), Some(false));
        assert_eq!(may_chown(""), None);
    }

    #[test]
    fn the_limit_on_open_files_becomes_the_hard_one() {
        raise_descriptors();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
