//! Restoring what a query finds, as the engine is asked for it.
//!
//! What a query finds is settled once, as sets: paths by session. Sets are what is planned, remembered and restored, so a
//! job that goes on after a restart restores what it was taken in for.

use super::catalog::CatalogQuery;
use super::restores::{RestorePlan, RestoreReport, RestoreRequest, SessionName};
use super::rewinds::Onto;
use super::types::Change;
use super::{Each, EngineResult, Progress};
use journal::Timestamp;
use std::path::PathBuf;

/// Some paths of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSet {
    /// The session: its whole id, and its repository.
    pub session: SessionName,
    /// Absolute, on the master: these and what is below them.
    pub paths: Vec<PathBuf>,
}

/// Paths that a query finds and no session holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// The first of them, and how to get each.
    pub first: Vec<restore::session::Listed>,
}

/// What a query finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryFound {
    /// The oldest session first: what a newer one says of a directory is said last.
    pub sets: Vec<RestoreSet>,
    /// What no session holds.
    pub left_out: LeftOut,
    /// The scenario of all sets; empty if they are of several or of none here.
    pub scenario: String,
}

/// A part of a plan of sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetPart {
    /// The changes after it come from this session, whose state is of this time.
    Set(RestoreSet, Timestamp),
    /// A change.
    Change(Change),
}

/// What came from one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredSession {
    /// 64 hexadecimal digits.
    pub session: String,
    /// Name of the repository.
    pub repository: String,
    /// Asked of it.
    pub paths: u64,
    /// Files that are as it has them.
    pub files: u64,
    /// Of the files.
    pub bytes: u64,
    /// Objects that are not restored.
    pub failed: u64,
}

/// What the engine does with what a query finds. Every request of a slice is of a session and of paths of it; they
/// differ in nothing else.
pub trait QueryRestores {
    /// What is to be restored onto this (`NOTHING_MATCHES`, `QUERY_TOO_LARGE`, `BAD_PARAMETERS` where it is of several
    /// masters or scenarios and cannot be, those of a query and of finding sessions).
    fn find_sets(
        &self,
        query: &CatalogQuery,
        onto: &Onto,
        progress: &dyn Progress,
    ) -> EngineResult<QueryFound>;
    /// What [`restore_sets`](QueryRestores::restore_sets) would do now; changes nothing.
    fn plan_sets(
        &self,
        requests: &[RestoreRequest],
        progress: &dyn Progress,
        each: Each<'_, SetPart>,
    ) -> EngineResult<RestorePlan>;
    /// Restores one after the other; nothing at all if one of them would be refused. As
    /// [`restore`](super::Restores::restore).
    fn restore_sets(
        &self,
        requests: &[RestoreRequest],
        progress: &dyn Progress,
    ) -> EngineResult<RestoreReport>;
}
