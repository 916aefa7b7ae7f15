//! Tables that refuse calls of a sort from some call on, until they are healed.
//!
//! A refused commit has changed nothing, as fjall promises of a batch it could not write; a range may fail at its
//! beginning or between two rows.

use journal::journal::TablesFactory;
use journal::tables::{Frozen, Put, Row};
use journal::{JournalError, Space, Tables};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What is asked of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableCall {
    /// Tables are opened, or made.
    Open,
    /// The value of a key, or a row of a range.
    Read,
    /// A batch.
    Commit,
    /// What was committed is made durable.
    Persist,
}

impl TableCall {
    /// All of them.
    pub const ALL: [TableCall; 4] = [TableCall::Open, TableCall::Read, TableCall::Commit, TableCall::Persist];
}

#[derive(Debug, Default)]
struct Plan {
    calls: BTreeMap<TableCall, u64>,
    failing: Option<(TableCall, u64)>,
    failed: u64,
}

/// What fails, for all tables that were made with it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct TableFaults(Arc<Mutex<Plan>>);

impl TableFaults {
    /// Calls of a sort so far.
    #[must_use]
    pub fn calls(&self, call: TableCall) -> u64 {
        self.0.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Lets every call of a sort from number `from` (from 1) on fail.
    pub fn fail_from(&self, call: TableCall, from: u64) {
        let mut plan = self.0.lock();
        (plan.failing, plan.failed) = (Some((call, from)), 0);
    }

    /// How many failed since.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.lock().failed
    }

    /// No more faults.
    pub fn heal(&self) {
        self.0.lock().failing = None;
    }

    fn enter(&self, call: TableCall) -> Result<(), JournalError> {
        let mut plan = self.0.lock();
        let count = plan.calls.entry(call).or_default();
        *count += 1;
        let fails = plan.failing.is_some_and(|(which, from)| {
            which == call && plan.calls.get(&call).is_some_and(|count| *count >= from)
        });
        if !fails {
            return Ok(());
        }
        plan.failed += 1;
        let operation = match call {
            TableCall::Open => "open",
            TableCall::Read => "read",
            TableCall::Commit => "commit",
            TableCall::Persist => "persist",
        };
        let source = Box::new(io::Error::from_raw_os_error(libc::EIO));
        Err(JournalError::Tables { operation, source })
    }
}

/// A factory whose tables fail by a plan.
pub struct FaultyFactory<F> {
    /// What makes the tables.
    pub behind: F,
    /// The plan.
    pub faults: TableFaults,
}

impl<F: TablesFactory> TablesFactory for FaultyFactory<F> {
    fn tables(&self, fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        self.faults.enter(TableCall::Open)?;
        let behind = self.behind.tables(fresh)?;
        Ok(Arc::new(FaultyTables { behind, faults: self.faults.clone() }))
    }
}

struct FaultyTables {
    behind: Arc<dyn Tables>,
    faults: TableFaults,
}

impl Tables for FaultyTables {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.faults.enter(TableCall::Read)?;
        self.behind.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        if let Err(error) = self.faults.enter(TableCall::Read) {
            return Box::new(std::iter::once(Err(error)));
        }
        Box::new(self.behind.range(space, from, to).map(|row| {
            self.faults.enter(TableCall::Read)?;
            row
        }))
    }

    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError> {
        self.faults.enter(TableCall::Commit)?;
        self.behind.commit(batch)
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        Box::new(FaultyFrozen { behind: self.behind.frozen(), faults: self.faults.clone() })
    }

    fn persist(&self) -> Result<(), JournalError> {
        self.faults.enter(TableCall::Persist)?;
        self.behind.persist()
    }

    fn settle(&self) -> Result<bool, JournalError> {
        self.behind.settle()
    }
}

struct FaultyFrozen {
    behind: Box<dyn Frozen>,
    faults: TableFaults,
}

impl Frozen for FaultyFrozen {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.faults.enter(TableCall::Read)?;
        self.behind.get(space, key)
    }

    fn all<'a>(&'a self, space: Space) -> Box<dyn Iterator<Item = Result<Row, JournalError>> + 'a> {
        Box::new(self.behind.all(space).map(|row| {
            self.faults.enter(TableCall::Read)?;
            row
        }))
    }
}
