//! What stands for a node of the point that is not there now, on a master.
//!
//! A replica takes such a node out of its kept area. A master has none: the node is made anew, or what stands at its
//! name now is made like it, if that is of the same kind and the point has no other use for it. Standing in costs
//! less than making anew (only what differs is written), disturbs whoever has it open less, and makes going back to
//! the same point twice change nothing the second time.

use super::Decider;
use crate::error::RestoreError;
use crate::scope::{Where, is_directory};
use journal::{Edge, JournalError, NodeId, RootNo, TreeIo};

impl<T: TreeIo> Decider<'_, '_, T> {
    /// Whether a directory of the point is there now and takes its own place.
    pub(super) fn is_itself(&mut self, directory: NodeId) -> Result<bool, RestoreError> {
        let failed = RestoreError::journal("plan names");
        if self.for_master && !self.is_there(directory, true).map_err(failed)? {
            return Ok(false);
        }
        Ok(self.node_for(directory)? == directory)
    }

    /// Whether a node hangs under a root now.
    pub(super) fn is_there(&self, node: NodeId, directory: bool) -> Result<bool, JournalError> {
        if directory {
            return Ok(self.now.directory(node)? != Where::Nowhere);
        }
        for edge in self.difference.from().names(node)? {
            if self.now.name(&edge)? != Where::Nowhere {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Chooses what takes the place of a node that is not there now.
    pub(super) fn make(
        &mut self,
        node: NodeId,
        directory: bool,
        at: Option<&Edge>,
    ) -> Result<NodeId, RestoreError> {
        let found = match at {
            Some(at) => self.stand_in(node, at).map_err(RestoreError::journal("plan names"))?,
            None => None,
        };
        let stands = match found {
            Some(other) => {
                self.stand_ins.insert(other, node);
                other
            }
            None => self.copy(node)?,
        };
        self.stands_for.insert(node, stands);
        if directory {
            self.unfilled.push(node);
        }
        Ok(stands)
    }

    /// Who stands at the name of a node now and may become like it.
    fn stand_in(&self, node: NodeId, at: &Edge) -> Result<Option<NodeId>, JournalError> {
        let (now, then) = (self.difference.from().view(), self.difference.to().view());
        let Some(other) = now.lookup(at)? else { return Ok(None) };
        if self.stand_ins.contains_key(&other)
            || now.meta(other)?.map(|m| m.kind) != then.meta(node)?.map(|m| m.kind)
        {
            return Ok(None);
        }
        // Whoever the point shows elsewhere is needed there, and whoever has a name outside must not change.
        if is_directory(self.difference.from(), other)? {
            let needed = self.then.directory(other)? != Where::Nowhere;
            return Ok((!needed).then_some(other));
        }
        for edge in self.difference.to().names(other)? {
            if self.then.name(&edge)? != Where::Nowhere {
                return Ok(None);
            }
        }
        for edge in self.difference.from().names(other)? {
            if self.now.name(&edge)? == Where::Outside {
                return Ok(None);
            }
        }
        Ok(Some(other))
    }

    /// Names in a directory that stands in for another, which the other does not have.
    pub(super) fn empty_rest(&mut self, directory: NodeId, root: RootNo) -> Result<(), JournalError> {
        for entry in self.difference.from().view().list(directory) {
            let edge = Edge::new(directory, entry?.0);
            self.wanted.entry(edge).or_insert((root, None));
        }
        Ok(())
    }
}
