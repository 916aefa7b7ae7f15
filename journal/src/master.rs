//! The way to a master's own tree, as a trait, so that plans need neither capture nor a network.
//!
//! Changes travel as [`Event`]s in a valid serial order, some MiB at a time. They differ from those of a capture in
//! three ways, all of which follow from a master having no kept area. A node with the top bit set in its id is made
//! anew. Bytes of such a node come *before* its `Create`, so that it appears under its name only whole. And what
//! concerns one node that is there ends with its `SetAttributes`, which comes after its bytes and extended attributes.

use crate::event::Event;
use crate::id::RootNo;
use crate::lsn::Lsn;

/// Changes of one root.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterChanges {
    /// The root all of them lie in.
    pub root: RootNo,
    /// In a valid serial order, at most what fits into one part of a capture.
    pub events: Vec<Event>,
    /// Nothing follows: the master syncs what was written before it answers.
    pub last: bool,
}

/// What of an object could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It could not be made.
    Node,
    /// Owner, mode or times.
    Attributes,
    /// Extended attributes.
    Xattrs,
    /// It could not be removed or overwritten without losing what the journal does not hold.
    Removal,
}

/// Something that could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWritten {
    /// Root it lies in.
    pub root: RootNo,
    /// Path below the root.
    pub path: Vec<u8>,
    /// What of it.
    pub what: Unwritten,
    /// What the kernel said.
    pub errno: i32,
}

/// What came of some changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The first of what could not be written.
    pub skipped: Vec<NotWritten>,
    /// All of it.
    pub skipped_count: u64,
    /// The tree kept moving under the hands of the master: what is left was not written, and the plan is to be made
    /// anew from what is there now.
    pub moved: bool,
}

/// A master whose tree can be written. Every call may block for as long as the master needs.
pub trait MasterLink {
    /// Makes changes. Before anything is overwritten or removed, what is there is captured and durable in the
    /// journal of the replica.
    ///
    /// # Errors
    /// See [`MasterLinkError`]. The changes may have been made in part.
    fn write(&self, changes: MasterChanges) -> Result<Written, MasterLinkError>;

    /// Brings everything done on the master until now into the tree of the replica; the LSN that shows it.
    ///
    /// # Errors
    /// See [`MasterLinkError`].
    fn flush(&self) -> Result<Lsn, MasterLinkError>;
}

/// A master did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterLinkError {
    /// It answered that it cannot.
    #[error("{text}")]
    Refused {
        /// `RWnnnn`.
        code: String,
        /// For people.
        text: String,
    },
    /// It is not there any more; what it did last is not known.
    #[error("the connection to the master is gone")]
    Disconnected,
    /// It did not answer in time.
    #[error("the master did not answer in time")]
    TimedOut,
}
