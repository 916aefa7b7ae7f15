//! Restoring.

use super::restore_queries as queries;
use super::{Answers, Shared, Stream};
use crate::convert::{onto_from_wire, path_from_wire, path_to_wire};
use crate::engine::{
    EngineError, EngineResult, Interrupt, Level, Onto, Progress, RestoreMeaning, RestoreRequest,
    RestoreSource, SessionName, SetPart,
};
use crate::jobs::Submission;
use crate::points::PointSpec;
use prost::Message;
use restore::session::{IfExists, Listed, Owner, Sparse};
use tonic::{Request, Response, Status};
use wire::codes;
use wire::convert::time_to_wire;
use wire::v1::restore_part::Part;
use wire::v1::restore_server::Restore;
use wire::v1::{self, JobKind};

/// The service.
#[derive(Clone)]
pub struct RestoreService(pub Shared);

fn bad(message: impl Into<String>) -> EngineError {
    EngineError::new(&codes::BAD_PARAMETERS, message)
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn if_exists(wanted: v1::IfExists) -> Option<IfExists> {
    match wanted {
        v1::IfExists::Unspecified => None,
        v1::IfExists::Overwrite => Some(IfExists::Overwrite),
        v1::IfExists::Newer => Some(IfExists::Newer),
        v1::IfExists::Skip => Some(IfExists::Skip),
        v1::IfExists::Rename => Some(IfExists::Rename),
        v1::IfExists::Fail => Some(IfExists::Fail),
    }
}

fn source(request: &v1::RestoreRequest) -> EngineResult<RestoreSource> {
    let v1::RestoreRequest { session, repository, tree, scenario, at, paths, .. } = request.clone();
    if !tree.is_empty() && !paths.is_empty() {
        return Err(bad("a restore is of a tree or of paths of a session, not both"));
    }
    let (session, at) = (given(session), given(at));
    match (session, at, tree.is_empty()) {
        (Some(_), Some(_), _) => Err(bad("a restore is from a session or from a point, not both")),
        (Some(id), None, _) => Ok(RestoreSource::Session(SessionName { id, repository: given(repository) })),
        (None, Some(at), false) => {
            let scenario = given(scenario).ok_or_else(|| bad("a point is one of a scenario: name it"))?;
            Ok(RestoreSource::Point { scenario, at: PointSpec::parse(&at)? })
        }
        (None, None, false) => Ok(RestoreSource::Tree { scenario: given(scenario) }),
        (None, _, true) => Err(bad("neither a session nor a tree is named")),
    }
}

/// A restore as the engine wants it, from its message.
///
/// # Errors
/// `BAD_PARAMETERS`, `BAD_POINT`.
pub fn restore_from_wire(request: v1::RestoreRequest, again: bool) -> EngineResult<RestoreRequest> {
    let source = source(&request)?;
    let tree = Some(request.tree.clone()).filter(|tree| !tree.is_empty());
    let paths: Vec<_> = request.paths.iter().chain(&tree).map(path_from_wire).collect();
    if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
        return Err(bad(format!("the path {} is not absolute", path.display())));
    }
    if request.delete && tree.is_none() {
        return Err(bad("only a restore by tree can remove what the session does not hold"));
    }
    Ok(RestoreRequest {
        source,
        paths,
        if_exists: if_exists(request.if_exists()),
        delete: request.delete,
        verify: request.verify,
        continue_if_not_stopped: request.continue_if_not_stopped,
        owner: if request.ignore_owner { Owner::Ignore } else { Owner::Keep },
        sparse: if request.dense { Sparse::Off } else { Sparse::Auto },
        onto: onto_from_wire(request.onto)?,
        again,
    })
}

/// The request with what it means now, so that it means the same after a restart.
fn settle(request: &mut v1::RestoreRequest, meaning: &RestoreMeaning) {
    match &meaning.source {
        RestoreSource::Session(name) => {
            request.session = name.id.clone();
            request.repository = name.repository.clone().unwrap_or_default();
        }
        RestoreSource::Point { at, .. } => request.at = at.to_string(),
        RestoreSource::Tree { .. } => {}
    }
}

/// What a restore by query would do.
fn plan_query(
    shared: &Shared,
    request: &v1::RestoreRequest,
    answers: &Answers<v1::RestorePart>,
) -> EngineResult<()> {
    let restores = shared.engine.restores()?;
    let found = queries::find(restores, request, answers)?;
    let requests = queries::requests(request, &found.sets, false)?;
    let plan = restores.plan_sets(&requests, answers, &mut |part| {
        let part = match part {
            SetPart::Set(set, time) => Part::Set(v1::RestoreSetPlan {
                session: set.session.id,
                repository: set.session.repository.unwrap_or_default(),
                time: Some(time_to_wire(time)),
                paths: set.paths.len() as u64,
            }),
            SetPart::Change(change) => Part::Change(change.into()),
        };
        answers.send(v1::RestorePart { part: Some(part) })
    })?;
    let agreed = queries::agreed(&found.sets).into();
    let (left_out, left_out_first) = (found.left_out.count, listed(found.left_out.first));
    let plan = v1::RestorePlan { scenario: found.scenario, agreed, left_out, left_out_first, ..plan.into() };
    // A client that has gone needs no end.
    let _ = answers.send(v1::RestorePart { part: Some(Part::Plan(plan)) });
    Ok(())
}

/// Whether the daemon stops, for a query that is answered before there is a job.
struct Taking<'s>(&'s Shared);

impl Progress for Taking<'_> {
    fn report(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}

    fn note(&self, _: Level, _: &str) {}

    fn interrupted(&self) -> Option<Interrupt> {
        (*self.0.stop.borrow()).then_some(Interrupt::Shutdown)
    }
}

/// Takes in a restore by query.
fn start_query(
    shared: &Shared,
    mut request: v1::RestoreRequest,
    idempotency_key: String,
) -> EngineResult<v1::Job> {
    // A client that tries again may have looked again.
    let agreed = std::mem::take(&mut request.agreed);
    let mut submission = Submission {
        kind: JobKind::Restore,
        scenario: String::new(),
        exclusive: !matches!(onto_from_wire(request.onto.clone())?, Onto::Directory(_)),
        request: request.encode_to_vec(),
        idempotency_key,
    };
    if let Some(earlier) = shared.jobs.earlier(&submission)? {
        return Ok(earlier);
    }
    let found = queries::find(shared.engine.restores()?, &request, &Taking(shared))?;
    request.asked = submission.request.into();
    queries::settle(&mut request, &found, &agreed)?;
    submission.request = request.encode_to_vec();
    submission.scenario = found.scenario;
    shared.jobs.submit(submission)
}

#[tonic::async_trait]
impl Restore for RestoreService {
    type PlanRestoreStream = Stream<v1::RestorePart>;

    async fn plan_restore(
        &self,
        request: Request<v1::RestoreRequest>,
    ) -> Result<Response<Self::PlanRestoreStream>, Status> {
        let request = request.into_inner();
        if request.query.is_some() {
            return Ok(Response::new(
                self.0.stream(move |shared, answers| plan_query(shared, &request, answers))?,
            ));
        }
        let request = restore_from_wire(request, false)?;
        let stream = self.0.stream(move |shared, answers| {
            let plan = shared.engine.restores()?.plan_restore(&request, answers, &mut |change| {
                answers.send(v1::RestorePart { part: Some(Part::Change(change.into())) })
            })?;
            // A client that has gone needs no end.
            let _ = answers.send(v1::RestorePart { part: Some(Part::Plan(plan.into())) });
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn start(&self, request: Request<v1::RestoreRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let idempotency_key = std::mem::take(&mut request.idempotency_key);
        request.asked.clear();
        request.found = None;
        if request.query.is_some() {
            let job = self.0.call(move |shared| start_query(shared, request, idempotency_key));
            return Ok(Response::new(job.await?));
        }
        let wanted = restore_from_wire(request.clone(), false)?;
        let job = self.0.call(move |shared| {
            let mut submission = Submission {
                kind: JobKind::Restore,
                scenario: String::new(),
                exclusive: !matches!(wanted.onto, Onto::Directory(_)),
                request: request.encode_to_vec(),
                idempotency_key,
            };
            if let Some(earlier) = shared.jobs.earlier(&submission)? {
                return Ok(earlier);
            }
            let meaning = shared.engine.restores()?.mean_restore(&wanted)?;
            request.asked = submission.request.into();
            settle(&mut request, &meaning);
            submission.request = request.encode_to_vec();
            submission.scenario = meaning.scenario;
            shared.jobs.submit(submission)
        });
        Ok(Response::new(job.await?))
    }
}

pub(super) fn listed(listed: Vec<Listed>) -> Vec<v1::RestoreListed> {
    let message = |listed: Listed| v1::RestoreListed {
        path: listed.path.into(),
        what: listed.what.to_owned(),
        reason: listed.reason,
        errno: listed.errno.unwrap_or(0),
    };
    listed.into_iter().map(message).collect()
}

impl From<crate::engine::RestorePlan> for v1::RestorePlan {
    fn from(plan: crate::engine::RestorePlan) -> Self {
        v1::RestorePlan {
            session: plan.session,
            scenario: plan.scenario,
            counts: Some(plan.counts.into()),
            skipped: plan.skipped,
            conflicts: plan.conflicts,
            first_conflicts: plan.first_conflicts.into_iter().map(Into::into).collect(),
            failed: plan.failed,
            failures: listed(plan.failures),
            warnings: plan.warnings,
            resumed: plan.resumed,
            agreed: Default::default(),
            left_out: 0,
            left_out_first: Vec::new(),
        }
    }
}

impl From<crate::engine::RestoreReport> for v1::RestoreReport {
    fn from(report: crate::engine::RestoreReport) -> Self {
        let receipt = report.receipt;
        v1::RestoreReport {
            session: report.session,
            files: receipt.files,
            directories: receipt.directories,
            others: receipt.others,
            links: receipt.links,
            bytes: receipt.bytes,
            bytes_written: receipt.bytes_written,
            resumed: receipt.resumed,
            skipped: receipt.skipped,
            renamed: receipt.renamed,
            removed: receipt.removed,
            failed: receipt.failed,
            failures: listed(receipt.failures),
            warned: receipt.warned,
            warnings: listed(receipt.warnings),
            verified: receipt.verified,
            verified_files: receipt.verified_files,
            before: report.before.unwrap_or_default(),
            onto_master: report.onto_master,
            elapsed: Some(wire::convert::duration_to_wire(report.elapsed)),
            detached: report.detached,
            target: report.target.as_deref().map(path_to_wire).unwrap_or_default(),
            sessions: report.sessions.into_iter().map(Into::into).collect(),
            left_out: 0,
            left_out_first: Vec::new(),
        }
    }
}

impl From<crate::engine::SessionVerifyReport> for v1::SessionVerifyReport {
    fn from(report: crate::engine::SessionVerifyReport) -> Self {
        let found = report.found;
        v1::SessionVerifyReport {
            session: report.session,
            repository: report.repository,
            files: found.files,
            directories: found.directories,
            bytes: found.bytes,
            blobs: found.blobs,
            damaged: found.damaged,
            failures: listed(found.failures),
            elapsed: Some(wire::convert::duration_to_wire(report.elapsed)),
        }
    }
}

impl From<crate::engine::SessionEntry> for v1::SessionEntry {
    fn from(entry: crate::engine::SessionEntry) -> Self {
        use snapshot::repository::NodeKind as Kind;
        let node = entry.node;
        let kind = match node.kind {
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Symlink => "symlink",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
            Kind::BlockDevice => "block-device",
            Kind::CharacterDevice => "character-device",
            Kind::Other => "other",
        };
        let nanos = i32::try_from(node.modified.nanoseconds).unwrap_or(0);
        v1::SessionEntry {
            path: entry.path.into(),
            kind: kind.to_owned(),
            bytes: node.size,
            mode: node.permissions,
            uid: node.uid,
            gid: node.gid,
            modified: Some(prost_types::Timestamp { seconds: node.modified.seconds, nanos }),
            link_target: node.link_target.into(),
            links: node.links,
        }
    }
}
