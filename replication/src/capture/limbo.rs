//! What was removed a moment ago.
//!
//! The index keeps a removed node in the kept area, as the replica does, for a short while: a node that was moved out
//! and comes back, or that a rescan finds elsewhere later, is then revived by a rename instead of being sent again.
//! Afterwards its rows, and those of all it holds, are forgotten, a bounded number at a time.

use super::CaptureError;
use super::core::Core;
use super::look::Sort;
use journal::NodeId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a removed node may be revived.
const LIMBO: Duration = Duration::from_secs(2);
/// Rows forgotten at a time.
const ROWS_MAX: usize = 4096;

/// Removed nodes whose rows are still there.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    removed: VecDeque<(NodeId, Instant)>,
    /// Directories whose rows are being forgotten.
    leaving: Vec<NodeId>,
}

impl Limbo {
    /// A node was removed.
    pub(super) fn push(&mut self, node: NodeId) {
        self.removed.push_back((node, Instant::now()));
    }

    /// Removed nodes, and directories whose rows are being forgotten.
    pub(super) fn waiting(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        (self.removed.iter().map(|(node, _)| *node).collect(), self.leaving.clone())
    }

    /// Whether rows wait to be forgotten now.
    pub(super) fn is_busy(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether anything waits, now or later.
    pub(super) fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.removed.is_empty()
    }
}

impl Core {
    /// Forgets some of what has been removed for long enough; of everything that was removed if `all`.
    pub(super) fn forget_removed(&mut self, all: bool) -> Result<(), CaptureError> {
        loop {
            let mut budget = ROWS_MAX;
            while budget > 0 {
                if let Some(directory) = self.limbo.leaving.pop() {
                    self.forget_children(directory, &mut budget)?;
                    continue;
                }
                let due = |(_, at): &(NodeId, Instant)| all || at.elapsed() >= LIMBO;
                let Some((node, _)) = self.limbo.removed.front().copied().filter(due) else { return Ok(()) };
                self.limbo.removed.pop_front();
                let names = self.index.names_of(node)?;
                if let Some(kept) = names.iter().find(|edge| edge.parent.is_kept_area()) {
                    let mut batch = self.index.batch();
                    self.index.remove_edge(&mut batch, kept, node);
                    self.index.commit(batch)?;
                    self.forget_node(node, names.len() > 1)?;
                }
                budget = budget.saturating_sub(1);
            }
            if !all {
                return Ok(());
            }
        }
    }

    /// The entries of a directory that is gone for good.
    fn forget_children(&mut self, directory: NodeId, budget: &mut usize) -> Result<(), CaptureError> {
        let children = self.index.children(directory).take(*budget).collect::<Result<Vec<_>, _>>()?;
        *budget -= children.len();
        if *budget == 0 {
            self.limbo.leaving.push(directory);
        }
        let mut batch = self.index.batch();
        for (edge, node) in &children {
            self.index.remove_edge(&mut batch, edge, *node);
        }
        self.index.commit(batch)?;
        for (edge, node) in children {
            self.unskip(&edge)?;
            let has_other_names = !self.index.names_of(node)?.is_empty();
            self.forget_node(node, has_other_names)?;
        }
        Ok(())
    }

    fn forget_node(&mut self, node: NodeId, has_other_names: bool) -> Result<(), CaptureError> {
        if has_other_names {
            return Ok(());
        }
        if self.index.row(node)?.is_some_and(|row| row.sort() == Sort::Directory) {
            self.watch.forget(node);
            self.unwatched.remove(&node);
            self.limbo.leaving.push(node);
        }
        self.owed.remove(&node);
        self.dropped.remove(&node);
        let mut batch = self.index.batch();
        self.index.remove_node(&mut batch, node)?;
        self.index.commit(batch)
    }
}
