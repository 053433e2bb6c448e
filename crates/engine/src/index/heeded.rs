//! Up to which conflict the share's policy has been applied.

use chainsync_core::Policy;
use serde::{Deserialize, Serialize};

use super::schema::META_HEEDED;
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
        self.meta(META_HEEDED)
    }
}

impl Writer {
    pub fn set_heeded(&mut self, heeded: Heeded) -> Result<(), IndexError> {
        self.put_meta(META_HEEDED, &heeded)
    }
}
