//! Tables in memory: the reference for tests, and fast enough to run thousands of histories.

use super::{Frozen, Put, Row, Space, Tables};
use crate::error::JournalError;
use parking_lot::RwLock;
use std::collections::BTreeMap;

type Map = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// Ordered tables in memory.
#[derive(Debug, Default)]
pub struct MemoryTables {
    rows: RwLock<Map>,
}

impl MemoryTables {
    /// Rows read at a time: a range holds the lock only as long as that takes.
    const PAGE_ROWS: usize = 256;

    fn with_range<R>(
        &self,
        space: Space,
        from: &[u8],
        to: &[u8],
        read: impl FnOnce(&mut dyn DoubleEndedIterator<Item = Row>) -> R,
    ) -> Option<R> {
        if from >= to {
            return None;
        }
        let rows = self.rows.read();
        let range = rows.range((space, from.to_vec())..(space, to.to_vec()));
        Some(read(&mut range.map(|((_, key), value)| (key.clone(), value.clone()))))
    }
}

struct Pages<'a> {
    tables: &'a MemoryTables,
    space: Space,
    from: Vec<u8>,
    to: Vec<u8>,
    page: std::collections::VecDeque<Row>,
}

impl Iterator for Pages<'_> {
    type Item = Result<Row, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() {
            let page = self.tables.with_range(self.space, &self.from, &self.to, |rows| {
                rows.take(MemoryTables::PAGE_ROWS).collect()
            });
            self.page = page.unwrap_or_default();
        }
        let row = self.page.pop_front()?;
        self.from.clone_from(&row.0);
        self.from.push(0);
        Some(Ok(row))
    }
}

impl DoubleEndedIterator for Pages<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.tables.with_range(self.space, &self.from, &self.to, |rows| rows.next_back())??;
        self.page.clear();
        self.to.clone_from(&row.0);
        Some(Ok(row))
    }
}

impl Tables for MemoryTables {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.rows.read().get(&(space, key.to_vec())).cloned())
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        let page = std::collections::VecDeque::new();
        Box::new(Pages { tables: self, space, from: from.to_vec(), to: to.to_vec(), page })
    }

    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError> {
        let mut rows = self.rows.write();
        for (space, key, value) in batch {
            match value {
                Some(value) => rows.insert((space, key), value),
                None => rows.remove(&(space, key)),
            };
        }
        Ok(())
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        Box::new(FrozenMap(self.rows.read().clone()))
    }

    fn persist(&self) -> Result<(), JournalError> {
        Ok(())
    }

    fn settle(&self) -> Result<bool, JournalError> {
        Ok(false)
    }
}

struct FrozenMap(Map);

impl Frozen for FrozenMap {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.0.get(&(space, key.to_vec())).cloned())
    }

    fn all<'a>(&'a self, space: Space) -> Box<dyn Iterator<Item = Result<Row, JournalError>> + 'a> {
        let rows = self.0.range((space, Vec::new())..).take_while(move |((of, _), _)| *of == space);
        Box::new(rows.map(|((_, key), value)| Ok((key.clone(), value.clone()))))
    }
}
