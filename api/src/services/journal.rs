//! The history of a scenario: bookmarks, points, going back, figures.

use super::{Shared, Stream, timeout};
use crate::convert::{onto_from_wire, path_from_wire, point_kind_from_wire, stats_to_wire};
use crate::engine::{BookmarkRequest, EngineError, EngineResult, Level, Onto, PointsQuery, RewindRequest};
use crate::globs::PathGlobs;
use crate::jobs::Submission;
use crate::points::{PointSpec, TimeSpec, check_bookmark_name, default_bookmark_name, wall_clock};
use prost::Message;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::v1::journal_server::Journal;
use wire::v1::{self, JobKind, ScenarioRef};

/// The service.
#[derive(Clone)]
pub struct JournalService(pub Shared);

/// A rewind as the engine wants it, from its message.
///
/// # Errors
/// `BAD_POINT`, `BAD_PARAMETERS`.
pub fn rewind_from_wire(request: v1::RewindRequest, again: bool) -> EngineResult<RewindRequest> {
    let paths: Vec<_> = request.paths.iter().map(path_from_wire).collect();
    if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
        let message = format!("the path {} is not absolute", path.display());
        return Err(EngineError::new(&codes::BAD_PARAMETERS, message));
    }
    let to = PointSpec::parse(given(&request.resolved).unwrap_or(&request.to))?;
    Ok(RewindRequest { scenario: request.scenario, to, onto: onto_from_wire(request.onto)?, paths, again })
}

/// An empty text stands for nothing.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn points_query(request: v1::ListPointsRequest) -> EngineResult<PointsQuery> {
    let kinds = request.kinds().map(point_kind_from_wire).collect::<EngineResult<_>>()?;
    Ok(PointsQuery {
        paths: given(&request.path).map(|glob| PathGlobs::new([glob])).transpose()?,
        kinds,
        since: given(&request.since).map(TimeSpec::parse).transpose()?,
        until: given(&request.until).map(TimeSpec::parse).transpose()?,
        limit: (request.limit > 0).then_some(request.limit),
        scenario: request.scenario,
    })
}

#[tonic::async_trait]
impl Journal for JournalService {
    type ListBookmarksStream = Stream<v1::Bookmark>;
    type ListPointsStream = Stream<v1::Point>;
    type PlanRewindStream = Stream<v1::PlanPart>;
    type DiffStream = Stream<v1::DiffPart>;

    async fn set_bookmark(
        &self,
        request: Request<v1::SetBookmarkRequest>,
    ) -> Result<Response<v1::Bookmark>, Status> {
        let request = request.into_inner();
        let timeout = timeout(request.timeout)?;
        let name = given(&request.name).map_or_else(|| default_bookmark_name(wall_clock()), str::to_owned);
        check_bookmark_name(&name)?;
        let at = given(&request.at).map(PointSpec::parse).transpose()?;
        if at.is_some() && request.consistent {
            let message = "a point that is past cannot be made consistent";
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message).into());
        }
        let bookmark = self.0.call(move |shared| {
            let wanted = BookmarkRequest { name, at, consistent: request.consistent, timeout };
            let bookmark = shared.engine.set_bookmark(&request.scenario, &wanted)?;
            let text = format!("bookmark \"{}\" was set at LSN {}", bookmark.name, bookmark.lsn);
            shared.activity.write(Level::Info, &request.scenario, None, &text);
            Ok(bookmark)
        });
        Ok(Response::new(bookmark.await?.into()))
    }

    async fn list_bookmarks(
        &self,
        request: Request<ScenarioRef>,
    ) -> Result<Response<Self::ListBookmarksStream>, Status> {
        let name = request.into_inner().name;
        let stream = self.0.stream(move |shared, answers| {
            for bookmark in shared.engine.list_bookmarks(&name)? {
                if answers.send(bookmark).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn delete_bookmark(
        &self,
        request: Request<v1::DeleteBookmarkRequest>,
    ) -> Result<Response<v1::Bookmark>, Status> {
        let request = request.into_inner();
        let bookmark = self.0.call(move |shared| {
            let bookmark = shared.engine.delete_bookmark(&request.scenario, &request.name)?;
            let text = format!("bookmark \"{}\" was deleted", bookmark.name);
            shared.activity.write(Level::Info, &request.scenario, None, &text);
            Ok(bookmark)
        });
        Ok(Response::new(bookmark.await?.into()))
    }

    async fn list_points(
        &self,
        request: Request<v1::ListPointsRequest>,
    ) -> Result<Response<Self::ListPointsStream>, Status> {
        let query = points_query(request.into_inner())?;
        let stream = self.0.stream(move |shared, answers| {
            shared.engine.points(&query, &mut |point| answers.send(v1::Point::from(point)))
        })?;
        Ok(Response::new(stream))
    }

    async fn plan_rewind(
        &self,
        request: Request<v1::RewindRequest>,
    ) -> Result<Response<Self::PlanRewindStream>, Status> {
        let request = rewind_from_wire(request.into_inner(), false)?;
        let stream = self.0.stream(move |shared, answers| {
            let plan = shared.engine.plan_rewind(&request, answers, &mut |change| {
                answers.send(v1::PlanPart { part: Some(v1::plan_part::Part::Change(change.into())) })
            })?;
            // A client that has gone needs no end.
            let _ = answers.send(v1::PlanPart { part: Some(v1::plan_part::Part::Plan(plan.into())) });
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn rewind(&self, request: Request<v1::RewindRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        request.resolved.clear();
        let wanted = rewind_from_wire(request.clone(), false)?;
        let job = self.0.call(move |shared| {
            let mut submission = Submission {
                kind: JobKind::Rewind,
                scenario: wanted.scenario.clone(),
                exclusive: !matches!(wanted.onto, Onto::Directory(_)),
                request: request.encode_to_vec(),
                idempotency_key,
            };
            if let Some(earlier) = shared.jobs.earlier(&submission)? {
                return Ok(earlier);
            }
            // `-10m` and names mean now what they mean now; after a restart they might mean something else.
            request.resolved = shared.engine.pin(&wanted)?.to_string();
            submission.request = request.encode_to_vec();
            shared.jobs.submit(submission)
        });
        Ok(Response::new(job.await?))
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Result<Response<Self::DiffStream>, Status> {
        let request = request.into_inner();
        let from = PointSpec::parse(&request.from)?;
        let to = given(&request.to).map_or(Ok(PointSpec::Now), PointSpec::parse)?;
        let stream = self.0.stream(move |shared, answers| {
            let sums = shared.engine.diff(&request.scenario, &from, &to, answers, &mut |change| {
                answers.send(v1::DiffPart { part: Some(v1::diff_part::Part::Change(change.into())) })
            })?;
            let _ = answers.send(v1::DiffPart { part: Some(v1::diff_part::Part::Sums(sums.into())) });
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn stats(&self, request: Request<ScenarioRef>) -> Result<Response<v1::JournalStats>, Status> {
        let name = request.into_inner().name;
        let stats = self.0.call(move |shared| {
            let stats = shared.engine.journal_stats(&name)?;
            Ok(stats_to_wire(&name, &stats))
        });
        Ok(Response::new(stats.await?))
    }

    async fn verify(&self, request: Request<v1::JournalJobRequest>) -> Result<Response<v1::Job>, Status> {
        self.journal_job(JobKind::JournalVerify, request.into_inner()).await
    }

    async fn rebuild(&self, request: Request<v1::JournalJobRequest>) -> Result<Response<v1::Job>, Status> {
        self.journal_job(JobKind::JournalRebuild, request.into_inner()).await
    }
}

impl JournalService {
    async fn journal_job(
        &self,
        kind: JobKind,
        mut request: v1::JournalJobRequest,
    ) -> Result<Response<v1::Job>, Status> {
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let submission = Submission {
            kind,
            scenario: request.scenario.clone(),
            // Reading disturbs nobody.
            exclusive: kind == JobKind::JournalRebuild,
            request: request.encode_to_vec(),
            idempotency_key,
        };
        self.0.submit(submission).await
    }
}
