//! From an address to a store.
//!
//! Opening changes nothing and asks nothing of the network; [`create`] makes the directory of a store that lies in one.

use super::directory::DirectoryStore;
use super::memory::MemoryStore;
use super::options::{Environment, StoreOptions};
use super::remote::RemoteStore;
use super::{BlobStore, StoreError, StoreUrl};
use std::sync::Arc;
use tokio::runtime::Handle;

/// What a store does with a put that must not replace anything. Found out when a repository is created, shown to the
/// user, and never relied on: every name is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionalPut {
    /// Of several at once exactly one wins.
    Honoured,
    /// It replaces nevertheless.
    Ignored,
    /// It says that it cannot.
    Refused,
}

/// An open store.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// In a directory.
    Directory(DirectoryStore),
    /// In the network.
    Remote(RemoteStore),
    /// In memory, empty.
    Memory(MemoryStore),
}

impl Opened {
    /// Finds out what the store does with conditional puts.
    ///
    /// # Errors
    /// As [`BlobStore::put`].
    pub fn probe_conditional_put(&self) -> Result<ConditionalPut, StoreError> {
        match self {
            Opened::Directory(store) => store.probe_conditional_put(),
            Opened::Remote(store) => store.probe_conditional_put(),
            Opened::Memory(_) => Ok(ConditionalPut::Refused),
        }
    }

    /// The store, for the threads of a repository.
    #[must_use]
    pub fn into_shared(self) -> Arc<dyn BlobStore> {
        match self {
            Opened::Directory(store) => Arc::new(store),
            Opened::Remote(store) => Arc::new(store),
            Opened::Memory(store) => Arc::new(store),
        }
    }
}

/// Opens a store that is there. The runtime is used by stores in the network only.
///
/// # Errors
/// `NotFound` for a missing directory, `NotPermitted` without credentials, `Other` for settings that cannot be used.
pub fn open(
    url: &StoreUrl,
    options: &StoreOptions,
    environment: &Environment,
    runtime: &Handle,
) -> Result<Opened, StoreError> {
    Ok(match url {
        StoreUrl::Directory(path) => Opened::Directory(DirectoryStore::open(path)?),
        StoreUrl::Memory => Opened::Memory(MemoryStore::new()),
        _ => Opened::Remote(RemoteStore::open(url, options, environment, runtime)?),
    })
}

/// Opens a store; a directory is made if it is missing. A bucket is not: it has settings that are its owner's to choose.
///
/// # Errors
/// As [`open`]; `Full`.
pub fn create(
    url: &StoreUrl,
    options: &StoreOptions,
    environment: &Environment,
    runtime: &Handle,
) -> Result<Opened, StoreError> {
    match url {
        StoreUrl::Directory(path) => Ok(Opened::Directory(DirectoryStore::create(path)?)),
        _ => open(url, options, environment, runtime),
    }
}
