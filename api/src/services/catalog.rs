//! Finding files in sessions and points.

use super::{Shared, Stream};
use crate::engine::{CatalogQuery, CatalogTree, EngineError, EngineResult};
use crate::jobs::Submission;
use crate::points::{PointSpec, TimeSpec};
use bytes::Bytes;
use prost::Message;
use snapshot::catalog::Pattern;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::units::parse_size;
use wire::v1::catalog_server::Catalog;
use wire::v1::{self, JobKind};

/// The service.
#[derive(Clone)]
pub struct CatalogService(pub Shared);

/// An empty text stands for nothing.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn time(text: String) -> EngineResult<Option<TimeSpec>> {
    given(text).map(|text| TimeSpec::parse(&text)).transpose()
}

/// `+10M` at least, `-10M` at most, `10M` exactly.
fn sizes(text: &str) -> EngineResult<(Option<u64>, Option<u64>)> {
    if text.is_empty() {
        return Ok((None, None));
    }
    let number = text.strip_prefix(['+', '-']).unwrap_or(text);
    let bytes = parse_size(number).map_err(|error| {
        EngineError::new(&codes::BAD_PARAMETERS, format!("{text:?} is not a size")).caused_by(error)
    })?;
    Ok(match text.as_bytes().first() {
        Some(b'+') => (Some(bytes), None),
        Some(b'-') => (None, Some(bytes)),
        _ => (Some(bytes), Some(bytes)),
    })
}

/// A question as the engine wants it, from its message.
pub(super) fn query_from_wire(request: v1::CatalogQueryRequest) -> EngineResult<CatalogQuery> {
    let pattern = if request.pattern.is_empty() {
        return Err(EngineError::new(&codes::BAD_PATTERN, "the pattern is empty")
            .because("Nothing is looked for.")
            .advise("Give a piece of a path, or `*` for all there is."));
    } else if request.regex {
        Pattern::Regex(request.pattern)
    } else {
        Pattern::parse(&request.pattern)
    };
    let (size_min, size_max) = sizes(&request.size)?;
    Ok(CatalogQuery {
        pattern,
        scenario: given(request.scenario),
        master: given(request.master),
        session: given(request.session),
        since: time(request.since)?,
        until: time(request.until)?,
        size_min,
        size_max,
        deleted: request.deleted,
        limit: (request.limit > 0).then_some(request.limit),
        after: (!request.page_token.is_empty()).then(|| request.page_token.to_vec()),
    })
}

fn path_of(path: &Bytes) -> Option<Vec<u8>> {
    (!path.is_empty()).then(|| path.to_vec())
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    type QueryStream = Stream<v1::CatalogPart>;
    type TreeStream = Stream<v1::CatalogPart>;
    type VersionsStream = Stream<v1::VersionPart>;

    async fn query(
        &self,
        request: Request<v1::CatalogQueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let query = query_from_wire(request.into_inner())?;
        let stream = self.0.stream(move |shared, answers| {
            let finder = shared.engine.finder()?;
            let end = finder.query(&query, answers, &mut |part| answers.send(part))?;
            // A client that has gone needs no end.
            let _ = answers.send(v1::CatalogPart { part: Some(v1::catalog_part::Part::End(end.into())) });
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn tree(
        &self,
        request: Request<v1::CatalogTreeRequest>,
    ) -> Result<Response<Self::TreeStream>, Status> {
        let request = request.into_inner();
        let tree = CatalogTree {
            path: path_of(&request.path),
            scenario: given(request.scenario),
            session: given(request.session),
            at: given(request.at).map(|at| PointSpec::parse(&at)).transpose()?,
            limit: (request.limit > 0).then_some(request.limit),
        };
        let stream = self.0.stream(move |shared, answers| {
            let end = shared.engine.finder()?.tree(&tree, &mut |part| answers.send(part))?;
            let _ = answers.send(v1::CatalogPart { part: Some(v1::catalog_part::Part::End(end.into())) });
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn versions(
        &self,
        request: Request<v1::CatalogVersionsRequest>,
    ) -> Result<Response<Self::VersionsStream>, Status> {
        let request = request.into_inner();
        let scenario = given(request.scenario);
        let stream = self.0.stream(move |shared, answers| {
            let finder = shared.engine.finder()?;
            let scenario = scenario.as_deref();
            let end = finder.versions(&request.path, scenario, &mut |part| answers.send(part))?;
            let _ = answers.send(v1::VersionPart { part: Some(v1::version_part::Part::End(end.into())) });
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn rebuild(
        &self,
        request: Request<v1::CatalogRebuildRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        let job = self.0.call(move |shared| {
            shared.engine.finder()?;
            // Here, not in the job: a name that was mistyped should not become a failed job.
            let known = shared.engine.list_repositories()?;
            let name = &request.repository;
            if !name.is_empty() && !known.iter().any(|repository| repository.name == *name) {
                return Err(crate::vault::no_such_repository(name));
            }
            shared.jobs.submit(Submission {
                kind: JobKind::CatalogRebuild,
                scenario: String::new(),
                exclusive: true,
                request: request.encode_to_vec(),
                idempotency_key,
            })
        });
        Ok(Response::new(job.await?))
    }
}
