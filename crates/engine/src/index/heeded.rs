//! Up to which conflict the share's policy has been applied.

use chainsync_core::Policy;
use serde::{Deserialize, Serialize};

use super::read::{get, open, storage};
use super::schema::{META, META_HEEDED, decode, encode};
use super::write::table;
use super::{IndexError, Reader, Writer};

/// Conflicts up to a number, under one policy. Those noticed under another one are left as they are:
/// who changes the policy changes what is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heeded {
    pub policy: Policy,
    pub upto: u64,
}

impl Reader {
    pub fn heeded(&self) -> Result<Option<Heeded>, IndexError> {
        let row = get(&open(&self.transaction, META)?, META_HEEDED)?;
        row.map(|row| decode("policy", &row)).transpose()
    }
}

impl Writer {
    pub fn set_heeded(&mut self, heeded: Heeded) -> Result<(), IndexError> {
        let mut meta = self.transaction.open_table(META).map_err(table)?;
        meta.insert(META_HEEDED, encode(&heeded).as_slice()).map_err(storage)?;
        Ok(())
    }
}
