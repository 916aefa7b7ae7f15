//! The daemon's doors: a Unix socket, and a TCP listener if one is configured.
//!
//! Connections of all doors become one stream for the server. TLS is done here, not by tonic, so that certificates can
//! be replaced while connections live: every handshake takes the configuration that is current. A handshake has a time
//! limit and a task of its own, so that a peer that says nothing keeps nobody else out; the number of connections is
//! bounded, further ones wait in the kernel's queue.

mod tls;

pub use tls::{TlsFiles, server_config};

use crate::auth::{Peer, certificate_names};
use crate::engine::EngineError;
use parking_lot::RwLock;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use wire::{SocketName, codes};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections open at once.
const CONNECTIONS_MAX: usize = 512;
/// Pause after `accept` failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The configuration new handshakes use; `None`: no TLS.
pub type CurrentTls = Arc<RwLock<Option<Arc<rustls::ServerConfig>>>>;

/// A Unix socket that is bound.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds, for this user only. A socket that a dead daemon left is replaced.
    ///
    /// # Errors
    /// `DATA_IN_USE` if a daemon answers there, `IO`.
    pub async fn bind(path: &Path) -> Result<Self, EngineError> {
        let failed = |error| EngineError::io("listen on", path, error);
        let name = SocketName::new(path).map_err(failed)?;
        if UnixStream::connect(name.path()).await.is_ok() {
            let message = format!("a daemon answers at {}", path.display());
            return Err(EngineError::new(&codes::DATA_IN_USE, message));
        }
        // Made under another name: between bind and chmod nobody knows it.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let _ = std::fs::remove_file(&temporary);
        let short = SocketName::new(&temporary).map_err(failed)?;
        let listener = UnixListener::bind(short.path()).map_err(failed)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)?;
        Ok(Socket { listener, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds a TCP address.
///
/// # Errors
/// `OPEN_LISTENER` off loopback without TLS, `IO`.
pub async fn bind_tcp(address: SocketAddr, with_tls: bool) -> Result<TcpListener, EngineError> {
    if !with_tls && !address.ip().is_loopback() {
        let message = format!("listening on {address} without TLS and client certificates is refused");
        return Err(EngineError::new(&codes::OPEN_LISTENER, message));
    }
    TcpListener::bind(address)
        .await
        .map_err(|error| EngineError::new(&codes::IO, format!("listen on {address}")).caused_by(error))
}

/// Accepts on all doors until the receiver is dropped.
#[must_use]
pub fn accept(
    unix: Socket,
    tcp: Option<TcpListener>,
    tls: CurrentTls,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(16);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(accept_unix(unix.listener, sender.clone(), Arc::clone(&places)));
    if let Some(listener) = tcp {
        tokio::spawn(accept_tcp(listener, sender, places, tls));
    }
    ReceiverStream::new(receiver)
}

type Accepted = mpsc::Sender<io::Result<Connection>>;

async fn accept_unix(listener: UnixListener, sender: Accepted, places: Arc<Semaphore>) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        match accepted.and_then(|(stream, _)| stream.peer_cred().map(|credentials| (stream, credentials))) {
            Ok((stream, credentials)) => {
                let peer = Peer::Unix { uid: credentials.uid(), pid: credentials.pid() };
                let connection = Connection { transport: Transport::Unix(stream), peer, _place: place };
                if sender.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection on the Unix socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_tcp(listener: TcpListener, sender: Accepted, places: Arc<Semaphore>, tls: CurrentTls) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let config = tls.read().clone();
                tokio::spawn(greet(stream, address, config, place, sender.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finds out who it is and passes the connection on.
async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    config: Option<Arc<rustls::ServerConfig>>,
    place: OwnedSemaphorePermit,
    sender: Accepted,
) {
    // Small messages go at once; that it cannot be set is no reason to send anybody away.
    drop(stream.set_nodelay(true));
    let connection = match config {
        None => Connection { transport: Transport::Tcp(stream), peer: Peer::Tcp(address), _place: place },
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::warn!(%address, %error, "refused a connection"),
                Err(_) => return tracing::warn!(%address, "gave up a TLS handshake"),
            };
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let names = certificate.map(|certificate| certificate_names(certificate)).unwrap_or_default();
            let peer = Peer::Tls { address, names };
            Connection { transport: Transport::Tls(Box::new(stream)), peer, _place: place }
        }
    };
    // The server has gone: so be it.
    drop(sender.send(Ok(connection)).await);
}

/// An accepted connection.
pub struct Connection {
    transport: Transport,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Hands a call on to whichever transport it is.
macro_rules! each_transport {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().transport {
            Transport::Unix($stream) => $call,
            Transport::Tcp($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_transport!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each_transport!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_transport!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_transport!(self, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_transport!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Unix(stream) => stream.is_write_vectored(),
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
