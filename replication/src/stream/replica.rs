//! The replica's end of the gRPC streams: the service, and who may attach.
//!
//! A scenario has one live connection. A newer one of the same host ends the older, since a master dials again only
//! when it has given up the connection it had; another host is refused while one is attached. The next connection
//! begins only when nothing of the last is in flight any more: from there on the journal alone says where to go on.

mod attachment;
pub mod slots;

use super::ReplicaLink;
use slots::Slots;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use wire::stream::proto::replication_server::{Replication, ReplicationServer};
use wire::stream::proto::{AssignmentList, AssignmentsRequest, MasterMessage, ReplicaMessage};
use wire::stream::{Assignment, Hello, MESSAGE_BYTES_MAX, Reason, Refused};

/// Who called.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Address, over TCP.
    pub address: Option<SocketAddr>,
    /// Certificates shown, in DER, the caller's own first; empty without TLS.
    pub certificates: Vec<Vec<u8>>,
    /// What the caller's certificate calls it, where the listener has read that; `None` without TLS.
    pub names: Option<Vec<String>>,
}

impl Peer {
    /// A listener with a transport of its own knows better who called, and says so in an extension.
    fn of<T>(request: &Request<T>) -> Self {
        if let Some(known) = request.extensions().get::<Peer>() {
            return known.clone();
        }
        let certificates = request.peer_certs();
        Peer {
            address: request.remote_addr(),
            certificates: certificates
                .map_or_else(Vec::new, |all| all.iter().map(|one| one.to_vec()).collect()),
            names: None,
        }
    }
}

/// The scenarios of a replica. Methods may read a disk; they are called on threads that may block.
pub trait Registry: Send + Sync + 'static {
    /// The scenario that a master asks for, if it may have it.
    ///
    /// # Errors
    /// The refusal to send: `UnknownScenario`, `NotAuthorized`, `Unavailable`.
    fn scenario(&self, hello: &Hello, peer: &Peer) -> Result<Arc<dyn ReplicaLink>, Refused>;

    /// The scenarios whose master is this host, now and in future.
    ///
    /// # Errors
    /// The refusal to send.
    fn assignments(&self, host: &str, peer: &Peer) -> Result<watch::Receiver<Vec<Assignment>>, Refused>;
}

/// Options of the replica's end.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaStreamOptions {
    /// Bytes of one connection that ingest has not dealt with.
    pub in_flight_bytes_max: u64,
    /// Whether messages to masters are compressed (zstd); from masters both are taken.
    pub compress: bool,
    /// An acknowledgement is sent at least so often, so that silence means a dead link.
    pub acknowledge_every: Duration,
    /// A connection on which no message ends for so long is dead. Generous, since a message of 4 MiB takes a slow line
    /// its time, and a master that comes back is let in at once anyway.
    pub silence_max: Duration,
    /// How long a new connection waits for the end of the one before.
    pub takeover_max: Duration,
}

impl Default for ReplicaStreamOptions {
    fn default() -> Self {
        ReplicaStreamOptions {
            in_flight_bytes_max: 32 << 20,
            compress: false,
            acknowledge_every: Duration::from_secs(2),
            silence_max: Duration::from_secs(120),
            takeover_max: Duration::from_secs(10),
        }
    }
}

/// The service that masters dial.
pub struct ReplicationService {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<dyn Registry>,
    options: ReplicaStreamOptions,
    slots: Arc<Slots>,
    stop: watch::Receiver<bool>,
}

impl ReplicationService {
    /// A service over these scenarios, whose connections end when `stop` turns true or its sender is gone.
    #[must_use]
    pub fn new(
        registry: Arc<dyn Registry>,
        options: ReplicaStreamOptions,
        stop: watch::Receiver<bool>,
    ) -> Self {
        ReplicationService { inner: Arc::new(Inner { registry, options, slots: Arc::default(), stop }) }
    }

    /// The service with its limits, to be added to a tonic server.
    #[must_use]
    pub fn into_server(self) -> ReplicationServer<Self> {
        let compress = self.inner.options.compress;
        let server = ReplicationServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Zstd);
        if compress { server.send_compressed(CompressionEncoding::Zstd) } else { server }
    }
}

/// Sets the keepalive and the windows that the streams need on a server.
#[must_use]
pub fn tune(server: Server) -> Server {
    server
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        // As at the master's end: answers queue behind data.
        .http2_keepalive_timeout(Some(Duration::from_secs(60)))
        .initial_stream_window_size(Some(4 << 20))
        .initial_connection_window_size(Some(8 << 20))
}

type Outgoing = mpsc::Sender<Result<ReplicaMessage, Status>>;

#[tonic::async_trait]
impl Replication for ReplicationService {
    type AttachStream = ReceiverStream<Result<ReplicaMessage, Status>>;
    type AssignmentsStream = Pin<Box<dyn Stream<Item = Result<AssignmentList, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<MasterMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = Peer::of(&request);
        let (outgoing, messages) = mpsc::channel(64);
        // A task of its own: tonic drops a handler whose client has vanished, and what is in flight must be waited for.
        tokio::spawn(attachment::run(Arc::clone(&self.inner), peer, request.into_inner(), outgoing));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn assignments(
        &self,
        request: Request<AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let (peer, inner) = (Peer::of(&request), Arc::clone(&self.inner));
        let host = request.into_inner().host;
        let found = tokio::task::spawn_blocking(move || inner.registry.assignments(&host, &peer)).await;
        let lists = match found {
            Ok(Ok(lists)) => lists,
            Ok(Err(refused)) => return Err(status_of(refused)),
            Err(_) => return Err(Status::internal("looking for the scenarios panicked")),
        };
        let lists = WatchStream::new(lists).map(|list| Ok(AssignmentList::from(list)));
        let mut stop = self.inner.stop.clone();
        let (outgoing, messages) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::pin!(lists);
            loop {
                let list = tokio::select! {
                    list = lists.next() => list,
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = outgoing.closed() => return,
                };
                let Some(list) = list else { return };
                if outgoing.send(list).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

fn status_of(refused: Refused) -> Status {
    match refused.reason {
        Reason::NotAuthorized => Status::permission_denied(refused.text),
        Reason::Unavailable => Status::unavailable(refused.text),
        _ => Status::failed_precondition(refused.text),
    }
}
