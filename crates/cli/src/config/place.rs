//! Where things are: `host:port` addresses, and directories that must keep apart.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};

/// Why an address is none; `Ok` if it is one: `host:port` with an IPv4 address, an IPv6 address in
/// brackets or a host name.
pub(super) fn address(text: &str) -> Result<(), &'static str> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address needs brackets and a port: `[::1]:7420`");
    }
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    match port.parse::<u16>() {
        // Peers have to know the port, so the system cannot choose it.
        Ok(0) => return Err("port 0 is no address that a peer could connect to"),
        Ok(_) if port.starts_with('+') => return Err("the port is not a number"),
        Ok(_) => {}
        Err(_) => return Err("the port is not a number from 1 to 65535"),
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("the closing bracket is missing")?;
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("what stands in brackets is not an IPv6 address"),
        };
    }
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.contains(':') {
        return Err("an IPv6 address needs brackets: `[::1]:7420`");
    }
    if host.chars().all(|char| char.is_ascii_digit() || char == '.') {
        return match host.parse::<Ipv4Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("this is not an IPv4 address"),
        };
    }
    let label = |label: &str| {
        let allowed = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
        (1..=63).contains(&label.len()) && label.chars().all(allowed) && !label.starts_with('-')
    };
    match host.trim_end_matches('.').split('.').all(label) {
        true if host.len() <= 253 => Ok(()),
        _ => Err("this is not a host name"),
    }
}

/// Why a path cannot be used; relative ones would depend on where the daemon was started.
pub(super) fn absolute(path: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err("the path is relative, and would depend on where the daemon is started");
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err("the path contains `..`");
    }
    // Components drop doubled and trailing slashes and `.`.
    Ok(path.components().collect())
}

/// How `inner` lies in `outer`, in words; `None` if it does not.
pub(super) fn inside(inner: &Path, outer: &Path) -> Option<&'static str> {
    if inner == outer {
        Some("is")
    } else if inner.starts_with(outer) {
        Some("lies inside")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in
            ["10.0.0.1:7420", "[::1]:7420", "[fe80::1]:1", "apollo:7420", "a.example.:65535"]
        {
            assert_eq!(address(good), Ok(()), "{good}");
        }
        for wrong in [
            "",
            "apollo",
            "apollo:",
            ":7420",
            "apollo:0",
            "apollo:65536",
            "apollo:+1",
            "::1",
            "::1:7420:x",
            "[::1:7420",
            "[apollo]:7420",
            "10.0.0.256:7420",
            "10.0.0:7420",
            "a b:7420",
            "-a:7420",
            "a..b:7420",
            "http://apollo:7420",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nesting_is_by_component() {
        assert_eq!(inside(Path::new("/a/b"), Path::new("/a")), Some("lies inside"));
        assert_eq!(inside(Path::new("/a"), Path::new("/a")), Some("is"));
        assert_eq!(inside(Path::new("/ab"), Path::new("/a")), None);
    }

    #[test]
    fn paths_are_absolute_and_tidy() {
        assert_eq!(absolute("/a//b/./c/"), Ok(PathBuf::from("/a/b/c")));
        assert!(absolute("a").is_err());
        assert!(absolute("/a/../b").is_err());
    }
}
