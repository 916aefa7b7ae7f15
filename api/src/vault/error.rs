//! Errors of stores, repositories and sessions, as errors of the engine.

use crate::engine::{EngineError, Interrupt};
use restore::session::{SessionRestoreError, SessionRestoreErrorKind};
use snapshot::repository::{RepositoryError, RepositoryErrorKind};
use snapshot::session::SessionError;
use snapshot::store::{StoreError, StoreErrorKind, StoreUrl};
use wire::codes::{self, Code};

fn store_code(kind: StoreErrorKind) -> &'static Code {
    match kind {
        StoreErrorKind::NotPermitted => &codes::STORE_NOT_PERMITTED,
        StoreErrorKind::Full => &codes::STORE_FULL,
        StoreErrorKind::NoBucket => &codes::NO_BUCKET,
        StoreErrorKind::Unencrypted => &codes::UNENCRYPTED,
        StoreErrorKind::Other => &codes::BACKUP_FAILED,
        _ => &codes::STORE_UNAVAILABLE,
    }
}

/// What a store says before there is a repository.
pub(super) fn store_error(url: &StoreUrl, error: StoreError) -> EngineError {
    let code = match error.kind {
        StoreErrorKind::NotFound => &codes::STORE_UNAVAILABLE,
        kind => store_code(kind),
    };
    EngineError::new(code, format!("open {url}")).caused_by(error)
}

fn repository_code(kind: RepositoryErrorKind) -> &'static Code {
    match kind {
        RepositoryErrorKind::WrongPassword => &codes::WRONG_PASSWORD,
        RepositoryErrorKind::NoRepository | RepositoryErrorKind::NotFound => &codes::REPOSITORY_DAMAGED,
        RepositoryErrorKind::AlreadyExists => &codes::REPOSITORY_EXISTS,
        RepositoryErrorKind::UnsupportedVersion => &codes::REPOSITORY_VERSION,
        RepositoryErrorKind::Damaged => &codes::REPOSITORY_DAMAGED,
        RepositoryErrorKind::Locked => &codes::REPOSITORY_LOCKED,
        RepositoryErrorKind::Cancelled => &codes::CANCELLED,
        RepositoryErrorKind::Store(kind) => store_code(kind),
        _ => &codes::BACKUP_FAILED,
    }
}

/// What a repository says.
#[must_use]
pub fn repository_error(operation: &'static str, error: RepositoryError) -> EngineError {
    // The first failure made the writer refuse the rest: that one is of interest.
    let kind = match &error {
        RepositoryError::Poisoned { source } => source.kind(),
        other => other.kind(),
    };
    EngineError::new(repository_code(kind), operation).caused_by(error)
}

/// What a backup says that may have been interrupted.
#[must_use]
pub fn backup_error(interrupt: Option<Interrupt>, error: SessionError) -> EngineError {
    match error {
        SessionError::Cancelled => EngineError::interrupted(interrupt.unwrap_or(Interrupt::Cancelled)),
        SessionError::Repository { source } => repository_error("store the session", source),
        SessionError::Journal { operation, source } => {
            let journal = EngineError::from(source);
            EngineError::new(journal.code(), operation).caused_by(journal)
        }
        other => EngineError::new(&codes::BACKUP_FAILED, "make the session").caused_by(other),
    }
}

/// What upkeep says that may have been interrupted.
#[must_use]
pub fn upkeep_error(
    operation: &'static str,
    interrupt: Option<Interrupt>,
    error: RepositoryError,
) -> EngineError {
    match error.kind() {
        RepositoryErrorKind::Cancelled => EngineError::interrupted(interrupt.unwrap_or(Interrupt::Cancelled)),
        RepositoryErrorKind::Refused
            if matches!(error, RepositoryError::EmptyPolicy | RepositoryError::GroupEmptied { .. }) =>
        {
            EngineError::new(&codes::EMPTY_POLICY, operation).caused_by(error)
        }
        _ => repository_error(operation, error),
    }
}

/// What a restore says that may have been interrupted.
#[must_use]
pub fn restore_error(interrupt: Option<Interrupt>, error: SessionRestoreError) -> EngineError {
    use SessionRestoreErrorKind as Kind;
    let code = match error.kind() {
        Kind::Cancelled => return EngineError::interrupted(interrupt.unwrap_or(Interrupt::Cancelled)),
        Kind::NotFound => &codes::NO_SUCH_PATH,
        Kind::Busy => &codes::TARGET_REFUSED,
        Kind::State => &codes::WOULD_OVERWRITE,
        Kind::Lacking => &codes::SESSION_LACKS,
        Kind::Refused => &codes::BAD_PARAMETERS,
        Kind::Full => &codes::DISK_FULL,
        Kind::Io => &codes::IO,
        Kind::Repository(kind) => match repository_code(kind) {
            code if *code == codes::BACKUP_FAILED => &codes::RESTORE_FAILED,
            code => code,
        },
        _ => &codes::RESTORE_FAILED,
    };
    let message = error.to_string();
    match error {
        SessionRestoreError::Repository { source, .. } => EngineError::new(code, message).caused_by(source),
        SessionRestoreError::Target { source, .. } => EngineError::new(code, message).caused_by(source),
        SessionRestoreError::Journal { source, .. } => {
            let journal = EngineError::from(source);
            EngineError::new(journal.code(), message).caused_by(journal)
        }
        SessionRestoreError::NotStopped { source } => {
            EngineError::new(&codes::CANNOT_STOP, message).caused_by(source)
        }
        SessionRestoreError::Master { operation, source } => crate::host::master_error(operation, &source),
        SessionRestoreError::NoSuchPath { .. } => EngineError::new(code, message)
            .because("`restorectl session files ID` lists what a session holds."),
        _ => EngineError::new(code, message),
    }
}
