//! The state of the replica tree as rows, and what a capture does to it.
//!
//! [`rows`] encodes rows and keys; [`Overlay`] is a batch under way on top of the tables; [`Transition`] takes
//! captures through it one by one and says, for each, what it replaces. The same code serves apply (which records
//! undo), recovery and rebuild (which find it in the journal): there is one definition of what an event means.

mod content;
mod digests;
mod history;
mod overlay;
pub mod rows;
pub mod summary;
mod transition;

pub use content::{ContentUndo, OldBytes, PAGE_BYTES, READ_BYTES, UndoSink, is_zero};
pub use digests::{Digests, counted, digests, digests_put, node_facts};
pub use history::{history_puts, point_of, point_put, root_row};
pub use overlay::{Overlay, State, links_of};
pub use rows::{Change, NodeRow, PointKind, PointRow};
pub use transition::{Finished, Replaced, Transition, WritePlaces};
