//! Restoring what a query finds, between messages and the engine.
//!
//! A request by query is given its meaning once, when its job is taken in: the sets that are found are kept in it. A
//! client that has looked at a plan sends back what names it; if the query finds something else by then, nothing is
//! restored.

use super::catalog::query_from_wire;
use super::restores::restore_from_wire;
use crate::convert::{onto_from_wire, path_from_wire, path_to_wire};
use crate::engine::{
    EngineError, EngineResult, Progress, QueryFound, RestoreRequest, RestoreSet, RestoredSession, Restores,
    SessionName,
};
use prost::Message;
use snapshot::repository::Id;
use wire::codes;
use wire::v1;

/// Longest request with what was found that a job remembers; the server journal takes a little more.
const REQUEST_BYTES_MAX: usize = 1000 << 10;

fn bad(message: &str) -> EngineError {
    EngineError::new(&codes::BAD_PARAMETERS, message)
}

/// What names the sets: a hash of them.
pub(super) fn agreed(sets: &[RestoreSet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for set in sets {
        let message = set_to_wire(set);
        message.encode_length_delimited(&mut bytes).unwrap_or_default();
    }
    Id::of(&bytes).0.to_vec()
}

fn set_to_wire(set: &RestoreSet) -> v1::RestoreSet {
    v1::RestoreSet {
        session: set.session.id.clone(),
        repository: set.session.repository.clone().unwrap_or_default(),
        paths: set.paths.iter().map(|path| path_to_wire(path)).collect(),
    }
}

/// What a request's query finds now.
///
/// # Errors
/// `BAD_PARAMETERS` for what a query cannot be combined with, and those of
/// [`find_sets`](crate::engine::QueryRestores::find_sets).
pub(super) fn find(
    restores: &dyn Restores,
    request: &v1::RestoreRequest,
    progress: &dyn Progress,
) -> EngineResult<QueryFound> {
    let query = request.query.clone().ok_or_else(|| bad("a restore by query without a query"))?;
    let plain = request.session.is_empty()
        && request.repository.is_empty()
        && request.tree.is_empty()
        && request.scenario.is_empty()
        && request.at.is_empty()
        && request.paths.is_empty();
    if !plain {
        return Err(bad("a restore is by query, by tree or by session: the query has its own filters"));
    }
    if query.limit > 0 || !query.page_token.is_empty() {
        return Err(bad("a restore by query takes all that the query finds, not a page of it"));
    }
    if request.delete {
        return Err(bad("only a restore by tree can remove what the session does not hold"));
    }
    let found =
        restores.find_sets(&query_from_wire(query)?, &onto_from_wire(request.onto.clone())?, progress)?;
    // A request that cannot be carried out is refused before it is a job.
    for set in &found.sets {
        set_request(request, set, false)?;
    }
    Ok(found)
}

/// The request of a set, with everything else as the request by query has it.
fn set_request(request: &v1::RestoreRequest, set: &RestoreSet, again: bool) -> EngineResult<RestoreRequest> {
    let message = v1::RestoreRequest {
        session: set.session.id.clone(),
        repository: set.session.repository.clone().unwrap_or_default(),
        onto: request.onto.clone(),
        if_exists: request.if_exists,
        verify: request.verify,
        continue_if_not_stopped: request.continue_if_not_stopped,
        ignore_owner: request.ignore_owner,
        dense: request.dense,
        ..v1::RestoreRequest::default()
    };
    Ok(RestoreRequest { paths: set.paths.clone(), ..restore_from_wire(message, again)? })
}

/// The requests of all sets.
pub(super) fn requests(
    request: &v1::RestoreRequest,
    sets: &[RestoreSet],
    again: bool,
) -> EngineResult<Vec<RestoreRequest>> {
    sets.iter().map(|set| set_request(request, set, again)).collect()
}

/// Puts what was found into the request that a job remembers.
///
/// # Errors
/// `QUERY_CHANGED` if it is not what the client has agreed to, `QUERY_TOO_LARGE`.
pub(super) fn settle(
    request: &mut v1::RestoreRequest,
    found: &QueryFound,
    agreed_to: &[u8],
) -> EngineResult<()> {
    if !agreed_to.is_empty() && agreed_to != agreed(&found.sets) {
        return Err(EngineError::new(&codes::QUERY_CHANGED, codes::QUERY_CHANGED.title));
    }
    request.found = Some(v1::RestoreQueryFound {
        sets: found.sets.iter().map(set_to_wire).collect(),
        left_out: found.left_out.count,
        left_out_first: super::restores::listed(found.left_out.first.clone()),
    });
    let bytes = request.encoded_len();
    if bytes > REQUEST_BYTES_MAX {
        let message = format!("a job would have to remember {bytes} bytes of paths");
        return Err(EngineError::new(&codes::QUERY_TOO_LARGE, message));
    }
    Ok(())
}

/// The sets that a job remembers.
pub(super) fn remembered(found: &v1::RestoreQueryFound) -> EngineResult<Vec<RestoreSet>> {
    let set = |set: &v1::RestoreSet| {
        let paths: Vec<_> = set.paths.iter().map(path_from_wire).collect();
        // None would be everything.
        if paths.is_empty() || paths.iter().any(|path| !path.is_absolute()) {
            return Err(EngineError::new(&codes::DAMAGED, "the request of a job names no absolute paths"));
        }
        let (id, repository) = (set.session.clone(), Some(set.repository.clone()));
        Ok(RestoreSet { session: SessionName { id, repository }, paths })
    };
    found.sets.iter().map(set).collect()
}

impl From<RestoredSession> for v1::RestoredSession {
    fn from(session: RestoredSession) -> Self {
        let RestoredSession { session, repository, paths, files, bytes, failed } = session;
        v1::RestoredSession { session, repository, paths, files, bytes, failed }
    }
}
