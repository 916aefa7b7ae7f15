//! The event-sourced journal of Rewind.
//!
//! Everything a scenario ever did is a sequence of [`Capture`]s, each an atomic group of [`Event`]s at one [`Lsn`].
//! Two streams of segment files hold the truth: redo (what to do, written by ingest before it acknowledges) and undo
//! (how to take it back, written by apply before it touches the replica tree). All else (tables, names of bookmarks,
//! lists of points) is a projection of these and of the replica tree, and can be deleted and rebuilt.
//!
//! Reading the past needs no lock and no replay: the content of an extent at X is the earliest undo after X, else the
//! bytes the replica holds now (`view`).

pub mod check;
pub mod checkpoint;
pub mod controls;
pub mod digest;
pub mod disk;
pub mod dump;
pub mod error;
pub mod event;
pub mod extents;
pub mod held;
pub mod id;
pub mod journal;
pub mod log;
pub mod lsn;
pub mod master;
pub mod meta;
pub mod proofs;
#[cfg(test)]
mod random;
pub mod record;
pub mod retention;
pub mod serialize;
pub mod spare;
pub mod state;
pub mod tables;
pub mod take;
pub mod thin;
pub mod thinning;
pub mod tree;
pub mod view;

pub use disk::{Disk, DiskFile, FileLock, OsDisk};
pub use error::{ErrorKind, JournalError};
pub use event::{
    BlockHash, Capture, Class, Event, GapCause, Marker, PackedAt, Payload, PayloadAt, Provenance,
    SkippedWhat, WRITE_BYTES_MAX,
};
pub use id::{Edge, Name, NodeId, Origin, RootNo};
pub use log::Part;
pub use lsn::{Lsn, ParseLsnError};
pub use master::{MasterChanges, MasterLink, MasterLinkError, NotWritten, Unwritten, Written};
pub use meta::{Attributes, Kind, Meta, Timestamp, Xattrs};
pub use tables::{Put, Row, Space, Tables};
pub use tree::{TreeFile, TreeIo, TreeStat};
