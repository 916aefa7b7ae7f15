//! Going on without comparing, on the word of an operator.
//!
//! Whoever skips synchronization vouches that the replica is as the master is. Directories are watched, nothing is
//! compared and nothing is sent, so the start costs a walk over the directories the index knows. The index stays what
//! the stream says, hence whatever changes from now on is told rightly, also where the word was wrong: a file that
//! differed is compared when it is written next. What nobody touches stays as it is, and so the stream says: the gap
//! that opens here stays open until everything is compared by a synchronization or a rescan.

use super::run::{Gap, Runner};
use crate::capture::CaptureError;
use crate::capture::core::Core;
use crate::capture::draft::clock;
use crate::capture::facts::Facts;
use crate::capture::look::Sort;
use crate::capture::node::{Found, Place};
use journal::{GapCause, Marker, NodeId, RootNo};

impl Runner {
    /// Opens a gap for every root, and watches without comparing.
    pub(super) fn skip_comparing(&mut self, cause: GapCause) -> Result<(), CaptureError> {
        for root in self.all_roots() {
            let last = self.gaps.keys().next_back().map_or(0, |last| last + 1);
            let gap = u64::try_from(clock().0).unwrap_or(0).max(last);
            let path = Vec::new();
            self.core.out.mark_now(root, path.clone(), Marker::GapOpened { gap, root, path, cause })?;
            self.gaps.insert(gap, Gap { root, cause, epoch: None });
            self.core.watch_known(root)?;
        }
        Ok(())
    }
}

impl Core {
    /// Watches the directories that stand where the index says, and takes over their inodes where those are unknown.
    fn watch_known(&mut self, root: RootNo) -> Result<(), CaptureError> {
        let facts = Facts::default();
        let mut left = vec![NodeId::root(root)];
        while let Some(node) = left.pop() {
            let Place::Open(directory) = self.directory(&facts, node)? else { continue };
            if !self.watch_directory(&facts, node, &directory, None)? {
                continue;
            }
            let children: Vec<_> = self.index.children(node).collect::<Result<_, _>>()?;
            for (edge, child) in children {
                let Some(row) = self.index.row(child)?.filter(|row| row.sort() == Sort::Directory) else {
                    continue;
                };
                let Ok(Found::Node(look, origin)) = self.identify(&directory, root, &edge.name) else {
                    continue;
                };
                let same = row.origin == origin || self.adopt(&edge, &look, &origin)? == Some(child);
                if look.sort == Sort::Directory && same && !self.is_mount(root, &look) {
                    left.push(child);
                }
            }
        }
        Ok(())
    }
}
