//! Where the objects of a repository lie: the contract that every store keeps.
//!
//! The contract is small on purpose, so that any directory or object store can keep it, and the repository needs nothing
//! else for its safety: an object appears whole and durable or not at all; objects are written under names that are
//! never used for other bytes; a listing shows every object whose `put` returned before it began. Nothing here is
//! conditional: no lock, no compare-and-swap, no rename.
//!
//! Repository code is blocking and calls [`BlobStore`] from its own threads. What talks to a network does so on a tokio
//! runtime behind a bounded queue; nothing in this crate starts a runtime or waits on one from inside it.
//!
//! In reading order: [`url`] and [`options`] say which store, [`open`] opens it, [`directory`], [`remote`] and
//! [`memory`] are the stores, [`cache`] keeps copies of small objects at hand, [`faulty`] is an instrument for tests,
//! [`cause`] says why a call was refused.

pub mod cache;
pub mod cause;
pub mod directory;
pub mod faulty;
pub mod memory;
pub mod name;
pub mod open;
pub mod options;
pub mod profile;
pub mod remote;
pub mod url;

pub use self::cache::Cache;
pub use self::directory::DirectoryStore;
pub use self::memory::MemoryStore;
pub use self::open::{ConditionalPut, Opened, create, open};
pub use self::options::{Environment, OptionError, StoreOptions};
pub use self::remote::RemoteStore;
pub use self::url::{StoreUrl, UrlError};

use bytes::Bytes;
use std::fmt::Debug;
use std::ops::Range;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Name, relative to the store's root, `/` between parts: `data/1f/1f…`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, by the store's clock, in seconds since 1970; `None` where the store does not say.
    pub modified: Option<i64>,
}

/// What kind of failure it was; callers branch on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// The store does not answer, or answers with failures that may pass. Retries have been made.
    Unavailable,
    /// Credentials or rights.
    NotPermitted,
    /// The bucket or container is missing.
    NoBucket,
    /// The endpoint has no TLS, and nobody allowed that.
    Unencrypted,
    /// No room.
    Full,
    /// Everything else: a malformed URL, a name a store cannot hold.
    Other,
}

/// A failed call to a store.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {name:?}")]
pub struct StoreError {
    /// Verb of the failed call: `put`, `get`, `list` ...
    pub operation: &'static str,
    /// The object or prefix.
    pub name: String,
    /// What kind of failure.
    pub kind: StoreErrorKind,
    /// The cause, with its own chain.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

/// A place for objects. Calls block; any number of threads may call at once.
pub trait BlobStore: Send + Sync + Debug {
    /// Stores an object. When this returns it is durable and in every later listing; if it fails, the object is absent
    /// or whole. Writing a name again replaces the object.
    ///
    /// # Errors
    /// `Unavailable`, `NotPermitted`, `Full`, `Other`.
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// All bytes of an object, refused beyond `limit` before they are fetched.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `NotPermitted`, `Other` (also: larger than `limit`).
    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError>;

    /// Exactly the bytes of `range`.
    ///
    /// # Errors
    /// As [`BlobStore::get`]; `Other` if the object ends before the range does.
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Size of an object, in bytes.
    ///
    /// # Errors
    /// As [`BlobStore::get`].
    fn size(&self, name: &str) -> Result<u64, StoreError>;

    /// Calls `each` for every object below a directory (`data`, `snapshots`; empty for all), in no order, until it
    /// returns false. Unfinished uploads of a crashed writer are not shown.
    ///
    /// # Errors
    /// `Unavailable`, `NotPermitted`, `Other`. A missing directory is an empty one.
    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError>;

    /// How many requests may well be under way at once, where a request is mostly waiting; 0 where it is work of a
    /// processor here.
    fn connections(&self) -> usize {
        0
    }

    /// Removes an object. Removing what is not there succeeds.
    ///
    /// # Errors
    /// `Unavailable`, `NotPermitted`, `Other`.
    fn delete(&self, name: &str) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
