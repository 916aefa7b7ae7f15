//! From the stored request of a job to the engine, and from its report to the result.

use super::journal::rewind_from_wire;
use super::repositories::{check_from_wire, forget_from_wire, prune_from_wire};
use super::restore_queries as queries;
use super::restores::restore_from_wire;
use super::sessions::{backup_from_wire, copy_from_wire};
use crate::convert::{check_to_wire, scrub_from_wire, scrub_to_wire, sync_mode_from_wire};
use crate::engine::{Engine, EngineError, Progress, RunOptions, SessionName, TablesVerified, VerifyReport};
use crate::jobs::{Ended, Runner};
use prost::Message;
use std::sync::Arc;
use wire::codes;
use wire::v1::result::Report;
use wire::v1::{self, JobKind, Outcome};

/// Runs jobs on an engine.
pub struct EngineRunner(pub Arc<dyn Engine>);

/// A request that was journaled by this or an older version.
fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, EngineError> {
    M::decode(bytes).map_err(|error| {
        EngineError::new(&codes::DAMAGED, "the request of a job does not decode").caused_by(error)
    })
}

/// What is wrong if the tables are not what the segments say.
fn tables_differ(scenario: &str, report: &VerifyReport) -> Option<EngineError> {
    let TablesVerified::Compared(tables) = &report.tables else { return None };
    let first = tables.differences.first()?;
    let message = format!(
        "{} rows of the tables of scenario \"{scenario}\" are not what the segments say: {} {}: {}",
        tables.differing, first.table, first.key, first.what
    );
    Some(EngineError::new(&codes::TABLES_DIFFER, message))
}

fn ended(report: Report, skipped: u64) -> Ended {
    let outcome = if skipped > 0 { Outcome::Incomplete } else { Outcome::Succeeded };
    Ended { outcome, result: v1::Result { report: Some(report) }, error: None }
}

/// The end of a job that looks for damage.
fn found(report: Report, damage: Option<EngineError>) -> Ended {
    let outcome = if damage.is_some() { Outcome::Failed } else { Outcome::Succeeded };
    Ended { outcome, error: damage, ..ended(report, 0) }
}

impl EngineRunner {
    /// Jobs of repositories.
    fn look_after(
        &self,
        kind: JobKind,
        request: &[u8],
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        match kind {
            JobKind::RepositoryCheck => {
                let request = check_from_wire(decode(request)?)?;
                let (report, elapsed) = self.0.check_repository(&request, progress)?;
                let damage = report.damage.first().map(|first| {
                    let message = format!(
                        "repository \"{}\" is damaged ({} found): {}: {}",
                        request.repository, report.damage_count, first.object, first.what
                    );
                    EngineError::new(&codes::REPOSITORY_DAMAGED, message)
                });
                Ok(found(Report::Check(check_to_wire(report, elapsed)), damage))
            }
            JobKind::RepositoryPrune => {
                let request = prune_from_wire(decode(request)?)?;
                let pruned = self.0.prune(&request, progress)?;
                let damage = pruned.report.damaged.first().map(|first| {
                    let message =
                        format!("repository \"{}\" was pruned, and is damaged: {first}", request.repository);
                    EngineError::new(&codes::REPOSITORY_DAMAGED, message)
                });
                Ok(found(Report::Prune(pruned.into()), damage))
            }
            _ => {
                let request = forget_from_wire(decode(request)?)?;
                Ok(ended(Report::Forget(self.0.forget(&request, progress)?.into()), 0))
            }
        }
    }
}

impl EngineRunner {
    fn restore(
        &self,
        request: v1::RestoreRequest,
        again: bool,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        let restores = self.0.restores()?;
        let found = request.found.clone().unwrap_or_default();
        let report = if request.query.is_some() {
            let requests = queries::requests(&request, &queries::remembered(&found)?, again)?;
            restores.restore_sets(&requests, progress)?
        } else {
            restores.restore(&restore_from_wire(request, again)?, progress)?
        };
        let outcome = report.receipt.outcome();
        let left = u64::from(outcome == restore::session::Outcome::Incomplete) + found.left_out;
        let v1::RestoreQueryFound { left_out, left_out_first, .. } = found;
        let report = v1::RestoreReport { left_out, left_out_first, ..report.into() };
        let ended = ended(Report::Restore(report), left);
        let message = "what was restored is not what the session holds";
        let differs = outcome == restore::session::Outcome::VerificationFailed;
        Ok(if differs { failed_verification(ended, message) } else { ended })
    }

    fn verify_session(
        &self,
        request: v1::VerifySessionRequest,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        let repository = (!request.repository.is_empty()).then_some(request.repository);
        let name = SessionName { id: request.id, repository };
        let report = self.0.restores()?.verify_session(&name, progress)?;
        let damaged = report.found.damaged;
        let ended = ended(Report::SessionVerify(report.into()), 0);
        let message = format!("{damaged} objects of the session cannot be restored");
        Ok(if damaged > 0 { failed_verification(ended, message) } else { ended })
    }
}

impl EngineRunner {
    fn copy_session(
        &self,
        request: v1::CopySessionRequest,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        let report = self.0.restores()?.copy_session(&copy_from_wire(request), progress)?;
        let missed = report.copied.missed();
        Ok(ended(Report::SessionCopy(report.into()), missed))
    }
}

impl EngineRunner {
    fn scrub(&self, request: v1::ScrubRequest, progress: &dyn Progress) -> Result<Ended, EngineError> {
        let name = request.name.clone();
        let report = self.0.scrub(&scrub_from_wire(request)?, progress)?;
        let (found, repaired, passed) = (report.found, report.repaired, report.sums.passed);
        let ended = ended(Report::Scrub(scrub_to_wire(report)), passed);
        if found == 0 {
            return Ok(ended);
        }
        let message =
            format!("master and replica of scenario \"{name}\" differ: found {found}, repaired {repaired}");
        let error = Some(EngineError::new(&codes::SCRUB_DIFFERS, message));
        Ok(Ended { outcome: Outcome::Failed, error, ..ended })
    }
}

fn failed_verification(ended: Ended, message: impl Into<String>) -> Ended {
    let error = Some(EngineError::new(&codes::VERIFICATION_FAILED, message));
    Ended { outcome: Outcome::Failed, error, ..ended }
}

impl EngineRunner {
    fn catalog_rebuild(
        &self,
        request: &v1::CatalogRebuildRequest,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        let repository = (!request.repository.is_empty()).then_some(request.repository.as_str());
        let report = self.0.finder()?.rebuild(repository, progress)?;
        let failed = report.failed.len() as u64;
        Ok(ended(Report::CatalogRebuild(report.into()), failed))
    }
}

impl Runner for EngineRunner {
    fn run(
        &self,
        kind: JobKind,
        request: &[u8],
        again: bool,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError> {
        match kind {
            JobKind::Run => {
                let request: v1::RunRequest = decode(request)?;
                let options = RunOptions {
                    sync: sync_mode_from_wire(request.sync()),
                    ignore_same: request.ignore_same.unwrap_or(true),
                    skip_sync: request.skip_sync,
                };
                let report = self.0.run(&request.name, &options, progress)?;
                let skipped = report.skipped_count;
                Ok(ended(Report::Run(report.into()), skipped))
            }
            JobKind::Resume => {
                let request: v1::ResumeRequest = decode(request)?;
                Ok(ended(Report::Resume(self.0.resume(&request.name, progress)?.into()), 0))
            }
            JobKind::Rewind => {
                let request = rewind_from_wire(decode(request)?, again)?;
                let report = self.0.rewind(&request, progress)?;
                let skipped = report.skipped_count;
                Ok(ended(Report::Rewind(report.into()), skipped))
            }
            JobKind::JournalVerify => {
                let request: v1::JournalJobRequest = decode(request)?;
                let report = self.0.journal_verify(&request.scenario, progress)?;
                let differs = tables_differ(&request.scenario, &report);
                let damage = report.damage.first().map(|first| {
                    let message = format!(
                        "the journal of scenario \"{}\" is damaged: {} at offset {}: {}",
                        request.scenario,
                        first.file.display(),
                        first.offset,
                        first.what
                    );
                    EngineError::new(&codes::DAMAGED, message)
                });
                Ok(found(Report::Verify(report.into()), damage.or(differs)))
            }
            JobKind::JournalRebuild => {
                let request: v1::JournalJobRequest = decode(request)?;
                Ok(ended(Report::Rebuild(self.0.journal_rebuild(&request.scenario, progress)?.into()), 0))
            }
            JobKind::Backup => {
                let request = backup_from_wire(decode(request)?, again)?;
                let report = self.0.backup(&request, progress)?;
                let missed = report.sessions.iter().map(|session| session.missed).sum();
                Ok(ended(Report::Backup(report.into()), missed))
            }
            JobKind::RepositoryCheck | JobKind::RepositoryPrune | JobKind::RepositoryForget => {
                self.look_after(kind, request, progress)
            }
            JobKind::Restore => self.restore(decode(request)?, again, progress),
            JobKind::SessionVerify => self.verify_session(decode(request)?, progress),
            JobKind::SessionCopy => self.copy_session(decode(request)?, progress),
            JobKind::CatalogRebuild => self.catalog_rebuild(&decode(request)?, progress),
            JobKind::Scrub => self.scrub(decode(request)?, progress),
            JobKind::Unspecified => {
                Err(EngineError::new(&codes::NEWER_FORMAT, "a job is of a kind this version does not know"))
            }
        }
    }
}
