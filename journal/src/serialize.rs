//! A valid serial order for a set of changed names.
//!
//! Two states of a tree are given by the edges in which they differ. [`serialize`] finds steps that lead from the old
//! state to the new one so that each step is possible when its turn comes: the name it takes is free, the directory
//! it places something in is there, and no directory moves below itself. Capture uses it from index to observation,
//! rewind from the present tree to a view.
//!
//! Why it terminates and is correct: each node that changes has a few operations (take a name, give one up). An
//! operation runs when nothing stands in its way; else what stands in its way is run first, depth first, on an
//! explicit stack. Where that leads back to an operation already on the stack there is a cycle, and the node of one
//! of the two is parked in the kept area, which frees its name and takes it out of every directory: each operation
//! parks at most once, so there are at most twice as many steps as operations. Only a target that is no tree leaves
//! something that parking cannot free, and that is an error.
//!
//! Steps that belong together (a name freed and taken again, all names of one node, everything between parking and
//! placing) form a group, so that no point between groups lacks a name or a node that both states have.

mod order;
mod plan;

use crate::id::{Edge, NodeId, RootNo};
use order::Scheduler;
use std::ops::Range;

/// One name in which the states differ. Names in kept areas are ignored: removing and reviving imply them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name.
    pub edge: Edge,
    /// The node that stands there in the old state.
    pub old: Option<NodeId>,
    /// The node that shall stand there.
    pub new: Option<NodeId>,
}

/// What must be known of the old state. Asked only for touched nodes and for directories above touched names.
pub trait Before {
    /// Why an answer failed.
    type Error;
    /// All names of a node, the one in the kept area included. None: it must be created.
    fn names(&self, node: NodeId) -> Result<Vec<Edge>, Self::Error>;
    /// Whether the node is (or is to be created as) a directory.
    fn is_directory(&self, node: NodeId) -> Result<bool, Self::Error>;
}

/// One name event, in the words of [`crate::event::Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The node comes into being under its first name.
    Create { node: NodeId, at: Edge },
    /// One more name.
    Link { node: NodeId, at: Edge },
    /// The name goes; the last one, or a directory, goes to the kept area.
    Remove { node: NodeId, at: Edge },
    /// The name changes; either side may lie in the kept area.
    Rename { node: NodeId, from: Edge, to: Edge },
}

impl Step {
    /// The node it is about.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        match self {
            Step::Create { node, .. }
            | Step::Link { node, .. }
            | Step::Remove { node, .. }
            | Step::Rename { node, .. } => *node,
        }
    }

    /// The name it frees.
    #[must_use]
    pub const fn frees(&self) -> Option<&Edge> {
        match self {
            Step::Remove { at: edge, .. } | Step::Rename { from: edge, .. } => Some(edge),
            _ => None,
        }
    }

    /// The name it takes.
    #[must_use]
    pub const fn takes(&self) -> Option<&Edge> {
        match self {
            Step::Create { at: edge, .. } | Step::Link { at: edge, .. } | Step::Rename { to: edge, .. } => {
                Some(edge)
            }
            Step::Remove { .. } => None,
        }
    }
}

/// Steps in a valid order, cut into groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    steps: Vec<Step>,
    groups: Vec<Range<usize>>,
}

impl Order {
    /// All steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps group by group; a point may be taken between groups, never inside one.
    pub fn groups(&self) -> impl Iterator<Item = &[Step]> {
        self.groups.iter().filter_map(|range| self.steps.get(range.clone()))
    }
}

/// Why no order was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SerializeError<E: std::error::Error + 'static> {
    /// The old state could not be asked.
    #[error("read the present names")]
    Before(#[source] E),
    /// The wanted state is no tree: a cycle of directories, a directory with two names, a name taken that nobody
    /// gives up, a place below a directory that does not exist.
    #[error("the wanted names of {node} do not form a tree: {what}")]
    NotATree { node: NodeId, what: &'static str },
}

/// Orders the changes of one root.
///
/// # Errors
/// `Before` if the old state cannot be asked, `NotATree` if the wanted state is none.
pub fn serialize<B: Before>(
    root: RootNo,
    changes: &[Change],
    before: &B,
) -> Result<Order, SerializeError<B::Error>>
where
    B::Error: std::error::Error + 'static,
{
    let mut scheduler = Scheduler::new(root, before);
    scheduler.plan(changes)?;
    scheduler.run()?;
    let (steps, joined) = scheduler.finish();
    let mut groups = Vec::new();
    let mut start = 0;
    for end in 1..=steps.len() {
        if !joined.get(end).copied().unwrap_or(false) {
            groups.push(start..end);
            start = end;
        }
    }
    Ok(Order { steps, groups })
}

#[cfg(test)]
mod tests;
