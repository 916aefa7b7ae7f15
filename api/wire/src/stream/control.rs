//! What master and replica say besides captures.

use super::{Answer, JournalId, MeetingId, Request, ScrubAnswer, ScrubAsk};
use bytes::Bytes;
use journal::{Class, Lsn, Meta, Name, NodeId, Origin, RootNo, SkippedWhat, Timestamp, Written};
use std::time::Duration;

/// A message of the master.
#[derive(Clone, Debug, PartialEq)]
pub enum FromMaster {
    /// First of all.
    Hello(Hello),
    /// What was captured.
    Batch(Batch),
    /// How the master is.
    Status(MasterStatus),
    /// Answer to the command of this id.
    Reply(u64, Outcome),
    /// A question under an id for the answer.
    Request(u64, Request),
}

/// A message of the replica.
#[derive(Clone, Debug, PartialEq)]
pub enum FromReplica {
    /// First of all, if it accepts.
    Welcome(Box<Welcome>),
    /// Last of all.
    Refused(Refused),
    /// How far the journal is durable.
    Ack(Progress),
    /// How far the tree is.
    Applied(Lsn),
    /// A command under an id for the answer.
    Command(u64, Command),
    /// Answer to the request of this id.
    Response(u64, Result<Answer, Failed>),
}

/// Parts of captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many parts were sent on this connection before these; `None` if the master does not say.
    pub before: Option<u64>,
    /// Encoded parts, in order; each is decoded with [`super::decode_part`].
    pub parts: Vec<Bytes>,
}

impl From<Vec<Bytes>> for Batch {
    /// Nothing is said of what came before.
    fn from(parts: Vec<Bytes>) -> Self {
        Batch { before: None, parts }
    }
}

/// Who calls, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`super::PROTOCOL_VERSION`] of the master.
    pub protocol: u32,
    /// Id of the scenario.
    pub scenario: u64,
    /// Its name as the master knows it.
    pub name: String,
    /// Name of the host.
    pub host: String,
    /// The journal it met last.
    pub journal: Option<JournalId>,
    /// The highest LSN that was acknowledged to it.
    pub acknowledged: Lsn,
    /// The highest LSN it minted; `None` until the first welcome after an unclean stop.
    pub captured: Option<Lsn>,
    /// LSN at which its index was closed cleanly; `None` if it must be rebuilt.
    pub index_clean_at: Option<Lsn>,
    /// Its last meeting with this journal.
    pub meeting: Option<MeetingId>,
    /// Which of its connections this is.
    pub dial: Dial,
    /// Bits of what it understands beyond the version, see [`super::FEATURE_SCRUB`].
    pub features: u64,
}

/// Which of a master's connections one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// The life of the master's process; 0 if it does not say.
    pub life: u64,
    /// Counts its connections.
    pub number: u64,
}

impl Dial {
    /// Whether the master began this connection before the other one. Of two lives that cannot be told.
    #[must_use]
    pub fn is_older_than(&self, other: &Dial) -> bool {
        self.life != 0 && self.life == other.life && self.number < other.number
    }
}

/// How far the replica is, and what it wants protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// [`super::PROTOCOL_VERSION`] of the replica.
    pub protocol: u32,
    /// Identity of the journal.
    pub journal: JournalId,
    /// The last durable capture.
    pub journaled: Lsn,
    /// How many parts of the capture after it are durable too.
    pub parts: u32,
    /// Time of the last durable capture.
    pub journaled_time: Timestamp,
    /// Least node id never minted.
    pub next_node: NodeId,
    /// Made anew at every start of the replica: another number means that bytes of a first synchronization may be
    /// lost although they were acknowledged.
    pub incarnation: u64,
    /// This meeting.
    pub meeting: MeetingId,
    /// How far the first synchronization is.
    pub synchronization: Synchronization,
    /// Whether delivery is suspended.
    pub suspended: bool,
    /// Whether the scenario is meant to run.
    pub running: bool,
    /// What is protected and how.
    pub definition: Definition,
}

/// How far the first synchronization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronization {
    /// Never begun.
    Never,
    /// Begun, not completed.
    Begun,
    /// Completed: rewind points exist.
    Completed,
    /// Completed, but a later one has begun and not completed.
    Again,
}

/// What is protected and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Id of the scenario.
    pub scenario: u64,
    /// Its name.
    pub name: String,
    /// Protected directories.
    pub roots: Vec<RootDefinition>,
    /// Globs of what is left out.
    pub excludes: Vec<String>,
    /// Whether a later synchronization may begin by itself.
    pub auto_resync: AutoResync,
    /// Bound of the spool on disk in bytes; `None`: the master's default.
    pub spool_bytes_max: Option<u64>,
    /// Options without a field of their own.
    pub settings: Vec<(String, String)>,
}

/// One protected directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootDefinition {
    /// Its number.
    pub root: RootNo,
    /// Absolute path on the master.
    pub path: Vec<u8>,
}

/// Whether a later synchronization may begin by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoResync {
    /// A person decides.
    Ask,
    /// It may.
    Always,
    /// It may not.
    Never,
}

/// Why the replica ends a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: String,
}

/// Why the replica ends a stream, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No such scenario here.
    UnknownScenario,
    /// Another host is attached.
    OtherHost,
    /// The caller is not the master of the scenario.
    NotAuthorized,
    /// The two programs do not understand one another.
    ProtocolVersion,
    /// The peer broke a rule.
    Protocol,
    /// The journal does not hold what it acknowledged.
    LostAcknowledged,
    /// The master belongs to another journal or history.
    OtherHistory,
    /// The journal takes nothing for now.
    Journal,
    /// A newer connection of the same master took over.
    Superseded,
    /// Starting, stopping or busy.
    Unavailable,
    /// The journal needs a person.
    JournalDamaged,
    /// The journal went on without this master, which has to begin anew.
    Diverged,
}

impl Reason {
    /// Whether dialling again can help.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Reason::UnknownScenario
                | Reason::OtherHost
                | Reason::Journal
                | Reason::Superseded
                | Reason::Unavailable
                | Reason::Diverged
        )
    }
}

/// How far what was sent on one connection is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All captures up to this one are durable.
    pub journaled: Lsn,
    /// So many parts from the first of the connection are durable.
    pub durable_parts: u64,
    /// So many bytes of parts are dealt with.
    pub taken_bytes: u64,
}

/// How the master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterStatus {
    /// Highest LSN minted.
    pub captured: Lsn,
    /// Highest LSN acknowledged to it.
    pub acknowledged: Lsn,
    /// Bytes waiting in memory.
    pub spool_memory_bytes: u64,
    /// Bytes waiting on disk.
    pub spool_disk_bytes: u64,
    /// How full the spool is.
    pub spool: SpoolState,
    /// What the agent does.
    pub agent: AgentState,
    /// Gaps that are open.
    pub gaps_open: u64,
    /// The master's clock.
    pub time: Timestamp,
    /// Why the agent is in state `Problem`; else empty.
    pub cause: String,
    /// Files of a synchronization: done and in all, 0 where not known.
    pub files: (u64, u64),
    /// Bytes of a synchronization: done and in all, 0 where not known.
    pub bytes: (u64, u64),
}

/// How full a spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolState {
    /// All that waits is in memory.
    #[default]
    Memory,
    /// Some of it is on disk.
    Disk,
    /// Little room is left.
    NearFull,
    /// Captures are refused until there is room.
    Full,
}

/// What the agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Nothing.
    Stopped,
    /// Opens or rebuilds its index.
    Starting,
    /// Synchronizes.
    Synchronizing,
    /// Captures.
    Capturing,
    /// Captures, and rescans what a gap made doubtful.
    Rescanning,
    /// Needs a person.
    Problem,
}

/// What the replica asks of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A barrier with this cookie, of this class if it can be had.
    Barrier { cookie: u64, class: Class },
    /// A barrier while the application is quiesced, as a unit.
    Consistent(Consistent),
    /// Capture; synchronize first. On one that runs: done at once. `anew`: not with the index there is, but with one
    /// made from what the replica has.
    Run { mode: SyncMode, ignore_same: bool, skip: bool, anew: bool, definition: Definition },
    /// End capture.
    Stop,
    /// Pause delivery. Carried out by the stream.
    Suspend,
    /// Resume delivery. Carried out by the stream.
    Resume,
    /// Examine what a run needs on the master.
    Verify,
    /// Change the protected tree itself: the events of an encoded part (empty: none), in the way of
    /// [`journal::master`]. What the master keeps between two commands of a session ends with the last one, or when
    /// another session begins; `number` counts them from 0, so that a master that has lost it notices.
    Write { session: u64, number: u32, part: Bytes, last: bool },
    /// A question of a scrub; only for a master that says it understands it.
    Scrub(ScrubAsk),
}

/// A barrier while the application is quiesced. Whatever becomes of it, and of the connection, the master thaws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistent {
    /// Of the barrier.
    pub cookie: u64,
    /// For a shell of the master, which runs it only if its own configuration allows it.
    pub quiesce: String,
    /// See `quiesce`; empty: there is none.
    pub thaw: String,
    /// Thaw begins at the latest so long after quiesce began; whole milliseconds.
    pub hold: Duration,
    /// Thaw may take so long; whole milliseconds.
    pub thaw_limit: Duration,
}

/// What a synchronization compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Whole files.
    File,
    /// Blocks.
    Block,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The barrier is in the stream at this LSN, with this class and time.
    Barrier { lsn: Lsn, class: Class, time: Timestamp },
    /// The barrier stands at this LSN with class application, and the application was thawed; it was held for so long.
    Consistent { lsn: Lsn, time: Timestamp, held: Duration },
    /// What was found.
    Verified(Vec<Finding>),
    /// What came of changes of the tree.
    Written(Written),
    /// What a scrub asked for.
    Scrub(ScrubAnswer),
    /// It is not done.
    Failed(Failed),
}

/// Something that stands in the way of a run, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The scenario must not run; else it is a warning.
    pub error: bool,
    /// `RWnnnn`.
    pub code: String,
    /// For people.
    pub text: String,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Failed {
    /// `RWnnnn`.
    pub code: String,
    /// For people.
    pub text: String,
}

/// A scenario whose master the caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Id of the scenario.
    pub scenario: u64,
    /// Its name.
    pub name: String,
    /// Most bytes of its spool on disk.
    pub spool_bytes_max: u64,
}

/// Part of the present namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacePage {
    /// Names and what they stand for; a node with several names comes several times.
    pub entries: Vec<NamespaceEntry>,
    /// Where the next page begins, for the replica to interpret; `None` at the end.
    pub next: Option<Bytes>,
    /// The captured LSN at which the namespace stands: the same on every page, or the pages do not fit together.
    pub at: Lsn,
    /// What could not be kept, as the stream says; behind the last entries.
    pub skipped: Vec<SkippedName>,
    /// Whether the first synchronization has completed as of then.
    pub synchronized: bool,
}

/// Something that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedName {
    /// Root it lies in.
    pub root: RootNo,
    /// Path below the root, as it was reported.
    pub path: Vec<u8>,
    /// What is missing.
    pub what: SkippedWhat,
    /// Why.
    pub errno: i32,
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// The node.
    pub node: NodeId,
    /// Where it stands; `None` for a root itself.
    pub at: Option<(NodeId, Name)>,
    /// What is known of it.
    pub meta: Meta,
    /// Which inode of the master it is.
    pub origin: Option<Origin>,
    /// Whether the replica holds its bytes whole.
    pub content_known: bool,
}
