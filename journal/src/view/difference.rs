//! What differs between two points.
//!
//! The journal's tables list what each capture touched. Everything that can differ between two points was touched by
//! a capture between them, so the candidates are read from there, once each, and looked up in both views; what is the
//! same again is dropped. The cost follows what changed between the points, not the size of the tree nor the age of
//! the points.
//!
//! Memory grows with the number of distinct names, nodes and files touched between the points: about a hundred bytes
//! and a name each. A thousand changes of one file count once.

use super::{Places, View};
use crate::error::JournalError;
use crate::id::{Edge, NodeId};
use crate::lsn::Lsn;
use crate::meta::{Attributes, Meta, Timestamp};
use crate::state::rows::{Change, change_key, read};
use crate::tables::Space;
use crate::tree::TreeIo;
use std::collections::{BTreeSet, HashMap};

/// A name that does not stand for the same node at both points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameChange {
    /// The name.
    pub edge: Edge,
    /// What stands there at the point that is left.
    pub from: Option<NodeId>,
    /// What stands there at the point that is gone to.
    pub to: Option<NodeId>,
}

/// What differs between two points, whether it can be reached from a root or not.
pub struct Difference<'v, T: TreeIo> {
    from: Places<'v, T>,
    to: Places<'v, T>,
    names: Vec<NameChange>,
    nodes: Vec<NodeId>,
    files: Vec<NodeId>,
}

/// Rows read between two looks at the monitor.
const ROWS_A_STEP: u64 = 4096;

struct Touched {
    names: BTreeSet<Edge>,
    nodes: BTreeSet<NodeId>,
    files: BTreeSet<NodeId>,
}

impl<'v, T: TreeIo> Difference<'v, T> {
    /// Finds what differs between two views of one replica. `go_on` is told now and then how many rows were read;
    /// `None` if it said no.
    ///
    /// # Errors
    /// As the tables.
    pub fn between(
        from: &'v View<T>,
        to: &'v View<T>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Self>, JournalError> {
        let (older, newer) = if from.lsn() <= to.lsn() { (from, to) } else { (to, from) };
        let Some(mut touched) = touched(older, newer.lsn(), go_on)? else { return Ok(None) };
        let mut names = Vec::new();
        let (mut names_from, mut names_to) = (HashMap::new(), HashMap::new());
        for edge in touched.names {
            let (before, after) = (from.lookup(&edge)?, to.lookup(&edge)?);
            if before == after {
                continue;
            }
            note(&mut names_from, before, &edge);
            note(&mut names_to, after, &edge);
            names.push(NameChange { edge, from: before, to: after });
        }
        let mut nodes = Vec::new();
        for node in touched.nodes {
            let (before, after) = (from.meta(node)?, to.meta(node)?);
            if before != after {
                nodes.push(node);
                // Bytes added at the end replace none, so nothing but the size tells of them.
                if before.map(|meta| meta.size) != after.map(|meta| meta.size) {
                    touched.files.insert(node);
                }
            }
        }
        // Names that changed between the points are known for the older one. For the newer one they are true, too,
        // but what happened after it was not looked at.
        let places = |view: &'v View<T>, names| {
            let scanned = if view.lsn() == older.lsn() { newer.lsn() } else { view.lsn() };
            Places::seeded(view, scanned, names)
        };
        Ok(Some(Difference {
            from: places(from, names_from),
            to: places(to, names_to),
            names,
            nodes,
            files: touched.files.into_iter().collect(),
        }))
    }

    /// Places at the point that is left.
    #[must_use]
    pub fn from(&self) -> &Places<'v, T> {
        &self.from
    }

    /// Places at the point that is gone to.
    #[must_use]
    pub fn to(&self) -> &Places<'v, T> {
        &self.to
    }

    /// Names that differ, sorted.
    #[must_use]
    pub fn names(&self) -> &[NameChange] {
        &self.names
    }

    /// The difference at a name, if there is one.
    #[must_use]
    pub fn name(&self, edge: &Edge) -> Option<&NameChange> {
        let found = self.names.binary_search_by(|change| change.edge.cmp(edge)).ok()?;
        self.names.get(found)
    }

    /// Nodes whose metadata differs, sorted. Of a node that one of the points does not have nothing is said.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Files whose bytes were touched, and may differ; sorted.
    #[must_use]
    pub fn files(&self) -> &[NodeId] {
        &self.files
    }

    /// Whether the bytes of this file were touched.
    #[must_use]
    pub fn may_differ(&self, node: NodeId) -> bool {
        self.files.binary_search(&node).is_ok()
    }
}

fn note(names: &mut HashMap<NodeId, Vec<Edge>>, node: Option<NodeId>, edge: &Edge) {
    if let Some(node) = node {
        names.entry(node).or_default().push(edge.clone());
    }
}

/// What captures after `older`, up to `newest`, touched.
fn touched<T: TreeIo>(
    older: &View<T>,
    newest: Lsn,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Touched>, JournalError> {
    let mut touched = Touched { names: BTreeSet::new(), nodes: BTreeSet::new(), files: BTreeSet::new() };
    let from = change_key(older.lsn().successor(), 0);
    let to = change_key(newest.successor(), 0);
    for (number, row) in older.tables().range(Space::Changes, &from, &to).enumerate() {
        if (number as u64).is_multiple_of(ROWS_A_STEP) && !go_on(number as u64) {
            return Ok(None);
        }
        let (_, value) = row?;
        match read(Space::Changes, &value)? {
            Change::Name(edge) => drop(touched.names.insert(edge)),
            Change::Node(node) => drop(touched.nodes.insert(node)),
            Change::Data(node) => drop(touched.files.insert(node)),
        }
    }
    Ok(Some(touched))
}

/// Metadata that makes two trees differ: all but the change time, which nobody can set, and the size, which belongs
/// to the bytes.
#[must_use]
pub fn comparable(meta: Meta) -> Meta {
    let attributes = Attributes { ctime: Timestamp(0), ..meta.attributes };
    Meta { attributes, size: 0, ..meta }
}

/// Whether the metadata of a node makes two trees differ.
///
/// # Errors
/// As the tables.
pub fn meta_differs<T: TreeIo>(from: &View<T>, to: &View<T>, node: NodeId) -> Result<bool, JournalError> {
    Ok(from.meta(node)?.map(comparable) != to.meta(node)?.map(comparable))
}
