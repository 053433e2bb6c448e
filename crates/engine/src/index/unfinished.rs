//! An index whose creation was cut short.
//!
//! redb writes its magic number last, so that a half-made file is never taken for a database; and
//! then refuses the file for ever. Nothing was in it yet: it is begun again.

use std::io;

use chainsync_env::StorageBackend;

/// What a redb file begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// The header, which is written before the magic number; the rest of a new file is zeros.
const HEADER_BYTES: u64 = 4096;
/// A new file is not longer (redb begins with 4 MiB and its own tables): what is longer was in use.
const NEW_BYTES_MAX: u64 = 16 << 20;
const READ_BYTES: u64 = 64 << 10;

/// Empties the file if it is one whose creation was never completed, and nothing else.
pub(super) fn reset_unfinished(storage: &dyn StorageBackend) -> io::Result<()> {
    if is_unfinished(storage)? {
        tracing::warn!("the creation of the index was cut short, it is begun again");
        storage.set_len(0)?;
    }
    Ok(())
}

fn is_unfinished(storage: &dyn StorageBackend) -> io::Result<bool> {
    let length = storage.len()?;
    if length == 0 || length > NEW_BYTES_MAX {
        return Ok(false);
    }
    let mut first = vec![0; MAGIC.len().min(usize::try_from(length).unwrap_or(MAGIC.len()))];
    storage.read(0, &mut first)?;
    // A part of it, if the write was torn.
    let written = first.iter().zip(MAGIC).take_while(|(byte, magic)| **byte == *magic).count();
    if written == MAGIC.len() || first[written..].iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut offset = HEADER_BYTES;
    while offset < length {
        let mut part = vec![0; usize::try_from(READ_BYTES.min(length - offset)).unwrap_or(0)];
        storage.read(offset, &mut part)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += READ_BYTES;
    }
    Ok(true)
}
