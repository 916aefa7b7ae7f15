//! Mutual TLS from PEM files. Errors name the file, since that is what a person can act on.
//!
//! Files are checked when they are loaded as far as one side can: they exist, hold what they should, and the
//! certificate belongs to the key (rustls says so when the configuration is built). Whether a certificate has expired
//! or was issued by the wrong authority is for the other side to judge at each connection.

use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// Files of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that the other side's certificate must come from.
    pub ca: PathBuf,
    /// Own certificate, followed by intermediates if there are any.
    pub certificate: PathBuf,
    /// Own private key.
    pub key: PathBuf,
}

/// A file for TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It cannot be read.
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// It does not hold what it should.
    #[error("{path} holds no {what} in PEM form")]
    Content { path: PathBuf, what: &'static str },
}

/// Configuration of a server that lets in only clients with a certificate from the authority.
///
/// # Errors
/// If a file cannot be used; the error names it.
pub fn server(files: &TlsFiles) -> Result<ServerTlsConfig, TlsError> {
    let (ca, identity) = load(files)?;
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(ca))
}

/// Configuration of a client that shows its certificate and expects the server to be `domain`.
///
/// # Errors
/// If a file cannot be used; the error names it.
pub fn client(files: &TlsFiles, domain: &str) -> Result<ClientTlsConfig, TlsError> {
    let (ca, identity) = load(files)?;
    Ok(ClientTlsConfig::new().identity(identity).ca_certificate(ca).domain_name(domain))
}

fn load(files: &TlsFiles) -> Result<(Certificate, Identity), TlsError> {
    let ca = read(&files.ca, "CERTIFICATE", "certificate")?;
    let certificate = read(&files.certificate, "CERTIFICATE", "certificate")?;
    let key = read(&files.key, "PRIVATE KEY", "private key")?;
    warn_if_exposed(&files.key);
    Ok((Certificate::from_pem(ca), Identity::from_pem(certificate, key)))
}

/// Longest file of certificates.
const FILE_BYTES_MAX: u64 = 4 << 20;

fn read(path: &Path, label: &str, what: &'static str) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let mut pem = Vec::new();
    let file =
        std::fs::File::open(path).map_err(|source| TlsError::Read { path: path.to_path_buf(), source })?;
    let read = file.take(FILE_BYTES_MAX).read_to_end(&mut pem);
    read.map_err(|source| TlsError::Read { path: path.to_path_buf(), source })?;
    let text = String::from_utf8_lossy(&pem);
    let begins =
        |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----"));
    let ends =
        |line: &str| line.starts_with("-----END ") && line.trim_end().ends_with(&format!("{label}-----"));
    if text.lines().any(begins) && text.lines().any(ends) {
        Ok(pem)
    } else {
        Err(TlsError::Content { path: path.to_path_buf(), what })
    }
}

fn warn_if_exposed(key: &Path) {
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(key).map_or(0, |meta| meta.mode() & 0o777);
    if mode & 0o007 != 0 {
        tracing::warn!(path = %key.display(), mode = format!("{mode:o}"), "everybody may use this private key");
    }
}
