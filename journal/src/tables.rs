//! Keyed tables: the projections that make the past cheap to read.
//!
//! A [`Tables`] holds byte keys in named [`Space`]s, ordered, with atomic batches. It is always a projection: it may
//! lose everything and be rebuilt from the journal, but it must never forget a batch while keeping a later one, nor
//! keep half of one. Rows and their keys are described in `FORMAT.md` and encoded in `state::rows`.

mod lsm;
mod memory;
mod memtables;
mod remove;

pub use lsm::{LsmFactory, LsmTables};
pub use memory::MemoryTables;
pub use memtables::{Memtables, ROW_BYTES};
pub use remove::remove_tables;

use crate::error::JournalError;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// (parent, name) to node: the tree as applied last.
    Names,
    /// node to one of its names, and whether it has more; (node, parent, name) to nothing for each of the others; as
    /// applied last. Nearly all nodes have one name, and a lookup costs a third of a range.
    Links,
    /// node to row: metadata, replica inode.
    Nodes,
    /// (parent, name, LSN) to the node that stood there before LSN.
    NameUndo,
    /// (node, LSN) to metadata before LSN.
    NodeUndo,
    /// (node, chunk, LSN, offset) to where the bytes before LSN are.
    DataUndo,
    /// (LSN, number) to what the capture touched.
    Changes,
    /// LSN to what a person sees of it.
    Points,
    /// Small rows: heads and format version.
    Heads,
    /// What may be among some thousand consecutive points; may be missing, see `state::summary`.
    PointBlocks,
}

impl Space {
    /// All of them, in declaration order.
    pub const ALL: [Space; 10] = [
        Space::Names,
        Space::Links,
        Space::Nodes,
        Space::NameUndo,
        Space::NodeUndo,
        Space::DataUndo,
        Space::Changes,
        Space::Points,
        Space::Heads,
        Space::PointBlocks,
    ];

    /// Whether it holds what was, not what is: its rows must be visible before those of the present that go with them.
    #[must_use]
    pub const fn is_history(self) -> bool {
        matches!(self, Space::NameUndo | Space::NodeUndo | Space::DataUndo | Space::Changes | Space::Points)
    }

    /// Name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Space::Names => "names",
            Space::Links => "links",
            Space::Nodes => "nodes",
            Space::NameUndo => "name-undo",
            Space::NodeUndo => "node-undo",
            Space::DataUndo => "data-undo",
            Space::Changes => "changes",
            Space::Points => "points",
            Space::Heads => "heads",
            Space::PointBlocks => "point-blocks",
        }
    }
}

/// One change of a batch: a value, or `None` to remove the key.
pub type Put = (Space, Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Ordered tables with atomic batches, readable by many threads while one writes.
pub trait Tables: Send + Sync {
    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError>;
    /// Rows with `from <= key < to`, ascending. Sees all batches committed before the call, and of later ones all or
    /// nothing of each row. Lazy: memory does not grow with the range.
    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a>;
    /// Applies all of a batch, in a crash all or nothing of it; visible to every reader when it returns. Until then
    /// a reader may see part of it, but never a row of the present without the rows of history of the same batch.
    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError>;
    /// The tables as they are now, whatever is committed later.
    fn frozen(&self) -> Box<dyn Frozen>;
    /// Makes what was committed durable. Nothing depends on it, for tables may be lost: it makes the next start faster, and
    /// leaves it less to recognise.
    fn persist(&self) -> Result<(), JournalError>;
    /// Gives back memory that a large number of batches took, in the background; false if there is not much. For idle
    /// moments.
    fn settle(&self) -> Result<bool, JournalError>;
}

/// Tables as they were at one moment, between two batches.
pub trait Frozen: Send {
    /// As [`Tables::get`].
    ///
    /// # Errors
    /// As the tables.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError>;
    /// All rows of a table, ascending; lazy.
    fn all<'a>(&'a self, space: Space) -> Box<dyn Iterator<Item = Result<Row, JournalError>> + 'a>;
}

/// The least key greater than every key that begins with `prefix`; empty keys stand for "no end" nowhere else.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; 300]
}
