//! One connection of a master, from hello until nothing of it is in flight.

use super::super::{COMMANDS_MAX, LinkError, MasterHandle, ReplicaLink, Ticket};
use super::slots::Place;
use super::{Inner, Outgoing, Peer};
use crate::chain::chain;
use crate::ingest::{IngestSession, SessionError};
use crossbeam_channel::Sender;
use journal::Lsn;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Streaming;
use wire::stream::proto::MasterMessage;
use wire::stream::{
    Answer, Batch, Command, FromMaster, FromReplica, Hello, Outcome, Progress, Reason, Refused, Request,
    Welcome,
};

/// Batches read from the wire and not yet handed to ingest.
const BATCHES_MAX: usize = 4;
/// Requests not yet answered.
const REQUESTS_MAX: usize = 16;
/// How often the applied position is looked at.
const APPLIED_EVERY: Duration = Duration::from_millis(200);

/// Told to the connection by ingest: how far it is, or why it ended.
type Told = Result<Progress, SessionError>;

/// Serves a connection. Everything that goes wrong is told to the master, as far as it still listens.
pub(super) async fn run(
    inner: Arc<Inner>,
    peer: Peer,
    incoming: Streaming<MasterMessage>,
    outgoing: Outgoing,
) {
    if let Err(refused) = serve(&inner, peer, incoming, &outgoing).await {
        tracing::info!(reason = ?refused.reason, text = refused.text, "a master's connection ends");
        let last = outgoing.send(Ok(FromReplica::Refused(refused).into()));
        // Whoever does not read the farewell for a second will not.
        drop(timeout(Duration::from_secs(1), last).await);
    }
}

fn refused(reason: Reason, text: impl Into<String>) -> Refused {
    Refused { reason, text: text.into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    spawn_blocking(work).await.map_err(|_| refused(Reason::Unavailable, "the replica failed to answer"))
}

async fn serve(
    inner: &Arc<Inner>,
    peer: Peer,
    mut incoming: Streaming<MasterMessage>,
    outgoing: &Outgoing,
) -> Result<(), Refused> {
    let hello = first_message(inner, &mut incoming).await?;
    let (registry, asked) = (Arc::clone(inner), hello.clone());
    let link = blocking(move || registry.registry.scenario(&asked, &peer)).await??;
    let place =
        inner.slots.take(hello.scenario, (&hello.host, hello.dial), inner.options.takeover_max).await?;

    let (told, progress) = watch::channel(Ok(Progress::default()));
    let (door, asked, limit) = (Arc::clone(&link), hello.clone(), inner.options.in_flight_bytes_max);
    let (session, welcome) = blocking(move || begin(&*door, &asked, limit, told)).await??;
    let in_flight = session.in_flight();
    let gone = |_| refused(Reason::Unavailable, "the master has gone");
    outgoing.send(Ok(FromReplica::Welcome(Box::new(welcome)).into())).await.map_err(gone)?;
    let ended = attached(inner, &link, &hello.host, session, (incoming, outgoing, progress, &place)).await;

    // Only when nothing of it is in flight does the place become free: the next connection begins where the journal
    // then stands.
    let (host, scenario) = (hello.host, hello.name);
    let why = ended
        .as_ref()
        .err()
        .map_or_else(|| "the master closed the connection".to_owned(), |r| r.text.clone());
    let drained = blocking(move || {
        while !in_flight.drain(Duration::from_secs(10)) {
            tracing::warn!(host, "ingest has not finished with a connection that is gone");
        }
        // A connection begins where the journal stands, so duplicates mean a mistake on one of the two sides.
        let (parts, duplicates) = in_flight.counts();
        tracing::info!(
            scenario,
            host,
            parts,
            duplicates,
            "all that a connection brought is journaled or refused"
        );
        link.detached(&why);
    });
    let drained = drained.await;
    drop(place);
    ended.and(drained)
}

async fn first_message(inner: &Inner, incoming: &mut Streaming<MasterMessage>) -> Result<Hello, Refused> {
    let first = timeout(inner.options.silence_max, incoming.message()).await;
    let first = first.map_err(|_| refused(Reason::Protocol, "no hello came"))?;
    let first = first.map_err(|status| refused(Reason::Protocol, status.message()))?;
    match first.map(FromMaster::try_from) {
        Some(Ok(FromMaster::Hello(hello))) => Ok(hello),
        Some(Err(error)) => Err(refused(Reason::Protocol, error.to_string())),
        _ => Err(refused(Reason::Protocol, "the first message is not a hello")),
    }
}

/// Reads where the journal stands and decides whether this master belongs to it.
fn begin(
    link: &dyn ReplicaLink,
    hello: &Hello,
    in_flight_bytes_max: u64,
    told: watch::Sender<Told>,
) -> Result<(IngestSession, Welcome), Refused> {
    let terms = link.terms(hello)?;
    let observer = Arc::new(move |progress: &Told| {
        told.send_modify(|last| *last = progress.clone());
    });
    let begun = super::super::begin(&link.ingest(), terms, hello, in_flight_bytes_max, observer);
    match begun.met {
        Ok(()) => Ok((begun.session, begun.welcome)),
        Err(refused) => {
            tracing::error!(
                scenario = hello.scenario,
                host = hello.host,
                text = refused.text,
                "a master is refused"
            );
            link.refused(&refused);
            Err(refused)
        }
    }
}

type Ends<'a> = (Streaming<MasterMessage>, &'a Outgoing, watch::Receiver<Told>, &'a Place);

async fn attached(
    inner: &Inner,
    link: &Arc<dyn ReplicaLink>,
    host: &str,
    session: IngestSession,
    (incoming, outgoing, progress, place): Ends<'_>,
) -> Result<(), Refused> {
    let master = Arc::new(Master { outgoing: outgoing.clone(), pending: Mutex::default() });
    let over = Over { master: Arc::clone(&master), in_flight: session.in_flight() };
    link.attached(host, Arc::clone(&master) as Arc<dyn MasterHandle>);

    let (batches, to_ingest) = mpsc::channel(BATCHES_MAX);
    let pump = spawn_blocking(move || pump(session, to_ingest));
    let (requests, to_answer) = mpsc::channel(REQUESTS_MAX);
    let answers = tokio::spawn(answer(Arc::clone(link), to_answer, outgoing.clone()));
    let (mut superseded, mut stop) = (place.superseded.clone(), inner.stop.clone());
    let mut revoked = link.revoked();
    let ended = tokio::select! {
        ended = listen(inner, &**link, &master, incoming, batches, requests) => ended,
        ended = acknowledge(inner, &**link, progress, outgoing) => ended,
        _ = superseded.wait_for(|superseded| *superseded) => Err(super::slots::superseded()),
        _ = stop.wait_for(|stop| *stop) => Err(refused(Reason::Unavailable, "the replica is stopping")),
        () = is_revoked(&mut revoked) => Err(refused(Reason::Unavailable, "the scenario is being closed")),
    };
    answers.abort();
    // The queue of the pump is closed too: it ends now, or when ingest lets it go.
    drop(over);
    drop(pump.await);
    ended
}

/// Lets go everybody who waits for the connection; also if the task that serves it is dropped.
struct Over {
    master: Arc<Master>,
    in_flight: crate::ingest::InFlight,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.master.close();
        self.in_flight.close();
    }
}

async fn is_revoked(revoked: &mut watch::Receiver<bool>) {
    if revoked.wait_for(|revoked| *revoked).await.is_err() {
        // Nobody is left who could.
        std::future::pending::<()>().await;
    }
}

/// Hands batches to ingest, which may block.
fn pump(mut session: IngestSession, mut batches: mpsc::Receiver<Batch>) {
    while let Some(batch) = batches.blocking_recv() {
        // The observer has been told why.
        if session.submit(batch).is_err() {
            return;
        }
    }
}

/// Takes what the master says until it says no more.
async fn listen(
    inner: &Inner,
    link: &dyn ReplicaLink,
    master: &Master,
    mut incoming: Streaming<MasterMessage>,
    batches: mpsc::Sender<Batch>,
    requests: mpsc::Sender<(u64, Request)>,
) -> Result<(), Refused> {
    loop {
        let message = timeout(inner.options.silence_max, incoming.message()).await;
        let message =
            message.map_err(|_| refused(Reason::Unavailable, "nothing was heard from the master"))?;
        let message = match message {
            Ok(Some(message)) => FromMaster::try_from(message),
            Ok(None) => return Ok(()),
            Err(status) => return Err(refused(Reason::Unavailable, status.message())),
        };
        match message.map_err(|error| refused(Reason::Protocol, error.to_string()))? {
            FromMaster::Batch(batch) => {
                if batches.send(batch).await.is_err() {
                    // Ingest has ended the session; the observer says why.
                    std::future::pending::<()>().await;
                }
            }
            FromMaster::Status(status) => link.status(&status),
            FromMaster::Reply(id, outcome) => master.replied(id, outcome),
            FromMaster::Request(id, request) => {
                let taken = requests.try_send((id, request));
                taken.map_err(|_| refused(Reason::Protocol, "too many requests at once"))?;
            }
            FromMaster::Hello(_) => return Err(refused(Reason::Protocol, "a second hello")),
        }
    }
}

/// Sends what becomes durable and applied, until ingest fails or the master is gone.
async fn acknowledge(
    inner: &Inner,
    link: &dyn ReplicaLink,
    mut progress: watch::Receiver<Told>,
    outgoing: &Outgoing,
) -> Result<(), Refused> {
    let mut applied = Lsn::ZERO;
    let mut due = Instant::now() + inner.options.acknowledge_every;
    let mut look = tokio::time::interval(APPLIED_EVERY);
    loop {
        let news = tokio::select! {
            changed = progress.changed() => match changed {
                Ok(()) => true,
                // The session is over without a failure; the end of the connection is on its way.
                Err(_) => std::future::pending().await,
            },
            () = sleep_until(due) => true,
            _ = look.tick() => false,
        };
        let gone = |_| refused(Reason::Unavailable, "the master has gone");
        if news {
            let told = progress.borrow_and_update().clone();
            let progress = told.map_err(|error| refused(error.reason(), chain(&error)))?;
            if progress != Progress::default() || Instant::now() >= due {
                outgoing.send(Ok(FromReplica::Ack(progress).into())).await.map_err(gone)?;
            }
            due = Instant::now() + inner.options.acknowledge_every;
        }
        let now = link.applied();
        if now != applied {
            applied = now;
            outgoing.send(Ok(FromReplica::Applied(now).into())).await.map_err(gone)?;
        }
    }
}

/// Answers requests, one after the other.
async fn answer(
    link: Arc<dyn ReplicaLink>,
    mut requests: mpsc::Receiver<(u64, Request)>,
    outgoing: Outgoing,
) {
    while let Some((id, request)) = requests.recv().await {
        let link = Arc::clone(&link);
        let answered = blocking(move || match request {
            Request::Namespace(after) => link.namespace(&after).map(Answer::Namespace),
            Request::Blocks(wanted) => link.blocks(&wanted).map(Answer::Blocks),
        });
        let Ok(answer) = answered.await else { return };
        if outgoing.send(Ok(FromReplica::Response(id, answer).into())).await.is_err() {
            return;
        }
    }
}

/// The attached master.
struct Master {
    outgoing: Outgoing,
    pending: Mutex<Pending>,
}

/// Commands that wait for replies; none once the connection is gone.
#[derive(Default)]
struct Pending {
    closed: bool,
    next: u64,
    waiting: HashMap<u64, Sender<Outcome>>,
}

impl Master {
    fn replied(&self, id: u64, outcome: Outcome) {
        if let Some(waiting) = self.pending.lock().waiting.remove(&id) {
            // Who asked may have given up.
            drop(waiting.try_send(outcome));
        }
    }

    fn close(&self) {
        let mut pending = self.pending.lock();
        pending.closed = true;
        pending.waiting.clear();
    }
}

impl MasterHandle for Master {
    fn send(&self, command: Command) -> Result<Ticket, LinkError> {
        let (send, ticket) = Ticket::new();
        let mut pending = self.pending.lock();
        if pending.closed {
            return Err(LinkError::Disconnected);
        }
        if pending.waiting.len() >= COMMANDS_MAX {
            return Err(LinkError::Busy);
        }
        pending.next += 1;
        let id = pending.next;
        let message = FromReplica::Command(id, command).into();
        match self.outgoing.try_send(Ok(message)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(LinkError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(LinkError::Disconnected),
        }
        pending.waiting.insert(id, send);
        Ok(ticket)
    }
}
