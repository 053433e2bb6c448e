//! Paths below a share's root.
//!
//! A [`RelPath`] is parsed once, where it enters the process (disk listing, watcher, peer, operator);
//! whoever holds one may rely on it being harmless: relative, no empty, `.` or `..` component, no
//! NUL, bounded in length. It is raw bytes: Linux file names are not UTF-8 by duty.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Linux `NAME_MAX`: the longest component any common file system stores.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Linux `PATH_MAX`: the longest path a system call takes.
pub const PATH_BYTES_MAX: usize = 4096;

/// A path below a share's root, never the root itself.
///
/// Ordered so that a directory comes directly before everything below it (as if `/` were the
/// smallest byte): parents first in ascending order, children first in descending order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Arc<[u8]>);

/// Why some bytes are not a [`RelPath`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path is absolute")]
    Absolute,
    #[error("the path holds a NUL byte")]
    Nul,
    #[error("the path has an empty component")]
    EmptyComponent,
    #[error("the path has a `.` or `..` component")]
    Dots,
    #[error("a component has {0} bytes, more than {COMPONENT_BYTES_MAX}")]
    ComponentTooLong(usize),
    #[error("the path has {0} bytes, more than {PATH_BYTES_MAX}")]
    TooLong(usize),
}

impl RelPath {
    /// Parses `/`-separated bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong(bytes.len()));
        }
        for component in bytes.split(|byte| *byte == b'/') {
            check_component(component)?;
        }
        Ok(Self(bytes.into()))
    }

    /// The path of `name` in the directory `parent`; `None` is the root.
    pub fn child(parent: Option<&RelPath>, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') {
            return Err(PathError::EmptyComponent);
        }
        match parent {
            None => Self::new(name),
            Some(parent) => {
                check_component(name)?;
                let length = parent.0.len() + 1 + name.len();
                if length > PATH_BYTES_MAX {
                    return Err(PathError::TooLong(length));
                }
                Ok(Self([&parent.0, b"/".as_slice(), name].concat().into()))
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory that holds this path; `None` when that is the root.
    pub fn parent(&self) -> Option<RelPath> {
        self.parent_bytes().map(|bytes| Self(bytes.into()))
    }

    /// The bytes of [`parent`](Self::parent).
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        memchr::memrchr(b'/', &self.0).map(|slash| &self.0[..slash])
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        match memchr::memrchr(b'/', &self.0) {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// The first component: what a listing of the root shows.
    pub fn first(&self) -> &[u8] {
        self.components().next().unwrap_or(&self.0)
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// All directories above this path, outermost first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = RelPath> + '_ {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(slash, _)| Self(self.0[..slash].into()))
    }

    /// How many components the path has; 1 for a name in the root.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether this path lies strictly below `ancestor`.
    pub fn is_below(&self, ancestor: &RelPath) -> bool {
        self.0.len() > ancestor.0.len()
            && self.0.starts_with(&ancestor.0)
            && self.0[ancestor.0.len()] == b'/'
    }
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    match component {
        [] => Err(PathError::EmptyComponent),
        b"." | b".." => Err(PathError::Dots),
        long if long.len() > COMPONENT_BYTES_MAX => Err(PathError::ComponentTooLong(long.len())),
        nul if nul.contains(&0) => Err(PathError::Nul),
        _ => Ok(()),
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |byte: u8| if byte == b'/' { 0 } else { byte };
        // Neighbours begin alike: eight bytes at a time.
        let words = self.0.as_chunks::<8>().0.iter().zip(other.0.as_chunks::<8>().0);
        let alike = 8 * words.take_while(|(one, other)| one == other).count();
        match self.0[alike..].iter().zip(&other.0[alike..]).find(|(one, other)| one != other) {
            Some((one, other)) => key(*one).cmp(&key(*other)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<&str> for RelPath {
    type Error = PathError;

    fn try_from(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

/// Shows a name so that no raw control byte reaches a terminal or a log line: printable UTF-8 as it
/// is, `\` doubled, everything else as `\xNN`.
pub fn display_bytes(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some((at, char)) = rest.char_indices().find(|(_, char)| needs_escape(*char)) {
            let (plain, escaped) = rest.split_at(at);
            out.write_str(plain)?;
            match char {
                '\\' => out.write_str("\\\\")?,
                _ => write_escaped(&escaped.as_bytes()[..char.len_utf8()], out)?,
            }
            rest = &escaped[char.len_utf8()..];
        }
        out.write_str(rest)?;
        write_escaped(chunk.invalid(), out)?;
    }
    Ok(())
}

fn write_escaped(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
}

/// Control characters, and format characters such as bidirectional overrides: they can make a name
/// lie.
fn needs_escape(char: char) -> bool {
    char == '\\' || char.is_control() || is_format(char)
}

fn is_format(char: char) -> bool {
    matches!(
        char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_bytes(&self.0, f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::new(bytes.as_slice()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_are_refused() {
        let long = [b'a'; COMPONENT_BYTES_MAX + 1];
        let deep = "a/".repeat(PATH_BYTES_MAX / 2) + "a";
        for (bytes, error) in [
            (&b""[..], PathError::Empty),
            (b"/etc/passwd", PathError::Absolute),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b"..", PathError::Dots),
            (b"a/../b", PathError::Dots),
            (b"a/.", PathError::Dots),
            (b"a\0b", PathError::Nul),
            (&long, PathError::ComponentTooLong(COMPONENT_BYTES_MAX + 1)),
            (deep.as_bytes(), PathError::TooLong(PATH_BYTES_MAX + 1)),
        ] {
            assert_eq!(RelPath::new(bytes), Err(error));
        }
        assert_eq!(RelPath::child(None, b"a/b"), Err(PathError::EmptyComponent));
    }

    #[test]
    fn a_directory_sorts_directly_before_what_it_holds() {
        let mut paths: Vec<RelPath> =
            ["a-b", "a/c", "a", "a/b/c", "b", "a/b"].map(|path| RelPath::new(path).unwrap()).into();
        paths.sort();
        let sorted: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["a", "a/b", "a/b/c", "a/c", "a-b", "b"]);
    }

    #[test]
    fn control_bytes_never_reach_a_terminal() {
        let path = RelPath::new(b"a\x1b[2J\xff\\\n\xe2\x80\xae").unwrap();
        assert_eq!(path.to_string(), r"a\x1b[2J\xff\\\x0a\xe2\x80\xae");
    }

    #[test]
    fn ancestors_are_outermost_first() {
        let path = RelPath::new("a/b/c").unwrap();
        let ancestors: Vec<String> = path.ancestors().map(|path| path.to_string()).collect();
        assert_eq!(ancestors, ["a", "a/b"]);
        assert!(path.is_below(&RelPath::new("a").unwrap()));
        assert!(!RelPath::new("ab").unwrap().is_below(&RelPath::new("a").unwrap()));
    }
}
