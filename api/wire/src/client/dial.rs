//! Connections over TLS that are made when they are needed, for programs that run for months.
//!
//! The certificate files are read for every connection, so new ones count from the next connection on. Errors are
//! those of the connector: [`crate::Failure::from_status`] tells a refused certificate from a lost line.

use super::{TlsFiles, tls};
use crate::failure::Failure;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use tonic::transport::{Channel, Endpoint, Uri};

/// Whether connections can be made with these files as they are now.
///
/// # Errors
/// [`crate::codes::BAD_CERTIFICATE`] with the file at fault.
pub fn check_tls(files: &TlsFiles) -> Result<(), Failure> {
    tls::client_config(files).map(drop)
}

/// A channel to `authority` (`host:port`). To `target`, which sets windows and keepalive, the connection is plain:
/// its scheme is `http`.
#[must_use]
pub fn dial_tls(target: &Endpoint, authority: &str, files: TlsFiles) -> Channel {
    let authority: Arc<str> = authority.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (authority, files) = (Arc::clone(&authority), files.clone());
        async move {
            // Small files, read once a connection.
            let config = tls::client_config(&files).map_err(io::Error::other)?;
            tls::connect(&authority, config).await.map(TokioIo::new)
        }
    });
    target.connect_with_connector_lazy(connector)
}
