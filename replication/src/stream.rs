//! Between spool and ingest: how captures travel, and commands with them.
//!
//! Both ends are blocking code behind the traits here: [`MasterCommands`] is the agent, [`ReplicaLink`] the replica of
//! one scenario. [`master`] and [`replica`] join them over one gRPC stream a scenario; [`local`] joins them in one
//! process. What is delivered, acknowledged and freed, and when a peer is refused, is decided by the same code in all
//! cases: [`steps`], [`steps::Flow`] here, [`crate::ingest::IngestSession`] there.
//!
//! **Whose history it is.** LSNs alone do not tell two masters apart that began with the same state (a machine that was
//! cloned) or one that came back with an older state: as long as it has minted enough, its next capture would fit behind
//! those of the other, and the journal would tell of changes between trees that nobody ever had. So every meeting gets
//! an id, minted by the replica, journaled there before the first capture, and kept by the master with its spool. A
//! master that goes on with a history of its own must have been at the last meeting: then nobody else has written since,
//! and the journal holds nothing but its captures. If the answer to the last one got lost it knows only the one before,
//! which is good enough while nothing was journaled in between. Everybody else is refused ([`Reason::Diverged`]),
//! forgets what it has spooled, and begins where the journal stands, like a master whose index was lost: the index is
//! rebuilt from the replica's namespace, everything is compared, and the gap is said. A master that begins that way is
//! welcome without an id, for it claims nothing.
//!
//! A connection begins where the replica's journal stands, so nothing acknowledged is sent again and nothing is left
//! out. It ends at the first doubt: a broken rule, silence, a refusal. The master then dials again, waiting longer each
//! time; errors after which dialling again is pointless end the stream and are for a person.

mod flow;
pub mod local;
pub mod master;
pub mod replica;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod tls;

pub(crate) use flow::{Backoff, Flow};
pub(crate) use steps::{begin, hello, meet, refused};

use crate::ingest::{Ingest, SessionError};
use crate::spool::{ResumeError, Spool, SpoolError};
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use journal::{Lsn, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::stream::{
    AgentState, BlockHashes, BlocksWanted, Command, ConvertError, Definition, Failed, Hello, MasterStatus,
    NamespacePage, Outcome, Refused, Synchronization, Welcome,
};

/// More commands than this wait for no reply at the same time.
pub const COMMANDS_MAX: usize = 64;

/// The agent on the master, as its stream sees it. Methods return soon: they are called on the thread that handles
/// acknowledgements, and must not wait for an answer from the replica.
pub trait MasterCommands: Send + Sync {
    /// LSN at which the index was closed cleanly; `None` if it must be rebuilt from the replica's namespace.
    fn index_clean_at(&self) -> Option<Lsn>;

    /// A connection stands; the spool takes captures from now on at the latest. Called for every connection.
    fn connected(&self, welcome: &Welcome, replica: Arc<dyn ReplicaHandle>);

    /// The connection is gone. The stream dials again if the error is retryable.
    fn disconnected(&self, why: &StreamError);

    /// Carry out a command and answer, on another thread if it takes time. `Suspend` and `Resume` never come here.
    fn command(&self, command: Command, reply: Replier);

    /// Bits of what it understands beyond the version of the protocol.
    fn features(&self) -> u64 {
        0
    }

    /// The replica's tree shows everything up to here.
    fn applied(&self, lsn: Lsn);

    /// What the agent does.
    fn status(&self) -> AgentStatus;
}

/// What the agent does; completed by the stream to a [`MasterStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// In a word.
    pub agent: AgentState,
    /// Gaps that are open.
    pub gaps_open: u64,
    /// The master's clock.
    pub time: Timestamp,
    /// Why, in state `Problem`; else empty.
    pub cause: String,
    /// Files of a synchronization: done, and in all (0: not known).
    pub files: (u64, u64),
    /// Bytes of a synchronization: done, and in all (0: not known).
    pub bytes: (u64, u64),
}

/// The replica's side of one scenario, as a stream sees it.
pub trait ReplicaLink: Send + Sync {
    /// The door to its journal.
    fn ingest(&self) -> Arc<dyn Ingest>;

    /// Whether this master may attach now, and on what terms.
    ///
    /// # Errors
    /// The refusal to send.
    fn terms(&self, hello: &Hello) -> Result<Terms, Refused>;

    /// A master is attached. Always before the next [`ReplicaLink::detached`].
    fn attached(&self, host: &str, master: Arc<dyn MasterHandle>);

    /// It is gone; nothing of it is in flight any more.
    fn detached(&self, why: &str);

    /// How the attached master is; about once a second.
    fn status(&self, status: &MasterStatus);

    /// A master was refused because histories do not fit: a person must know.
    fn refused(&self, refused: &Refused);

    /// The last LSN that the tree shows. Looked at several times a second.
    fn applied(&self) -> Lsn;

    /// Turns true when this link is no longer to be used: its connection ends then.
    fn revoked(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    /// A page of the namespace at the last captured LSN applied: at most `NAMESPACE_ENTRIES_MAX` entries of about
    /// 1 MiB together, after the place that the page before gave as `next` (empty: from the start).
    ///
    /// # Errors
    /// What to tell the master.
    fn namespace(&self, after: &[u8]) -> Result<NamespacePage, Failed>;

    /// Hashes of blocks of a file, as captured.
    ///
    /// # Errors
    /// What to tell the master, which then does without.
    fn blocks(&self, wanted: &BlocksWanted) -> Result<BlockHashes, Failed> {
        let text = format!("no hashes of {} can be had here", wanted.node);
        Err(Failed { code: "RW0472".to_owned(), text })
    }
}

/// On what terms a master is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How far the first synchronization is.
    pub synchronization: Synchronization,
    /// Whether delivery is suspended.
    pub suspended: bool,
    /// Whether the scenario is meant to run.
    pub running: bool,
    /// What is protected and how.
    pub definition: Definition,
}

/// The attached master, as the replica sees it.
pub trait MasterHandle: Send + Sync {
    /// Sends a command. Does not block.
    ///
    /// # Errors
    /// If the master is gone, or too many commands wait for their replies.
    fn send(&self, command: Command) -> Result<Ticket, LinkError>;
}

/// The replica, as the agent sees it while a connection stands.
pub trait ReplicaHandle: Send + Sync {
    /// A page of the replica's namespace, after the place the page before gave as `next`. Blocks; not to be called
    /// from a method of [`MasterCommands`].
    ///
    /// # Errors
    /// If the connection is gone, the replica refuses, or nothing comes in time.
    fn namespace(&self, after: Option<Bytes>, timeout: Duration) -> Result<NamespacePage, LinkError>;

    /// Hashes of blocks of a file as the replica has it. Blocks, as above.
    ///
    /// # Errors
    /// As above.
    fn blocks(&self, wanted: &BlocksWanted, timeout: Duration) -> Result<BlockHashes, LinkError>;
}

/// A question to the other side was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The connection is gone; whether the other side acted is not known.
    #[error("the connection is gone")]
    Disconnected,
    /// Nothing came in time; it may still.
    #[error("no answer in time")]
    TimedOut,
    /// Too many questions at once.
    #[error("too many questions are waiting for answers")]
    Busy,
    /// The other side answered that it cannot.
    #[error("refused by the other side")]
    Failed(#[source] Failed),
}

/// A command under way.
pub struct Ticket {
    reply: Receiver<Outcome>,
}

impl Ticket {
    pub(crate) fn new() -> (Sender<Outcome>, Ticket) {
        let (send, reply) = bounded(1);
        (send, Ticket { reply })
    }

    /// Waits for the reply. May be called again after `TimedOut`.
    ///
    /// # Errors
    /// `Disconnected`, `TimedOut`, or `Failed` with what the master said.
    pub fn wait(&self, timeout: Duration) -> Result<Outcome, LinkError> {
        match self.reply.recv_timeout(timeout) {
            Ok(Outcome::Failed(failed)) => Err(LinkError::Failed(failed)),
            Ok(outcome) => Ok(outcome),
            Err(RecvTimeoutError::Timeout) => Err(LinkError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(LinkError::Disconnected),
        }
    }
}

/// Takes the outcome of one command. Dropped without one, the command has failed.
pub struct Replier {
    send: Option<Box<dyn FnOnce(Outcome) + Send>>,
}

impl Replier {
    /// Hands the outcome to `send`, which must not block.
    #[must_use]
    pub fn new(send: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Replier { send: Some(Box::new(send)) }
    }

    /// Answers. Does not block; an answer to a connection that is gone is lost.
    pub fn reply(mut self, outcome: Outcome) {
        if let Some(send) = self.send.take() {
            send(outcome);
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            let text = "the agent gave up the command without an answer".to_owned();
            send(Outcome::Failed(Failed { code: "RW0472".to_owned(), text }));
        }
    }
}

/// Why a connection, or the stream, ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The replica refused.
    #[error("refused by the replica: {}", .0.text)]
    Refused(Refused),
    /// The replica's journal does not hold what it acknowledged: data is lost.
    #[error(
        "the replica acknowledged capture {acknowledged} and now holds only {journaled}: acknowledged data is lost"
    )]
    LostAcknowledged { acknowledged: Lsn, journaled: Lsn },
    /// The journal is another one, or holds captures that were not made here.
    #[error("the replica's journal {what}")]
    OtherHistory { what: &'static str },
    /// Delivery cannot go on where the replica is.
    #[error("delivery cannot be resumed")]
    Resume(#[source] ResumeError),
    /// The peer broke a rule of the protocol.
    #[error("the peer broke the protocol: {what}")]
    Protocol { what: &'static str },
    /// The peer sent what cannot be read.
    #[error("the peer sent a malformed message")]
    Malformed(#[from] ConvertError),
    /// The spool failed.
    #[error("the spool failed")]
    Spool(#[from] SpoolError),
    /// Ingest refused (one process).
    #[error("ingest ended")]
    Ingest(#[source] SessionError),
    /// The connection failed.
    #[error("the connection failed")]
    Connection(#[source] Box<tonic::Status>),
    /// Nothing was heard for too long.
    #[error("nothing was heard from the peer for {0:?}")]
    Silence(Duration),
    /// The peer ended the stream.
    #[error("the peer ended the connection")]
    Ended,
    /// The stream was asked to stop.
    #[error("stopped")]
    Stopped,
}

impl StreamError {
    /// Whether dialling again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            StreamError::Refused(refused) => refused.reason.is_retryable(),
            StreamError::Ingest(error) => error.reason().is_retryable(),
            StreamError::Connection(_) | StreamError::Silence(_) | StreamError::Ended => true,
            StreamError::LostAcknowledged { .. }
            | StreamError::OtherHistory { .. }
            | StreamError::Resume(_)
            | StreamError::Protocol { .. }
            | StreamError::Malformed(_)
            | StreamError::Spool(_)
            | StreamError::Stopped => false,
        }
    }
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        StreamError::Connection(Box::new(status))
    }
}

/// The whole status of a master.
pub(crate) fn master_status(spool: &Spool, agent: &dyn MasterCommands) -> MasterStatus {
    let (spool, agent) = (spool.status(), agent.status());
    MasterStatus {
        captured: spool.captured.unwrap_or(spool.acknowledged),
        acknowledged: spool.acknowledged,
        spool_memory_bytes: spool.memory_bytes,
        spool_disk_bytes: spool.disk_bytes,
        spool: spool.state,
        agent: agent.agent,
        gaps_open: agent.gaps_open,
        time: agent.time,
        cause: agent.cause,
        files: agent.files,
        bytes: agent.bytes,
    }
}

/// Carries out a command on the master: what concerns delivery here, the rest by the agent.
pub(crate) fn carry_out(spool: &Spool, agent: &dyn MasterCommands, command: Command, reply: Replier) {
    match command {
        Command::Suspend | Command::Resume => {
            spool.suspend(command == Command::Suspend);
            reply.reply(Outcome::Done);
        }
        command => agent.command(command, reply),
    }
}
