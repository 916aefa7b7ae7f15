//! Why a call to a store failed, where it is not the system or the network that says so.
//!
//! [`StoreError`] carries its cause as a boxed error. What this crate itself refuses is a [`Cause`], so that a caller
//! who wants more than the kind can downcast to it.

use super::{StoreError, StoreErrorKind};
use std::time::Duration;

/// A refusal of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The name cannot be held by every store.
    #[error(
        "not a name of an object: parts of letters, digits, '-', '_' and '.', none beginning with '.', at most \
         {parts_max} of them and {bytes_max} bytes in all"
    )]
    BadName {
        /// Parts at most.
        parts_max: usize,
        /// Bytes at most, of the whole name.
        bytes_max: usize,
    },
    /// More than the caller is ready to hold in memory.
    #[error("the object has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Size of the object in bytes.
        size: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// The range is reversed, or the object ends before it does.
    #[error("bytes {start} to {end} are not in the object, which has {}", SizeOrUnknown(*.size))]
    BadRange {
        /// First byte wanted.
        start: u64,
        /// One past the last byte wanted.
        end: u64,
        /// Size of the object in bytes where it is known.
        size: Option<u64>,
    },
    /// The number of bytes that came is not the number that was announced.
    #[error("{announced} bytes were announced, {came} came")]
    WrongLength {
        /// Bytes that the store had announced.
        announced: u64,
        /// Bytes that came.
        came: u64,
    },
    /// What has the name is not a regular file.
    #[error("it is not a regular file")]
    NotAFile,
    /// The directory of the store was removed while it was open.
    #[error("the directory of the store has been removed")]
    RootRemoved,
    /// Directories are nested deeper than names can be.
    #[error("directories are nested deeper than {parts_max} levels")]
    TooDeep {
        /// Levels at most.
        parts_max: usize,
    },
    /// The runtime that carries out the calls has been shut down.
    #[error("the service behind the store has been stopped")]
    ServiceStopped,
    /// The answer began and then nothing came any more, several times.
    #[error("no byte came for {waited:?}")]
    Stalled {
        /// How long was waited.
        waited: Duration,
    },
    /// The store answers 404 where a listing or an upload cannot be answered so: the bucket is missing.
    #[error("the bucket or container does not exist")]
    NoBucket,
    /// Nothing says who asks: no account, or a configured endpoint and no credentials for it anywhere.
    #[error("no credentials: {wanted}")]
    NoCredentials {
        /// What would give some.
        wanted: &'static str,
    },
    /// A directory or memory was asked for where a service in the network is needed.
    #[error("it is not a service in the network")]
    NotInTheNetwork,
    /// The endpoint is not encrypted and nobody allowed that.
    #[error("the endpoint {endpoint} is not encrypted; the variable {variable}=true allows it")]
    PlainHttp {
        /// The endpoint.
        endpoint: String,
        /// The variable that would allow it.
        variable: &'static str,
    },
    /// An instrument of a test made the call fail.
    #[error("a failure injected by a test")]
    Injected,
}

/// A number of bytes, or a word where nobody knows it.
struct SizeOrUnknown(Option<u64>);

impl std::fmt::Display for SizeOrUnknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(size) => write!(f, "{size}"),
            None => f.write_str("fewer"),
        }
    }
}

/// Builds the error of a call.
pub(crate) fn failed(
    operation: &'static str,
    name: &str,
    kind: StoreErrorKind,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError { operation, name: name.to_owned(), kind, source: source.into() }
}

/// Refuses a range that is reversed.
pub(crate) fn check_range(name: &str, range: &std::ops::Range<u64>) -> Result<(), StoreError> {
    if range.start <= range.end {
        return Ok(());
    }
    Err(bad_range("get_range", name, range, None))
}

/// The error of a range that the object does not have.
pub(crate) fn bad_range(
    operation: &'static str,
    name: &str,
    range: &std::ops::Range<u64>,
    size: Option<u64>,
) -> StoreError {
    let cause = Cause::BadRange { start: range.start, end: range.end, size };
    failed(operation, name, StoreErrorKind::Other, cause)
}

/// The error of an object beyond the caller's limit.
pub(crate) fn too_large(operation: &'static str, name: &str, size: u64, limit: u64) -> StoreError {
    failed(operation, name, StoreErrorKind::Other, Cause::TooLarge { size, limit })
}
