//! Restoring sets: some paths of each of several sessions, as one restore.
//!
//! All of them are planned before the first is restored, so what one would refuse refuses all. Into a directory they are
//! parts of one restore. Onto a replica or a master each compares with what stands there, as ever; the first that changes
//! anything sets the bookmark that leads back behind all of them.

use super::super::Host;
use super::directory::{Part, began};
use super::scene::with_origin;
use super::{bytes_of, options};
use crate::engine::{
    Counts, Each, EngineResult, Onto, PointKind, Progress, QueryFound, QueryRestores, RestorePlan,
    RestoreReport, RestoreRequest, RestoreSet, RestoreSource, RestoredSession, SessionName, SetPart,
};
use crate::tapes::Recalled;
use crate::vault::{Found, no_such_session, restore_error};
use journal::{RootNo, Timestamp};
use restore::session::{self, IfExists, Receipt};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Failures and conflicts that a plan names.
const LISTED_MAX: usize = 1000;

/// A set whose session was found.
struct Opened<'q> {
    request: &'q RestoreRequest,
    found: Found,
    /// Keeps what was recalled from tape.
    _from_tape: Option<Recalled>,
}

impl Opened<'_> {
    fn name(&self) -> SessionName {
        SessionName { id: self.found.id.to_string(), repository: Some(self.found.name.clone()) }
    }

    fn set(&self) -> RestoreSet {
        RestoreSet { session: self.name(), paths: self.request.paths.clone() }
    }

    fn time(&self) -> Timestamp {
        let time = self.found.record.time;
        let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        Timestamp(i64::try_from(nanoseconds).unwrap_or_default())
    }
}

/// Adds the sums of one plan to those of all.
fn add(all: &mut RestorePlan, one: RestorePlan) {
    all.skipped += one.skipped;
    all.conflicts += one.conflicts;
    all.first_conflicts.extend(one.first_conflicts);
    all.first_conflicts.truncate(LISTED_MAX);
    all.failed += one.failed;
    all.failures.extend(one.failures);
    all.failures.truncate(LISTED_MAX);
    all.resumed += one.resumed;
    for warning in one.warnings {
        if !all.warnings.contains(&warning) {
            all.warnings.push(warning);
        }
    }
}

fn parts_of<'o>(sets: &'o [Opened<'_>]) -> Vec<Part<'o>> {
    sets.iter().map(|set| (set.request, &set.found)).collect()
}

fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

impl Host {
    fn opened<'q>(&self, requests: &'q [RestoreRequest]) -> EngineResult<Vec<Opened<'q>>> {
        let open = |request: &'q RestoreRequest| match &request.source {
            RestoreSource::Session(name) => {
                Ok(Opened { request, found: self.context.vault.find(name)?, _from_tape: None })
            }
            _ => Err(no_such_session("of that kind")),
        };
        requests.iter().map(open).collect()
    }

    /// A set as a restore onto the tree of its scenario.
    fn onto_of<'f>(
        &self,
        opened: &'f Opened<'_>,
        (entity, root): (&[u8], RootNo),
        replica: &replication::replica::Replica<replication::os_tree::OsTree>,
        progress: &dyn Progress,
    ) -> EngineResult<session::Onto<'f>> {
        let (found, request) = (&opened.found, opened.request);
        let paths = bytes_of(&request.paths);
        let onto = session::Onto::new(
            &found.repository,
            found.record.tree,
            (entity, root),
            &paths,
            options(request, found),
        );
        let onto = onto.map_err(|error| restore_error(progress.interrupted(), error))?;
        let onto = with_origin(onto, found, replica);
        Ok(if request.again { onto.again() } else { onto })
    }

    fn plan_all(
        &self,
        sets: &[Opened<'_>],
        progress: &dyn Progress,
        each: Each<'_, SetPart>,
    ) -> EngineResult<RestorePlan> {
        let mut all = RestorePlan::default();
        let began = match sets.first().map(|set| &set.request.onto) {
            Some(Onto::Directory(directory)) => began(&parts_of(sets), directory)
                .map_err(|error| restore_error(progress.interrupted(), error))?,
            _ => false,
        };
        // Directories above several sets are made once.
        let mut made = HashSet::new();
        let mut counts = Counts::default();
        for set in sets {
            if each(SetPart::Set(set.set(), set.time())).is_break() {
                return Ok(all);
            }
            let session =
                RestoreRequest { source: RestoreSource::Session(set.name()), ..set.request.clone() };
            let _lock = set.found.lock()?;
            let mut one = RestorePlan::default();
            self.plan_session(&session, (&set.found, began), progress, &mut one, &mut |change| {
                if change.kind == PointKind::Created
                    && change.bytes == 0
                    && !made.insert(hash_of(&change.path))
                {
                    return ControlFlow::Continue(());
                }
                counts.add(&change);
                each(SetPart::Change(change))
            })?;
            add(&mut all, one);
        }
        all.counts = counts;
        Ok(all)
    }

    /// Each set onto the tree of its scenario. `report` gets the way back as soon as there is one.
    fn sets_onto(
        &self,
        sets: &[Opened<'_>],
        report: &mut RestoreReport,
        progress: &dyn Progress,
    ) -> EngineResult<Vec<Receipt>> {
        // What one would refuse is refused before another has changed anything.
        if sets.iter().any(|set| set.request.if_exists() == IfExists::Fail && !set.request.again) {
            let plan = self.plan_all(sets, progress, &mut |_| ControlFlow::Continue(()))?;
            if plan.conflicts > 0 {
                let (first, count) = (plan.first_conflicts, plan.conflicts);
                let error = session::SessionRestoreError::Conflicts { first, count };
                return Err(restore_error(progress.interrupted(), error));
            }
        }
        let mut receipts = Vec::new();
        for set in sets {
            let (scene, root, entity) = self.scene_of_session(&set.found)?;
            let replica: Arc<_> = scene.replica()?;
            let onto = self.onto_of(set, (&entity, root), &replica, progress)?;
            let done = scene.restore_onto(&onto, set.request, progress).map_err(|error| {
                match &report.before {
                    Some(before) => error.advise(format!(
                        "What was restored before it stays, and bookmark \"{before}\" of scenario \"{}\" leads back.",
                        scene.name()
                    )),
                    None => error,
                }
            })?;
            report.before = report.before.take().or(done.before);
            report.onto_master |= done.onto_master;
            report.detached |= done.detached;
            receipts.push(done.receipt);
        }
        Ok(receipts)
    }
}

impl QueryRestores for Host {
    fn find_sets(
        &self,
        query: &crate::engine::CatalogQuery,
        onto: &Onto,
        progress: &dyn Progress,
    ) -> EngineResult<QueryFound> {
        self.gather(query, onto, progress)
    }

    fn plan_sets(
        &self,
        requests: &[RestoreRequest],
        progress: &dyn Progress,
        each: Each<'_, SetPart>,
    ) -> EngineResult<RestorePlan> {
        let mut sets = self.opened(requests)?;
        for set in &mut sets {
            if let Some(from_tape) = self.recalled_to_plan(&set.found, set.request, progress)? {
                (set.found, set._from_tape) = (from_tape.found, Some(from_tape.recalled));
            }
        }
        self.plan_all(&sets, progress, each)
    }

    fn restore_sets(
        &self,
        requests: &[RestoreRequest],
        progress: &dyn Progress,
    ) -> EngineResult<RestoreReport> {
        let began = Instant::now();
        let mut sets = self.opened(requests)?;
        for set in &mut sets {
            let paths = bytes_of(&set.request.paths);
            if let Some(from_tape) = self.recalled(&set.found, &paths, progress)? {
                (set.found, set._from_tape) = (from_tape.found, Some(from_tape.recalled));
            }
        }
        let mut locks = Vec::new();
        let mut locked: HashSet<&str> = HashSet::new();
        for set in sets.iter() {
            if locked.insert(&set.found.name) {
                locks.push(set.found.lock()?);
            }
        }
        let mut report = RestoreReport::default();
        let receipts = match requests.first().map(|request| &request.onto) {
            Some(Onto::Directory(directory)) => {
                report.target = Some(directory.clone());
                self.parts_into(&parts_of(&sets), directory, progress)?
            }
            Some(Onto::Replica | Onto::Master) => self.sets_onto(&sets, &mut report, progress)?,
            None => Vec::new(),
        };
        // What was read was right, so only say it.
        for error in locks.iter().filter_map(|lock| lock.check().err()) {
            tracing::warn!(%error, "the lock on a repository was lost during a restore");
        }
        for (set, receipt) in sets.iter().zip(receipts) {
            let SessionName { id, repository } = set.name();
            report.sessions.push(RestoredSession {
                session: id.clone(),
                repository: repository.unwrap_or_default(),
                paths: set.request.paths.len() as u64,
                files: receipt.files,
                bytes: receipt.bytes,
                failed: receipt.failed,
            });
            let told = RestoreReport { session: id, receipt, ..RestoreReport::default() };
            self.tell_of(&told, &self.scenario_of(&set.found), progress);
            report.receipt.add(told.receipt);
        }
        report.elapsed = began.elapsed();
        Ok(report)
    }
}
