//! The address of a repository: which kind of store, and where in it.
//!
//! `file:///directory`, `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`, and `memory://` in tests.
//! `tape:///dev/nst0` and `tape:///directory` are addresses of drives: sessions are written there, objects are not, so no
//! store is opened at one.
//! An address never carries credentials, a query or a fragment: it is shown in lists, logs and receipts. An error about
//! one that does carries no part of it, for the same reason. What it parses from and what it prints as are the same
//! address; a trailing slash goes.

use super::name::is_part;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use url::Url;

/// Why an address was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not an address at all. A path is written `file:///path`.
    #[error("not an URL of a store: {typed:?}; a directory is written file:///path")]
    Malformed {
        /// What was typed.
        typed: String,
        /// What the parser says.
        #[source]
        source: url::ParseError,
    },
    /// No store of this kind is known.
    #[error("no store is called {scheme}://; known are file, s3, az, gs and tape")]
    UnknownScheme {
        /// The scheme typed.
        scheme: String,
    },
    /// `tape://` without the path of a drive.
    #[error(transparent)]
    NotADrive(#[from] crate::tape::BadTapeUrl),
    /// A user, a password, a query or a fragment. Not repeated: it may be a secret.
    #[error(
        "an URL of a store has no user, password, query or fragment; credentials come from the environment"
    )]
    NotPlain,
    /// No bucket or container, or not a name of one.
    #[error("{url:?} needs the name of a bucket or container after {scheme}://")]
    NoBucket {
        /// The scheme.
        scheme: String,
        /// What was typed.
        url: String,
    },
    /// A part of the prefix is not what every store can hold.
    #[error("{part:?} cannot be part of a prefix: letters, digits, '-', '_' and '.', not beginning with '.'")]
    BadPrefix {
        /// The part.
        part: String,
    },
    /// `file://` with a host, or no absolute path.
    #[error("{url:?} is not an absolute path; write file:///path")]
    NotAPath {
        /// What was typed.
        url: String,
    },
}

/// The address of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A directory; an absolute path.
    Directory(PathBuf),
    /// S3, and whatever speaks its protocol.
    S3 {
        /// Bucket.
        bucket: String,
        /// Parts before every name, `/` between; may be empty.
        prefix: String,
    },
    /// Azure Blob Storage.
    Azure {
        /// Container.
        container: String,
        /// As in S3.
        prefix: String,
    },
    /// Google Cloud Storage.
    Gcs {
        /// Bucket.
        bucket: String,
        /// As in S3.
        prefix: String,
    },
    /// A tape drive, or a directory that is used as one; no store of objects.
    Tape(PathBuf),
    /// Memory, for tests. Two of them are two stores.
    Memory,
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(typed: &str) -> Result<Self, UrlError> {
        let malformed = |source| UrlError::Malformed { typed: typed.to_owned(), source };
        // Before parsing: an address that cannot be parsed must not be repeated either if it may hold a secret.
        if typed.contains('@') && typed.contains("://") && !typed.starts_with("file:") {
            return Err(UrlError::NotPlain);
        }
        let url = Url::parse(typed).map_err(malformed)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(UrlError::NotPlain);
        }
        match url.scheme() {
            "file" => to_path(&url, typed),
            "s3" => to_bucket(&url, typed).map(|(bucket, prefix)| StoreUrl::S3 { bucket, prefix }),
            "az" => to_bucket(&url, typed).map(|(container, prefix)| StoreUrl::Azure { container, prefix }),
            "gs" => to_bucket(&url, typed).map(|(bucket, prefix)| StoreUrl::Gcs { bucket, prefix }),
            "memory" if matches!(typed, "memory:" | "memory:/" | "memory://" | "memory:///") => {
                Ok(StoreUrl::Memory)
            }
            "memory" => Err(UrlError::NotAPath { url: typed.to_owned() }),
            "tape" => Ok(StoreUrl::Tape(crate::tape::drive_path(typed)?.components().collect())),
            other => Err(UrlError::UnknownScheme { scheme: other.to_owned() }),
        }
    }
}

fn to_path(url: &Url, typed: &str) -> Result<StoreUrl, UrlError> {
    // `file:path` would be taken as `/path`.
    if !typed.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("file:///")) {
        return Err(UrlError::NotAPath { url: typed.to_owned() });
    }
    let path = url.to_file_path().map_err(|()| UrlError::NotAPath { url: typed.to_owned() })?;
    // Collected anew: no trailing slash.
    Ok(StoreUrl::Directory(path.components().collect()))
}

fn to_bucket(url: &Url, typed: &str) -> Result<(String, String), UrlError> {
    let no_bucket = || UrlError::NoBucket { scheme: url.scheme().to_owned(), url: typed.to_owned() };
    let bucket = url.host_str().filter(|host| is_part(host.as_bytes())).ok_or_else(no_bucket)?;
    if url.port().is_some() {
        return Err(no_bucket());
    }
    let prefix = url.path().trim_matches('/');
    if let Some(part) = prefix.split('/').find(|part| !prefix.is_empty() && !is_part(part.as_bytes())) {
        return Err(UrlError::BadPrefix { part: part.to_owned() });
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            StoreUrl::Directory(path) => return write_path(f, path),
            StoreUrl::Memory => return f.write_str("memory://"),
            StoreUrl::Tape(path) => return write!(f, "tape://{}", path.display()),
            StoreUrl::S3 { bucket, prefix } => ("s3", bucket, prefix),
            StoreUrl::Azure { container, prefix } => ("az", container, prefix),
            StoreUrl::Gcs { bucket, prefix } => ("gs", bucket, prefix),
        };
        write!(f, "{scheme}://{bucket}")?;
        if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
    }
}

fn write_path(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    match Url::from_file_path(path) {
        Ok(url) => f.write_str(url.as_str()),
        Err(()) => write!(f, "file://{}", path.display()),
    }
}

#[cfg(test)]
mod tests;
