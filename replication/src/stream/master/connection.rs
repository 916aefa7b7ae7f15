//! One connection, from hello to its end.

use super::super::{
    COMMANDS_MAX, Flow, LinkError, ReplicaHandle, Replier, StreamError, carry_out, hello, master_status,
    meet, refused,
};
use super::MasterStream;
use crate::spool::{SpoolError, SpoolReader};
use bytes::Bytes;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::stream::{
    Answer, BlockHashes, BlocksWanted, Failed, FromMaster, FromReplica, NamespacePage, Outcome, Request,
    Welcome, proto,
};

/// Requests to the replica that wait for answers.
const REQUESTS_MAX: usize = 16;
/// How long the spool is waited for before it is looked whether the connection still stands.
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Outgoing = mpsc::Sender<proto::MasterMessage>;

/// What the control thread is to handle.
enum Control {
    Message(FromReplica),
    Tick,
}

/// Runs one connection to its end and says why it ended. Sets `met` if the replica and this master belong together.
pub(super) async fn run(
    stream: &MasterStream,
    channel: Channel,
    stop: &mut watch::Receiver<bool>,
    met: &mut bool,
) -> StreamError {
    let opened = tokio::select! {
        opened = open(stream, channel) => opened,
        () = stopped(stop) => return StreamError::Stopped,
    };
    match opened {
        Ok(opened) => {
            *met = true;
            serve(stream, opened, stop).await
        }
        Err(error) => error,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to stop it otherwise.
    drop(stop.wait_for(|stop| *stop).await);
}

struct Opened {
    outgoing: Outgoing,
    incoming: Streaming<proto::ReplicaMessage>,
    welcome: Welcome,
    reader: SpoolReader,
}

async fn open(stream: &MasterStream, channel: Channel) -> Result<Opened, StreamError> {
    let options = &stream.options;
    let (outgoing, messages) = mpsc::channel(4);
    let hello = hello(&stream.spool, &*stream.agent, options.scenario, &options.name, &options.host);
    let first = outgoing.send(FromMaster::Hello(hello).into()).await;
    first.map_err(|_| StreamError::Ended)?;
    let silence = |_| StreamError::Silence(options.silence_max);
    let mut client = stream.client(channel);
    let response = tokio::time::timeout(options.silence_max, client.attach(ReceiverStream::new(messages)));
    let mut incoming = response.await.map_err(silence)??.into_inner();
    let first = tokio::time::timeout(options.silence_max, incoming.message());
    let first = first.await.map_err(silence)??.ok_or(StreamError::Ended)?;
    let welcome = match FromReplica::try_from(first)? {
        FromReplica::Welcome(welcome) => *welcome,
        FromReplica::Refused(cause) => {
            let spool = Arc::clone(&stream.spool);
            return Err(spawn_blocking(move || refused(&spool, cause))
                .await
                .map_err(|error| panicked(&error))?);
        }
        _ => return Err(StreamError::Protocol { what: "neither welcome nor refusal came first" }),
    };
    let (spool, at) = (Arc::clone(&stream.spool), welcome.clone());
    let reader = spawn_blocking(move || meet(&spool, &at)).await.map_err(|error| panicked(&error))??;
    Ok(Opened { outgoing, incoming, welcome, reader })
}

fn panicked(error: &JoinError) -> StreamError {
    tracing::error!(%error, "a thread of the stream panicked");
    StreamError::Protocol { what: "a thread of the stream panicked" }
}

async fn serve(stream: &MasterStream, opened: Opened, stop: &mut watch::Receiver<bool>) -> StreamError {
    let Opened { outgoing, mut incoming, welcome, reader } = opened;
    let flow = Arc::new(Flow::new(stream.options.in_flight_bytes_max));
    // Bounded by the commands and requests under way, which are counted.
    let (answers, to_send) = mpsc::unbounded_channel();
    let replica =
        Arc::new(Replica { answers: answers.clone(), pending: Mutex::default(), next: AtomicU64::new(1) });
    let over =
        Over { flow: Arc::clone(&flow), replica: Arc::clone(&replica), spool: Arc::clone(&stream.spool) };
    stream.agent.connected(&welcome, Arc::clone(&replica) as Arc<dyn ReplicaHandle>);
    // The thread does not send by itself: a body that nobody reads any more would hold it, this channel ends with the
    // task that forwards.
    let (batches, to_deliver) = mpsc::channel(2);
    let mut deliver = {
        let (flow, batch_bytes) = (Arc::clone(&flow), stream.options.batch_bytes);
        spawn_blocking(move || deliver(reader, &flow, &batches, batch_bytes))
    };
    let (control, events) = mpsc::channel(16);
    let mut handle = {
        let party = ControlThread {
            spool: Arc::clone(&stream.spool),
            agent: Arc::clone(&stream.agent),
            replica: Arc::clone(&replica),
            flow: Arc::clone(&flow),
            outgoing: outgoing.clone(),
            answers,
            commands: Arc::default(),
        };
        spawn_blocking(move || party.run(events))
    };
    let forward = tokio::spawn(forward(to_send, to_deliver, outgoing));
    let error = tokio::select! {
        error = listen(stream, &mut incoming, &control) => error,
        error = ended(&mut deliver) => error,
        error = ended(&mut handle) => error,
        () = stopped(stop) => StreamError::Stopped,
    };
    // The order of the end: nobody waits for the replica, no more messages either way, then the threads.
    drop(over);
    drop(control);
    drop(incoming);
    forward.abort();
    for thread in [deliver, handle] {
        if !thread.is_finished() {
            drop(thread.await);
        }
    }
    error
}

/// Lets go everybody who waits for the connection; also if the task that serves it is dropped.
struct Over {
    flow: Arc<Flow>,
    replica: Arc<Replica>,
    spool: Arc<crate::spool::Spool>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.flow.close();
        self.replica.close();
        self.spool.wake();
    }
}

async fn ended(thread: &mut JoinHandle<StreamError>) -> StreamError {
    thread.await.unwrap_or_else(|error| panicked(&error))
}

/// Sends what the threads have to say; answers first, they are small and somebody waits for them.
async fn forward(
    mut answers: mpsc::UnboundedReceiver<FromMaster>,
    mut batches: mpsc::Receiver<FromMaster>,
    outgoing: Outgoing,
) {
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = answers.recv() => message,
            Some(message) = batches.recv() => message,
            else => return,
        };
        if outgoing.send(message.into()).await.is_err() {
            return;
        }
    }
}

/// Passes on what the replica says, and the ticks of the clock.
async fn listen(
    stream: &MasterStream,
    incoming: &mut Streaming<proto::ReplicaMessage>,
    control: &mpsc::Sender<Control>,
) -> StreamError {
    let silence = stream.options.silence_max;
    let mut tick = tokio::time::interval(stream.options.status_every);
    let mut heard = tokio::time::Instant::now();
    loop {
        let event = tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => match FromReplica::try_from(message) {
                    Ok(message) => Control::Message(message),
                    Err(error) => return error.into(),
                },
                Ok(None) => return StreamError::Ended,
                Err(status) => return status.into(),
            },
            _ = tick.tick() => Control::Tick,
            () = tokio::time::sleep_until(heard + silence) => return StreamError::Silence(silence),
        };
        if matches!(event, Control::Message(_)) {
            heard = tokio::time::Instant::now();
        }
        if control.send(event).await.is_err() {
            // The thread has ended and says why; let that be heard.
            std::future::pending::<()>().await;
        }
    }
}

/// Delivers from the spool until the connection ends.
fn deliver(
    mut reader: SpoolReader,
    flow: &Flow,
    batches: &mpsc::Sender<FromMaster>,
    batch_bytes: usize,
) -> StreamError {
    while flow.wait_for_room() {
        let batch = match reader.next_batch(batch_bytes, LOOK_EVERY) {
            Ok(batch) if batch.is_empty() => continue,
            Ok(batch) => batch,
            Err(SpoolError::Closed) => return StreamError::Stopped,
            Err(error) => return error.into(),
        };
        let batch = flow.sent(&batch);
        if batches.blocking_send(FromMaster::Batch(batch)).is_err() {
            break;
        }
    }
    StreamError::Ended
}

/// Handles what the replica says.
struct ControlThread {
    spool: Arc<crate::spool::Spool>,
    agent: Arc<dyn super::MasterCommands>,
    replica: Arc<Replica>,
    flow: Arc<Flow>,
    outgoing: Outgoing,
    answers: mpsc::UnboundedSender<FromMaster>,
    commands: Arc<AtomicUsize>,
}

impl ControlThread {
    fn run(self, mut events: mpsc::Receiver<Control>) -> StreamError {
        while let Some(event) = events.blocking_recv() {
            let handled = match event {
                Control::Message(message) => self.message(message),
                Control::Tick => {
                    self.tick();
                    Ok(())
                }
            };
            if let Err(error) = handled {
                return error;
            }
        }
        StreamError::Ended
    }

    fn tick(&self) {
        let status = master_status(&self.spool, &*self.agent);
        // No room: then batches are on their way, and they too say that the master is alive.
        drop(self.outgoing.try_send(FromMaster::Status(status).into()));
        if let Err(error) = self.spool.persist() {
            tracing::warn!(%error, "cannot write down what the replica has acknowledged");
        }
    }

    fn message(&self, message: FromReplica) -> Result<(), StreamError> {
        match message {
            FromReplica::Ack(progress) => self.flow.acknowledge(&self.spool, progress)?,
            FromReplica::Applied(lsn) => self.agent.applied(lsn),
            FromReplica::Command(id, command) => {
                if self.commands.fetch_add(1, Ordering::Relaxed) >= COMMANDS_MAX {
                    return Err(StreamError::Protocol { what: "too many commands at once" });
                }
                let (answers, commands) = (self.answers.clone(), Arc::clone(&self.commands));
                let reply = Replier::new(move |outcome: Outcome| {
                    commands.fetch_sub(1, Ordering::Relaxed);
                    // The connection may be gone; the replica then knows no outcome, whatever is done.
                    drop(answers.send(FromMaster::Reply(id, outcome)));
                });
                carry_out(&self.spool, &*self.agent, command, reply);
            }
            FromReplica::Response(id, answer) => self.replica.answer(id, answer.map_err(LinkError::Failed)),
            FromReplica::Refused(refused) => return Err(StreamError::Refused(refused)),
            FromReplica::Welcome(_) => return Err(StreamError::Protocol { what: "a second welcome" }),
        }
        Ok(())
    }
}

type Waiting = Sender<Result<Answer, LinkError>>;

/// The replica as the agent sees it.
struct Replica {
    answers: mpsc::UnboundedSender<FromMaster>,
    pending: Mutex<Pending>,
    next: AtomicU64,
}

/// Requests that wait for answers; none once the connection is gone.
#[derive(Default)]
struct Pending {
    closed: bool,
    waiting: HashMap<u64, Waiting>,
}

impl Replica {
    fn answer(&self, id: u64, answer: Result<Answer, LinkError>) {
        if let Some(waiting) = self.pending.lock().waiting.remove(&id) {
            // Who asked may have given up.
            drop(waiting.try_send(answer));
        }
    }

    /// Asks, and waits for the answer.
    fn ask(&self, request: Request, timeout: Duration) -> Result<Answer, LinkError> {
        let (send, answer) = bounded(1);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut pending = self.pending.lock();
            if pending.closed {
                return Err(LinkError::Disconnected);
            }
            if pending.waiting.len() >= REQUESTS_MAX {
                return Err(LinkError::Busy);
            }
            pending.waiting.insert(id, send);
        }
        let outcome = match self.answers.send(FromMaster::Request(id, request)) {
            Err(_) => Err(LinkError::Disconnected),
            Ok(()) => match answer.recv_timeout(timeout) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => Err(LinkError::TimedOut),
                Err(RecvTimeoutError::Disconnected) => Err(LinkError::Disconnected),
            },
        };
        self.pending.lock().waiting.remove(&id);
        outcome
    }

    fn close(&self) {
        let mut pending = self.pending.lock();
        pending.closed = true;
        pending.waiting.clear();
    }
}

/// An answer to another question than was asked.
fn mixed_up() -> LinkError {
    let text = "the replica answered another question".to_owned();
    LinkError::Failed(Failed { code: "RW0472".to_owned(), text })
}

impl ReplicaHandle for Replica {
    fn namespace(&self, after: Option<Bytes>, timeout: Duration) -> Result<NamespacePage, LinkError> {
        match self.ask(Request::Namespace(after.unwrap_or_default()), timeout)? {
            Answer::Namespace(page) => Ok(page),
            Answer::Blocks(_) => Err(mixed_up()),
        }
    }

    fn blocks(&self, wanted: &BlocksWanted, timeout: Duration) -> Result<BlockHashes, LinkError> {
        match self.ask(Request::Blocks(*wanted), timeout)? {
            Answer::Blocks(hashes) => Ok(hashes),
            Answer::Namespace(_) => Err(mixed_up()),
        }
    }
}
