//! A replica's server, a master's stream and a proxy between them, all on loopback.

use super::super::replica::{Peer, Registry, ReplicaStreamOptions, ReplicationService, tune};
use super::super::*;
use super::support::{Agent, Link, spool_in};
use crate::spool::Spool;
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{ClientTlsConfig, Server, ServerTlsConfig};
use wire::stream::proto::replication_client::ReplicationClient;
use wire::stream::{Assignment, FromMaster, FromReplica, Reason, proto};

struct OneScenario {
    link: Arc<Link>,
    assigned: watch::Receiver<Vec<Assignment>>,
    certificates: Arc<Mutex<Vec<usize>>>,
}

impl Registry for OneScenario {
    fn scenario(&self, hello: &Hello, peer: &Peer) -> Result<Arc<dyn ReplicaLink>, Refused> {
        self.certificates.lock().push(peer.certificates.len());
        if hello.scenario == 1 {
            return Ok(Arc::clone(&self.link) as Arc<dyn ReplicaLink>);
        }
        Err(Refused { reason: Reason::NotAuthorized, text: "no".to_owned() })
    }

    fn assignments(&self, _: &str, _: &Peer) -> Result<watch::Receiver<Vec<Assignment>>, Refused> {
        Ok(self.assigned.clone())
    }
}

/// A replica that serves, and a master that can be connected to it.
pub struct Setup {
    runtime: Arc<Runtime>,
    address: SocketAddr,
    pub link: Arc<Link>,
    pub spool: Arc<Spool>,
    pub agent: Arc<Agent>,
    host: String,
    assign: Arc<watch::Sender<Vec<Assignment>>>,
    pub certificates: Arc<Mutex<Vec<usize>>>,
    _stop: Arc<watch::Sender<bool>>,
    directory: Arc<tempfile::TempDir>,
}

fn assignment(scenario: u64) -> Assignment {
    Assignment { scenario, name: format!("scenario {scenario}"), spool_bytes_max: 1 << 30 }
}

impl Setup {
    pub fn new() -> Self {
        Self::with_tls(None)
    }

    pub fn with_tls(tls: Option<ServerTlsConfig>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (link, certificates) = (Link::new(), Arc::default());
        let (assign, assigned) = watch::channel(vec![assignment(1)]);
        let (stop, stopped) = watch::channel(false);
        let registry =
            OneScenario { link: Arc::clone(&link), assigned, certificates: Arc::clone(&certificates) };
        let options = ReplicaStreamOptions {
            compress: true,
            acknowledge_every: Duration::from_millis(100),
            silence_max: Duration::from_millis(1500),
            ..ReplicaStreamOptions::default()
        };
        let service = ReplicationService::new(Arc::new(registry), options, stopped);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = tune(Server::builder());
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = server.add_service(service.into_server());
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        let directory = tempfile::tempdir().unwrap();
        let spool = spool_in(directory.path());
        Setup {
            runtime: Arc::new(runtime),
            address,
            link,
            agent: Agent::new(&spool),
            spool,
            host: "here".to_owned(),
            assign: Arc::new(assign),
            certificates,
            _stop: Arc::new(stop),
            directory: Arc::new(directory),
        }
    }

    /// Another master, with a spool of its own, before the same replica.
    pub fn clone_as(&self, host: &str) -> Setup {
        let spool = spool_in(&self.directory.path().join(host));
        Setup {
            runtime: Arc::clone(&self.runtime),
            address: self.address,
            link: Arc::clone(&self.link),
            agent: Agent::new(&spool),
            spool,
            host: host.to_owned(),
            assign: Arc::clone(&self.assign),
            certificates: Arc::clone(&self.certificates),
            _stop: Arc::clone(&self._stop),
            directory: Arc::clone(&self.directory),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connect(&self, uri: &str) -> Stream {
        self.connect_with(uri, None)
    }

    /// A stream from another spool.
    pub fn connect_spool(&self, uri: &str, spool: &Arc<Spool>) -> Stream {
        self.connect_from(uri, None, spool)
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub fn connect_with(&self, uri: &str, tls: Option<ClientTlsConfig>) -> Stream {
        self.connect_from(uri, tls, &self.spool)
    }

    fn connect_from(&self, uri: &str, tls: Option<ClientTlsConfig>, spool: &Arc<Spool>) -> Stream {
        let options = master::MasterOptions {
            compress: true,
            in_flight_bytes_max: 1 << 20,
            batch_bytes: 64 << 10,
            status_every: Duration::from_millis(50),
            silence_max: Duration::from_millis(1000),
            backoff: (Duration::from_millis(5), Duration::from_millis(50)),
            ..master::MasterOptions::new(1, "docs".to_owned(), self.host.clone())
        };
        let agent = Arc::clone(&self.agent) as Arc<dyn MasterCommands>;
        let stream = master::MasterStream::new(options, Arc::clone(spool), agent);
        let (stop, stopped) = watch::channel(false);
        let dial = master::dial(master::endpoint(uri, tls).unwrap());
        let task = self.runtime.spawn(async move { stream.run(dial, stopped).await });
        Stream { runtime: Arc::clone(&self.runtime), stop, task }
    }

    /// A connection that says this and no more, and what it is answered. It stands as long as the stream is kept.
    pub fn greet(&self, hello: Hello) -> (FromReplica, Greeted) {
        let endpoint = master::endpoint(&self.uri(), None).unwrap();
        self.runtime.block_on(async {
            let (outgoing, messages) = tokio::sync::mpsc::channel(1);
            outgoing.send(FromMaster::Hello(hello).into()).await.unwrap();
            let mut client = ReplicationClient::new(endpoint.connect().await.unwrap())
                .accept_compressed(tonic::codec::CompressionEncoding::Zstd);
            let response = client.attach(ReceiverStream::new(messages)).await.unwrap();
            let mut incoming = response.into_inner();
            let answer = FromReplica::try_from(incoming.message().await.unwrap().unwrap()).unwrap();
            (answer, (outgoing, incoming))
        })
    }

    pub fn watch_assignments(&self, uri: &str) -> (watch::Receiver<Vec<Assignment>>, watch::Sender<bool>) {
        let (send, lists) = watch::channel(Vec::new());
        let (stop, stopped) = watch::channel(false);
        let dial = master::dial(master::endpoint(uri, None).unwrap());
        self.runtime.spawn(master::watch_assignments(dial, self.host.clone(), send, |_| {}, stopped));
        (lists, stop)
    }

    pub fn assign(&self, scenario: u64) {
        self.assign.send_modify(|list| list.push(assignment(scenario)));
    }
}

/// Both ends of a raw connection.
pub type Greeted = (tokio::sync::mpsc::Sender<proto::MasterMessage>, tonic::Streaming<proto::ReplicaMessage>);

/// A running stream of a master.
pub struct Stream {
    runtime: Arc<Runtime>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), StreamError>>,
}

impl Stream {
    pub fn stop(self) -> Result<(), StreamError> {
        self.stop.send_replace(true);
        self.wait_end()
    }

    pub fn wait_end(self) -> Result<(), StreamError> {
        let ended = async { tokio::time::timeout(Duration::from_secs(15), self.task).await };
        self.runtime.block_on(ended).expect("the stream does not end").unwrap()
    }
}

/// Forwards connections, until told to cut or stall them.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
}

#[derive(Default)]
struct ProxyState {
    open: Mutex<Vec<TcpStream>>,
    stalled: AtomicBool,
    /// Bytes after which all is cut; negative: never.
    budget: AtomicI64,
    closed: AtomicBool,
}

impl ProxyState {
    fn cut(&self) {
        self.budget.store(-1, Ordering::Relaxed);
        self.stalled.store(false, Ordering::Relaxed);
        for socket in self.open.lock().drain(..) {
            drop(socket.shutdown(Shutdown::Both));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 8192];
        while let Ok(count) = from.read(&mut buffer) {
            while self.stalled.load(Ordering::Relaxed) && !self.closed.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            let before = self.budget.fetch_sub(count as i64, Ordering::Relaxed);
            if before > 0 && before <= count as i64 {
                self.cut();
            } else if before < 0 {
                self.budget.store(-1, Ordering::Relaxed);
            }
        }
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }
}

impl Proxy {
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(ProxyState { budget: AtomicI64::new(-1), ..ProxyState::default() });
        let own = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if own.closed.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let Ok(server) = TcpStream::connect(target) else { continue };
                let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                own.open.lock().extend(ends);
                for (from, to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    let state = Arc::clone(&own);
                    std::thread::spawn(move || state.forward(from, to));
                }
            }
        });
        Proxy { address, state }
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections now.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Ends all connections after so many bytes more.
    pub fn cut_after(&self, bytes: u64) {
        self.state.budget.store(bytes as i64 + 1, Ordering::Relaxed);
    }

    /// Connections stay open and nothing passes, until a cut or [`Proxy::go`].
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::Relaxed);
    }

    pub fn go(&self) {
        self.state.stalled.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        self.state.cut();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}
