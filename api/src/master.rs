//! The engine of a daemon that is a master and nothing else: it captures, and dials its replica.
//!
//! It opens no port. Which scenarios it serves the replica says; what is to be done with them comes with the stream.
//! People of this machine can ask on the Unix socket how things stand and can flush; whatever needs history is asked
//! of the replica, and says so ([`codes::NOT_SUPPORTED_THERE`]).

mod aside;
mod dial;
mod served;
mod supervise;

pub use dial::check;

use crate::config::ReplicaEndpoint;
use crate::daemon::EngineContext;
use crate::definition::{Definition, Setting};
use crate::engine::{
    BackupReport, BackupRequest, Bookmark, BookmarkRequest, Change, CheckReport, CheckRequest, DeleteReport,
    DiffSums, Each, Engine, EngineError, EngineResult, Finding, FlushRequest, Flushed, ForgetReport,
    ForgetRequest, Group, JournalStats, MountReport, MountWhat, NewRepository, Point, PointsQuery, Progress,
    PrunePlan, PruneRequest, Pruned, RebuildReport, Repository, RepositoryStats, ResolvedPoint, Restores,
    ResumeReport, RewindPlan, RewindReport, RewindRequest, RunOptions, RunReport, Scenario, Session,
    SessionsQuery, Snapshot, SnapshotId, SnapshotRequest, Status, UnlockReport, VerifyReport,
};
use crate::points::PointSpec;
use aside::Aside;
use journal::dump::{Item, Range};
use parking_lot::Mutex;
use served::Served;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use supervise::Supervisor;
use tokio::sync::watch;
use wire::codes;

/// The engine.
pub struct MasterEngine {
    context: EngineContext,
    replica: ReplicaEndpoint,
    supervisor: Arc<Supervisor>,
    stop: watch::Sender<bool>,
    /// Hears of the end of all work.
    ended: Mutex<Option<Receiver<()>>>,
}

impl MasterEngine {
    /// An engine at rest.
    ///
    /// # Errors
    /// `BAD_CERTIFICATE` if the files for the replica cannot be used, `BAD_CONFIG` if its address cannot.
    pub fn new(context: EngineContext) -> EngineResult<Arc<Self>> {
        let master =
            context.options.master.clone().and_then(|master| Some((master.replica.clone()?, master)));
        let Some((replica, master)) = master else {
            return Err(EngineError::new(
                &codes::BAD_CONFIG,
                "a master alone needs the address of its replica",
            ));
        };
        dial::check(&replica)?;
        let dial = dial::dial(&replica)?;
        let supervisor = Arc::new(Supervisor::new(context.clone(), master, dial));
        let stop = watch::channel(false).0;
        Ok(Arc::new(MasterEngine { context, replica, supervisor, stop, ended: Mutex::default() }))
    }

    fn elsewhere<T>(&self, what: &str) -> EngineResult<T> {
        let message = format!("{what} is not possible on a daemon that is a master only");
        Err(EngineError::new(&codes::NOT_SUPPORTED_THERE, message)
            .because("Journal, replica tree and definitions are on the replica.")
            .advise(format!("Ask the replica: `restorectl --endpoint {}`.", self.replica.url)))
    }

    /// The spool of a scenario that is not served, if it was set aside.
    fn aside(&self, scenario: &str) -> Option<Aside> {
        self.supervisor.aside(Some(scenario)).pop()
    }

    fn served(&self, scenario: &str) -> EngineResult<Arc<Served>> {
        self.supervisor.find(scenario)
    }
}

impl Engine for MasterEngine {
    fn create(&self, _: Definition) -> EngineResult<Scenario> {
        self.elsewhere("creating a scenario")
    }

    fn list(&self) -> EngineResult<Vec<Scenario>> {
        let mut list: Vec<_> = self.supervisor.list()?.iter().map(|served| served.scenario()).collect();
        list.extend(self.supervisor.aside(None).iter().map(Aside::scenario));
        Ok(list)
    }

    fn show(&self, scenario: &str) -> EngineResult<Scenario> {
        match self.aside(scenario) {
            Some(aside) => Ok(aside.scenario()),
            None => Ok(self.served(scenario)?.scenario()),
        }
    }

    fn delete(&self, _: &str) -> EngineResult<DeleteReport> {
        self.elsewhere("deleting a scenario")
    }

    fn set(&self, _: &str, _: &[Setting]) -> EngineResult<Scenario> {
        self.elsewhere("changing a scenario")
    }

    fn verify(&self, scenario: &str) -> EngineResult<Vec<Finding>> {
        Ok(self.served(scenario)?.verify())
    }

    fn run(&self, _: &str, _: &RunOptions, _: &dyn Progress) -> EngineResult<RunReport> {
        self.elsewhere("running a scenario")
    }

    fn add_repository(&self, _: NewRepository) -> EngineResult<Repository> {
        self.elsewhere("adding a repository")
    }

    fn repository_stats(&self, _: &str, _: &dyn Progress) -> EngineResult<RepositoryStats> {
        self.elsewhere("looking at a repository")
    }

    fn check_repository(&self, _: &CheckRequest, _: &dyn Progress) -> EngineResult<(CheckReport, Duration)> {
        self.elsewhere("checking a repository")
    }

    fn plan_prune(&self, _: &PruneRequest, _: &dyn Progress) -> EngineResult<PrunePlan> {
        self.elsewhere("pruning a repository")
    }

    fn prune(&self, _: &PruneRequest, _: &dyn Progress) -> EngineResult<Pruned> {
        self.elsewhere("pruning a repository")
    }

    fn plan_forget(&self, _: &ForgetRequest, _: &dyn Progress) -> EngineResult<Vec<Group>> {
        self.elsewhere("forgetting sessions")
    }

    fn forget(&self, _: &ForgetRequest, _: &dyn Progress) -> EngineResult<ForgetReport> {
        self.elsewhere("forgetting sessions")
    }

    fn unlock(&self, _: &str, _: bool) -> EngineResult<UnlockReport> {
        self.elsewhere("unlocking a repository")
    }

    fn list_repositories(&self) -> EngineResult<Vec<Repository>> {
        self.elsewhere("listing repositories")
    }

    fn backup(&self, _: &BackupRequest, _: &dyn Progress) -> EngineResult<BackupReport> {
        self.elsewhere("a backup")
    }

    fn list_sessions(&self, _: &SessionsQuery) -> EngineResult<Vec<Session>> {
        self.elsewhere("listing sessions")
    }

    fn create_snapshot(&self, _: &str, _: &SnapshotRequest) -> EngineResult<Snapshot> {
        self.elsewhere("a snapshot")
    }

    fn list_snapshots(&self, _: Option<&str>) -> EngineResult<Vec<Snapshot>> {
        self.elsewhere("listing snapshots")
    }

    fn show_snapshot(&self, _: SnapshotId) -> EngineResult<Snapshot> {
        self.elsewhere("showing a snapshot")
    }

    fn release_snapshot(&self, _: SnapshotId) -> EngineResult<Snapshot> {
        self.elsewhere("releasing a snapshot")
    }

    fn mount(&self, _: &str, _: &MountWhat, _: &Path) -> EngineResult<MountReport> {
        self.elsewhere("mounting a point")
    }

    fn restores(&self) -> EngineResult<&dyn Restores> {
        self.elsewhere("restoring sessions")
    }

    fn stop(&self, _: &str) -> EngineResult<Status> {
        self.elsewhere("stopping a scenario")
    }

    fn suspend(&self, _: &str) -> EngineResult<Status> {
        self.elsewhere("suspending a scenario")
    }

    fn resume(&self, _: &str, _: &dyn Progress) -> EngineResult<ResumeReport> {
        self.elsewhere("resuming a scenario")
    }

    fn status(&self, scenario: &str) -> EngineResult<Status> {
        match self.aside(scenario) {
            Some(aside) => Ok(aside.status()),
            None => Ok(self.served(scenario)?.status()),
        }
    }

    fn flush(&self, scenario: &str, request: &FlushRequest) -> EngineResult<Flushed> {
        if request.consistent {
            // Hooks are part of the definition.
            return self.elsewhere("a consistent point");
        }
        self.served(scenario)?.flush(request.stage, request.timeout)
    }

    fn set_bookmark(&self, _: &str, _: &BookmarkRequest) -> EngineResult<Bookmark> {
        self.elsewhere("setting a bookmark")
    }

    fn list_bookmarks(&self, _: &str) -> EngineResult<Vec<Bookmark>> {
        self.elsewhere("listing bookmarks")
    }

    fn delete_bookmark(&self, _: &str, _: &str) -> EngineResult<Bookmark> {
        self.elsewhere("deleting a bookmark")
    }

    fn resolve(&self, _: &str, _: &PointSpec) -> EngineResult<ResolvedPoint> {
        self.elsewhere("finding a point")
    }

    fn points(&self, _: &PointsQuery, _: Each<'_, Point>) -> EngineResult<()> {
        self.elsewhere("listing points")
    }

    fn plan_rewind(
        &self,
        _: &RewindRequest,
        _: &dyn Progress,
        _: Each<'_, Change>,
    ) -> EngineResult<RewindPlan> {
        self.elsewhere("rewinding")
    }

    fn rewind(&self, _: &RewindRequest, _: &dyn Progress) -> EngineResult<RewindReport> {
        self.elsewhere("rewinding")
    }

    fn diff(
        &self,
        _: &str,
        _: &PointSpec,
        _: &PointSpec,
        _: &dyn Progress,
        _: Each<'_, Change>,
    ) -> EngineResult<DiffSums> {
        self.elsewhere("comparing points")
    }

    fn journal_stats(&self, _: &str) -> EngineResult<JournalStats> {
        self.elsewhere("looking at a journal")
    }

    fn journal_verify(&self, _: &str, _: &dyn Progress) -> EngineResult<VerifyReport> {
        self.elsewhere("verifying a journal")
    }

    fn journal_dump(&self, _: &str, _: Range, _: Each<'_, Item>) -> EngineResult<()> {
        self.elsewhere("dumping a journal")
    }

    fn journal_rebuild(&self, _: &str, _: &dyn Progress) -> EngineResult<RebuildReport> {
        self.elsewhere("rebuilding a journal")
    }

    fn start(&self) -> EngineResult<()> {
        let (done, ended) = std::sync::mpsc::channel();
        let (supervisor, stopped) = (Arc::clone(&self.supervisor), self.stop.subscribe());
        self.context.runtime.spawn(async move {
            supervisor.run(stopped).await;
            // Nobody may be waiting.
            let _ = done.send(());
        });
        *self.ended.lock() = Some(ended);
        Ok(())
    }

    fn shutdown(&self, limit: Duration) {
        self.stop.send_replace(true);
        let Some(ended) = self.ended.lock().take() else { return };
        if ended.recv_timeout(limit).is_err() {
            tracing::warn!("capture did not come to rest in time; the next start compares everything");
        }
    }
}
