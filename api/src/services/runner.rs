//! From the stored request of a job to the engine, and from its report to the result.

use super::journal::rewind_from_wire;
use super::sessions::backup_from_wire;
use crate::convert::sync_mode_from_wire;
use crate::engine::{Engine, EngineError, Progress, RunOptions};
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

fn ended(report: Report, skipped: u64) -> Ended {
    let outcome = if skipped > 0 { Outcome::Incomplete } else { Outcome::Succeeded };
    Ended { outcome, result: v1::Result { report: Some(report) }, error: None }
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
                let mut ended = ended(Report::Verify(report.into()), 0);
                if damage.is_some() {
                    ended.outcome = Outcome::Failed;
                    ended.error = damage;
                }
                Ok(ended)
            }
            JobKind::JournalRebuild => {
                let request: v1::JournalJobRequest = decode(request)?;
                Ok(ended(Report::Rebuild(self.0.journal_rebuild(&request.scenario, progress)?.into()), 0))
            }
            JobKind::Backup => {
                let request = backup_from_wire(decode(request)?)?;
                let report = self.0.backup(&request, progress)?;
                let missed = report.sessions.iter().map(|session| session.missed).sum();
                Ok(ended(Report::Backup(report.into()), missed))
            }
            JobKind::CatalogRebuild => self.catalog_rebuild(&decode(request)?, progress),
            JobKind::Unspecified => {
                Err(EngineError::new(&codes::NEWER_FORMAT, "a job is of a kind this version does not know"))
            }
        }
    }
}
