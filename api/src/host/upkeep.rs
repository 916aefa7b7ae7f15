//! Looking after repositories: the locks, what the server journal is told, and when packs were verified.
//!
//! When each pack was last read is kept in `DIR/projections/verified/ID`: it grows with the repository, changes with every
//! check, and who loses it loses no more than the order in which packs are read. That a check ended, and what it found,
//! is a record of the server journal.
//!
//! After each piece of work the sessions that this daemon remembers are compared with those that are there; those that
//! are gone are journaled as forgotten, whoever removed them, so that `session list` shows what can be restored. That makes
//! a forget that was cut off between store and journal right by the next one.

use super::Host;
use crate::engine::{
    CheckRequest, EngineError, EngineResult, ForgetReport, ForgetRequest, Level, Progress, PruneRequest,
    Pruned, RepositoryStats, UnlockReport,
};
use crate::points::wall_clock;
use crate::records::RepositoryChecked;
use crate::store::make_private;
use crate::vault::upkeep_error;
use snapshot::repository::upkeep::Watch;
use snapshot::repository::upkeep::check::{CheckReport, check};
use snapshot::repository::upkeep::forget::{forget, plan_forget};
use snapshot::repository::upkeep::plan::PrunePlan;
use snapshot::repository::upkeep::policy::Group;
use snapshot::repository::upkeep::prune::{plan_prune, prune};
use snapshot::repository::upkeep::stats::stats;
use snapshot::repository::upkeep::verified::Verified;
use snapshot::repository::{Lock, LockOptions, Purpose, Repository, RepositoryError, lock};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;
use wire::units::format_size;

/// Progress of a job, as upkeep reports it.
pub(super) struct Reporter<'p>(pub &'p dyn Progress);

impl Watch for Reporter<'_> {
    fn progress(&self, phase: &'static str, done: u64, total: Option<u64>, unit: &'static str) {
        self.0.report(phase, done, total, unit);
    }

    fn cancelled(&self) -> bool {
        self.0.interrupted().is_some()
    }
}

/// A repository that is open and locked.
struct Held {
    number: u64,
    repository: Arc<Repository>,
    lock: Lock,
}

impl Host {
    fn hold(&self, name: &str, purpose: Purpose) -> EngineResult<Held> {
        let (number, repository) = self.context.vault.get(name)?;
        // Written first and looked for second; listings show what was written before.
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let lock = lock::acquire(&repository, purpose, options)
            .map_err(|error| upkeep_error("lock the repository", None, error))?;
        Ok(Held { number, repository, lock })
    }

    fn verified_path(&self, repository: &Repository) -> EngineResult<PathBuf> {
        let directory = self.context.options.data.join("projections").join("verified");
        make_private(&directory)?;
        Ok(directory.join(repository.config().id.to_string()))
    }

    fn load_verified(&self, repository: &Repository) -> EngineResult<Verified> {
        let path = self.verified_path(repository)?;
        Verified::load(&path).map_err(|error| EngineError::io("read", &path, error))
    }

    /// Forgets sessions that are no longer there.
    fn reconcile(&self, number: u64, repository: &Repository) -> EngineResult<()> {
        // First what is remembered: a session that is made meanwhile is in the list that is read then.
        let known = self.context.vault.sessions_in(number);
        let there =
            repository.list_sessions().map_err(|error| upkeep_error("list the sessions", None, error))?;
        let gone: Vec<_> = known.into_iter().filter(|id| there.binary_search(id).is_err()).collect();
        if !gone.is_empty() {
            // They leave the catalog too, soon.
            self.catalog.poke();
        }
        self.context.vault.forgotten(number, gone)
    }

    pub(super) fn repository_stats_of(
        &self,
        name: &str,
        progress: &dyn Progress,
    ) -> EngineResult<RepositoryStats> {
        let held = self.hold(name, Purpose::Read)?;
        let verified = self.load_verified(&held.repository)?;
        let stats = stats(&held.repository, &held.lock, &verified, &Reporter(progress))
            .map_err(|error| failed("read the repository", progress, error))?;
        Ok(RepositoryStats {
            repository: self.context.vault.describe(held.number)?,
            version: held.repository.config().version,
            stats,
            last_check: self
                .context
                .vault
                .last_check(held.number)
                .map(|checked| (checked.time.0.div_euclid(1_000_000_000), checked.damage_count)),
        })
    }

    pub(super) fn check_of(
        &self,
        request: &CheckRequest,
        progress: &dyn Progress,
    ) -> EngineResult<(CheckReport, Duration)> {
        let began = Instant::now();
        let held = self.hold(&request.repository, Purpose::Check)?;
        let mut verified = self.load_verified(&held.repository)?;
        let (at, known) = (wall_clock(), self.context.vault.sessions_in(held.number));
        let outcome = check(&held.repository, &held.lock, request.read, &mut verified, &Reporter(progress));
        // What was read before it was cut off was read.
        let path = self.verified_path(&held.repository)?;
        let saved = verified.save(&path);
        let report = outcome.map_err(|error| failed("check the repository", progress, error))?;
        saved.map_err(|error| EngineError::io("write", &path, error))?;
        self.context.vault.checked(RepositoryChecked {
            time: wall_clock(),
            repository: held.number,
            packs_read: report.packs_read,
            bytes_read: report.bytes_read,
            damage_count: report.damage_count,
        })?;
        if report.damage_count == 0 && report.packs_read == report.packs {
            self.context.vault.verified(held.number, at, &known)?;
        }
        self.reconcile(held.number, &held.repository)?;
        for damage in report.damage.iter().take(20) {
            progress.note(Level::Error, &format!("{} is damaged: {}", damage.object, damage.what));
        }
        Ok((report, began.elapsed()))
    }

    pub(super) fn plan_prune_of(
        &self,
        request: &PruneRequest,
        progress: &dyn Progress,
    ) -> EngineResult<PrunePlan> {
        let held = self.hold(&request.repository, Purpose::Read)?;
        plan_prune(&held.repository, &request.options, &Reporter(progress))
            .map_err(|error| failed("plan the prune", progress, error))
    }

    pub(super) fn prune_of(&self, request: &PruneRequest, progress: &dyn Progress) -> EngineResult<Pruned> {
        let began = Instant::now();
        let held = self.hold(&request.repository, Purpose::Prune)?;
        let report = prune(&held.repository, &held.lock, &request.options, &Reporter(progress))
            .map_err(|error| failed("prune the repository", progress, error))?;
        for damaged in &report.damaged {
            progress.note(Level::Error, damaged);
        }
        if report.clocks_differ {
            let text =
                "the clocks of this host and of the store differ by more than an hour: nothing was removed";
            progress.note(Level::Warning, text);
        }
        self.reconcile(held.number, &held.repository)?;
        let text = format!(
            "repository \"{}\" was pruned: {} packs ({}) removed, {} marked, {} written",
            request.repository,
            report.removed.packs,
            format_size(report.removed.bytes),
            report.plan.mark.packs + report.plan.repack.packs,
            report.written.packs
        );
        progress.note(Level::Info, &text);
        Ok(Pruned { report, elapsed: began.elapsed() })
    }

    pub(super) fn plan_forget_of(
        &self,
        request: &ForgetRequest,
        progress: &dyn Progress,
    ) -> EngineResult<Vec<Group>> {
        let (_, repository) = self.context.vault.get(&request.repository)?;
        plan_forget(&repository, &request.options, &Reporter(progress))
            .map_err(|error| failed("plan what is forgotten", progress, error))
    }

    pub(super) fn forget_of(
        &self,
        request: &ForgetRequest,
        progress: &dyn Progress,
    ) -> EngineResult<ForgetReport> {
        let began = Instant::now();
        let held = self.hold(&request.repository, Purpose::Forget)?;
        let watch = Reporter(progress);
        let groups = plan_forget(&held.repository, &request.options, &watch)
            .map_err(|error| failed("plan what is forgotten", progress, error))?;
        as_confirmed(request, &groups)?;
        let outcome = forget(&held.repository, &held.lock, &groups, &watch);
        // Whatever was removed is gone, also if the rest failed.
        self.reconcile(held.number, &held.repository)?;
        let forgotten = outcome.map_err(|error| failed("forget sessions", progress, error))?;
        let text =
            format!("{} sessions of repository \"{}\" were forgotten", forgotten.len(), request.repository);
        progress.note(Level::Info, &text);
        let kept = groups.iter().map(|group| group.keep.len() as u64).sum();
        Ok(ForgetReport { kept, forgotten, elapsed: began.elapsed() })
    }

    pub(super) fn unlock_of(&self, name: &str, all: bool) -> EngineResult<UnlockReport> {
        let (_, repository) = self.context.vault.get(name)?;
        let failed = |error| upkeep_error("remove locks", None, error);
        let removed = if all { lock::remove_all(&repository) } else { lock::remove_stale(&repository) };
        let removed = removed.map_err(failed)? as u64;
        let left = lock::list(&repository).map_err(failed)?;
        let left: Vec<String> = left.into_iter().map(|(_, record)| record.to_string()).collect();
        let text = format!("{removed} locks of repository \"{name}\" were removed, {} are left", left.len());
        let level = if all && removed > 0 { Level::Warning } else { Level::Info };
        self.context.activity.write(level, "", None, &text);
        Ok(UnlockReport { removed, left })
    }
}

/// Refuses a plan that would forget what nobody saw. Sessions that were shown and stay, or are gone already, are no harm.
fn as_confirmed(request: &ForgetRequest, groups: &[Group]) -> EngineResult<()> {
    let Some(confirmed) = &request.confirmed else { return Ok(()) };
    let mut planned = groups.iter().flat_map(|group| &group.forget);
    match planned.find(|session| !confirmed.contains(&session.id)) {
        None => Ok(()),
        Some(other) => {
            let text =
                format!("session {} would be forgotten now, and was not when it was confirmed", other.id);
            Err(EngineError::new(&codes::PLAN_CHANGED, text))
        }
    }
}

fn failed(operation: &'static str, progress: &dyn Progress, error: RepositoryError) -> EngineError {
    upkeep_error(operation, progress.interrupted(), error)
}

#[cfg(test)]
mod tests;
