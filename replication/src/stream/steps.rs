//! The steps of a connection, without a carrier: what each end says and decides.
//!
//! A master says [`hello`]; the replica lets its newest connection take the place ([`Slots`]) and [`begin`]s; the master
//! [`meet`]s it, or hears that it was [`refused`]; parts go from the spool's reader through [`Flow`] into the session, and
//! what that tells comes back to the flow. The gRPC stream, the stream within one process and the simulations all take
//! these very steps; they differ in what lies in between. Nothing here waits for the other side, so a simulation can take
//! them one by one, in one thread.

use super::{MasterCommands, StreamError, Terms};
use crate::ingest::{Ingest, IngestSession, IngestState, Observer, SessionError};
use crate::spool::{Spool, SpoolReader};
use journal::Lsn;
use std::sync::Arc;
use wire::stream::{Hello, MeetingId, PROTOCOL_VERSION, Reason, Refused, Welcome};

pub use super::flow::Flow;
pub use super::replica::slots::{Place, Slots};

/// The replica's end of a connection, begun.
pub struct Begun {
    /// Takes what the master sends, if it was met.
    pub session: IngestSession,
    /// What to say to it.
    pub welcome: Welcome,
    /// Whether it was met, durably; else the refusal to send.
    pub met: Result<(), Refused>,
}

/// Reads where the journal stands and decides whether this master belongs to it. To be called by whoever has the
/// [`Place`] of the scenario, when nothing of an earlier connection is in flight any more.
#[must_use]
pub fn begin(
    ingest: &Arc<dyn Ingest>,
    terms: Terms,
    hello: &Hello,
    in_flight_bytes_max: u64,
    observer: Observer,
) -> Begun {
    let session = IngestSession::begin(Arc::clone(ingest), in_flight_bytes_max, observer);
    let mut welcome = welcome(terms, session.begun());
    let met = receive(hello, &welcome).and_then(|()| meet_durably(&**ingest, hello));
    let met = met.map(|meeting| welcome.meeting = meeting);
    Begun { session, welcome, met }
}

/// What the master says first.
#[must_use]
pub fn hello(spool: &Spool, agent: &dyn MasterCommands, scenario: u64, name: &str, host: &str) -> Hello {
    let status = spool.status();
    Hello {
        protocol: PROTOCOL_VERSION,
        scenario,
        name: name.to_owned(),
        host: host.to_owned(),
        journal: spool.journal(),
        acknowledged: status.acknowledged,
        // A master that never made anything goes on after whatever the journal holds.
        captured: status.captured.filter(|_| !spool.is_unused()),
        index_clean_at: agent.index_clean_at(),
        meeting: spool.meeting(),
        dial: spool.dial(),
        features: agent.features(),
    }
}

/// Master's side of meeting a replica: finds out whether both belong together, and where delivery begins.
///
/// # Errors
/// If they do not. Nothing is changed then.
pub fn meet(spool: &Arc<Spool>, welcome: &Welcome) -> Result<SpoolReader, StreamError> {
    if welcome.protocol != PROTOCOL_VERSION {
        return Err(StreamError::Protocol { what: "another version of the protocol" });
    }
    let (status, journaled) = (spool.status(), welcome.journaled);
    if status.acknowledged > Lsn::ZERO && spool.journal().is_some_and(|known| known != welcome.journal) {
        return Err(StreamError::OtherHistory { what: "is not the one that acknowledged captures before" });
    }
    if journaled < status.acknowledged {
        return Err(StreamError::LostAcknowledged { acknowledged: status.acknowledged, journaled });
    }
    if !spool.is_unused() && status.captured.is_some_and(|captured| captured < journaled) {
        return Err(StreamError::OtherHistory { what: "holds captures that this master did not make" });
    }
    spool.meet(welcome.meeting);
    spool.begin(welcome.journal, journaled, welcome.journaled_time)?;
    spool.suspend(welcome.suspended);
    SpoolReader::resume(spool, journaled, welcome.parts).map_err(StreamError::Resume)
}

/// Replica's side of meeting a master: the same question with what the master says.
///
/// # Errors
/// The refusal, if they do not belong together.
fn receive(hello: &Hello, welcome: &Welcome) -> Result<(), Refused> {
    let refuse = |reason, text: String| Err(Refused { reason, text });
    if hello.protocol != PROTOCOL_VERSION {
        let text = format!("the master speaks protocol {}, the replica {PROTOCOL_VERSION}", hello.protocol);
        return refuse(Reason::ProtocolVersion, text);
    }
    if hello.acknowledged > Lsn::ZERO && hello.journal.is_some_and(|known| known != welcome.journal) {
        return refuse(
            Reason::OtherHistory,
            format!("the master belongs to another journal than {}", welcome.journal),
        );
    }
    if hello.acknowledged > welcome.journaled {
        let (acknowledged, journaled) = (hello.acknowledged, welcome.journaled);
        let text = format!("capture {acknowledged} was acknowledged, the journal ends with {journaled}");
        return refuse(Reason::LostAcknowledged, text);
    }
    if hello.captured.is_some_and(|captured| captured < welcome.journaled) {
        let text = format!("the journal holds capture {}, which this master did not make", welcome.journaled);
        return refuse(Reason::Diverged, text);
    }
    Ok(())
}

/// Makes the meeting known to the journal, as the last thing before the welcome is sent.
///
/// # Errors
/// The refusal, if the master may not go on from where it was.
fn meet_durably(ingest: &dyn Ingest, hello: &Hello) -> Result<MeetingId, Refused> {
    let met = ingest.meet(hello.meeting, hello.captured.is_some()).map_err(|error| {
        let error = SessionError::Ingest(Arc::new(error));
        Refused { reason: error.reason(), text: error.to_string() }
    })?;
    met.ok_or_else(|| Refused {
        reason: Reason::Diverged,
        text: "another master, or this one in another state, has written to the journal since".to_owned(),
    })
}

/// What the replica's refusal means here.
pub fn refused(spool: &Spool, refused: Refused) -> StreamError {
    if refused.reason == Reason::Diverged {
        spool.forget_history();
    }
    StreamError::Refused(refused)
}

/// The welcome for a master on these terms, before a journal in this state.
pub(crate) fn welcome(terms: Terms, state: &IngestState) -> Welcome {
    Welcome {
        meeting: MeetingId::default(),
        protocol: PROTOCOL_VERSION,
        journal: state.journal,
        journaled: state.journaled,
        parts: state.parts,
        journaled_time: state.time,
        next_node: state.next_node,
        incarnation: state.incarnation,
        synchronization: terms.synchronization,
        suspended: terms.suspended,
        running: terms.running,
        definition: terms.definition,
    }
}
