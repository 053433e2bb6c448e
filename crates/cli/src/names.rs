//! Names between a shell, JSON and the daemon: raw bytes one way, the shown form (`\xNN`) the other.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use chainsync_core::path::display_bytes;

/// The form in which `conflicts list` shows a path. An argument may be that form already (it was
/// copied from there) or the name itself.
pub(crate) fn shown(argument: &OsStr) -> String {
    let bytes = argument.as_bytes();
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.contains('\\')
        && let Some(parsed) = parse(text)
        && show(&parsed) == text
    {
        return text.to_owned();
    }
    show(bytes)
}

fn show(bytes: &[u8]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = display_bytes(bytes, &mut text);
    text
}

/// The bytes behind the shown form; `None` if it is no such form.
pub(crate) fn parse(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in [&b"plain"[..], b"a\\b", b"\xff\n", "ä/ö".as_bytes(), b"\\x41", b"-x"] {
            let text = shown(OsStr::from_bytes(name));
            // `\x41` as typed could be either; it is taken as the name, since that is how `A` is not shown.
            assert_eq!(parse(&text).as_deref(), Some(name), "{text}");
            assert_eq!(shown(OsStr::new(&text)), text, "the shown form is understood as such");
        }
        assert_eq!(parse("\\q"), None);
        assert_eq!(parse("\\x4"), None);
    }
}
