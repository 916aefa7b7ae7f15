//! The asynchronous side of a store in the network: one task a call, carried out on the owner's runtime.
//!
//! What is under way is bounded twice. A task exists only while a thread waits for it, so there are as many as callers;
//! and each request takes one of a fixed number of places, in the order in which it asked. A listing holds no place
//! while its receiver works: that may call the store again.
//!
//! A request that fails in a way that may pass is repeated with growing, random pauses by `object_store` until the
//! retry time is over; every request ends, so every call does. An object above [`SINGLE_PUT_MAX`] is sent in parts and
//! appears when the upload is completed; if a part fails the upload is aborted. A process killed meanwhile leaves parts
//! that no listing shows and that a lifecycle rule of the bucket has to remove.

use super::bandwidth::Bandwidth;
use super::http::Answer;
use crate::store::cause::{Cause, bad_range, failed, too_large};
use crate::store::name::is_name;
use crate::store::{Entry, StoreError, StoreErrorKind};
use bytes::{Bytes, BytesMut};
use object_store::client::HttpError;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

/// Bytes of an object that is sent in one request at most.
pub(crate) const SINGLE_PUT_MAX: u64 = 32 << 20;
/// Bytes of a part of a larger one.
pub(crate) const PART_BYTES: u64 = 16 << 20;
/// The same under a limit of bandwidth, so that no more than this goes at the full speed of the line: the least that
/// S3 allows.
pub(crate) const PART_BYTES_LIMITED: u64 = 5 << 20;
/// Parts at most; S3 allows 10,000.
const PARTS_MAX: u64 = 9_000;
/// How long may pass between two pieces of an answer.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Attempts at a body that stalls.
const STALLS_MAX: u32 = 3;
/// Bytes reserved on the word of a server.
const RESERVED_MAX: u64 = 16 << 20;
/// Exclusive puts of one name that the probe sends at once.
const PROBES: usize = 4;

/// A client, seen as its two interfaces.
pub(crate) struct Backend {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) pages: Arc<dyn PaginatedListStore>,
}

/// What carries out the calls.
pub(crate) struct Service {
    pub(crate) backend: Backend,
    /// Before every name, with a slash at its end; or empty.
    pub(crate) prefix: String,
    pub(crate) places: Semaphore,
    pub(crate) up: Bandwidth,
    pub(crate) down: Bandwidth,
    pub(crate) limited: bool,
}

/// What one attempt at reading a body came to.
enum Read {
    Whole(Bytes),
    Stalled,
}

impl Service {
    /// A place for a request. The semaphore is never closed.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}{name}", self.prefix))
    }

    pub(crate) async fn put(self: Arc<Self>, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(name);
        let part = if self.limited { PART_BYTES_LIMITED } else { PART_BYTES };
        let single = if self.limited { PART_BYTES_LIMITED } else { SINGLE_PUT_MAX };
        let sent = if bytes.len() as u64 <= single {
            // Waited for before the request is made: its signature grows old. A repeated attempt is not counted.
            self.up.take(bytes.len() as u64).await;
            let _place = self.place().await;
            self.backend.objects.put(&path, PutPayload::from(bytes)).await.map(drop)
        } else {
            let part = part.max((bytes.len() as u64).div_ceil(PARTS_MAX));
            self.put_parts(&path, bytes, usize::try_from(part).unwrap_or(usize::MAX)).await
        };
        sent.map_err(|error| no_bucket(failed_call("put", name, error)))
    }

    async fn put_parts(self: &Arc<Self>, path: &Path, mut bytes: Bytes, part: usize) -> Result<(), Error> {
        let mut upload = {
            let _place = self.place().await;
            self.backend.objects.put_multipart(path).await?
        };
        let mut parts: JoinSet<Result<(), Error>> = JoinSet::new();
        while !bytes.is_empty() {
            let length = part.min(bytes.len());
            let sent = upload.put_part(bytes.split_to(length).into());
            let service = self.clone();
            parts.spawn(async move {
                service.up.take(length as u64).await;
                let _place = service.place().await;
                sent.await
            });
        }
        let mut outcome = Ok(());
        while let Some(joined) = parts.join_next().await {
            outcome = joined.map_err(|source| Error::JoinError { source }).and_then(|sent| sent);
            if outcome.is_err() {
                break;
            }
        }
        parts.shutdown().await;
        let _place = self.place().await;
        if outcome.is_ok() {
            outcome = upload.complete().await.map(drop);
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(abort(upload, path, error).await),
        }
    }

    pub(crate) async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        for _ in 0..STALLS_MAX {
            let _place = self.place().await;
            let got = self.backend.objects.get(&self.path(name)).await;
            let got = got.map_err(|error| failed_call("get", name, error))?;
            let size = got.meta.size;
            if size > limit {
                return Err(too_large("get", name, size, limit));
            }
            if let Read::Whole(bytes) = self.read(got, size, "get", name).await? {
                return Ok(bytes);
            }
        }
        Err(failed("get", name, StoreErrorKind::Unavailable, Cause::Stalled { waited: STALLED_AFTER }))
    }

    pub(crate) async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            // No request can ask for no bytes.
            let size =
                self.size(name).await.map_err(|error| StoreError { operation: "get_range", ..error })?;
            let inside = range.end <= size;
            return if inside { Ok(Bytes::new()) } else { Err(past_end(name, &range, Some(size))) };
        }
        for _ in 0..STALLS_MAX {
            let _place = self.place().await;
            let options =
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            let got = match self.backend.objects.get_opts(&self.path(name), options).await {
                Ok(got) => got,
                Err(error) => {
                    let error = failed_call("get_range", name, error);
                    let is_past = find::<Answer>(&*error.source).is_some_and(|answer| answer.status == 416);
                    return Err(if is_past { past_end(name, &range, None) } else { error });
                }
            };
            if got.range != range {
                return Err(past_end(name, &range, Some(got.meta.size)));
            }
            if let Read::Whole(bytes) = self.read(got, range.end - range.start, "get_range", name).await? {
                return Ok(bytes);
            }
        }
        let cause = Cause::Stalled { waited: STALLED_AFTER };
        Err(failed("get_range", name, StoreErrorKind::Unavailable, cause))
    }

    /// The bytes of an answer: exactly as many as announced.
    async fn read(
        &self,
        got: GetResult,
        announced: u64,
        operation: &'static str,
        name: &str,
    ) -> Result<Read, StoreError> {
        let mut bytes = BytesMut::with_capacity(announced.min(RESERVED_MAX) as usize);
        let mut pieces = got.into_stream();
        loop {
            let Ok(piece) = tokio::time::timeout(STALLED_AFTER, pieces.next()).await else {
                return Ok(Read::Stalled);
            };
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| failed_call(operation, name, error))?;
            self.down.take(piece.len() as u64).await;
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > announced {
                break;
            }
        }
        let came = bytes.len() as u64;
        if came == announced {
            return Ok(Read::Whole(bytes.freeze()));
        }
        Err(failed(operation, name, StoreErrorKind::Unavailable, Cause::WrongLength { announced, came }))
    }

    pub(crate) async fn size(&self, name: &str) -> Result<u64, StoreError> {
        let _place = self.place().await;
        let head = self.backend.objects.head(&self.path(name)).await;
        Ok(head.map_err(|error| failed_call("size", name, error))?.size)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let _place = self.place().await;
        match self.backend.objects.delete(&self.path(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed_call("delete", name, error)),
        }
    }

    /// Sends pages until the receiver goes away.
    pub(crate) async fn list(
        &self,
        directory: &str,
        pages: &mpsc::Sender<Vec<Entry>>,
    ) -> Result<(), StoreError> {
        let below = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let prefix = format!("{}{below}", self.prefix);
        let prefix = (!prefix.is_empty()).then_some(prefix);
        let mut token = None;
        loop {
            let options = PaginatedListOptions { page_token: token, ..PaginatedListOptions::default() };
            let page = {
                let _place = self.place().await;
                self.backend.pages.list_paginated(prefix.as_deref(), options).await
            };
            let page = page.map_err(|error| no_bucket(failed_call("list", directory, error)))?;
            let entries = page.result.objects.into_iter().filter_map(|object| self.entry(&below, &object));
            if pages.send(entries.collect()).await.is_err() {
                return Ok(());
            }
            token = page.page_token;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// An object as the contract shows it; what it could not have written is passed over.
    fn entry(&self, below: &str, object: &object_store::ObjectMeta) -> Option<Entry> {
        let name = object.location.as_ref().strip_prefix(&self.prefix)?;
        (name.starts_with(below) && is_name(name)).then(|| Entry {
            name: name.to_owned(),
            size: object.size,
            modified: Some(object.last_modified.timestamp()),
        })
    }

    /// Sends several exclusive puts of one name at once and counts how many were told that they won: `Some(1)` where
    /// the store keeps them exclusive, `None` if it does not know them.
    pub(crate) async fn probe(self: Arc<Self>, name: &str) -> Result<Option<usize>, StoreError> {
        let mut puts = JoinSet::new();
        for number in 0..PROBES {
            let (service, path) = (self.clone(), self.path(name));
            puts.spawn(async move {
                let _place = service.place().await;
                let body = PutPayload::from(format!("probe {number}"));
                service.backend.objects.put_opts(&path, body, PutMode::Create.into()).await
            });
        }
        let mut won = 0;
        let mut known = true;
        let mut failure = None;
        while let Some(joined) = puts.join_next().await {
            match joined.map_err(|source| Error::JoinError { source }).and_then(|sent| sent) {
                Ok(_) => won += 1,
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => {
                    let error = failed_call("probe", name, error);
                    let refused =
                        find::<Answer>(&*error.source).is_some_and(|a| matches!(a.status, 400 | 501));
                    if refused {
                        known = false;
                    } else {
                        failure = Some(error);
                    }
                }
            }
        }
        self.delete(name).await?;
        match failure {
            Some(failure) => Err(no_bucket(failure)),
            None => Ok(known.then_some(won)),
        }
    }
}

/// Gives up an upload; what made it fail is what is told.
async fn abort(mut upload: Box<dyn MultipartUpload>, path: &Path, error: Error) -> Error {
    if let Err(also) = upload.abort().await {
        tracing::warn!(%path, error = %also, "an unfinished upload was left behind");
    }
    error
}

fn past_end(name: &str, range: &Range<u64>, size: Option<u64>) -> StoreError {
    bad_range("get_range", name, range, size)
}

/// "Not found" where no object can be missing: the bucket is.
fn no_bucket(error: StoreError) -> StoreError {
    match error.kind {
        StoreErrorKind::NotFound => {
            failed(error.operation, &error.name, StoreErrorKind::NoBucket, Cause::NoBucket)
        }
        StoreErrorKind::Other
            if find::<Answer>(&*error.source)
                .is_some_and(|answer| answer.status == 404 && !answer.is_no_upload()) =>
        {
            StoreError { kind: StoreErrorKind::NoBucket, ..error }
        }
        _ => error,
    }
}

/// The first error of a type in a chain.
fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + Send + Sync + 'static),
) -> Option<&'a T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The error of a call, of the kind that the chain of causes shows.
pub(crate) fn failed_call(operation: &'static str, name: &str, error: Error) -> StoreError {
    let kind = match &error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::NotPermitted,
        other => match find::<Answer>(other) {
            Some(answer) => answer.kind(),
            None if find::<HttpError>(other).is_some() => StoreErrorKind::Unavailable,
            None => StoreErrorKind::Other,
        },
    };
    failed(operation, name, kind, error)
}
