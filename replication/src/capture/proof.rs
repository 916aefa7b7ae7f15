//! The digests that go with a barrier: what the stream says hangs below each root.
//!
//! The index holds what was removed a moment ago, because it may come back; the replica's digests do not. So the sums
//! of the index are taken without what hangs in limbo, which is read for that. If that is too much to read while
//! somebody waits for a barrier, the barrier goes without digests: a later one has them.

use super::CaptureError;
use super::core::Core;
use super::index::sums::{Sums, entry_of, take};
use super::look::Sort;
use journal::digest::Digest;
use journal::{Marker, NodeId};
use std::collections::HashSet;

/// Rows in limbo that are read for a barrier.
const ROWS_MAX: usize = 20_000;

impl Core {
    /// A marker for each root of which the stream has said something; none if too much was removed a moment ago.
    pub(super) fn digest_marks(&self) -> Result<Vec<Marker>, CaptureError> {
        let Some(sums) = self.digests()? else { return Ok(Vec::new()) };
        let mut marks = Vec::new();
        for root in &self.roots {
            let told = self.index.row(NodeId::root(root.number))?.is_some_and(|row| row.facts().is_some());
            if told {
                let digest = sums.get(&root.number).copied().unwrap_or_default().to_bytes();
                marks.push(Marker::Digest { root: root.number, digest });
            }
        }
        Ok(marks)
    }

    /// The digests of what is in the tree as far as the stream goes.
    fn digests(&self) -> Result<Option<Sums>, CaptureError> {
        let mut sums = self.index.sums();
        let mut rows = 0;
        let mut seen = HashSet::new();
        let (removed, mut directories) = self.limbo.waiting();
        for node in removed {
            rows += 1;
            if rows > ROWS_MAX {
                return Ok(None);
            }
            // It may have come back.
            let names = self.index.names_of(node)?;
            if !names.iter().any(|name| name.parent.is_kept_area()) || !seen.insert(node) {
                continue;
            }
            self.take_row(&mut sums, node)?;
            if self.index.row(node)?.is_some_and(|row| row.sort() == Sort::Directory) {
                directories.push(node);
            }
        }
        while let Some(directory) = directories.pop() {
            for child in self.index.children(directory) {
                let (edge, node) = child?;
                rows += 1;
                if rows > ROWS_MAX {
                    return Ok(None);
                }
                let Some(row) = self.index.row(node)? else { continue };
                take(&mut sums, row.root, Digest::of_name(&edge, node));
                if row.sort() == Sort::Directory {
                    directories.push(node);
                }
                if seen.insert(node) {
                    self.take_row(&mut sums, node)?;
                }
            }
        }
        Ok(Some(sums))
    }

    /// Takes out the entry of a node that has no name in the tree.
    fn take_row(&self, sums: &mut Sums, node: NodeId) -> Result<(), CaptureError> {
        for name in self.index.names_of(node)? {
            if !name.parent.is_kept_area() && self.is_attached(name.parent)? {
                return Ok(());
            }
        }
        if let Some(row) = self.index.row(node)?
            && let Some(entry) = entry_of(node, &row)
        {
            take(sums, row.root, entry);
        }
        Ok(())
    }
}
