//! What the writers write: records that say of themselves whether they are whole.
//!
//! A content is one record, or several where something was appended. A record is a line
//! `id parent length check`, then padding that only the id decides. The parent is the last record of
//! what the writer read in the file before. The last record of a content names the content.

use crate::draw::Draw;

/// The node in the upper bits, then a number of that node: greater is later on the same node.
pub type Id = u64;

/// All lines have the same length, so that contents of equal length can be written over each other.
pub const HEADER: usize = 16 + 1 + 16 + 1 + 8 + 1 + 16 + 1;
const NOBODY: &str = "----------------";

pub fn record(id: Id, parent: Option<Id>, length: usize) -> Vec<u8> {
    assert!(length >= HEADER, "{length} bytes have no room for a header");
    let parent = parent.map_or(NOBODY.to_owned(), |parent| format!("{parent:016x}"));
    let padding = Draw(id).bytes(length - HEADER);
    let front = format!("{id:016x} {parent} {length:08x}");
    let mut content = format!("{front} {}\n", check(&front, &padding)).into_bytes();
    content.extend_from_slice(&padding);
    content
}

fn check(front: &str, padding: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(front.as_bytes()).update(padding);
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The last record's id; or what is wrong with the content.
pub fn parse(mut content: &[u8]) -> Result<Id, String> {
    if content.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut last = 0;
    while !content.is_empty() {
        let line = content.get(..HEADER).ok_or("it ends in the middle of a header")?;
        let line = std::str::from_utf8(line).map_err(|_| "a header is no text")?;
        let fields: Vec<_> = line.trim_end().split(' ').collect();
        let [id, parent, length, sum] = fields[..] else {
            return Err(format!("no header: {line:?}"));
        };
        let size = usize::from_str_radix(length, 16).map_err(|_| "no length".to_owned())?;
        let padding = content.get(HEADER..size).ok_or(format!("record {id} is cut off"))?;
        if check(&format!("{id} {parent} {length}"), padding) != sum {
            return Err(format!("record {id} is torn"));
        }
        last = Id::from_str_radix(id, 16).map_err(|_| "no id".to_owned())?;
        content = &content[size..];
    }
    Ok(last)
}

/// The name of a content: as much of its hash as `trees` shows.
pub fn name(content: &[u8]) -> String {
    blake3::hash(content).to_hex()[..16].to_owned()
}
