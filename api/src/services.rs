//! The gRPC services: messages in, a call of the engine on a thread that may block, messages out.
//!
//! tonic drops a handler when its client vanishes. A call runs on a blocking thread that does not care, so what was
//! begun is finished and a mutation is never torn; streams notice the closed channel and end early.

mod bursts;
mod catalog;
mod jobs;
mod journal;
mod journal_tools;
pub(crate) mod repositories;
mod restore_queries;
mod restores;
mod runner;
mod scenarios;
mod sessions;
mod snapshots;
mod tapes;

pub use bursts::BurstsService;
pub use catalog::CatalogService;
pub use jobs::JobsService;
pub use journal::JournalService;
pub use journal_tools::JournalToolsService;
pub use repositories::RepositoriesService;
pub use restores::RestoreService;
pub use runner::EngineRunner;
pub use scenarios::ScenariosService;
pub use sessions::SessionsService;
pub use snapshots::SnapshotsService;
pub use tapes::TapesService;

use crate::activity::Activity;
use crate::auth::Peer;
use crate::engine::{Engine, EngineError, EngineResult, Interrupt, Level, Progress};
use crate::jobs::{Jobs, Submission};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wire::codes;
use wire::convert::duration_from_wire;

/// Calls of the engine under way at once; more are refused.
const CALLS_MAX: usize = 128;
/// Items of a stream that wait for a slow client.
const STREAM_ITEMS_MAX: usize = 64;
/// How long a barrier may take when the client does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(180);
/// No client waits longer than this for a barrier.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// A stream of messages.
pub type Stream<T> = ReceiverStream<Result<T, Status>>;

/// What all services share.
#[derive(Clone)]
pub struct Shared {
    engine: Arc<dyn Engine>,
    jobs: Arc<Jobs>,
    activity: Activity,
    calls: Arc<Semaphore>,
    hooks_by_owner: bool,
    stop: watch::Receiver<bool>,
}

impl Shared {
    /// `stop` turns true when the daemon stops: streams that would go on end then.
    #[must_use]
    pub fn new(
        engine: Arc<dyn Engine>,
        jobs: Arc<Jobs>,
        activity: Activity,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        Shared { engine, jobs, activity, calls, hooks_by_owner: false, stop }
    }

    /// Whether hooks may be defined over the Unix socket only, because this daemon runs them itself.
    #[must_use]
    pub fn with_hooks_by_owner(self, hooks_by_owner: bool) -> Self {
        Shared { hooks_by_owner, ..self }
    }

    /// Whether this peer may say which commands are run as hooks. An operator elsewhere is trusted with what is
    /// protected, not with the machine of its master.
    fn permit_hooks(&self, peer: Option<&Peer>) -> Result<(), EngineError> {
        if !self.hooks_by_owner || matches!(peer, Some(Peer::Unix { .. })) {
            return Ok(());
        }
        let message = "hooks of this daemon are defined over its Unix socket only";
        Err(EngineError::new(&codes::HOOKS_NOT_ALLOWED, message)
            .because("Whoever defines a hook runs commands as the user of the daemon.")
            .advise("Define the hooks on the daemon's own machine, or say in `hooks` of its [master] what it may run."))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        Arc::clone(&self.calls)
            .try_acquire_owned()
            .map_err(|_| EngineError::new(&codes::TOO_MANY, format!("{CALLS_MAX} calls are under way")))
    }

    /// Calls the engine. Safe to be dropped: the call goes on to its end.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Shared) -> EngineResult<T> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.permit()?;
        let shared = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            call(&shared)
        });
        match done.await {
            Ok(result) => result.map_err(Status::from),
            Err(error) => {
                Err(EngineError::new(&codes::INTERNAL, "the call ended in a panic").caused_by(error).into())
            }
        }
    }

    /// Calls the engine for a stream of answers.
    fn stream<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Shared, &Answers<T>) -> EngineResult<()> + Send + 'static,
    ) -> Result<Stream<T>, Status> {
        let permit = self.permit()?;
        let (sender, receiver) = mpsc::channel(STREAM_ITEMS_MAX);
        let shared = self.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let answers = Answers { sender, stop: shared.stop.clone() };
            if let Err(error) = call(&shared, &answers) {
                // A client that has gone does not want to know.
                drop(answers.sender.blocking_send(Err(error.into())));
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    /// Takes a job in.
    async fn submit(&self, submission: Submission) -> Result<tonic::Response<wire::v1::Job>, Status> {
        self.call(move |shared| {
            // Here, not in the job: a name that was mistyped should not become a failed job.
            shared.engine.show(&submission.scenario)?;
            shared.jobs.submit(submission)
        })
        .await
        .map(tonic::Response::new)
    }
}

/// Where a streaming call puts its answers. Also tells it whether anybody still listens.
struct Answers<T> {
    sender: mpsc::Sender<Result<T, Status>>,
    stop: watch::Receiver<bool>,
}

impl<T> Answers<T> {
    /// Waits for a slow client; `Break` if it has gone.
    fn send(&self, item: impl Into<T>) -> ControlFlow<()> {
        match self.sender.blocking_send(Ok(item.into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

impl<T: Send> Progress for Answers<T> {
    fn report(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}

    fn note(&self, _: Level, _: &str) {}

    fn interrupted(&self) -> Option<Interrupt> {
        if self.sender.is_closed() {
            Some(Interrupt::Cancelled)
        } else if *self.stop.borrow() {
            Some(Interrupt::Shutdown)
        } else {
            None
        }
    }
}

/// How long a call may wait, from its message.
fn timeout(message: Option<prost_types::Duration>) -> Result<Duration, EngineError> {
    match message {
        None => Ok(TIMEOUT_DEFAULT),
        Some(message) => duration_from_wire(&message)
            .map(|duration| duration.min(TIMEOUT_MAX))
            .ok_or_else(|| EngineError::new(&codes::BAD_PARAMETERS, "the timeout is no duration")),
    }
}
