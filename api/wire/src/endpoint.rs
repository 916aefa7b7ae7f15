//! Where a daemon is reached: `unix:/path`, `http://host:port`, `https://host:port`.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The socket of the daemon of this machine, tried when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/rewind/rewindd.sock";

/// Longest path the kernel takes as the address of a Unix socket, without the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// Address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Unix socket.
    Unix(PathBuf),
    /// TCP without TLS, `http://host:port`: loopback only, or the daemon would not listen.
    Http(String),
    /// TCP with TLS, `https://host:port`.
    Https(String),
}

impl Endpoint {
    /// The documented search order: what was named, else the socket of the daemon of this machine.
    #[must_use]
    pub fn local() -> Self {
        Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint (unix:/path, http://host:port or https://host:port)")]
pub struct ParseEndpointError(String);

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseEndpointError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            // unix:///path is what other tools write.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(bad()) } else { Ok(Endpoint::Unix(path.into())) };
        }
        let authority = |rest: &str| {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
            let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
            if plain && port.parse::<u16>().is_ok() { Ok(rest.to_owned()) } else { Err(bad()) }
        };
        if let Some(rest) = text.strip_prefix("http://") {
            Ok(Endpoint::Http(format!("http://{}", authority(rest)?)))
        } else if let Some(rest) = text.strip_prefix("https://") {
            Ok(Endpoint::Https(format!("https://{}", authority(rest)?)))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Http(url) | Endpoint::Https(url) => f.write_str(url),
        }
    }
}

/// A name of a Unix socket that is short enough for the kernel, however deep the socket lies.
///
/// A long path is replaced by one that goes through the open directory, so the value must live until the socket is
/// bound or connected.
#[derive(Debug)]
pub struct SocketName {
    path: PathBuf,
    // Keeps the number in `path` valid.
    _directory: Option<std::fs::File>,
}

impl SocketName {
    /// A usable name of the socket at `path`.
    ///
    /// # Errors
    /// If its directory cannot be opened.
    pub fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return Ok(SocketName { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename));
        };
        let directory = std::fs::File::open(parent)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(SocketName { path, _directory: Some(directory) })
    }

    /// The name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
