//! Backups and what they made.

use super::{Shared, Stream, timeout};
use crate::engine::{
    BackupRequest, EngineError, EngineResult, FlushRequest, SessionsQuery, SnapshotId, Stage,
};
use crate::jobs::Submission;
use crate::points::{PointSpec, TimeSpec};
use prost::Message;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::v1::sessions_server::Sessions;
use wire::v1::{self, JobKind};

/// The service.
#[derive(Clone)]
pub struct SessionsService(pub Shared);

/// A backup as the engine wants it, from its message.
///
/// # Errors
/// `BAD_POINT`.
pub fn backup_from_wire(request: v1::BackupRequest, again: bool) -> EngineResult<BackupRequest> {
    let snapshot = given(request.snapshot).map(|id| SnapshotId::wanted(&id)).transpose()?;
    let at = given(request.resolved).or_else(|| given(request.at));
    let at = at.map(|at| PointSpec::parse(&at)).transpose()?;
    Ok(BackupRequest { scenario: request.scenario, repository: request.repository, at, snapshot, again })
}

/// An empty text stands for nothing.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[tonic::async_trait]
impl Sessions for SessionsService {
    type ListStream = Stream<v1::Session>;

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        request.resolved.clear();
        let wanted = backup_from_wire(request.clone(), false)?;
        let timeout = timeout(request.timeout)?;
        if (wanted.at.is_some() || wanted.snapshot.is_some()) && request.consistent {
            let message = "a point that is past cannot be made consistent";
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message).into());
        }
        if wanted.at.is_some() && wanted.snapshot.is_some() {
            let message = "either a point or a snapshot can be stored, not both";
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message).into());
        }
        let job = self.0.call(move |shared| {
            // Here, not in the job: names that were mistyped should not become a failed job, and `-10m` means now what
            // it means now.
            let known = shared.engine.list_repositories()?;
            if !known.iter().any(|repository| repository.name == wanted.repository) {
                return Err(crate::vault::no_such_repository(&wanted.repository));
            }
            let mut submission = Submission {
                kind: JobKind::Backup,
                scenario: wanted.scenario.clone(),
                exclusive: true,
                request: request.encode_to_vec(),
                idempotency_key,
            };
            // Before the application is held still for nothing.
            if let Some(earlier) = shared.jobs.earlier(&submission)? {
                return Ok(earlier);
            }
            let at = if let Some(id) = wanted.snapshot {
                let snapshot = shared.engine.show_snapshot(id)?;
                if snapshot.scenario != wanted.scenario {
                    let message = format!("snapshot {id} is none of scenario \"{}\"", wanted.scenario);
                    return Err(EngineError::new(&codes::NO_SUCH_SNAPSHOT, message));
                }
                PointSpec::Lsn(snapshot.lsn)
            } else if request.consistent {
                let flush = FlushRequest { stage: Stage::Applied, consistent: true, timeout };
                PointSpec::Lsn(shared.engine.flush(&wanted.scenario, &flush)?.lsn)
            } else {
                wanted.at.unwrap_or(PointSpec::Now)
            };
            let at = shared.engine.resolve(&wanted.scenario, &at)?;
            request.resolved = PointSpec::Lsn(at.lsn).to_string();
            submission.request = request.encode_to_vec();
            shared.jobs.submit(submission)
        });
        Ok(Response::new(job.await?))
    }

    async fn list(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        let query = SessionsQuery {
            scenario: given(request.scenario),
            repository: given(request.repository),
            master: given(request.master),
            since: given(request.since).map(|since| TimeSpec::parse(&since)).transpose()?,
        };
        let stream = self.0.stream(move |shared, answers| {
            if let Some(scenario) = &query.scenario {
                shared.engine.show(scenario)?;
            }
            for session in shared.engine.list_sessions(&query)? {
                if answers.send(session).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }
}
