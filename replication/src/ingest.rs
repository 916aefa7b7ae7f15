//! The door of the replica: what comes over a stream, in order and once, into the journal.
//!
//! [`Ingest`] is what the journal offers: it makes parts durable and says so. [`IngestSession`] stands in front of it
//! for the life of one connection and is the same for a remote and a local master. It decodes and checks parts,
//! accepts exactly the next one ([`Order`]), drops what the journal has already, bounds the bytes in flight, and turns
//! the journal's answers into [`Progress`], on which the master frees its spool.
//!
//! Why captures arrive exactly once: a session begins at the journal's durable position, read while no other session
//! of the scenario has anything in flight (the owner of the door sees to that, see [`IngestSession::drain`]). From
//! there on each part must be the successor of the last. A master that resumes too early sends what is known and is
//! not heard; one that resumes too late leaves a gap and is refused.

mod door;
mod order;
mod session;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use door::random;
pub use door::{JournalDoor, Submitted};
pub use order::{Admission, Order, OrderError};
pub use session::{InFlight, IngestSession, Observer};

use journal::{ErrorKind, JournalError, Lsn, NodeId, Part, Timestamp};
use wire::stream::{ConvertError, JournalId, MeetingId, Reason};

/// Where the journal stands: only what is durable counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestState {
    /// Identity of the journal.
    pub journal: JournalId,
    /// The last durable capture.
    pub journaled: Lsn,
    /// How many parts of the capture after it, from part 0, are durable too and will still be there after a restart
    /// of the replica. 0 is always allowed; then long captures are resumed from their beginning.
    pub parts: u32,
    /// Time of the last durable capture.
    pub time: Timestamp,
    /// Least node id never minted.
    pub next_node: NodeId,
    /// Another number means that what this replica held in memory only is gone.
    pub incarnation: u64,
}

/// What is durable now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journaled {
    /// The last durable capture.
    pub lsn: Lsn,
    /// As [`IngestState::parts`].
    pub parts: u32,
}

impl From<Lsn> for Journaled {
    fn from(lsn: Lsn) -> Self {
        Journaled { lsn, parts: 0 }
    }
}

/// Called once with what is durable, or with why the parts are not.
pub type Done = Box<dyn FnOnce(Result<Journaled, IngestError>) + Send>;

/// A journal that takes captures.
pub trait Ingest: Send + Sync {
    /// Where it stands. Blocks for no longer than a read of memory takes.
    fn state(&self) -> IngestState;

    /// Meets a master, durably, before it hands anything over: `known` is its last meeting with this journal, `goes_on`
    /// whether it goes on with a history of its own instead of beginning where the journal stands. `None`: it may not,
    /// for the journal holds what is not in that history.
    ///
    /// # Errors
    /// If the meeting cannot be made durable.
    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError>;

    /// Makes parts durable, in the order of the calls, then calls `done` from any thread. May block for room. After a
    /// failure later parts must fail as well, until [`Ingest::state`] is read again: a hole must never become durable.
    fn ingest(&self, parts: Vec<Part>, done: Done);
}

/// The journal did not take parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// It may take them later: no room, a passing fault.
    #[error("the journal takes nothing for now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// They are not what may come now.
    #[error("the captures do not fit what is journaled")]
    Misfit(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A person must look.
    #[error("the journal is damaged or closed")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<JournalError> for IngestError {
    fn from(error: JournalError) -> Self {
        match error.kind() {
            _ if matches!(error, JournalError::Inconsistent { .. }) => IngestError::Misfit(Box::new(error)),
            ErrorKind::Damaged | ErrorKind::Poisoned | ErrorKind::Drift => {
                IngestError::Damaged(Box::new(error))
            }
            ErrorKind::Io | ErrorKind::Full | ErrorKind::NotFound | ErrorKind::State => {
                IngestError::Unavailable(Box::new(error))
            }
        }
    }
}

/// Why a session ends.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A part breaks the rules of the protocol.
    #[error("a part cannot be read")]
    Part(#[source] std::sync::Arc<ConvertError>),
    /// A part is not the next one.
    #[error("a part is out of order")]
    Order(#[from] OrderError),
    /// Parts are missing in front of a batch.
    #[error("the master had sent {sent} parts before these, and {came} came")]
    Missing { sent: u64, came: u64 },
    /// The journal refused.
    #[error("ingest failed")]
    Ingest(#[source] std::sync::Arc<IngestError>),
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
}

impl SessionError {
    /// What to tell the master.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            SessionError::Part(_) | SessionError::Order(_) => Reason::Protocol,
            SessionError::Ingest(error) => match **error {
                IngestError::Unavailable(_) => Reason::Journal,
                IngestError::Misfit(_) => Reason::Protocol,
                IngestError::Damaged(_) => Reason::JournalDamaged,
            },
            // On another connection all of it comes again.
            SessionError::Missing { .. } | SessionError::Closed => Reason::Unavailable,
        }
    }
}
