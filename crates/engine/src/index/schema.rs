//! Tables and keys.

use chainsync_core::RelPath;
use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IndexError;

pub type Bytes = &'static [u8];

pub const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");
pub const PATHS: TableDefinition<Bytes, Bytes> = TableDefinition::new("paths");
pub const JOURNAL: TableDefinition<u64, Bytes> = TableDefinition::new("journal");
pub const TAGS: TableDefinition<u64, u64> = TableDefinition::new("tags");
pub const CURSORS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("cursors");
pub const INTENTS: TableDefinition<Bytes, Bytes> = TableDefinition::new("intents");
pub const HELD: TableDefinition<&str, Bytes> = TableDefinition::new("held");
pub const CONFLICTS: TableDefinition<u64, Bytes> = TableDefinition::new("conflicts");
pub const CONFLICT_NOTES: TableDefinition<u64, Bytes> = TableDefinition::new("conflict-notes");

pub const META_SCHEMA: &str = "schema";
pub const META_STATE: &str = "state";
/// The exclude patterns under which paths were looked at last. Absent in an index that nobody has
/// reopened since there is such a row.
pub const META_EXCLUDE: &str = "exclude";
/// Heads of the journal with the time when each was noted. Not in the state: a build that does not
/// know them collects nothing, and this one begins anew.
pub const META_MARKS: &str = "marks";
/// There while the share is paused. Not in the state: a build that does not know it would lose it.
pub const META_PAUSED: &str = "paused";
/// How far the policy for conflicts was applied, and which.
pub const META_HEEDED: &str = "heeded";

const SEPARATOR: u8 = 0;
/// Of a path in nearly every tree.
const SHORT_BYTES: usize = 256;

/// The key of a path: its directory, NUL, its name. The names of one directory are neighbours, and
/// so are, behind them, those of the directories below it.
pub fn path_key(path: &RelPath) -> Vec<u8> {
    with_key(path, <[u8]>::to_vec)
}

/// The same for one use, which nearly always is without an allocation.
pub fn with_key<T>(path: &RelPath, with: impl FnOnce(&[u8]) -> T) -> T {
    let bytes = path.as_bytes();
    let dir = path.parent_bytes().map(<[u8]>::len);
    with_room(bytes.len() + usize::from(dir.is_none()), |key| {
        let room = key.len() - bytes.len();
        key[room..].copy_from_slice(bytes);
        key[dir.unwrap_or(0)] = SEPARATOR;
        with(key)
    })
}

/// The path of a key.
pub fn key_path(key: &[u8]) -> Result<RelPath, IndexError> {
    let path = with_room(key.len(), |bytes| {
        bytes.copy_from_slice(key);
        match bytes.iter().position(|byte| *byte == SEPARATOR) {
            Some(0) => RelPath::new(&bytes[1..]),
            Some(separator) => {
                bytes[separator] = b'/';
                RelPath::new(bytes)
            }
            None => RelPath::new(bytes),
        }
    });
    path.map_err(|error| IndexError::Damaged { what: format!("a path in the index: {error}") })
}

/// Bytes to write to: on the stack, if they are as few as nearly every path has.
fn with_room<T>(bytes: usize, with: impl FnOnce(&mut [u8]) -> T) -> T {
    match [0; SHORT_BYTES].get_mut(..bytes) {
        Some(room) => with(room),
        None => with(&mut vec![0; bytes]),
    }
}

/// The keys of the names in a directory; `None` is the root.
pub fn child_keys(dir: Option<&RelPath>) -> (Vec<u8>, Vec<u8>) {
    let prefix = dir.map_or(&b""[..], RelPath::as_bytes);
    ([prefix, &[SEPARATOR]].concat(), [prefix, &[SEPARATOR + 1]].concat())
}

/// The keys of everything further down than [`child_keys`].
pub fn deeper_keys(dir: &RelPath) -> (Vec<u8>, Vec<u8>) {
    ([dir.as_bytes(), b"/"].concat(), [dir.as_bytes(), &[b'/' + 1]].concat())
}

/// The directory that a key of [`deeper_keys`] goes through first, and where the keys begin that do
/// not go on as this one does: into its names, or further down. `start`: where its name begins.
pub fn first_dir(key: &[u8], start: usize) -> Result<(RelPath, Vec<u8>), IndexError> {
    let ends = |byte: &u8| matches!(*byte, SEPARATOR | b'/');
    let Some(end) = key.iter().skip(start).position(ends).map(|length| start + length) else {
        return Err(IndexError::Damaged { what: "a key in the index names no directory".into() });
    };
    let next = [&key[..end], &[key[end] + 1]].concat();
    Ok((key_path(&key[..end])?, next))
}

/// What nearly every row has room in.
const ROW_BYTES: usize = 256;

pub fn encode(value: &impl Serialize) -> Vec<u8> {
    encode_into(Vec::with_capacity(ROW_BYTES), value)
}

/// The same, in the place of what was there.
pub fn encode_into(mut row: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    row.clear();
    // Into memory, from types whose serialization cannot fail: the error has no cause to arise.
    postcard::to_extend(value, row).unwrap_or_else(|error| panic!("postcard: {error}"))
}

pub fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, IndexError> {
    postcard::from_bytes(bytes)
        .map_err(|error| IndexError::Damaged { what: format!("{what}: {error}") })
}

#[cfg(test)]
mod tests {
    use chainsync_core::path::COMPONENT_BYTES_MAX;

    use super::*;

    #[test]
    fn keys_cluster_a_directory_and_name_their_path() {
        let paths =
            ["a", "a/b", "a/c/d", "a/c", "a-b", "ab/c"].map(|path| RelPath::new(path).unwrap());
        for path in &paths {
            assert_eq!(&key_path(&path_key(path)).unwrap(), path);
        }
        for length in [SHORT_BYTES / 2 - 1, SHORT_BYTES / 2, SHORT_BYTES] {
            let long = "d".repeat(COMPONENT_BYTES_MAX.min(length)) + "/" + &"f".repeat(length / 2);
            let long = RelPath::new(&long).unwrap();
            assert_eq!(key_path(&path_key(&long)).unwrap(), long);
        }
        let dir = &paths[0];
        let within = |(from, to): (Vec<u8>, Vec<u8>)| -> Vec<String> {
            let inside = |path: &&RelPath| (&from..&to).contains(&&path_key(path));
            paths.iter().filter(inside).map(ToString::to_string).collect()
        };
        assert_eq!(within(child_keys(Some(dir))), ["a/b", "a/c"]);
        assert_eq!(within(deeper_keys(dir)), ["a/c/d"]);
        assert_eq!(within(child_keys(None)), ["a", "a-b"]);
    }
}
