//! Scenarios: definition, state, barrier.

use super::{Shared, Stream, timeout};
use crate::auth::Peer;
use crate::convert::{definition_from_wire, settings_from_wire, stage_from_wire};
use crate::engine::{EngineError, EngineResult, FlushRequest, Level};
use crate::jobs::{JobFilter, JobId, Submission};
use prost::Message;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};
use wire::codes;
use wire::v1::scenarios_server::Scenarios;
use wire::v1::{self, JobKind, JobState, ScenarioRef};

/// How long `stop` waits for the end of a job that starts the scenario.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(120);

fn has_commands(hooks: &v1::Hooks) -> bool {
    [&hooks.quiesce, &hooks.thaw, &hooks.stop, &hooks.start].iter().any(|command| !command.is_empty())
}

/// The service.
#[derive(Clone)]
pub struct ScenariosService(pub Shared);

#[tonic::async_trait]
impl Scenarios for ScenariosService {
    type ListStream = Stream<v1::Scenario>;

    async fn create(
        &self,
        request: Request<v1::CreateScenarioRequest>,
    ) -> Result<Response<v1::Scenario>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let definition = request.into_inner().definition.unwrap_or_default();
        if definition.hooks.as_ref().is_some_and(has_commands) {
            self.0.permit_hooks(peer.as_ref())?;
        }
        let created = self.0.call(move |shared| {
            let scenario = shared.engine.create(definition_from_wire(definition)?)?;
            shared.activity.write(Level::Info, &scenario.definition.name, None, "scenario was created");
            Ok(scenario)
        });
        Ok(Response::new(created.await?.into()))
    }

    async fn list(&self, _: Request<v1::ListScenariosRequest>) -> Result<Response<Self::ListStream>, Status> {
        let stream = self.0.stream(|shared, answers| {
            for scenario in shared.engine.list()? {
                if answers.send(scenario).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn show(&self, request: Request<ScenarioRef>) -> Result<Response<v1::Scenario>, Status> {
        let name = request.into_inner().name;
        let scenario = self.0.call(move |shared| shared.engine.show(&name)).await?;
        Ok(Response::new(scenario.into()))
    }

    async fn delete(
        &self,
        request: Request<ScenarioRef>,
    ) -> Result<Response<v1::DeleteScenarioResponse>, Status> {
        let name = request.into_inner().name;
        let report = self.0.call(move |shared| {
            no_backup(shared, &name)?;
            let report = shared.engine.delete(&name)?;
            shared.activity.write(Level::Info, &name, None, "scenario was deleted");
            Ok(report)
        });
        Ok(Response::new(v1::DeleteScenarioResponse { journal_bytes: report.await?.journal_bytes }))
    }

    async fn set(&self, request: Request<v1::SetScenarioRequest>) -> Result<Response<v1::Scenario>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let request = request.into_inner();
        if request.settings.iter().any(|setting| setting.key == "hook") {
            self.0.permit_hooks(peer.as_ref())?;
        }
        let scenario = self.0.call(move |shared| {
            let settings = settings_from_wire(request.settings);
            // The scenario is opened anew with the settings.
            no_backup(shared, &request.name)?;
            let scenario = shared.engine.set(&request.name, &settings)?;
            for setting in &settings {
                let text = format!("{} was set to {}", setting.key, setting.value);
                shared.activity.write(Level::Info, &request.name, None, &text);
            }
            Ok(scenario)
        });
        Ok(Response::new(scenario.await?.into()))
    }

    async fn verify(&self, request: Request<ScenarioRef>) -> Result<Response<v1::Preflight>, Status> {
        let name = request.into_inner().name;
        let findings = self.0.call(move |shared| shared.engine.verify(&name)).await?;
        let passed = findings.iter().all(|finding| finding.level != Level::Error);
        let findings = findings.into_iter().map(v1::Finding::from).collect();
        Ok(Response::new(v1::Preflight { findings, passed }))
    }

    async fn run(&self, request: Request<v1::RunRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let submission = Submission {
            kind: JobKind::Run,
            scenario: request.name.clone(),
            exclusive: true,
            request: request.encode_to_vec(),
            idempotency_key,
        };
        self.0.submit(submission).await
    }

    async fn scrub(&self, request: Request<v1::ScrubRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let submission = Submission {
            kind: JobKind::Scrub,
            scenario: request.name.clone(),
            // It gives way to whatever changes the scenario, and refuses a second one itself.
            exclusive: false,
            request: request.encode_to_vec(),
            idempotency_key,
        };
        self.0.submit(submission).await
    }

    async fn stop(&self, request: Request<ScenarioRef>) -> Result<Response<v1::Status>, Status> {
        let name = request.into_inner().name;
        let status = self.0.call(move |shared| {
            shared.engine.show(&name)?;
            cancel_starting(shared, &name)?;
            let status = shared.engine.stop(&name)?;
            shared.activity.write(Level::Info, &name, None, "scenario was stopped");
            Ok(status)
        });
        Ok(Response::new(status.await?.into()))
    }

    async fn suspend(&self, request: Request<ScenarioRef>) -> Result<Response<v1::Status>, Status> {
        let name = request.into_inner().name;
        let status = self.0.call(move |shared| {
            let status = shared.engine.suspend(&name)?;
            shared.activity.write(Level::Info, &name, None, "scenario was suspended");
            Ok(status)
        });
        Ok(Response::new(status.await?.into()))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let submission = Submission {
            kind: JobKind::Resume,
            scenario: request.name.clone(),
            exclusive: true,
            request: request.encode_to_vec(),
            idempotency_key,
        };
        self.0.submit(submission).await
    }

    async fn get_status(&self, request: Request<ScenarioRef>) -> Result<Response<v1::Status>, Status> {
        let name = request.into_inner().name;
        let (status, archive) = self
            .0
            .call(move |shared| Ok((shared.engine.status(&name)?, shared.engine.archive_status(&name)?)))
            .await?;
        let archive = archive.map(v1::ArchiveStatus::from);
        Ok(Response::new(v1::Status { archive, ..status.into() }))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushResponse>, Status> {
        let request = request.into_inner();
        let wanted = FlushRequest {
            stage: stage_from_wire(request.stage()),
            consistent: request.consistent,
            timeout: timeout(request.timeout)?,
        };
        let flushed = self.0.call(move |shared| shared.engine.flush(&request.name, &wanted)).await?;
        Ok(Response::new(flushed.into()))
    }
}

/// A backup or a restore uses the tables and the journal that a deletion removes. None begins in between: for it the scenario has to
/// be opened, and a scenario that is going cannot be.
fn no_backup(shared: &Shared, scenario: &str) -> EngineResult<()> {
    let filter = JobFilter { scenario: Some(scenario.to_owned()), ..JobFilter::default() };
    let jobs = shared.jobs.list(&filter)?;
    let running = |job: &&v1::Job| {
        matches!(job.kind(), JobKind::Backup | JobKind::Restore) && job.state() != JobState::Done
    };
    match jobs.iter().find(running) {
        None => Ok(()),
        Some(job) => {
            let message = format!("job {} ({}) uses scenario \"{scenario}\"", job.id, job.kind().word());
            Err(EngineError::new(&codes::BUSY, message).advise(format!(
                "Wait for it or cancel it (`restorectl job cancel {}`), then try again.",
                job.id
            )))
        }
    }
}

/// A scenario that is being started is stopped by cancelling the start. Other jobs are left alone: if one is in the
/// way, the engine says so.
fn cancel_starting(shared: &Shared, scenario: &str) -> EngineResult<()> {
    let deadline = Instant::now() + CANCEL_TIMEOUT;
    let filter = JobFilter { scenario: Some(scenario.to_owned()), ..JobFilter::default() };
    for job in shared.jobs.list(&filter)? {
        let starts = matches!(job.kind(), JobKind::Run | JobKind::Resume);
        let Some(id) = job.id.parse().ok().map(JobId).filter(|_| starts && job.state() != JobState::Done)
        else {
            continue;
        };
        shared.jobs.cancel(id)?;
        while shared.jobs.show(id)?.state() != JobState::Done {
            if Instant::now() >= deadline {
                return Err(EngineError::new(&codes::CANNOT_STOP, format!("job {} does not end", id.0)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
