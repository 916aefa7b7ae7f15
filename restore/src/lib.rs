//! Going back: what differs between two points, and how to make a tree equal to one of them.
//!
//! A point is a view of the replica at an LSN. [`journal::view::Difference`] finds what differs between two of them. A
//! [`RewindPlan`] turns the difference between the present and a point into local changes of the replica, the plan
//! that a dry run prints; [`rewind_replica`] carries it out. [`extract`] writes a point into a directory while
//! replication goes on; [`rewind_master`] has a master make its own tree like a point. Deciding is pure and separate
//! from doing.
//!
//! [`burst`] finds what looks like ransomware in the list of changes, and the last good version of what it touched.
//!
//! [`session`] restores from a repository alone: a session's trees into a directory, without journal or daemon.
//!
//! The rest of the crate reads views and writes through three traits: [`EventSink`] takes changes of the replica, `MasterLink`
//! those of a master, `TreeIo` is the directory that [`extract`] writes into. It knows nothing of capture, streams or networks.

mod before;
pub mod burst;
mod content;
pub mod difference;
pub mod error;
pub mod extract;
pub mod monitor;
pub mod points;
pub mod rewind;
pub mod scope;
pub mod session;
#[cfg(test)]
mod testing;

pub use difference::{Entry, Totals};
pub use error::{ErrorKind, RestoreError};
pub use extract::{ExtractOptions, ExtractReport, RootLayout, Skipped, discard_unfinished, extract, layout};
pub use monitor::{Monitor, NoMonitor, Phase};
pub use points::{Points, Resolved};
pub use rewind::{
    EventSink, LocalCapture, LocalGroup, MasterReport, Note, NoteKind, ReplicaControl, ReturnReport,
    RewindOptions, RewindPlan, RewindReport, Statistics, before_name, return_to_capture, rewind_master,
    rewind_replica,
};
pub use scope::{PathFilter, Scope};
