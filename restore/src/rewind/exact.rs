//! The way back to the capture: not only what people see has to be as it was, but all that the capture may speak of.
//!
//! A master remembers what it removed for a moment, and takes it back with a rename if it turns up again. What hangs
//! under a removed directory, and the bytes and metadata of what was removed, must then be as they were when it went.
//! A rewind to a point moves such things about, since only what can be reached from a root matters there.
//!
//! So here every name that local changes touched is set back, in removed directories, too. Nodes that local changes
//! created are no part of the past of the master: they go, and where they hold something else, that leaves them.

use super::plan::Work;
use crate::error::RestoreError;
use journal::serialize::Change;
use journal::state::State;
use journal::view::Difference;
use journal::{JournalError, Meta, NodeId, RootNo, Tables, TreeIo};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a replica made this node for itself.
pub(crate) const fn is_local(node: NodeId) -> bool {
    node.0 >> 63 == 1
}

/// The names that local changes have touched, as they were.
pub(crate) fn changes<T: TreeIo>(
    difference: &Difference<'_, T>,
) -> Result<BTreeMap<RootNo, Vec<Change>>, RestoreError> {
    let failed = RestoreError::journal("plan names");
    let tables = &**difference.from().view().tables();
    let mut changes: BTreeMap<RootNo, Vec<Change>> = BTreeMap::new();
    for change in difference.names() {
        let (old, mut new) = (change.from, change.to);
        if is_local(change.edge.parent) {
            if old.is_none_or(is_local) {
                continue;
            }
            new = None;
        }
        let root = root_of(tables, change.edge.parent).map_err(&failed)?;
        changes.entry(root).or_default().push(Change { edge: change.edge.clone(), old, new });
    }
    Ok(changes)
}

/// Bytes and metadata that local changes have touched.
pub(crate) fn works<T: TreeIo>(difference: &Difference<'_, T>) -> Result<Vec<Work>, RestoreError> {
    let failed = RestoreError::journal("plan metadata");
    let (now, then) = (difference.from().view(), difference.to().view());
    let touched: BTreeSet<NodeId> = difference.nodes().iter().chain(difference.files()).copied().collect();
    let mut works = Vec::new();
    for node in touched.into_iter().filter(|node| !is_local(*node)) {
        let (Some(before), Some(after)) =
            (now.meta(node).map_err(&failed)?, then.meta(node).map_err(&failed)?)
        else {
            continue;
        };
        let root = root_of(&**now.tables(), node).map_err(&failed)?;
        works.extend(Work::between(node, root, before, after, difference.may_differ(node)));
    }
    Ok(works)
}

impl Work {
    /// What leads from one state of a node to another; `None` if nothing.
    pub(crate) fn between(
        node: NodeId,
        root: RootNo,
        before: Meta,
        after: Meta,
        bytes: bool,
    ) -> Option<Work> {
        let attributes = before.attributes != after.attributes;
        let xattrs = before.xattrs != after.xattrs;
        let work = Work { target: node, source: node, root, bytes, attributes, xattrs };
        (bytes || attributes || xattrs).then_some(work)
    }
}

/// The root under which a node is now, or in whose kept area.
fn root_of(tables: &dyn Tables, node: NodeId) -> Result<RootNo, JournalError> {
    const DEPTH_MAX: usize = 1 << 20;
    let mut at = node;
    for _ in 0..DEPTH_MAX {
        if let Some(root) = at.as_root_or_kept() {
            return Ok(root);
        }
        match State::links(tables, at)?.into_iter().next() {
            Some(edge) => at = edge.parent,
            None => break,
        }
    }
    Err(JournalError::NotFound { what: "place of node", name: node.to_string() })
}
