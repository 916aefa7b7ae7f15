//! A store in the network: S3, Azure Blob Storage, Google Cloud Storage, through `object_store`.
//!
//! [`RemoteStore`] is the blocking side: each call hands a task to a runtime that the owner gave, and waits for its
//! answer. It never runs a future itself, so it may be called from any thread but one of the runtime's own workers,
//! where waiting would stop other tasks: such a call panics, as every wait there does (`spawn_blocking` is the place
//! for it). If the runtime is shut down, calls in progress and later ones fail as `Unavailable`.
//!
//! [`service`] carries calls out, [`http`] looks after single requests, [`connect`] finds credentials.

pub(crate) mod bandwidth;
mod connect;
pub(crate) mod http;
mod service;

use super::cause::{Cause, check_range, failed};
use super::name::{check_directory, check_name, random_digits};
use super::open::ConditionalPut;
use super::options::{Environment, StoreOptions};
use super::{BlobStore, Entry, StoreError, StoreErrorKind, StoreUrl};
use bandwidth::Bandwidth;
use bytes::Bytes;
pub use http::Answer;
use service::Service;
use std::ops::Range;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Pages of a listing fetched ahead of whoever reads it.
const PAGES_AHEAD: usize = 2;
/// Bytes a second that each request under way has of a limited bandwidth at least.
const RATE_EACH_MIN: u64 = 64 << 10;

/// A store in the network.
pub struct RemoteStore {
    service: Arc<Service>,
    runtime: Handle,
    url: StoreUrl,
    connections: usize,
}

impl RemoteStore {
    /// Prepares a client; nothing is asked of the service yet. Calls will run on `runtime`, which must have its input,
    /// output and time enabled and outlive them.
    ///
    /// # Errors
    /// `NotPermitted` if there are no credentials, `Other` for an endpoint or a setting that cannot be used.
    pub fn open(
        url: &StoreUrl,
        options: &StoreOptions,
        environment: &Environment,
        runtime: &Handle,
    ) -> Result<Self, StoreError> {
        let (backend, mut prefix) = connect::connect(url, options, environment)?;
        if !prefix.is_empty() {
            prefix.push('/');
        }
        let service = Service {
            backend,
            prefix,
            places: Semaphore::new(places(options)),
            up: Bandwidth::new(options.bandwidth),
            down: Bandwidth::new(options.bandwidth),
            limited: options.bandwidth.is_some(),
        };
        let connections = places(options);
        Ok(Self { service: Arc::new(service), runtime: runtime.clone(), url: url.clone(), connections })
    }

    /// Finds out whether the service keeps exclusive puts exclusive, with an object of its own at the root that is
    /// removed again. Reported only: nothing of ours depends on it.
    ///
    /// # Errors
    /// As [`BlobStore::put`].
    pub fn probe_conditional_put(&self) -> Result<ConditionalPut, StoreError> {
        let digits = random_digits().map_err(|error| failed("probe", "", StoreErrorKind::Other, error))?;
        let name = format!("rewind-probe-{digits}");
        let service = self.service.clone();
        let task = async move { service.probe(&name).await };
        Ok(match self.call("probe", "", task)? {
            Some(1) => ConditionalPut::Honoured,
            Some(_) => ConditionalPut::Ignored,
            None => ConditionalPut::Refused,
        })
    }

    /// Has a task carried out and waits for what it comes to.
    fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        task: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.runtime.spawn(async move {
            // Nobody waits any more only if the waiting thread has panicked.
            let _ = answer.send(task.await);
        });
        answered.blocking_recv().unwrap_or_else(|_| Err(stopped(operation, name)))
    }
}

/// Under a limit of bandwidth no more requests at once than have something of it each: a server does not wait for ever
/// for the next byte to be taken.
fn places(options: &StoreOptions) -> usize {
    let useful = options.bandwidth.map_or(u64::MAX, |rate| rate / RATE_EACH_MIN).max(1);
    options.connections.min(usize::try_from(useful).unwrap_or(usize::MAX))
}

fn stopped(operation: &'static str, name: &str) -> StoreError {
    failed(operation, name, StoreErrorKind::Unavailable, Cause::ServiceStopped)
}

impl BlobStore for RemoteStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_name("put", name)?;
        let (service, owned) = (self.service.clone(), name.to_owned());
        self.call("put", name, async move { service.put(&owned, bytes).await })
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        check_name("get", name)?;
        let (service, owned) = (self.service.clone(), name.to_owned());
        self.call("get", name, async move { service.get(&owned, limit).await })
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        check_name("get_range", name)?;
        check_range(name, &range)?;
        let (service, owned) = (self.service.clone(), name.to_owned());
        self.call("get_range", name, async move { service.get_range(&owned, range).await })
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        check_name("size", name)?;
        let (service, owned) = (self.service.clone(), name.to_owned());
        self.call("size", name, async move { service.size(&owned).await })
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        check_directory("list", directory)?;
        let (service, owned) = (self.service.clone(), directory.to_owned());
        let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
        let (outcome, ended) = oneshot::channel();
        self.runtime.spawn(async move {
            let _ = outcome.send(service.list(&owned, &sender).await);
        });
        while let Some(page) = pages.blocking_recv() {
            for entry in page {
                if !each(entry) {
                    return Ok(());
                }
            }
        }
        // The pages end when the task does; only its outcome says whether they were all.
        ended.blocking_recv().unwrap_or_else(|_| Err(stopped("list", directory)))
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name("delete", name)?;
        let (service, owned) = (self.service.clone(), name.to_owned());
        self.call("delete", name, async move { service.delete(&owned).await })
    }
}

impl std::fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteStore({})", self.url)
    }
}
