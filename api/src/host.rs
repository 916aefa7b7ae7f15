//! The engine of the product: scenarios with their journals, trees, masters and streams.
//!
//! A [`Scene`](scene::Scene) is one scenario with all that lives for it. The [`Host`] finds scenes, opens their
//! replica sides at the start of the daemon or when they are first used, and answers for all of them what
//! [`Engine`](crate::engine::Engine) asks. What a scenario is meant to do stands in the registry; scenes only do it.

mod adopting;
mod answers;
mod archiving;
mod backing;
mod bursts;
mod calls;
mod consistent;
mod control;
mod error;
mod finding;
mod link;
pub(crate) mod local;
mod onto_master;
mod past;
mod places;
mod proving;
mod restoring;
mod rewinding;
mod running;
mod scene;
mod scrubbing;
mod sizes;
mod snapshots;
mod states;
mod taping;
mod told;
mod upkeep;
mod window;

pub(crate) use consistent::thaw_left_over;
pub(crate) use onto_master::master_error;
pub(crate) use running::random_cookie;

use crate::archive::ArchiveStatus;
use crate::catalog::Keeper;
use crate::daemon::EngineContext;
use crate::definition::{Definition, Setting};
use crate::engine::{
    BackupReport, BackupRequest, Bookmark, BookmarkRequest, Burst, BurstsQuery, Change, CheckReport,
    CheckRequest, DeleteReport, DiffSums, Each, Engine, EngineError, EngineResult, Finder, Finding,
    FlushRequest, Flushed, ForgetReport, ForgetRequest, Group, JournalStats, Level, MountReport, MountWhat,
    NewRepository, Point, PointsQuery, Progress, PrunePlan, PruneRequest, Pruned, RebuildReport, Repository,
    RepositoryStats, ResolvedPoint, Restores, ResumeReport, RewindPlan, RewindReport, RewindRequest,
    RunOptions, RunReport, Scenario, ScrubReport, ScrubRequest, Session, SessionsQuery, Snapshot, SnapshotId,
    SnapshotRequest, State, Status, UnlockReport, VerifyReport,
};
use crate::points::PointSpec;
use crate::records::Wanted;
use crate::store::Layout;
use journal::dump::{Item, Range};
use parking_lot::Mutex;
use replication::stream::replica::{ReplicaStreamOptions, ReplicationService};
use scene::Scene;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::service::Routes;
use wire::codes;

/// The engine.
pub struct Host {
    context: EngineContext,
    layout: Layout,
    catalog: Arc<Keeper>,
    scenes: Mutex<BTreeMap<u64, Arc<Scene>>>,
    followed: calls::Followed,
    /// Turns true when masters are to go.
    closing: watch::Sender<bool>,
}

impl Host {
    /// An engine at rest.
    #[must_use]
    pub fn new(context: EngineContext) -> Arc<Self> {
        let layout = Layout::new(context.options.data.clone());
        if let Ok(scratch) = layout.scratch() {
            crate::tapes::sweep(&scratch);
        }
        let closing = watch::channel(false).0;
        let catalog = Keeper::new(layout.catalog(), Arc::clone(&context.vault), context.activity.clone());
        let (scenes, followed) = (Mutex::default(), Default::default());
        let host = Arc::new(Host { context, layout, catalog, scenes, followed, closing });
        window::start(&host);
        host
    }

    /// The service that masters of other machines dial.
    #[must_use]
    pub fn routes(self: &Arc<Self>) -> Routes {
        let calls = Arc::new(calls::Calls(Arc::downgrade(self)));
        let options = ReplicaStreamOptions::default();
        let service = ReplicationService::new(calls, options, self.closing.subscribe());
        Routes::new(service.into_server())
    }

    /// The scene of a scenario, made if it is not there yet.
    fn scene(&self, name: &str) -> EngineResult<Arc<Scene>> {
        let entry = self.context.registry.get(name)?;
        let mut scenes = self.scenes.lock();
        if let Some(scene) = scenes.get(&entry.id) {
            return Ok(Arc::clone(scene));
        }
        let scene = Scene::new(entry.clone(), self.layout.clone(), self.context.clone());
        scenes.insert(entry.id, Arc::clone(&scene));
        Ok(scene)
    }

    /// Scenes by id, for masters that call.
    pub(crate) fn scene_of(&self, id: u64) -> EngineResult<Arc<Scene>> {
        let entries = self.context.registry.list();
        let entry = entries.iter().find(|entry| entry.id == id);
        match entry {
            Some(entry) => self.scene(&entry.definition.name),
            None => Err(EngineError::new(&codes::NO_SUCH_SCENARIO, format!("no scenario has id {id}"))),
        }
    }

    fn scene_of_snapshot(&self, id: SnapshotId) -> EngineResult<Arc<Scene>> {
        self.scene_of(id.scenario).map_err(|_| SnapshotId::missing(&id.to_string()))
    }

    fn stopped_scene(&self, name: &str) -> EngineResult<Arc<Scene>> {
        let scene = self.scene(name)?;
        if self.context.registry.get(name)?.wanted != Wanted::Stopped {
            let message = format!("scenario \"{name}\" is not stopped");
            return Err(EngineError::new(&codes::NOT_STOPPED, message));
        }
        Ok(scene)
    }

    fn let_go(&self, scene: &Scene) {
        self.scenes.lock().remove(&scene.id());
    }
}

impl Engine for Host {
    fn create(&self, definition: Definition) -> EngineResult<Scenario> {
        let registry = &self.context.registry;
        let definition = registry.complete(definition)?;
        self.check_master(&definition)?;
        states::check_new(&definition, self.is_local(&definition))?;
        self.check_beside_repositories(&definition)?;
        let entry = registry.create(definition)?;
        self.announce();
        let text = format!("scenario \"{}\" was created (id {})", entry.definition.name, entry.id);
        self.context.activity.write(Level::Info, &entry.definition.name, None, &text);
        Ok(states::scenario(&entry, State::Stopped))
    }

    fn list(&self) -> EngineResult<Vec<Scenario>> {
        let entries = self.context.registry.list();
        entries.iter().map(|entry| self.show(&entry.definition.name)).collect()
    }

    fn show(&self, scenario: &str) -> EngineResult<Scenario> {
        let entry = self.context.registry.get(scenario)?;
        let state = self.scene(scenario)?.status(entry.wanted).state;
        Ok(states::scenario(&entry, state))
    }

    fn delete(&self, scenario: &str) -> EngineResult<DeleteReport> {
        let scene = self.stopped_scene(scenario)?;
        let bytes = scene.destroy()?;
        self.context.registry.delete(scenario)?;
        self.let_go(&scene);
        self.announce();
        self.context.activity.write(
            Level::Info,
            scenario,
            None,
            &format!("scenario \"{scenario}\" was deleted"),
        );
        Ok(DeleteReport { journal_bytes: bytes })
    }

    fn set(&self, scenario: &str, settings: &[Setting]) -> EngineResult<Scenario> {
        let rest = self.set_archive(scenario, settings)?;
        let rest = self.set_scrubs(scenario, rest)?;
        // Archiving and scrubs are switched while everything runs.
        if rest.is_empty() && !settings.is_empty() {
            return self.shown(scenario);
        }
        let scene = self.stopped_scene(scenario)?;
        let definition = self.context.registry.get(scenario)?.definition.with_settings(&rest)?;
        let entry = self.context.registry.update(definition)?;
        scene.shutdown(Duration::from_secs(10));
        self.let_go(&scene);
        self.announce();
        Ok(states::scenario(&entry, State::Stopped))
    }

    fn verify(&self, scenario: &str) -> EngineResult<Vec<Finding>> {
        let scene = self.scene(scenario)?;
        let mut findings = scene.verify()?;
        findings.extend(scene.verify_tree()?);
        Ok(findings)
    }

    fn run(&self, scenario: &str, options: &RunOptions, progress: &dyn Progress) -> EngineResult<RunReport> {
        self.scene(scenario)?.run(options, progress)
    }

    fn stop(&self, scenario: &str) -> EngineResult<Status> {
        self.scene(scenario)?.stop()
    }

    fn suspend(&self, scenario: &str) -> EngineResult<Status> {
        self.scene(scenario)?.suspend()
    }

    fn resume(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<ResumeReport> {
        self.scene(scenario)?.resume(progress)
    }

    fn status(&self, scenario: &str) -> EngineResult<Status> {
        let wanted = self.context.registry.get(scenario)?.wanted;
        Ok(self.scene(scenario)?.status(wanted))
    }

    fn archive_status(&self, scenario: &str) -> EngineResult<Option<ArchiveStatus>> {
        self.scene(scenario)?.archive_status()
    }

    fn scrub(&self, request: &ScrubRequest, progress: &dyn Progress) -> EngineResult<ScrubReport> {
        self.scene(&request.scenario)?.scrub(request, progress)
    }

    fn flush(&self, scenario: &str, request: &FlushRequest) -> EngineResult<Flushed> {
        self.scene(scenario)?.flush(request)
    }

    fn set_bookmark(&self, scenario: &str, request: &BookmarkRequest) -> EngineResult<Bookmark> {
        self.scene(scenario)?.set_bookmark(request)
    }

    fn list_bookmarks(&self, scenario: &str) -> EngineResult<Vec<Bookmark>> {
        self.scene(scenario)?.list_bookmarks()
    }

    fn delete_bookmark(&self, scenario: &str, name: &str) -> EngineResult<Bookmark> {
        self.scene(scenario)?.delete_bookmark(name)
    }

    fn resolve(&self, scenario: &str, point: &PointSpec) -> EngineResult<ResolvedPoint> {
        self.scene(scenario)?.resolve(point)
    }

    fn points(&self, query: &PointsQuery, each: Each<'_, Point>) -> EngineResult<()> {
        self.scene(&query.scenario)?.points(query, each)
    }

    fn permits_tapes(&self) -> EngineResult<()> {
        Ok(())
    }

    fn bursts(&self, query: &BurstsQuery, progress: &dyn Progress) -> EngineResult<Vec<Burst>> {
        self.scene(&query.scenario)?.bursts(query, progress)
    }

    fn pin(&self, request: &RewindRequest) -> EngineResult<PointSpec> {
        self.scene(&request.scenario)?.pin(request)
    }

    fn plan_rewind(
        &self,
        request: &RewindRequest,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RewindPlan> {
        self.scene(&request.scenario)?.plan_rewind(request, progress, each)
    }

    fn rewind(&self, request: &RewindRequest, progress: &dyn Progress) -> EngineResult<RewindReport> {
        self.scene(&request.scenario)?.rewind(request, progress)
    }

    fn diff(
        &self,
        scenario: &str,
        from: &PointSpec,
        to: &PointSpec,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<DiffSums> {
        self.scene(scenario)?.diff(from, to, progress, each)
    }

    fn journal_stats(&self, scenario: &str) -> EngineResult<JournalStats> {
        self.scene(scenario)?.journal_stats()
    }

    fn journal_verify(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<VerifyReport> {
        self.scene(scenario)?.journal_verify(progress)
    }

    fn journal_dump(&self, scenario: &str, range: Range, each: Each<'_, Item>) -> EngineResult<()> {
        let replica = self.scene(scenario)?.replica()?;
        Ok(replica.journal().dump(range, &mut |item| each(item).is_continue())?)
    }

    fn journal_rebuild(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<RebuildReport> {
        let scene = self.stopped_scene(scenario)?;
        scene.journal_rebuild(progress)
    }

    fn add_repository(&self, repository: NewRepository) -> EngineResult<Repository> {
        self.check_repository_place(&repository.url)?;
        let added = self.context.vault.add(&repository)?;
        let made = if added.created { "made and added" } else { "added" };
        let text = format!("repository \"{}\" ({}) was {made}", added.name, added.url);
        self.context.activity.write(Level::Info, "", None, &text);
        if added.url.starts_with("tape://") {
            // Its volumes may hold sessions.
            self.catalog.poke();
        }
        Ok(added)
    }

    fn list_repositories(&self) -> EngineResult<Vec<Repository>> {
        Ok(self.context.vault.list())
    }

    fn backup(&self, request: &BackupRequest, progress: &dyn Progress) -> EngineResult<BackupReport> {
        self.scene(&request.scenario)?.backup(request, &self.catalog, progress)
    }

    fn repository_stats(&self, repository: &str, progress: &dyn Progress) -> EngineResult<RepositoryStats> {
        match self.context.vault.tape_repository(repository) {
            Some(tape) => self.stats_of_tape(&tape),
            None => self.repository_stats_of(repository, progress),
        }
    }

    fn check_repository(
        &self,
        request: &CheckRequest,
        progress: &dyn Progress,
    ) -> EngineResult<(CheckReport, Duration)> {
        match self.context.vault.tape_repository(&request.repository) {
            Some(tape) => self.check_tape(&tape, request.read, progress),
            None => self.check_of(request, progress),
        }
    }

    fn plan_prune(&self, request: &PruneRequest, progress: &dyn Progress) -> EngineResult<PrunePlan> {
        self.refuse_on_tape(&request.repository, "pruning")?;
        self.plan_prune_of(request, progress)
    }

    fn prune(&self, request: &PruneRequest, progress: &dyn Progress) -> EngineResult<Pruned> {
        self.refuse_on_tape(&request.repository, "pruning")?;
        self.prune_of(request, progress)
    }

    fn plan_forget(&self, request: &ForgetRequest, progress: &dyn Progress) -> EngineResult<Vec<Group>> {
        self.refuse_on_tape(&request.repository, "forgetting sessions")?;
        self.plan_forget_of(request, progress)
    }

    fn forget(&self, request: &ForgetRequest, progress: &dyn Progress) -> EngineResult<ForgetReport> {
        self.refuse_on_tape(&request.repository, "forgetting sessions")?;
        self.forget_of(request, progress)
    }

    fn unlock(&self, repository: &str, all: bool) -> EngineResult<UnlockReport> {
        self.refuse_on_tape(repository, "removing locks")?;
        self.unlock_of(repository, all)
    }

    fn list_sessions(&self, query: &SessionsQuery) -> EngineResult<Vec<Session>> {
        Ok(self.context.vault.sessions(query))
    }

    fn create_snapshot(&self, scenario: &str, request: &SnapshotRequest) -> EngineResult<Snapshot> {
        self.scene(scenario)?.create_snapshot(request)
    }

    fn list_snapshots(&self, scenario: Option<&str>) -> EngineResult<Vec<Snapshot>> {
        if let Some(scenario) = scenario {
            return self.scene(scenario)?.snapshots();
        }
        let mut list = Vec::new();
        for entry in self.context.registry.list() {
            list.extend(self.scene(&entry.definition.name)?.snapshots()?);
        }
        Ok(list)
    }

    fn show_snapshot(&self, id: SnapshotId) -> EngineResult<Snapshot> {
        self.scene_of_snapshot(id)?.snapshot(id.pin)
    }

    fn release_snapshot(&self, id: SnapshotId) -> EngineResult<Snapshot> {
        self.scene_of_snapshot(id)?.release_snapshot(id.pin)
    }

    fn mount(&self, scenario: &str, what: &MountWhat, directory: &Path) -> EngineResult<MountReport> {
        // A mount over a tree of ours would hide it from us, and be taken for what has become of it.
        self.check_target(directory)?;
        let place = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        self.scene(scenario)?.mount(what, &place)
    }

    fn restores(&self) -> EngineResult<&dyn Restores> {
        Ok(self)
    }

    fn finder(&self) -> EngineResult<&dyn Finder> {
        Ok(self)
    }

    fn start(&self) -> EngineResult<()> {
        self.catalog.start();
        for entry in self.context.registry.list() {
            if entry.wanted == Wanted::Stopped {
                continue;
            }
            // One scenario that does not open must not keep the others from running; its status says what is wrong.
            if let Err(error) = self.scene(&entry.definition.name).and_then(|scene| scene.start()) {
                let name = &entry.definition.name;
                let text = format!("cannot run again: {}", error.to_failure().message);
                tracing::error!(scenario = %name, error = %text, "a scenario does not run");
                self.context.activity.write(Level::Error, name, None, &text);
            }
        }
        Ok(())
    }

    fn shutdown(&self, limit: Duration) {
        // Masters keep what they have until the next start.
        self.closing.send_replace(true);
        self.catalog.stop(limit / 4);
        let scenes: Vec<_> = self.scenes.lock().values().cloned().collect();
        std::thread::scope(|threads| {
            for scene in &scenes {
                threads.spawn(move || scene.shutdown(limit));
            }
        });
    }
}
