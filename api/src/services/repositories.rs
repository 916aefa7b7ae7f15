//! Places of sessions, and looking after them.

use super::{Shared, Stream};
use crate::convert::{forget_items, prune_plan_to_wire};
use crate::engine::{
    CheckRequest, EngineError, EngineResult, ForgetRequest, Interrupt, Level, NewRepository, Progress,
    PruneRequest,
};
use crate::jobs::Submission;
use prost::Message;
use snapshot::repository::Id;
use snapshot::repository::upkeep::check::ReadData;
use snapshot::repository::upkeep::forget::ForgetOptions;
use snapshot::repository::upkeep::plan::{GRACE_DEFAULT, PruneOptions, UNUSED_PERCENT_DEFAULT};
use snapshot::repository::upkeep::policy::Policy;
use std::collections::HashSet;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::convert::duration_from_wire;
use wire::v1::repositories_server::Repositories;
use wire::v1::{self, JobKind};

/// The service.
#[derive(Clone)]
pub struct RepositoriesService(pub Shared);

/// Of a call that answers at once, if it can: nobody watches.
struct Silent;

impl Progress for Silent {
    fn report(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}

    fn note(&self, _: Level, _: &str) {}

    fn interrupted(&self) -> Option<Interrupt> {
        None
    }
}

fn bad(message: &str) -> EngineError {
    EngineError::new(&codes::BAD_PARAMETERS, message)
}

/// A check as the engine wants it.
///
/// # Errors
/// `BAD_PARAMETERS`.
pub fn check_from_wire(request: v1::CheckRequest) -> EngineResult<CheckRequest> {
    let read = match request.read_data_percent {
        0 => ReadData::None,
        percent => ReadData::Percent(
            u8::try_from(percent)
                .ok()
                .filter(|percent| *percent <= 100)
                .ok_or_else(|| bad("more than 100 % of the data cannot be read"))?,
        ),
    };
    Ok(CheckRequest { repository: request.repository, read })
}

/// A prune as the engine wants it.
///
/// # Errors
/// `BAD_PARAMETERS`.
pub fn prune_from_wire(request: v1::PruneRequest) -> EngineResult<PruneRequest> {
    let grace = match &request.grace {
        None => GRACE_DEFAULT,
        Some(grace) => duration_from_wire(grace).ok_or_else(|| bad("the grace period is no duration"))?,
    };
    let unused = request.unused_percent.unwrap_or(UNUSED_PERCENT_DEFAULT.into());
    let options = PruneOptions {
        grace,
        unused_percent: u8::try_from(unused).unwrap_or(u8::MAX),
        repack_bytes_max: request.repack_bytes_max.unwrap_or(u64::MAX),
        spare_running: true,
    };
    Ok(PruneRequest { repository: request.repository, options })
}

/// A retention as the engine wants it.
///
/// # Errors
/// `EMPTY_POLICY`, `BAD_PARAMETERS`.
pub fn forget_from_wire(request: v1::ForgetRequest) -> EngineResult<ForgetRequest> {
    let policy = request.policy.unwrap_or_default();
    let within = match &policy.within {
        None => None,
        Some(within) => Some(duration_from_wire(within).ok_or_else(|| bad("`within` is no duration"))?),
    };
    let v1::KeepPolicy { last, hourly, daily, weekly, monthly, yearly, .. } = policy;
    let policy = Policy { last, hourly, daily, weekly, monthly, yearly, within };
    if policy.is_empty() {
        return Err(EngineError::new(&codes::EMPTY_POLICY, "no rule keeps a session"));
    }
    let given = |text: String| (!text.is_empty()).then_some(text);
    let tag = given(request.scenario).map(|scenario| format!("scenario:{scenario}"));
    let options = ForgetOptions { policy, host: given(request.host), path: given(request.path), tag };
    let confirmed = request.confirmed.map(|shown| confirmed_from_wire(&shown)).transpose()?;
    Ok(ForgetRequest { repository: request.repository, options, confirmed })
}

/// The request is kept with the job.
const CONFIRMED_MAX: usize = 20_000;

fn confirmed_from_wire(shown: &v1::ForgetConfirmed) -> EngineResult<HashSet<Id>> {
    if shown.ids.len() > CONFIRMED_MAX {
        return Err(bad("more than 20,000 sessions would be forgotten at once; do it by master or by path"));
    }
    let id =
        |bytes: &prost::bytes::Bytes| (&**bytes).try_into().map(Id).map_err(|_| bad("an id has 32 bytes"));
    shown.ids.iter().map(id).collect()
}

impl RepositoriesService {
    /// Starts a job on a repository that is known: a name that was mistyped should not become a failed job.
    async fn job(
        &self,
        kind: JobKind,
        repository: String,
        request: Vec<u8>,
        idempotency_key: String,
    ) -> Result<Response<v1::Job>, Status> {
        let job = self.0.call(move |shared| {
            let known = shared.engine.list_repositories()?;
            if !known.iter().any(|one| one.name == repository) {
                return Err(crate::vault::no_such_repository(&repository));
            }
            // The lock in the repository says who may work beside whom, also to other daemons.
            let (scenario, exclusive) = (String::new(), false);
            shared.jobs.submit(Submission { kind, scenario, exclusive, request, idempotency_key })
        });
        Ok(Response::new(job.await?))
    }
}

#[tonic::async_trait]
impl Repositories for RepositoriesService {
    type ListStream = Stream<v1::Repository>;
    type PlanForgetStream = Stream<v1::ForgetItem>;

    async fn stats(
        &self,
        request: Request<v1::RepositoryRef>,
    ) -> Result<Response<v1::RepositoryStats>, Status> {
        let name = request.into_inner().name;
        let stats = self.0.call(move |shared| shared.engine.repository_stats(&name, &Silent)).await?;
        Ok(Response::new(stats.into()))
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let wanted = check_from_wire(request.clone())?;
        self.job(JobKind::RepositoryCheck, wanted.repository, request.encode_to_vec(), key).await
    }

    async fn plan_prune(
        &self,
        request: Request<v1::PruneRequest>,
    ) -> Result<Response<v1::PrunePlan>, Status> {
        let request = prune_from_wire(request.into_inner())?;
        let plan = self.0.call(move |shared| shared.engine.plan_prune(&request, &Silent)).await?;
        Ok(Response::new(prune_plan_to_wire(&plan)))
    }

    async fn prune(&self, request: Request<v1::PruneRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let wanted = prune_from_wire(request.clone())?;
        self.job(JobKind::RepositoryPrune, wanted.repository, request.encode_to_vec(), key).await
    }

    async fn unlock(
        &self,
        request: Request<v1::UnlockRequest>,
    ) -> Result<Response<v1::UnlockReport>, Status> {
        let v1::UnlockRequest { repository, all } = request.into_inner();
        let report = self.0.call(move |shared| shared.engine.unlock(&repository, all)).await?;
        Ok(Response::new(report.into()))
    }

    async fn plan_forget(
        &self,
        request: Request<v1::ForgetRequest>,
    ) -> Result<Response<Self::PlanForgetStream>, Status> {
        let request = forget_from_wire(request.into_inner())?;
        let stream = self.0.stream(move |shared, answers| {
            let groups = shared.engine.plan_forget(&request, answers)?;
            for item in groups.into_iter().flat_map(forget_items) {
                if answers.send(item).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn forget(&self, request: Request<v1::ForgetRequest>) -> Result<Response<v1::Job>, Status> {
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let wanted = forget_from_wire(request.clone())?;
        self.job(JobKind::RepositoryForget, wanted.repository, request.encode_to_vec(), key).await
    }

    async fn add(
        &self,
        request: Request<v1::AddRepositoryRequest>,
    ) -> Result<Response<v1::Repository>, Status> {
        let v1::AddRepositoryRequest { name, url, password, compression } = request.into_inner();
        let new = NewRepository { name, url, password: password.into(), compression };
        let added = self.0.call(move |shared| shared.engine.add_repository(new)).await?;
        Ok(Response::new(added.into()))
    }

    async fn list(
        &self,
        _: Request<v1::ListRepositoriesRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let stream = self.0.stream(move |shared, answers| {
            for repository in shared.engine.list_repositories()? {
                if answers.send(repository).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }
}
