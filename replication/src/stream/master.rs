//! The master's end of the gRPC stream of one scenario.
//!
//! Tokio only carries messages here. Three parties work for a connection: a blocking thread that delivers (spool to
//! stream), a blocking thread that handles what the replica says, and the async task between them, which never waits
//! for room in the outgoing direction; so acknowledgements are heard however full that is.

mod assignments;
mod connection;

pub use assignments::watch_assignments;

use super::{Backoff, MasterCommands, StreamError};
use crate::spool::Spool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use wire::stream::MESSAGE_BYTES_MAX;
use wire::stream::proto::replication_client::ReplicationClient;

/// Options of a master's stream.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Id of the scenario.
    pub scenario: u64,
    /// Its name.
    pub name: String,
    /// Name of this host.
    pub host: String,
    /// Bytes sent and not yet dealt with by the replica.
    pub in_flight_bytes_max: u64,
    /// Small parts travel together up to about this size.
    pub batch_bytes: usize,
    /// Whether messages are compressed (zstd).
    pub compress: bool,
    /// How often the replica is told how the master is.
    pub status_every: Duration,
    /// A connection on which nothing is heard for so long is dead.
    pub silence_max: Duration,
    /// Shortest and longest time to wait before dialling again.
    pub backoff: (Duration, Duration),
}

impl MasterOptions {
    /// The defaults for a scenario.
    #[must_use]
    pub fn new(scenario: u64, name: String, host: String) -> Self {
        MasterOptions {
            scenario,
            name,
            host,
            in_flight_bytes_max: 16 << 20,
            batch_bytes: 256 << 10,
            compress: false,
            status_every: Duration::from_secs(1),
            silence_max: Duration::from_secs(10),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
        }
    }
}

/// An endpoint with the keepalive that a stream needs.
///
/// # Errors
/// If `uri` is not one, or the TLS configuration does not fit.
pub fn endpoint(uri: &str, tls: Option<ClientTlsConfig>) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(uri.to_owned())?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        // Pings queue behind data: on a slow line their answers are late although it lives. A dead stream is noticed
        // earlier by the silence of the replica, whose direction is idle.
        .keep_alive_timeout(Duration::from_secs(60))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(4 << 20))
        .initial_connection_window_size(Some(8 << 20));
    match tls {
        Some(tls) => endpoint.tls_config(tls),
        None => Ok(endpoint),
    }
}

/// Makes a new, unconnected channel. Every attempt has one of its own: a channel keeps its connection until it notices
/// that it is dead, which takes longer than a stream has patience.
pub type Dial = Arc<dyn Fn() -> Channel + Send + Sync>;

/// Dials this endpoint over TCP.
#[must_use]
pub fn dial(endpoint: Endpoint) -> Dial {
    Arc::new(move || endpoint.connect_lazy())
}

/// The stream of one scenario: dials, delivers, dials again.
pub struct MasterStream {
    options: MasterOptions,
    spool: Arc<Spool>,
    agent: Arc<dyn MasterCommands>,
}

impl MasterStream {
    /// A stream from this spool.
    #[must_use]
    pub fn new(options: MasterOptions, spool: Arc<Spool>, agent: Arc<dyn MasterCommands>) -> Self {
        MasterStream { options, spool, agent }
    }

    /// Keeps the scenario connected until `stop` turns true, or its sender is gone. Dropped before
    /// its end, its threads end soon after, but nobody waits for them and the agent is not told.
    ///
    /// # Errors
    /// What makes dialling again pointless; the agent has been told.
    pub async fn run(&self, dial: Dial, mut stop: watch::Receiver<bool>) -> Result<(), StreamError> {
        let mut backoff = Backoff::new(self.options.backoff.0, self.options.backoff.1);
        loop {
            if *stop.borrow() {
                return Ok(());
            }
            let mut met = false;
            let error = connection::run(self, dial(), &mut stop, &mut met).await;
            if met {
                backoff.reset();
            }
            let (retry, stopped) = (error.is_retryable(), matches!(error, StreamError::Stopped));
            self.told(&error).await;
            match error {
                _ if stopped => return Ok(()),
                error if !retry => return Err(error),
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                // Turned true, or nobody is left to turn it: the loop looks at it.
                changed = stop.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    async fn told(&self, error: &StreamError) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let scenario = &self.options.name;
        if error.is_retryable() {
            tracing::info!(scenario, %error, cause, "the stream is down, dialling again");
        } else if !matches!(error, StreamError::Stopped) {
            tracing::error!(scenario, %error, cause, "the stream has ended");
        }
        // Short by contract, so it may run here.
        self.agent.disconnected(error);
    }

    fn client(&self, channel: Channel) -> ReplicationClient<Channel> {
        let client = ReplicationClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Zstd);
        if self.options.compress { client.send_compressed(CompressionEncoding::Zstd) } else { client }
    }
}
