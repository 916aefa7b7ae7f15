//! TLS from the client's side, so that a refused certificate is told from a lost connection.
//!
//! In TLS 1.3 a client has finished before the server has looked at its certificate: the refusal arrives when the
//! client already sends, and whether it is read before the connection breaks is chance. An HTTP/2 server speaks first,
//! so the connector waits for its first bytes: settings mean that the certificate was accepted, an alert says why not.

use super::TlsFiles;
use crate::codes;
use crate::failure::Failure;
use bytes::{Buf, Bytes};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long the server's first bytes are waited for; one that waits for ours is spoken to all the same.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// Enough for the settings, and never more than the HTTP/2 layer would read at once.
const GREETING_BYTES_MAX: usize = 4096;

fn unusable(path: &Path, error: impl Display) -> Failure {
    Failure::new(&codes::BAD_CERTIFICATE, format!("{} cannot be used: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(path, error))
}

/// Reads the files.
pub(super) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, Failure> {
    let Some(ca) = &files.ca else {
        return Err(Failure::new(
            &codes::USAGE,
            "https:// needs --ca, the authority of the daemon's certificate",
        ));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| unusable(ca, error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(&codes::INTERNAL, error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .map_err(|error| unusable(cert, error))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(Failure::new(&codes::USAGE, "--cert and --key belong together")),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Connects to `host:port`.
///
/// # Errors
/// Those of the network; with a [`rustls::Error`] inside where there is no trust.
pub(super) async fn connect(authority: &str, config: Arc<ClientConfig>) -> io::Result<Greeted> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    let mut greeting = vec![0; GREETING_BYTES_MAX];
    let bytes = match tokio::time::timeout(GREETING_TIMEOUT, stream.read(&mut greeting)).await {
        Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(result) => result?,
        Err(_) => 0,
    };
    greeting.truncate(bytes);
    Ok(Greeted { greeting: greeting.into(), stream })
}

/// A connection whose first bytes were read already.
pub(super) struct Greeted {
    greeting: Bytes,
    stream: TlsStream<TcpStream>,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let bytes = self.greeting.len().min(buffer.remaining());
        buffer.put_slice(self.greeting.get(..bytes).unwrap_or_default());
        self.greeting.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
