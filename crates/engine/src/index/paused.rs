//! Whether an operator has paused the share: survives a restart.

use redb::Durability;

use super::read::storage;
use super::schema::{META, META_PAUSED};
use super::write::table;
use super::{Index, IndexError};

impl Index {
    pub fn is_paused(&self) -> Result<bool, IndexError> {
        let reader = self.read()?;
        let meta = super::read::open(&reader.transaction, META)?;
        let row = meta.get(META_PAUSED).map_err(storage)?;
        Ok(row.is_some())
    }

    /// Durable when this returns, whatever the share promises for its contents.
    pub fn set_paused(&self, paused: bool) -> Result<(), IndexError> {
        let begun = self.database.begin_write();
        let mut transaction = begun.map_err(|error| IndexError::Storage(error.into()))?;
        {
            let mut meta = transaction.open_table(META).map_err(table)?;
            if paused {
                meta.insert(META_PAUSED, [].as_slice()).map_err(storage)?;
            } else {
                meta.remove(META_PAUSED).map_err(storage)?;
            }
        }
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|error| IndexError::Damaged { what: error.to_string() })?;
        transaction.commit().map_err(|error| IndexError::Storage(error.into()))
    }
}
