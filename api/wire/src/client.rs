//! A connection to a daemon and what goes wrong with it.

mod dial;
mod tls;

pub use dial::{check_tls, dial_tls};

use crate::codes;
use crate::endpoint::{Endpoint, SocketName};
use crate::failure::Failure;
use crate::v1::bursts_client::BurstsClient;
use crate::v1::catalog_client::CatalogClient;
use crate::v1::jobs_client::JobsClient;
use crate::v1::journal_client::JournalClient;
use crate::v1::journal_tools_client::JournalToolsClient;
use crate::v1::repositories_client::RepositoriesClient;
use crate::v1::restore_client::RestoreClient;
use crate::v1::scenarios_client::ScenariosClient;
use crate::v1::sessions_client::SessionsClient;
use crate::v1::snapshots_client::SnapshotsClient;
use crate::v1::tapes_client::TapesClient;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint as Target, Uri};

/// Longest message either side takes. Lists are streams, so none comes near.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pings on an idle connection: a peer that vanished is noticed within twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Files with certificates, all PEM.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authority that signed the daemon's certificate.
    pub ca: Option<PathBuf>,
    /// Our certificate (chain).
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// The services of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    /// Scenarios.
    pub scenarios: ScenariosClient<Channel>,
    /// History.
    pub journal: JournalClient<Channel>,
    /// Looking into journals.
    pub journal_tools: JournalToolsClient<Channel>,
    /// Jobs and log.
    pub jobs: JobsClient<Channel>,
    /// Places of sessions.
    pub repositories: RepositoriesClient<Channel>,
    /// Backups.
    pub sessions: SessionsClient<Channel>,
    /// Points that are kept.
    pub snapshots: SnapshotsClient<Channel>,
    /// Restoring.
    pub restore: RestoreClient<Channel>,
    /// Finding files.
    pub catalog: CatalogClient<Channel>,
    /// Finding damage.
    pub bursts: BurstsClient<Channel>,
    /// Volumes of tape.
    pub tapes: TapesClient<Channel>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`codes::UNREACHABLE`], [`codes::NOT_PERMITTED`] (socket of another user), [`codes::BAD_CERTIFICATE`], or
    /// [`codes::IO`] for certificate files that cannot be read.
    pub async fn connect(endpoint: &Endpoint, tls: &TlsFiles) -> Result<Self, Failure> {
        let channel = match endpoint {
            Endpoint::Unix(path) => connect_unix(path).await,
            Endpoint::Http(url) => target(url)?.connect().await,
            Endpoint::Https(url) => {
                let authority = url.strip_prefix("https://").unwrap_or(url);
                connect_tls(authority, tls::client_config(tls)?).await?
            }
        };
        let channel = channel.map_err(|error| {
            let mut failure = Failure::from_transport(&error)
                .unwrap_or_else(|| Failure::new(&codes::UNREACHABLE, crate::failure::chain(&error)));
            failure.message = format!("cannot connect to {endpoint}: {}", failure.message).into();
            failure
        })?;
        Ok(Client::over(channel))
    }

    /// The services behind an open channel.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        Client {
            scenarios: ScenariosClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            journal: JournalClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            journal_tools: JournalToolsClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            jobs: JobsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            repositories: RepositoriesClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            catalog: CatalogClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            bursts: BurstsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            restore: RestoreClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            sessions: SessionsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            tapes: TapesClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            snapshots: SnapshotsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }
}

fn target(url: &str) -> Result<Target, Failure> {
    let target = Target::from_shared(url.to_owned())
        .map_err(|error| Failure::new(&codes::USAGE, format!("{url}: {error}")))?;
    Ok(target
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// To tonic the connection is plain: TLS is the connector's, which can tell why it was refused.
async fn connect_tls(
    authority: &str,
    config: Arc<rustls::ClientConfig>,
) -> Result<Result<Channel, tonic::transport::Error>, Failure> {
    let target = target(&format!("http://{authority}"))?;
    let authority: Arc<str> = authority.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (authority, config) = (Arc::clone(&authority), Arc::clone(&config));
        async move { tls::connect(&authority, config).await.map(TokioIo::new) }
    });
    Ok(target.connect_with_connector(connector).await)
}

async fn connect_unix(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path: Arc<Path> = path.into();
    // The authority is not used, but HTTP wants one.
    Target::from_static("http://localhost")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = Arc::clone(&path);
            async move {
                let name = SocketName::new(&path)?;
                tokio::net::UnixStream::connect(name.path()).await.map(TokioIo::new)
            }
        }))
        .await
}
