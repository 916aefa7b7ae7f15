//! Tables on disk: one fjall database, one keyspace a space.
//!
//! After a crash a prefix of the batches is there, each whole. To readers a batch appears row by row, in the order in
//! which it was given (fjall reads the newest value, not a snapshot), so rows of history go first: see the trait. It is a projection: whoever opens it compares the head row in it with the
//! journal and rebuilds on any doubt.

use super::{Frozen, Memtables, Put, ROW_BYTES, Row, Space, Tables, remove_tables};
use crate::error::JournalError;
use crate::journal::TablesFactory;
use fjall::{Database, Keyspace, PersistMode, Readable, Snapshot};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ordered tables on disk.
pub struct LsmTables {
    database: Database,
    spaces: Vec<Keyspace>,
    memtables: Memtables,
}

/// Tables on disk below a directory, made anew if they are to be fresh.
#[derive(Clone, Debug)]
pub struct LsmFactory(pub PathBuf);

impl TablesFactory for LsmFactory {
    fn tables(&self, fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        let failed = |operation| {
            let path = self.0.clone();
            move |source| JournalError::File { operation, path, source }
        };
        if fresh {
            remove_tables(&self.0).map_err(failed("remove"))?;
        }
        std::fs::create_dir_all(&self.0).map_err(failed("create"))?;
        Ok(Arc::new(LsmTables::open(&self.0)?))
    }
}

/// Bytes of block cache.
const CACHE_BYTES: u64 = 12 << 20;
/// Bytes of fjall's own journal.
const JOURNAL_BYTES: u64 = 128 << 20;

fn failed(operation: &'static str) -> impl Fn(fjall::Error) -> JournalError {
    move |source| JournalError::Tables { operation, source: Box::new(source) }
}

impl LsmTables {
    /// Opens the tables below `directory`, creating them if need be.
    ///
    /// # Errors
    /// `Tables` if fjall cannot open them: delete the directory and rebuild.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(failed("open"))?;
        let open = |space: &Space| database.keyspace(space.name(), Memtables::options);
        let spaces = Space::ALL.iter().map(open).collect::<Result<Vec<_>, _>>();
        let spaces = spaces.map_err(failed("open a keyspace"))?;
        let memtables = Memtables::new(&database, spaces.clone()).map_err(failed("write tables out"))?;
        Ok(LsmTables { database, memtables, spaces })
    }

    fn keyspace(&self, space: Space) -> Result<&Keyspace, JournalError> {
        self.spaces.get(space as usize).ok_or(JournalError::BadRow { space: space.name() })
    }
}

impl Tables for LsmTables {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.keyspace(space)?.get(key).map_err(failed("read"))?.map(|value| value.to_vec()))
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        match self.keyspace(space) {
            Ok(keyspace) => Box::new(keyspace.range(from.to_vec()..to.to_vec()).map(|row| {
                let (key, value) = row.into_inner().map_err(failed("read a range"))?;
                Ok((key.to_vec(), value.to_vec()))
            })),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn commit(&self, mut batch: Vec<Put>) -> Result<(), JournalError> {
        batch.sort_by_key(|(space, _, _)| !space.is_history());
        let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let bytes = batch.iter().map(|(_, key, new)| key.len() + value(new) + ROW_BYTES).sum();
        let mut write = self.database.batch();
        for (space, key, value) in batch {
            let keyspace = self.keyspace(space)?;
            match value {
                Some(value) => write.insert(keyspace, key, value),
                None => write.remove(keyspace, key),
            }
        }
        write.commit().map_err(failed("commit"))?;
        // The batch is there: to call it failed would have it applied again, upon itself. If fjall can write no more, the
        // next batch says so.
        if let Err(error) = self.memtables.wrote(bytes) {
            tracing::error!(%error, "tables cannot be written out");
        }
        Ok(())
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        Box::new(FrozenLsm { snapshot: self.database.snapshot(), spaces: self.spaces.clone() })
    }

    fn persist(&self) -> Result<(), JournalError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed("persist"))
    }

    fn settle(&self) -> Result<bool, JournalError> {
        self.memtables.settle().map_err(failed("settle"))
    }
}

struct FrozenLsm {
    snapshot: Snapshot,
    spaces: Vec<Keyspace>,
}

impl FrozenLsm {
    fn keyspace(&self, space: Space) -> Result<&Keyspace, JournalError> {
        self.spaces.get(space as usize).ok_or(JournalError::BadRow { space: space.name() })
    }
}

impl Frozen for FrozenLsm {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let value = self.snapshot.get(self.keyspace(space)?, key).map_err(failed("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn all<'a>(&'a self, space: Space) -> Box<dyn Iterator<Item = Result<Row, JournalError>> + 'a> {
        match self.keyspace(space) {
            Ok(keyspace) => Box::new(self.snapshot.iter(keyspace).map(|row| {
                let (key, value) = row.into_inner().map_err(failed("read a range"))?;
                Ok((key.to_vec(), value.to_vec()))
            })),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests;
