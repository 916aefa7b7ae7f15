//! The configuration file, and what the daemon is started with.
//!
//! Unknown keys are errors, and every error names file, line and key: a misspelt limit that is silently the default is
//! found when it is too late. `config.example.toml` documents every key and is read by a test.

mod hooks;

use crate::engine::EngineError;
use crate::listen::TlsFiles;
pub use replication::hooks::HooksAllowed;

use hooks::Hooks;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::codes;
use wire::units::parse_size;

/// What a daemon is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Directory of journals, projections, lock and default socket.
    pub data: PathBuf,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// TCP address of API and stream.
    pub listen: Option<SocketAddr>,
    /// Certificates of the listener.
    pub tls: Option<TlsFiles>,
    /// Names of certificates that may use the API.
    pub operators: BTreeSet<String>,
    /// Filter of the daemon's log, as in `RUST_LOG`.
    pub log: String,
    /// Captures, if it does.
    pub master: Option<MasterOptions>,
    /// Journals and applies, if it does.
    pub replica: Option<ReplicaOptions>,
}

/// Options of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterOptions {
    /// Host name scenarios call it by.
    pub name: String,
    /// Where its replica listens; `None`: in this process.
    pub replica: Option<ReplicaEndpoint>,
    /// Directory of the spool.
    pub spool: PathBuf,
    /// Free bytes the spool leaves on its file system.
    pub spool_free_bytes_min: u64,
    /// Which hooks of scenarios it runs.
    pub hooks: HooksAllowed,
}

/// How a master reaches its replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaEndpoint {
    /// `https://host:port`, or `http://` on loopback.
    pub url: String,
    /// Certificates, if it is TLS.
    pub tls: Option<MasterTls>,
}

/// Certificates a master shows and trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterTls {
    /// Authority of the replica's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Options of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// Where replica directories are made that nobody named.
    pub trees: PathBuf,
    /// Names of certificates that masters show.
    pub masters: BTreeSet<String>,
    /// Free bytes below which apply pauses.
    pub free_bytes_min: u64,
}

const FREE_BYTES_DEFAULT: u64 = 1 << 30;
const LOG_DEFAULT: &str = "info";

impl Options {
    /// Master and replica in this process.
    #[must_use]
    pub fn standalone(data: PathBuf, listen: Option<SocketAddr>) -> Self {
        Options {
            socket: data.join("rewindd.sock"),
            listen,
            tls: None,
            operators: BTreeSet::new(),
            log: LOG_DEFAULT.to_owned(),
            master: Some(MasterOptions {
                name: host_name(),
                replica: None,
                spool: data.join("spool"),
                spool_free_bytes_min: FREE_BYTES_DEFAULT,
                hooks: HooksAllowed::Owner,
            }),
            replica: Some(ReplicaOptions {
                trees: data.join("replica"),
                masters: BTreeSet::new(),
                free_bytes_min: FREE_BYTES_DEFAULT,
            }),
            data,
        }
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// `BAD_CONFIG` with line and key, `OPEN_LISTENER`.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            EngineError::new(&codes::BAD_CONFIG, format!("read {}", path.display())).caused_by(error)
        })?;
        Options::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// As [`Options::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self, EngineError> {
        let file: File = toml::from_str(text).map_err(|error| located(&error, text, name))?;
        file.check().map_err(|(key, message)| bad(text, name, key, &message))?;
        if let Some(address) = file.listen
            && file.tls.is_none()
            && !address.ip().is_loopback()
        {
            let line = line_of_key(text, "listen").unwrap_or(1);
            return Err(EngineError::new(
                &codes::OPEN_LISTENER,
                format!("{name}, line {line}, key `listen`: {address} is not loopback and there is no [tls]"),
            ));
        }
        Ok(file.into_options())
    }
}

/// This machine's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data: PathBuf,
    socket: Option<PathBuf>,
    listen: Option<SocketAddr>,
    #[serde(default)]
    operators: BTreeSet<String>,
    log: Option<String>,
    tls: Option<TlsSection>,
    master: Option<MasterSection>,
    replica: Option<ReplicaSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsSection {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MasterSection {
    name: Option<String>,
    replica: Option<String>,
    replica_ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    spool: Option<PathBuf>,
    spool_min_free: Option<Size>,
    hooks: Option<Hooks>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ReplicaSection {
    trees: Option<PathBuf>,
    #[serde(default)]
    masters: BTreeSet<String>,
    min_free: Option<Size>,
}

/// A size as text, so that a bad one is an error of the line it stands in.
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_size(&text).map(Size).map_err(D::Error::custom)
    }
}

/// The key at fault and what is wrong with it.
type Complaint = (&'static str, String);

impl File {
    fn check(&self) -> Result<(), Complaint> {
        if self.master.is_none() && self.replica.is_none() {
            return Err(("data", "there must be a section [master], [replica], or both".into()));
        }
        if !self.data.is_absolute() {
            return Err(("data", "must be an absolute path".into()));
        }
        if self.listen.is_some() && self.replica.is_none() {
            return Err(("listen", "a master opens no port; only a [replica] listens".into()));
        }
        let masters = self.replica.as_ref().is_some_and(|replica| !replica.masters.is_empty());
        if self.listen.is_some() && self.tls.is_some() && !masters && self.operators.is_empty() {
            let what = "is of no use to anybody: name the certificates that may connect, in `operators` for the API \
                        or in `masters` of [replica] for replication";
            return Err(("listen", what.into()));
        }
        let Some(master) = &self.master else { return Ok(()) };
        if self.replica.is_none() && master.hooks.as_ref().is_some_and(|hooks| hooks.0 == HooksAllowed::Owner)
        {
            return Err((
                "hooks",
                "\"owner\" needs a section [replica] beside it: hooks are defined there".into(),
            ));
        }
        match (&master.replica, &self.replica) {
            (Some(_), Some(_)) => {
                Err(("replica", "is in this process, since there is a section [replica]".into()))
            }
            (None, None) => Err(("master", "needs a key `replica`, or a section [replica] beside it".into())),
            (None, Some(_)) => Ok(()),
            (Some(url), None) => master.check_replica(url),
        }
    }

    fn into_options(self) -> Options {
        let data = self.data;
        Options {
            socket: self.socket.unwrap_or_else(|| data.join("rewindd.sock")),
            listen: self.listen,
            tls: self.tls.map(|tls| TlsFiles {
                certificate: tls.certificate,
                key: tls.key,
                client_ca: tls.client_ca,
            }),
            operators: self.operators,
            log: self.log.unwrap_or_else(|| LOG_DEFAULT.to_owned()),
            master: self.master.map(|master| master.into_options(&data)),
            replica: self.replica.map(|replica| ReplicaOptions {
                trees: replica.trees.unwrap_or_else(|| data.join("replica")),
                masters: replica.masters,
                free_bytes_min: replica.min_free.map_or(FREE_BYTES_DEFAULT, |size| size.0),
            }),
            data,
        }
    }
}

impl MasterSection {
    fn check_replica(&self, url: &str) -> Result<(), Complaint> {
        let host = |rest: &str| rest.rsplit_once(':').map(|(host, _)| host.to_owned());
        match url.parse::<wire::Endpoint>() {
            Ok(wire::Endpoint::Https(_)) => {
                if self.replica_ca.is_none() || self.certificate.is_none() || self.key.is_none() {
                    return Err(("replica", "needs `replica-ca`, `certificate` and `key` beside it".into()));
                }
                Ok(())
            }
            Ok(wire::Endpoint::Http(url)) => {
                let host = url.strip_prefix("http://").and_then(host).unwrap_or_default();
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
                if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
                    Ok(())
                } else {
                    Err(("replica", "must be https:// unless it is on loopback".into()))
                }
            }
            _ => Err(("replica", format!("{url:?} is not https://host:port"))),
        }
    }

    fn into_options(self, data: &Path) -> MasterOptions {
        let tls = match (self.replica_ca, self.certificate, self.key) {
            (Some(ca), Some(certificate), Some(key)) => Some(MasterTls { ca, certificate, key }),
            _ => None,
        };
        // In this process its owner configures both sides; elsewhere nobody runs commands here unasked.
        let unsaid = if self.replica.is_none() { HooksAllowed::Owner } else { HooksAllowed::None };
        MasterOptions {
            name: self.name.unwrap_or_else(host_name),
            hooks: self.hooks.map_or(unsaid, |hooks| hooks.0),
            replica: self.replica.map(|url| ReplicaEndpoint { url, tls }),
            spool: self.spool.unwrap_or_else(|| data.join("spool")),
            spool_free_bytes_min: self.spool_min_free.map_or(FREE_BYTES_DEFAULT, |size| size.0),
        }
    }
}

/// An error of the TOML reader, with line and key.
fn located(error: &toml::de::Error, text: &str, name: &str) -> EngineError {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    let key = text.lines().nth(line - 1).and_then(key_in_line);
    let key = key.map(|key| format!(", key `{key}`")).unwrap_or_default();
    let message = error.message().trim_end().replace('\n', "; ");
    EngineError::new(&codes::BAD_CONFIG, format!("{name}, line {line}{key}: {message}"))
}

fn bad(text: &str, name: &str, key: &str, message: &str) -> EngineError {
    let line = line_of_key(text, key).unwrap_or(1);
    EngineError::new(&codes::BAD_CONFIG, format!("{name}, line {line}, key `{key}`: {message}"))
}

/// Number of the line a byte stands in, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// `key` of `key = value`, `section` of `[section]`.
fn key_in_line(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(section) = line.strip_prefix('[') {
        return section.split(']').next();
    }
    line.split_once('=').map(|(key, _)| key.trim())
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .position(|line| !line.trim_start().starts_with('#') && key_in_line(line) == Some(key))
        .map(|at| at + 1)
}

#[cfg(test)]
mod tests;
