//! Which scenarios a master is to protect: the replica knows, since that is where they are created.

use super::super::{Backoff, StreamError};
use super::Dial;
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;
use wire::stream::proto::{AssignmentsRequest, replication_client::ReplicationClient};
use wire::stream::{Assignment, MESSAGE_BYTES_MAX};

/// Keeps `assignments` equal to what the replica says, dialling again after cuts, until `stop` turns true or its
/// sender is gone. Between connections the last list stands. `told` hears of every list and of every failure.
///
/// # Errors
/// If the replica sends what cannot be read, or refuses this host for good.
pub async fn watch_assignments(
    dial: Dial,
    host: String,
    assignments: watch::Sender<Vec<Assignment>>,
    told: impl Fn(Result<(), &StreamError>) + Send + Sync,
    mut stop: watch::Receiver<bool>,
) -> Result<(), StreamError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        if *stop.borrow() {
            return Ok(());
        }
        let error = tokio::select! {
            error = follow(dial(), &host, &assignments, &told, &mut backoff) => error,
            changed = stop.changed() => {
                if changed.is_err() { return Ok(()) }
                continue;
            }
        };
        told(Err(&error));
        let refused = matches!(&error, StreamError::Connection(status)
            if matches!(status.code(), tonic::Code::PermissionDenied | tonic::Code::Unauthenticated));
        if refused || !error.is_retryable() {
            return Err(error);
        }
        tracing::debug!(%error, "the list of scenarios is not up to date, dialling again");
        tokio::select! {
            () = tokio::time::sleep(backoff.wait()) => {}
            changed = stop.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn follow(
    channel: Channel,
    host: &str,
    assignments: &watch::Sender<Vec<Assignment>>,
    told: &(impl Fn(Result<(), &StreamError>) + Sync),
    backoff: &mut Backoff,
) -> StreamError {
    let mut client = ReplicationClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut lists = match client.assignments(AssignmentsRequest { host: host.to_owned() }).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status.into(),
    };
    loop {
        match lists.message().await {
            Ok(Some(list)) => match Vec::<Assignment>::try_from(list) {
                Ok(list) => {
                    backoff.reset();
                    assignments.send_if_modified(|known| {
                        let changed = *known != list;
                        *known = list;
                        changed
                    });
                    told(Ok(()));
                }
                Err(error) => return error.into(),
            },
            Ok(None) => return StreamError::Ended,
            Err(status) => return status.into(),
        }
    }
}
