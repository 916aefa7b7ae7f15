//! Restoring sessions, and looking at them.
//!
//! What is restored into a directory touches no scenario; what is restored onto a replica or a master goes through the
//! scene of the scenario that the session was made of, one change of it at a time, like a rewind. The repository is locked
//! against those who remove as long as it is read.

mod copying;
mod directory;
mod query;
mod scene;
mod sets;
mod source;
mod target;

use super::Host;
use super::scene::Scene;
use crate::engine::{
    Change, CopyReport, CopyRequest, Each, EngineError, EngineResult, FilesQuery, Onto, Progress,
    RestoreMeaning, RestorePlan, RestoreReport, RestoreRequest, RestoreSource, Restores, RewindRequest,
    Session, SessionEntry, SessionName, SessionVerifyReport,
};
use crate::vault::{Found, is_at_or_below, no_such_session, repository_error, restore_error};
use journal::RootNo;
use restore::session::{self, IfExists, Options, Outcome, Planned, Totals};
use scene::with_origin;
use snapshot::repository::Step;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wire::codes;

/// Progress of a job, as a restore reports it.
pub(super) struct Watch<'p>(pub &'p dyn Progress);

impl session::Monitor for Watch<'_> {
    fn progress(&self, progress: session::Progress) {
        let session::Progress { files, files_total, bytes, bytes_total } = progress;
        let known = |total: u64| (total > 0).then_some(total);
        match bytes {
            0 => self.0.report("restore", files, known(files_total), "objects"),
            bytes => self.0.report("restore", bytes, known(bytes_total), "bytes"),
        }
    }

    fn cancelled(&self) -> bool {
        self.0.interrupted().is_some()
    }
}

pub(super) fn bytes_of(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
}

fn options(request: &RestoreRequest, found: &Found) -> Options {
    Options {
        missed: found.record.missed(),
        if_exists: request.if_exists(),
        owner: request.owner,
        sparse: request.sparse,
        delete: request.delete,
        verify: request.verify,
        threads: std::thread::available_parallelism().map_or(2, usize::from).max(2),
        ..Options::default()
    }
}

fn path_of(path: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(path))
}

impl Host {
    fn found(&self, source: &RestoreSource) -> EngineResult<Found> {
        match source {
            RestoreSource::Session(name) => self.context.vault.find(name),
            RestoreSource::Tree { .. } | RestoreSource::Point { .. } => Err(no_such_session("of that kind")),
        }
    }

    /// The scene whose tree a session is of, and the root.
    fn scene_of_session(&self, found: &Found) -> EngineResult<(Arc<Scene>, RootNo, Vec<u8>)> {
        let entity = found.entity();
        let list = self.context.registry.list();
        // A session that was found on tape is of no scenario that is known by number.
        let own = found.made.as_ref().map(|made| made.scenario).filter(|id| *id != 0);
        let entry = list.iter().find(|entry| match own {
            Some(id) => entry.id == id,
            None => entry.definition.roots.iter().any(|root| root.master.as_os_str().as_bytes() == entity),
        });
        let no_scenario = |why: String| {
            EngineError::new(&codes::NO_SUCH_SCENARIO, why)
                .advise("Restore into a directory: `--onto DIR` needs no scenario.")
        };
        let entry = entry.ok_or_else(|| {
            no_scenario(format!("the scenario \"{}\" of the session is not there any more", found.scenario()))
        })?;
        let roots = &entry.definition.roots;
        let root = roots.iter().position(|root| root.master.as_os_str().as_bytes() == entity);
        let root = root.ok_or_else(|| {
            let path = String::from_utf8_lossy(&entity).into_owned();
            no_scenario(format!("scenario \"{}\" no longer protects {path}", entry.definition.name))
        })?;
        Ok((self.scene(&entry.definition.name)?, RootNo(root as u16), entity))
    }

    fn scenario_of(&self, found: &Found) -> String {
        let known = |id| self.context.registry.list().into_iter().find(|entry| entry.id == id);
        found
            .made
            .as_ref()
            .and_then(|made| known(made.scenario))
            .map_or_else(String::new, |e| e.definition.name)
    }

    fn restore_into(
        &self,
        found: &Found,
        request: &RestoreRequest,
        directory: &Path,
        progress: &dyn Progress,
    ) -> EngineResult<RestoreReport> {
        let mut receipts = self.parts_into(&[(request, found)], directory, progress)?;
        let receipt = receipts.pop().unwrap_or_default();
        let target = Some(directory.to_owned());
        Ok(RestoreReport { receipt, target, ..RestoreReport::default() })
    }

    /// A point of the journal into a directory: what a rewind there does.
    fn restore_point(
        &self,
        request: &RestoreRequest,
        progress: &dyn Progress,
    ) -> EngineResult<RestoreReport> {
        let rewind = self.as_rewind(request)?;
        let report = crate::engine::Engine::rewind(self, &rewind, progress)?;
        let mut receipt = session::Receipt {
            files: report.files_changed,
            bytes_written: report.bytes_written,
            failed: report.skipped_count,
            ..session::Receipt::default()
        };
        receipt.failures.extend(report.skipped.into_iter().map(|skipped| session::Listed {
            path: skipped.path.into_os_string().into_vec(),
            what: skipped.what,
            reason: skipped.error,
            errno: None,
        }));
        let target = match &request.onto {
            Onto::Directory(directory) => Some(directory.clone()),
            _ => None,
        };
        Ok(RestoreReport { receipt, target, ..RestoreReport::default() })
    }

    fn as_rewind(&self, request: &RestoreRequest) -> EngineResult<RewindRequest> {
        let RestoreSource::Point { scenario, at } = &request.source else {
            return Err(no_such_session("of that kind"));
        };
        let Onto::Directory(directory) = &request.onto else {
            let message = "a point of the journal is restored into a directory only";
            return Err(EngineError::new(&codes::NOT_AVAILABLE, message).advise(format!(
                "To put back a path in place:  restorectl rewind {scenario} --to {at} --path PATH"
            )));
        };
        let plain =
            matches!(request.if_exists, None | Some(IfExists::Fail)) && !request.delete && !request.verify;
        if !plain || request.owner != session::Owner::Keep {
            let message =
                "a point of the journal is restored into an empty directory, without further options";
            return Err(EngineError::new(&codes::NOT_AVAILABLE, message));
        }
        self.check_target(directory)?;
        let onto = self.place_of(scenario, directory, &request.paths)?;
        Ok(RewindRequest {
            scenario: scenario.clone(),
            to: at.clone(),
            onto: Onto::Directory(onto),
            paths: request.paths.clone(),
            again: request.again,
        })
    }
}

impl Host {
    /// Where an extraction has to write so that a path comes out below its full path on the master: a root alone becomes
    /// the directory itself, one of several a directory in it.
    fn place_of(&self, scenario: &str, directory: &Path, paths: &[PathBuf]) -> EngineResult<PathBuf> {
        let roots = self.context.registry.get(scenario)?.definition.roots;
        let below = |path: &Path| directory.join(path.strip_prefix("/").unwrap_or(path));
        if let [only] = roots.as_slice() {
            return Ok(below(&only.master));
        }
        let wanted = paths.first().map_or_else(|| Path::new("/"), PathBuf::as_path);
        let root = roots.iter().find(|root| wanted.starts_with(&root.master)).ok_or_else(|| {
            let message = format!("{} is not below a root of scenario \"{scenario}\"", wanted.display());
            EngineError::new(&codes::NO_SUCH_PATH, message)
        })?;
        let same = roots.iter().filter(|other| other.master.file_name() == root.master.file_name()).count();
        match root.master.parent() {
            Some(above) if same == 1 => Ok(below(above)),
            _ => Err(EngineError::new(&codes::NOT_AVAILABLE, "two roots have the same last name").advise(
                "Extract the point with `restorectl rewind SCENARIO --to POINT --path PATH --onto DIR`.",
            )),
        }
    }
}

/// Whether a session holds a path.
fn holds(found: &Found, path: &[u8]) -> EngineResult<bool> {
    let mut held = path.iter().all(|byte| *byte == b'/');
    found
        .repository
        .walk(&found.record.tree, &mut |at, _| {
            let at = [b"/", at].concat();
            if is_at_or_below(path, &at) {
                held |= path.strip_suffix(b"/").unwrap_or(path) == at;
                return if held { Step::Stop } else { Step::Into };
            }
            Step::Over
        })
        .map_err(|error| repository_error("look for the path in the session", error))?;
    Ok(held)
}

fn give<'a>(
    each: &'a mut (dyn FnMut(Change) -> std::ops::ControlFlow<()> + Send),
    plan: &'a mut RestorePlan,
) -> impl FnMut(Planned) + 'a {
    let mut listening = true;
    move |planned: Planned| {
        let kind = crate::point_filter::kind_of(planned.kind);
        let change = Change { kind, path: path_of(planned.path), from: None, bytes: planned.bytes };
        plan.counts.add(&change);
        listening = listening && each(change).is_continue();
    }
}

fn sums(plan: &mut RestorePlan, totals: Totals) {
    plan.skipped = totals.skipped;
    plan.conflicts = totals.conflicts;
    plan.first_conflicts = totals.first_conflicts;
    plan.failed = totals.failed;
    plan.failures = totals.failures;
    plan.resumed = totals.resumed;
}

impl Host {
    /// What a restore of a session would do, added to the plan; `began`: it is part of one that did.
    fn plan_session(
        &self,
        request: &RestoreRequest,
        (found, began): (&Found, bool),
        progress: &dyn Progress,
        plan: &mut RestorePlan,
        each: Each<'_, Change>,
    ) -> EngineResult<()> {
        let watch = Watch(progress);
        let paths = bytes_of(&request.paths);
        let (repository, tree) = (&*found.repository, found.record.tree);
        let failed = |error| restore_error(progress.interrupted(), error);
        if let Onto::Directory(directory) = &request.onto {
            let options = Options { began, ..options(request, found) };
            let wanted = (paths.as_slice(), directory.as_path(), options);
            let totals = session::plan_listed(repository, tree, wanted, &watch, &mut give(each, plan))
                .map_err(failed)?
                .totals;
            sums(plan, totals);
            return Ok(());
        }
        let (scene, root, entity) = self.scene_of_session(found)?;
        let replica = scene.replica()?;
        let onto = session::Onto::new(repository, tree, (&entity, root), &paths, options(request, found));
        let onto = with_origin(onto.map_err(failed)?, found, &replica);
        let then = onto.made_at().and_then(|lsn| replica.view(lsn).ok());
        let view = if request.onto == Onto::Master {
            plan.warnings.push("the master's own files are changed; replication goes on".to_owned());
            scene.view_of_master(&replica)?
        } else {
            scene.check_stoppable(&replica, request.continue_if_not_stopped)?;
            if replica.status().detached.is_none() {
                let text = "the replica stops following the master until `scenario resume`";
                plan.warnings.push(text.to_owned());
            }
            replica.view(replica.journal().applied())?
        };
        let listed = onto.list(&view, then.as_deref(), &watch, &mut give(each, plan));
        let totals = listed.map_err(failed)?;
        sums(plan, totals);
        Ok(())
    }
}

impl Restores for Host {
    fn mean_restore(&self, request: &RestoreRequest) -> EngineResult<RestoreMeaning> {
        let found = match &request.source {
            RestoreSource::Session(name) => self.context.vault.find(name)?,
            RestoreSource::Tree { scenario } => {
                let path = request.paths.first().map_or_else(|| Path::new("/"), PathBuf::as_path);
                self.holding(path, scenario.as_deref())?
            }
            RestoreSource::Point { scenario, at } => {
                let at = crate::points::PointSpec::Lsn(self.scene(scenario)?.resolve(at)?.lsn);
                let source = RestoreSource::Point { scenario: scenario.clone(), at };
                self.as_rewind(&RestoreRequest { source: source.clone(), ..request.clone() })?;
                return Ok(RestoreMeaning { source, scenario: scenario.clone() });
            }
        };
        if let Some((lacks, which)) = self.lacking(&found).filter(|_| request.delete) {
            let message = format!("session {}: {lacks}", found.id.short());
            let action = format!("Restore without `--delete`, or from a complete session: {which}.");
            return Err(EngineError::new(&codes::SESSION_LACKS, message).advise(action));
        }
        for path in &request.paths {
            if !holds(&found, path.as_os_str().as_bytes())? {
                let message = format!("session {} does not hold {}", found.id.short(), path.display());
                return Err(EngineError::new(&codes::NO_SUCH_PATH, message));
            }
        }
        let scenario = match &request.onto {
            Onto::Directory(directory) => {
                self.check_target(directory)?;
                self.scenario_of(&found)
            }
            Onto::Replica | Onto::Master => self.scene_of_session(&found)?.0.name().to_owned(),
        };
        let name = SessionName { id: found.id.to_string(), repository: Some(found.name.clone()) };
        Ok(RestoreMeaning { source: RestoreSource::Session(name), scenario })
    }

    fn plan_restore(
        &self,
        request: &RestoreRequest,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RestorePlan> {
        let meaning = self.mean_restore(request)?;
        if let RestoreSource::Point { .. } = &meaning.source {
            let rewind = self.as_rewind(&RestoreRequest { source: meaning.source, ..request.clone() })?;
            let plan = crate::engine::Engine::plan_rewind(self, &rewind, progress, each)?;
            let (counts, warnings) = (plan.counts, plan.warnings);
            return Ok(RestorePlan {
                scenario: meaning.scenario,
                counts,
                warnings,
                ..RestorePlan::default()
            });
        }
        let found = self.found(&meaning.source)?;
        let from_tape = self.recalled_to_plan(&found, request, progress)?;
        let found = from_tape.as_ref().map_or(&found, |from_tape| &from_tape.found);
        let _lock = found.lock()?;
        let mut plan = RestorePlan {
            session: found.id.to_string(),
            scenario: meaning.scenario,
            ..RestorePlan::default()
        };
        plan.warnings.extend(self.lacking(found).map(|(lacks, which)| format!("{lacks}; {which}")));
        self.plan_session(request, (found, false), progress, &mut plan, each)?;
        Ok(plan)
    }

    fn restore(&self, request: &RestoreRequest, progress: &dyn Progress) -> EngineResult<RestoreReport> {
        let began = Instant::now();
        if let RestoreSource::Point { .. } = &request.source {
            return Ok(RestoreReport { elapsed: began.elapsed(), ..self.restore_point(request, progress)? });
        }
        let meaning = self.mean_restore(request)?;
        let found = self.found(&meaning.source)?;
        let from_tape = self.recalled(&found, &bytes_of(&request.paths), progress)?;
        let found = from_tape.as_ref().map_or(&found, |from_tape| &from_tape.found);
        let lock = found.lock()?;
        let mut report = match &request.onto {
            Onto::Directory(directory) => self.restore_into(found, request, directory, progress)?,
            Onto::Replica | Onto::Master => {
                let (scene, root, entity) = self.scene_of_session(found)?;
                let paths = bytes_of(&request.paths);
                let onto = session::Onto::new(
                    &found.repository,
                    found.record.tree,
                    (&entity, root),
                    &paths,
                    options(request, found),
                )
                .map_err(|error| restore_error(progress.interrupted(), error))?;
                let onto = with_origin(onto, found, &*scene.replica()?);
                let onto = if request.again { onto.again() } else { onto };
                scene.restore_onto(&onto, request, progress)?
            }
        };
        // Somebody may have removed what was read after a lock that was lost; what was read was right, so only say it.
        if let Err(error) = lock.check() {
            tracing::warn!(%error, "the lock on the repository was lost during a restore");
        }
        let said = report.receipt.warnings.iter_mut().find(|listed| listed.what == session::LACKING);
        if let (Some((_, which)), Some(listed)) = (self.lacking(found), said) {
            listed.reason = format!("{}; {which}", listed.reason);
        }
        report.session = found.id.to_string();
        report.elapsed = began.elapsed();
        self.tell_of(&report, &meaning.scenario, progress);
        Ok(report)
    }

    fn show_session(&self, session: &SessionName) -> EngineResult<Session> {
        self.context.vault.show(session)
    }

    fn session_files(
        &self,
        query: &FilesQuery,
        progress: &dyn Progress,
        each: Each<'_, SessionEntry>,
    ) -> EngineResult<()> {
        let found = self.context.vault.find(&query.session)?;
        let _lock = found.lock()?;
        let wanted = query.path.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default();
        let mut left = query.limit.unwrap_or(u64::MAX);
        let mut any = false;
        found
            .repository
            .walk(&found.record.tree, &mut |at, node| {
                let path = [b"/", at].concat();
                if progress.interrupted().is_some() || left == 0 {
                    return Step::Stop;
                }
                if !is_at_or_below(&path, &wanted) {
                    return if is_at_or_below(&wanted, &path) { Step::Into } else { Step::Over };
                }
                any = true;
                left -= 1;
                if each(SessionEntry { path, node }).is_break() { Step::Stop } else { Step::Into }
            })
            .map_err(|error| repository_error("read the session", error))?;
        if any || wanted.is_empty() {
            return Ok(());
        }
        let message = format!("session {} does not hold {}", found.id.short(), path_of(wanted).display());
        Err(EngineError::new(&codes::NO_SUCH_PATH, message))
    }

    fn verify_session(
        &self,
        session: &SessionName,
        progress: &dyn Progress,
    ) -> EngineResult<SessionVerifyReport> {
        let began = Instant::now();
        let found = self.context.vault.find(session)?;
        if let Some(report) = self.verify_on_tape(&found, progress)? {
            return Ok(report);
        }
        let _lock = found.lock()?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let at = crate::points::wall_clock();
        let verified = session::verify(&found.repository, found.record.tree, threads, &Watch(progress))
            .map_err(|error| restore_error(progress.interrupted(), error))?;
        if verified.damaged == 0 {
            let (number, _) = self.context.vault.get(&found.name)?;
            self.context.vault.verified(number, at, &[found.id])?;
        }
        Ok(SessionVerifyReport {
            session: found.id.to_string(),
            repository: found.name.clone(),
            found: verified,
            elapsed: began.elapsed(),
        })
    }

    fn copy_session(&self, request: &CopyRequest, progress: &dyn Progress) -> EngineResult<CopyReport> {
        self.copy_to(request, progress)
    }
}

impl Host {
    fn tell_of(&self, report: &RestoreReport, scenario: &str, progress: &dyn Progress) {
        use crate::engine::Level;
        let receipt = &report.receipt;
        let short: String = report.session.chars().take(8).collect();
        let text = format!(
            "session {short} was restored: {} files, {} bytes written, {} skipped, {} failed",
            receipt.files, receipt.bytes_written, receipt.skipped, receipt.failed
        );
        let level = if receipt.outcome() == Outcome::Done { Level::Info } else { Level::Warning };
        self.context.activity.write(level, scenario, None, &text);
        for listed in receipt.failures.iter().chain(&receipt.warnings) {
            let path = String::from_utf8_lossy(&listed.path).into_owned();
            progress.note(Level::Warning, &format!("{path}: {}: {}", listed.what, listed.reason));
        }
    }
}
