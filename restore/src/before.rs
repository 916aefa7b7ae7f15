//! Single names and nodes as they were before an LSN, from the tables alone.
//!
//! The present is read first and undo second, as in every view: undo that is found wins, so no lock is needed while apply
//! goes on.

use journal::state::State;
use journal::state::rows;
use journal::{Edge, JournalError, Lsn, Meta, NodeId, Space, Tables};

/// What stood at a name before everything from `lsn` on.
pub(crate) fn name_before(
    tables: &dyn Tables,
    edge: &Edge,
    lsn: Lsn,
) -> Result<Option<NodeId>, JournalError> {
    let present = State::name(tables, edge)?;
    let (from, to) = (rows::name_undo_key(edge, lsn), rows::name_undo_key(edge, Lsn::MAX));
    match tables.range(Space::NameUndo, &from, &to).next() {
        Some(row) => rows::read(Space::NameUndo, &row?.1),
        None => Ok(present),
    }
}

/// Metadata of a node before everything from `lsn` on.
pub(crate) fn meta_before(tables: &dyn Tables, node: NodeId, lsn: Lsn) -> Result<Option<Meta>, JournalError> {
    let present = State::node(tables, node)?;
    let (from, to) = (rows::node_undo_key(node, lsn), rows::node_undo_key(node, Lsn::MAX));
    match tables.range(Space::NodeUndo, &from, &to).next() {
        Some(row) => Ok(Some(rows::read(Space::NodeUndo, &row?.1)?)),
        None => Ok(present.map(|row| row.meta)),
    }
}
