//! A daemon from start to end.
//!
//! Start: lock the data directory, open the server journal, read scenarios and jobs, open the engine, bind, run again
//! what ran, serve. End: streams end, jobs are interrupted, the engine comes to rest, calls drain; what does not end
//! within its share of the time is left to the next start, which can cope with a crash as well.

use crate::activity::Activity;
use crate::archive::Archives;
use crate::auth::{CurrentPolicy, GuardLayer, Policy};
use crate::config::Options;
use crate::definition::Placement;
use crate::engine::{Engine, EngineError};
use crate::jobs::{JobStore, Jobs, Limits, Runner};
use crate::listen::{CurrentTls, Socket, accept, bind_tcp, server_config};
use crate::registry::Registry;
use crate::schedules::{self, Schedules};
use crate::server_journal::ServerJournal;
use crate::services::{
    BurstsService, CatalogService, EngineRunner, JobsService, JournalService, JournalToolsService,
    RepositoriesService, RestoreService, ScenariosService, SessionsService, Shared, SnapshotsService,
    TapesService,
};
use crate::store::Layout;
use crate::vault::Vault;
use parking_lot::RwLock;
use replication::hooks::HooksAllowed;
use replication::stream::replica::tune;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Server;
use wire::client::MESSAGE_BYTES_MAX;
use wire::v1::bursts_server::BurstsServer;
use wire::v1::catalog_server::CatalogServer;
use wire::v1::jobs_server::JobsServer;
use wire::v1::journal_server::JournalServer;
use wire::v1::journal_tools_server::JournalToolsServer;
use wire::v1::repositories_server::RepositoriesServer;
use wire::v1::restore_server::RestoreServer;
use wire::v1::scenarios_server::ScenariosServer;
use wire::v1::sessions_server::SessionsServer;
use wire::v1::snapshots_server::SnapshotsServer;
use wire::v1::tapes_server::TapesServer;
use wire::{Endpoint, codes};

/// Shares of the 30 seconds within which a stop must be over.
const JOBS_TIME: Duration = Duration::from_secs(10);
const ENGINE_TIME: Duration = Duration::from_secs(12);
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// Puts the parts below the services together; the product has one, tests have another.
pub trait Wiring: Send + Sync {
    /// Opens or makes the server journal in a directory.
    ///
    /// # Errors
    /// Those of the journal.
    fn server_journal(&self, directory: &Path) -> Result<Arc<dyn ServerJournal>, EngineError>;

    /// Makes the engine, at rest.
    ///
    /// # Errors
    /// Whatever keeps it from being made.
    fn engine(&self, context: EngineContext) -> Result<Wired, EngineError>;
}

/// What an engine is made of.
#[derive(Clone)]
pub struct EngineContext {
    /// How the daemon was started.
    pub options: Arc<Options>,
    /// The scenarios there are; the engine changes them through it.
    pub registry: Arc<Registry>,
    /// Repositories and sessions.
    pub vault: Arc<Vault>,
    /// Where journals are archived.
    pub archives: Arc<Archives>,
    /// How often scenarios are scrubbed.
    pub schedules: Arc<Schedules>,
    /// The activity log, for what happens outside of calls.
    pub activity: Activity,
    /// For the parts that need one, such as the stream.
    pub runtime: tokio::runtime::Handle,
}

/// An engine, and services of its own.
pub struct Wired {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Services for masters, served beside those for clients.
    pub routes: Option<Routes>,
}

/// A daemon that serves.
pub struct Daemon {
    options: Arc<Options>,
    address: Option<SocketAddr>,
    tls: CurrentTls,
    policy: CurrentPolicy,
    jobs: Arc<Jobs>,
    engine: Arc<dyn Engine>,
    stop: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    // Held to the end: no second daemon on this directory.
    _lock: DataLock,
}

/// The lock of a data directory. Given back by name, not by closing: a process that is just being forked elsewhere
/// holds a copy of the descriptor for a moment.
struct DataLock(File);

impl Drop for DataLock {
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

impl Daemon {
    /// Starts. When it returns the daemon serves.
    ///
    /// # Errors
    /// `DATA_IN_USE`, `OPEN_LISTENER`, `BAD_CERTIFICATE`, `IO`, and those of the wiring.
    pub async fn start(options: Options, wiring: Arc<dyn Wiring>) -> Result<Self, EngineError> {
        let options = Arc::new(options);
        let tls = options.tls.as_ref().map(server_config).transpose()?;
        let lock = prepare_data(&options.data)?;
        let tcp = match options.listen {
            Some(address) => Some(bind_tcp(address, tls.is_some()).await?),
            None => None,
        };
        let address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let socket = Socket::bind(&options.socket).await?;
        let parts = open_parts(Arc::clone(&options), wiring).await?;

        let (stop, stopped) = watch::channel(false);
        let shared =
            Shared::new(Arc::clone(&parts.engine), Arc::clone(&parts.jobs), parts.activity, stopped.clone());
        let by_owner = options.master.as_ref().is_some_and(|master| master.hooks == HooksAllowed::Owner);
        let shared = shared.with_hooks_by_owner(by_owner);
        let policy = Arc::new(RwLock::new(policy(&options)));
        let router = router(shared, parts.routes, Arc::clone(&policy)).await?;
        let tls: CurrentTls = Arc::new(RwLock::new(tls));
        let incoming = accept(socket, tcp, Arc::clone(&tls));
        let mut ends = stopped.clone();
        let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async move {
            // An error: the daemon was dropped, which is an end as well.
            drop(ends.wait_for(|stop| *stop).await);
        }));
        let runner: Arc<dyn Runner> = Arc::new(EngineRunner(Arc::clone(&parts.engine)));
        parts.jobs.start(&runner)?;
        let (jobs, engine) = (parts.jobs, parts.engine);
        schedules::start(parts.schedules, Arc::clone(&engine), Arc::clone(&jobs), stopped);
        Ok(Daemon { options, address, tls, policy, jobs, engine, stop, server, _lock: lock })
    }

    /// Where clients of this machine reach it.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.options.socket.clone())
    }

    /// Where clients of other machines reach it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The line that says it serves.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let mut line = format!("ready endpoint={}", self.endpoint());
        if let Some(address) = self.address {
            let scheme = if self.tls.read().is_some() { "https" } else { "http" };
            line.push_str(&format!(" listen={scheme}://{address}"));
        }
        line
    }

    /// Takes new certificates and who may do what, from the next connection and the next call on; certificates that
    /// cannot be used change nothing.
    ///
    /// # Errors
    /// `BAD_CERTIFICATE`.
    pub fn reload(&self, options: &Options) -> Result<(), EngineError> {
        if let (Some(files), true) = (&options.tls, self.options.tls.is_some()) {
            let config = server_config(files)?;
            *self.tls.write() = Some(config);
        }
        *self.policy.write() = policy(options);
        Ok(())
    }

    /// Resolves when the server has ended by itself, which it should not.
    pub async fn failed(&mut self) -> EngineError {
        let error = EngineError::new(&codes::INTERNAL, "the server ended");
        match (&mut self.server).await {
            Ok(Ok(())) => error,
            Ok(Err(cause)) => error.caused_by(cause),
            Err(cause) => error.caused_by(cause),
        }
    }

    /// Stops within 30 seconds.
    pub async fn stop(self) {
        // Streams end and no connection is taken any more; calls under way go on.
        self.stop.send_replace(true);
        let (jobs, engine) = (self.jobs, self.engine);
        let at_rest = tokio::task::spawn_blocking(move || {
            if !jobs.shutdown(JOBS_TIME) {
                tracing::warn!("some jobs did not end in time; they start again with the next daemon");
            }
            engine.shutdown(ENGINE_TIME);
        });
        let limit = JOBS_TIME + ENGINE_TIME + DRAIN_TIME;
        if tokio::time::timeout(limit, at_rest).await.is_err() {
            tracing::warn!("the engine did not come to rest in time");
        }
        let mut server = self.server;
        if tokio::time::timeout(DRAIN_TIME, &mut server).await.is_err() {
            server.abort();
        }
        drop(std::fs::remove_file(&self.options.socket));
    }
}

fn policy(options: &Options) -> Policy {
    let masters = options.replica.as_ref().map(|replica| replica.masters.clone()).unwrap_or_default();
    Policy { operators: options.operators.clone(), masters }
}

/// What is opened on the disk, on a thread that may block.
struct Parts {
    jobs: Arc<Jobs>,
    engine: Arc<dyn Engine>,
    activity: Activity,
    routes: Option<Routes>,
    schedules: Arc<Schedules>,
}

async fn open_parts(options: Arc<Options>, wiring: Arc<dyn Wiring>) -> Result<Parts, EngineError> {
    let runtime = tokio::runtime::Handle::current();
    let opened = tokio::task::spawn_blocking(move || {
        let journal = wiring.server_journal(&options.data.join("journal").join("server"))?;
        let trees =
            options.replica.as_ref().map_or_else(|| options.data.join("replica"), |r| r.trees.clone());
        let together = options.master.is_some() && options.replica.is_some();
        let placement = if together { Placement::Together } else { Placement::Apart };
        let registry = Arc::new(Registry::open(Arc::clone(&journal), trees, placement)?);
        let secrets = Layout::new(options.data.clone()).secrets();
        let vault = Arc::new(Vault::open(Arc::clone(&journal), secrets, runtime.clone())?);
        let archives = Arc::new(Archives::open(Arc::clone(&journal))?);
        let schedules = Arc::new(Schedules::open(Arc::clone(&journal))?);
        let activity = Activity::new(Arc::clone(&journal));
        let store = JobStore::open(&options.data.join("projections").join("jobs"), journal.as_ref())?;
        let jobs = Jobs::open(journal, store, activity.clone(), Limits::default())?;
        let log = activity.clone();
        let set = Arc::clone(&schedules);
        let context =
            EngineContext { options, registry, vault, archives, schedules: set, activity: log, runtime };
        let wired = wiring.engine(context)?;
        wired.engine.start()?;
        Ok(Parts { jobs, engine: wired.engine, activity, routes: wired.routes, schedules })
    });
    opened
        .await
        .unwrap_or_else(|error| Err(EngineError::new(&codes::INTERNAL, "open the daemon").caused_by(error)))
}

type Guarded = tower::layer::util::Stack<GuardLayer, tower::layer::util::Identity>;

async fn router(
    shared: Shared,
    extra: Option<Routes>,
    policy: CurrentPolicy,
) -> Result<tonic::transport::server::Router<Guarded>, EngineError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .build_v1()
        .map_err(|error| EngineError::new(&codes::INTERNAL, "build reflection").caused_by(error))?;
    let scenarios =
        ScenariosServer::new(ScenariosService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let journal =
        JournalServer::new(JournalService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let journal_tools = JournalToolsServer::new(JournalToolsService(shared.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let repositories = RepositoriesServer::new(RepositoriesService(shared.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let sessions =
        SessionsServer::new(SessionsService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let snapshots =
        SnapshotsServer::new(SnapshotsService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let restore =
        RestoreServer::new(RestoreService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let catalog =
        CatalogServer::new(CatalogService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let bursts =
        BurstsServer::new(BurstsService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let tapes = TapesServer::new(TapesService(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let jobs = JobsServer::new(JobsService(shared)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    health.set_serving::<ScenariosServer<ScenariosService>>().await;
    health.set_serving::<JournalServer<JournalService>>().await;
    health.set_serving::<JournalToolsServer<JournalToolsService>>().await;
    health.set_serving::<JobsServer<JobsService>>().await;
    health.set_serving::<RepositoriesServer<RepositoriesService>>().await;
    health.set_serving::<SessionsServer<SessionsService>>().await;
    health.set_serving::<SnapshotsServer<SnapshotsService>>().await;
    health.set_serving::<RestoreServer<RestoreService>>().await;
    health.set_serving::<CatalogServer<CatalogService>>().await;
    health.set_serving::<BurstsServer<BurstsService>>().await;
    health.set_serving::<TapesServer<TapesService>>().await;
    let routes = extra
        .unwrap_or_default()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(scenarios)
        .add_service(journal)
        .add_service(journal_tools)
        .add_service(jobs)
        .add_service(repositories)
        .add_service(sessions)
        .add_service(snapshots)
        .add_service(restore)
        .add_service(catalog)
        .add_service(bursts)
        .add_service(tapes);
    // Masters need larger windows than clients, and more often a sign of life.
    Ok(tune(Server::builder()).layer(GuardLayer(policy)).add_routes(routes))
}

/// Makes the data directory, for this user only, and locks it.
fn prepare_data(data: &Path) -> Result<DataLock, EngineError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| EngineError::io("create", data, error))?;
    let path: PathBuf = data.join("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| EngineError::io("open", &path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(DataLock(lock)),
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = format!("another daemon runs on {}", data.display());
            Err(EngineError::new(&codes::DATA_IN_USE, message))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(EngineError::io("lock", &path, error)),
    }
}
