//! TLS of the listener: our certificate, and the authority every client must show a certificate of.

use crate::engine::EngineError;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::codes;

/// Files with certificates, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The daemon's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities whose certificates are accepted.
    pub client_ca: PathBuf,
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::new(&codes::BAD_CERTIFICATE, format!("{} cannot be used", path.display())).caused_by(source)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let list: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unusable(path, error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error))?;
    if list.is_empty() { Err(unusable(path, "there is no certificate in it")) } else { Ok(list) }
}

/// Reads the files. There is no configuration without client certificates: TLS is never left without authentication.
///
/// # Errors
/// `BAD_CERTIFICATE` with the file at fault.
pub fn server_config(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, EngineError> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(&files.client_ca)? {
        authorities.add(certificate).map_err(|error| unusable(&files.client_ca, error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&files.client_ca, error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.certificate, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| unusable(&files.certificate, error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
