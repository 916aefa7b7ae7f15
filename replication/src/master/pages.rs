//! The replica's namespace on its way into a new index.
//!
//! Every page must be of the moment that the stream stands at: an index of another moment would hide changes.

use super::{MasterError, NAMESPACE_WAIT};
use crate::capture::{Index, NamespaceEntry};
use crate::stream::ReplicaHandle;
use journal::{Lsn, Name, NodeId, RootNo};
use std::sync::Arc;
use wire::stream::SkippedName;

/// Most names that could not be kept; the replica remembers no more.
const SKIPPED_MAX: usize = 10_000;

/// The replica's namespace, page by page, as entries of the index.
pub(super) struct Pages {
    replica: Arc<dyn ReplicaHandle>,
    expected: Lsn,
    page: std::vec::IntoIter<wire::stream::NamespaceEntry>,
    next: Option<bytes::Bytes>,
    begun: bool,
    synchronized: bool,
    root: RootNo,
    /// What could not be kept, as the stream says.
    skipped: Vec<SkippedName>,
    error: Option<MasterError>,
}

impl Pages {
    pub(super) fn new(replica: Arc<dyn ReplicaHandle>, expected: Lsn) -> Self {
        let page = Vec::new().into_iter();
        Pages {
            replica,
            expected,
            page,
            next: None,
            begun: false,
            synchronized: false,
            root: RootNo(0),
            skipped: Vec::new(),
            error: None,
        }
    }

    /// The index made anew, and whether the first synchronization had completed.
    pub(super) fn rebuild(mut self, index: Index, next_node: NodeId) -> Result<(Index, bool), MasterError> {
        let mut index = index.rebuild(&mut self, next_node)?;
        match self.error {
            Some(error) => Err(error),
            None => {
                index.rebuild_skips(&self.skipped)?;
                Ok((index, self.synchronized))
            }
        }
    }

    fn turn(&mut self) -> Result<bool, MasterError> {
        if self.begun && self.next.is_none() {
            return Ok(false);
        }
        self.begun = true;
        let page =
            self.replica.namespace(self.next.take(), NAMESPACE_WAIT).map_err(MasterError::Namespace)?;
        if page.at != self.expected {
            return Err(MasterError::NamespaceMoved { expected: self.expected, found: page.at });
        }
        self.synchronized = page.synchronized;
        self.page = page.entries.into_iter();
        // As many as the replica remembers, which is bounded there; here too.
        let room = SKIPPED_MAX.saturating_sub(self.skipped.len());
        self.skipped.extend(page.skipped.into_iter().take(room));
        self.next = page.next;
        Ok(true)
    }
}

impl Iterator for &mut Pages {
    type Item = NamespaceEntry;

    fn next(&mut self) -> Option<NamespaceEntry> {
        loop {
            if let Some(entry) = self.page.next() {
                // A root comes before all that is below it.
                if let Some(root) = entry.node.as_root_or_kept() {
                    self.root = root;
                }
                let (parent, name) = match entry.at {
                    Some(at) => at,
                    None => (NodeId::root(self.root), Name::new(b"root")?),
                };
                let wire::stream::NamespaceEntry { node, meta, origin, content_known, .. } = entry;
                return Some(NamespaceEntry {
                    root: self.root,
                    node,
                    parent,
                    name,
                    meta,
                    origin,
                    content_known,
                });
            }
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.error = Some(error);
                    return None;
                }
            }
        }
    }
}
