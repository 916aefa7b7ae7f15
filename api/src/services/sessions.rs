//! Backups and what they made.

use super::{Shared, Stream, timeout};
use crate::convert::path_from_wire;
use crate::engine::{
    BackupRequest, CopiedTo, CopyReport, CopyRequest, EngineError, EngineResult, FilesQuery, FlushRequest,
    SessionName, SessionsQuery, SnapshotId, Stage,
};
use crate::jobs::Submission;
use crate::points::{PointSpec, TimeSpec};
use prost::Message;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::convert::duration_to_wire;
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
    type FilesStream = Stream<v1::SessionEntry>;

    async fn show(&self, request: Request<v1::SessionRef>) -> Result<Response<v1::Session>, Status> {
        let v1::SessionRef { id, repository } = request.into_inner();
        let name = SessionName { id, repository: given(repository) };
        let session = self.0.call(move |shared| shared.engine.restores()?.show_session(&name));
        Ok(Response::new(session.await?.into()))
    }

    async fn files(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<Self::FilesStream>, Status> {
        let v1::ListFilesRequest { id, repository, path, limit } = request.into_inner();
        let path = (!path.is_empty()).then(|| path_from_wire(&path));
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(EngineError::new(&codes::BAD_PARAMETERS, "the path is not absolute").into());
        }
        let session = SessionName { id, repository: given(repository) };
        let query = FilesQuery { session, path, limit: (limit > 0).then_some(limit) };
        let stream = self.0.stream(move |shared, answers| {
            shared.engine.restores()?.session_files(&query, answers, &mut |entry| answers.send(entry))
        })?;
        Ok(Response::new(stream))
    }

    async fn verify(&self, request: Request<v1::VerifySessionRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let job = self.0.call(move |shared| {
            let repository = given(std::mem::take(&mut request.repository));
            let name = SessionName { id: std::mem::take(&mut request.id), repository };
            // Here, not in the job: an id that was mistyped should not become a failed job.
            let session = shared.engine.restores()?.show_session(&name)?;
            (request.id, request.repository) = (session.id, session.repository);
            shared.jobs.submit(Submission {
                kind: JobKind::SessionVerify,
                scenario: session.scenario,
                exclusive: false,
                request: request.encode_to_vec(),
                idempotency_key,
            })
        });
        Ok(Response::new(job.await?))
    }

    async fn copy(&self, request: Request<v1::CopySessionRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let job = self.0.call(move |shared| {
            check_copy(shared, &request)?;
            let wanted = copy_from_wire(request.clone());
            let session = shared.engine.restores()?.show_session(&wanted.session)?;
            (request.id, request.repository) = (session.id, session.repository);
            shared.jobs.submit(Submission {
                kind: JobKind::SessionCopy,
                scenario: session.scenario,
                exclusive: false,
                request: request.encode_to_vec(),
                idempotency_key,
            })
        });
        Ok(Response::new(job.await?))
    }

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

/// Refuses what is no place for a copy: here, not in the job.
fn check_copy(shared: &Shared, request: &v1::CopySessionRequest) -> EngineResult<()> {
    let known = shared.engine.list_repositories()?;
    let known = known.iter().find(|repository| repository.name == request.to);
    let is_tape = |url: &str| url.starts_with("tape:");
    match known {
        Some(repository) if !is_tape(&repository.url) => {
            if request.pool.is_empty() {
                return Ok(());
            }
            let text = format!("repository \"{}\" is not on tape and has no pools", request.to);
            Err(EngineError::new(&codes::BAD_PARAMETERS, text))
        }
        Some(_) => shared.engine.permits_tapes(),
        None if is_tape(&request.to) => {
            shared.engine.permits_tapes()?;
            crate::tapes::check_url(&request.to)
        }
        None if request.to.contains("://") => {
            let text = format!("\"{}\" is no repository's name", request.to);
            Err(EngineError::new(&codes::BAD_URL, text).advise(
                "Sessions are copied into repositories by name: `restorectl repository add NAME URL` first. Of tape the address will do.",
            ))
        }
        None => Err(crate::vault::no_such_repository(&request.to)),
    }
}

/// A request to copy a session.
pub(super) fn copy_from_wire(request: v1::CopySessionRequest) -> CopyRequest {
    let v1::CopySessionRequest { id, repository, to, pool, .. } = request;
    CopyRequest { session: SessionName { id, repository: given(repository) }, to, pool: given(pool) }
}

impl From<CopyReport> for v1::SessionCopyReport {
    fn from(report: CopyReport) -> Self {
        let told = v1::SessionCopyReport {
            session: report.session,
            repository: report.repository,
            to: report.to,
            elapsed: Some(duration_to_wire(report.elapsed)),
            ..v1::SessionCopyReport::default()
        };
        match report.copied {
            CopiedTo::Tape(copied) => on_tape(copied, told),
            CopiedTo::Repository(stored) => v1::SessionCopyReport {
                copied_session: stored.session,
                was_there: stored.was_there,
                files: stored.files,
                directories: stored.directories,
                bytes: stored.bytes,
                missed: stored.missed,
                bytes_read: stored.bytes_read,
                bytes_stored: stored.bytes_stored,
                ..told
            },
        }
    }
}

fn on_tape(copied: crate::tapes::Copied, told: v1::SessionCopyReport) -> v1::SessionCopyReport {
    let part = |part: snapshot::tape::PartPlace| v1::SessionPart {
        media: part.media,
        volume: part.volume,
        file: part.file,
        blocks: part.blocks,
    };
    let missed = |(path, reason): (Vec<u8>, String)| v1::MissedObject { path: path.into(), reason };
    v1::SessionCopyReport {
        copied_session: copied.session.clone(),
        tape_session: copied.session,
        parts: copied.parts.into_iter().map(part).collect(),
        bytes: copied.bytes,
        files: copied.files,
        directories: copied.directories,
        missed: copied.missed,
        missed_first: copied.listed.into_iter().map(missed).collect(),
        stalls: copied.stalls,
        was_there: copied.was_there,
        ..told
    }
}
