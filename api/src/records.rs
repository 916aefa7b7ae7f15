//! What stands in the server journal: one frozen layout a kind.
//!
//! A kind is a type (high byte) and a version (low byte). Layouts are bincode of the structs here, bounded and without
//! trailing bytes; requests and results of jobs are protobuf messages inside, which grow without a new version. A
//! changed struct becomes a new version beside the old one, never a changed old one. Golden bytes in the tests hold
//! that.

mod changed;
mod tape;
mod v1;
mod v2;
mod v3;

pub use tape::{SessionOnTape, TapeEncoding, TapePart};

use crate::definition::Definition;
use crate::engine::EngineError;
use crate::server_journal::{Position, RecordKind, ServerJournal};
use bincode::{Decode, Encode, config};
use journal::Timestamp;
use std::ops::ControlFlow;
use wire::codes;

/// Longest record in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Longest text of a line in the log, in bytes.
pub const LOG_TEXT_BYTES_MAX: usize = 8 << 10;

/// What a scenario should be doing, across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Wanted {
    /// Nothing.
    #[default]
    Stopped,
    /// Replicate.
    Running,
    /// Hold delivery back.
    Suspended,
}

/// A scenario was defined.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScenarioCreated {
    /// Never used twice.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Complete.
    pub definition: Definition,
}

/// A scenario has another definition.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScenarioUpdated {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Complete.
    pub definition: Definition,
}

/// A scenario is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScenarioDeleted {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
}

/// Somebody wants a scenario to be in another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StateWanted {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// What for.
    pub wanted: Wanted,
}

/// A job was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobSubmitted {
    /// Never used twice.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Number of `JobKind` in the API.
    pub kind: i32,
    /// Scenario it works on.
    pub scenario: String,
    /// No other exclusive job of the scenario beside it.
    pub exclusive: bool,
    /// The request, protobuf, enough to start it again.
    pub request: Vec<u8>,
    /// Given by the client; may be empty.
    pub idempotency_key: String,
}

/// A job began, again perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobStarted {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
}

/// Somebody asked a job to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobCancelRequested {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
}

/// A job that has not begun is held, or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobHoldSet {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Held, or released.
    pub held: bool,
}

/// A job ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobFinished {
    /// Which.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Number of `Outcome` in the API.
    pub outcome: i32,
    /// Protobuf `Result`; empty if there is none.
    pub result: Vec<u8>,
    /// Protobuf `Error`; empty if there is none.
    pub error: Vec<u8>,
}

/// A line of the activity log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogWritten {
    /// When.
    pub time: Timestamp,
    /// Number of `Level` in the API.
    pub level: i32,
    /// Scenario it is about; may be empty.
    pub scenario: String,
    /// Job it is about, 0 if none.
    pub job: u64,
    /// At most [`LOG_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

/// A repository was added.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RepositoryAdded {
    /// Never used twice.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Its name here.
    pub name: String,
    /// Where it lies.
    pub url: String,
    /// The id in its config: 64 hexadecimal digits.
    pub repository: String,
    /// Whether it was made then.
    pub created: bool,
    /// What the store did with exclusive puts: 0 not looked at, 1 honoured, 2 ignored, 3 refused.
    pub conditional_put: u8,
}

/// A session is durable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionMade {
    /// When.
    pub time: Timestamp,
    /// Id of the repository here.
    pub repository: u64,
    /// Id of the scenario.
    pub scenario: u64,
    /// Its name then.
    pub scenario_name: String,
    /// Id of the journal that the LSN is of.
    pub journal: [u8; 16],
    /// SHA-256 that names the session record.
    pub session: [u8; 32],
    /// SHA-256 that names its root tree.
    pub tree: [u8; 32],
    /// Path of the root on the master.
    pub entity: Vec<u8>,
    /// Host name of the master.
    pub master: String,
    /// Captured part of the LSN.
    pub lsn_captured: u64,
    /// Local part of the LSN.
    pub lsn_local: u64,
    /// Of the point, by the master's clock.
    pub point_time: Timestamp,
    /// 0 fuzzy, 1 crash, 2 application.
    pub class: u8,
    /// Names in it of objects that are no directories.
    pub files: u64,
    /// Directories in it.
    pub directories: u64,
    /// Bytes of its files, each name counted.
    pub bytes: u64,
    /// Bytes read from the replica.
    pub bytes_read: u64,
    /// New bytes, as stored.
    pub bytes_stored: u64,
    /// Objects that are not in it.
    pub missed: u64,
    /// Made from what changed since the session before.
    pub incremental: bool,
}

/// Sessions are no longer in their repository.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionsForgotten {
    /// When.
    pub time: Timestamp,
    /// Id of the repository here.
    pub repository: u64,
    /// SHA-256 that named each session record.
    pub sessions: Vec<[u8; 32]>,
}

/// A check of a repository came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RepositoryChecked {
    /// When.
    pub time: Timestamp,
    /// Id of the repository here.
    pub repository: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Damaged objects.
    pub damage_count: u64,
}

/// All that sessions need was read, and is as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionsVerified {
    /// When the reading began.
    pub time: Timestamp,
    /// Id of the repository here.
    pub repository: u64,
    /// SHA-256 that names each session record.
    pub sessions: Vec<[u8; 32]>,
}

/// Whether and where the journal of a scenario is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ArchiveSet {
    /// Id of the scenario.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// Id of the repository here; 0: nowhere.
    pub repository: u64,
    /// At least so often, in milliseconds.
    pub every_milliseconds: u64,
}

/// How often a scenario is scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScrubSet {
    /// Id of the scenario.
    pub id: u64,
    /// When it was set.
    pub time: Timestamp,
    /// From the end of one to the beginning of the next, in seconds; 0: never by itself.
    pub every_seconds: u64,
    /// Bytes of files a second; 0: as fast as it goes.
    pub rate: u64,
}

/// One record of the server journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A scenario was defined.
    ScenarioCreated(ScenarioCreated),
    /// A scenario has another definition.
    ScenarioUpdated(ScenarioUpdated),
    /// A scenario is gone.
    ScenarioDeleted(ScenarioDeleted),
    /// Somebody wants a scenario to be in another state.
    StateWanted(StateWanted),
    /// A job was accepted.
    JobSubmitted(JobSubmitted),
    /// A job began.
    JobStarted(JobStarted),
    /// Somebody asked a job to cancel.
    JobCancelRequested(JobCancelRequested),
    /// A job is held, or released.
    JobHoldSet(JobHoldSet),
    /// A job ended.
    JobFinished(JobFinished),
    /// A line of the activity log.
    LogWritten(LogWritten),
    /// A repository was added.
    RepositoryAdded(RepositoryAdded),
    /// A session is durable.
    SessionMade(SessionMade),
    /// Sessions are gone.
    SessionsForgotten(SessionsForgotten),
    /// A repository was checked.
    RepositoryChecked(RepositoryChecked),
    /// Sessions were verified.
    SessionsVerified(SessionsVerified),
    /// Where a session lies on tape.
    SessionOnTape(SessionOnTape),
    /// What is done to sessions on their way to tape.
    TapeEncoding(TapeEncoding),
    /// The archive of a scenario is another one.
    ArchiveSet(ArchiveSet),
    /// The schedule of scrubs is another one.
    ScrubSet(ScrubSet),
}

/// Ties each variant to its number, in both directions.
macro_rules! kinds {
    ($($variant:ident = $number:literal),* $(,)?) => {
        impl Record {
            /// Type and version.
            #[must_use]
            pub const fn kind(&self) -> RecordKind {
                match self { $(Record::$variant(_) => RecordKind($number)),* }
            }

            /// The bytes of the record.
            ///
            /// # Errors
            /// `BAD_PARAMETERS` if it is too large.
            pub fn encode(&self) -> Result<Vec<u8>, EngineError> {
                let bytes = match self {
                    $(Record::$variant(record) => bincode::encode_to_vec(record, config::standard())),*
                };
                match bytes {
                    Ok(bytes) if bytes.len() <= BYTES_MAX => Ok(bytes),
                    Ok(bytes) => Err(EngineError::new(
                        &codes::BAD_PARAMETERS,
                        format!("a record of {} bytes is too large for the server journal", bytes.len()),
                    )),
                    Err(error) => Err(EngineError::new(
                        &codes::BAD_PARAMETERS, "a record cannot be encoded").caused_by(error)),
                }
            }

            /// From kind and bytes.
            ///
            /// # Errors
            /// `DAMAGED` for bytes that are none, `NEWER_FORMAT` for kinds not known here.
            pub fn decode(kind: RecordKind, bytes: &[u8]) -> Result<Self, EngineError> {
                match kind.0 {
                    $($number => decode_exactly(bytes).map(Record::$variant),)*
                    _ => v3::decode(kind, bytes),
                }
            }
        }
    };
}

kinds! {
    ScenarioCreated = 0x0104,
    ScenarioUpdated = 0x0204,
    ScenarioDeleted = 0x0301,
    StateWanted = 0x0401,
    JobSubmitted = 0x1101,
    JobStarted = 0x1201,
    JobCancelRequested = 0x1301,
    JobFinished = 0x1401,
    JobHoldSet = 0x1501,
    LogWritten = 0x2101,
    RepositoryAdded = 0x3101,
    RepositoryChecked = 0x3201,
    SessionMade = 0x4101,
    SessionsForgotten = 0x4201,
    SessionsVerified = 0x4301,
    SessionOnTape = 0x4401,
    TapeEncoding = 0x4501,
    ArchiveSet = 0x5101,
    ScrubSet = 0x5201,
}

/// Hands all records of a journal to `each`, in order.
///
/// # Errors
/// Those of the journal and of [`Record::decode`]; `each` has seen what came before.
pub fn replay(journal: &dyn ServerJournal, each: &mut dyn FnMut(Record)) -> Result<(), EngineError> {
    let mut failed = None;
    journal.replay(Position(0), &mut |_, kind, bytes| match Record::decode(kind, bytes) {
        Ok(record) => {
            each(record);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Decodes a value that fills the bytes to the last; the limit keeps a hostile length from being allocated.
fn decode_exactly<T: Decode<()>>(bytes: &[u8]) -> Result<T, EngineError> {
    let damaged = || EngineError::new(&codes::DAMAGED, "a record of the server journal does not decode");
    let (value, used) = bincode::decode_from_slice(bytes, config::standard().with_limit::<BYTES_MAX>())
        .map_err(|error| damaged().caused_by(error))?;
    if used == bytes.len() { Ok(value) } else { Err(damaged()) }
}

#[cfg(test)]
mod tests;
