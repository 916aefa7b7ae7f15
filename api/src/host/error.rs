//! Errors of the crates below, as errors of the engine.

use crate::engine::{EngineError, Interrupt};
use replication::stream::LinkError;
use restore::RestoreError;
use wire::codes::{self, Code};

/// What restore says.
pub(super) fn restore(error: RestoreError) -> EngineError {
    match error {
        RestoreError::Cancelled => EngineError::interrupted(Interrupt::Cancelled),
        RestoreError::Journal { operation, source } => {
            let journal = EngineError::from(source);
            EngineError::new(journal.code(), operation).caused_by(journal)
        }
        RestoreError::Master { operation, source } => super::onto_master::master_error(operation, &source),
        other => {
            let code: &'static Code = match &other {
                RestoreError::NoSuchPath { .. } => &codes::NO_SUCH_PATH,
                RestoreError::NotEmpty { .. } => &codes::TARGET_NOT_EMPTY,
                RestoreError::NoSuchPoint { .. }
                | RestoreError::NotApplied { .. }
                | RestoreError::Gone { .. } => &codes::OUTSIDE_WINDOW,
                RestoreError::TooMuch { .. } => &codes::BURST_TOO_LARGE,
                _ => match other.kind() {
                    restore::ErrorKind::NotFound => &codes::NO_SUCH_PATH,
                    restore::ErrorKind::Full => &codes::DISK_FULL,
                    restore::ErrorKind::Io => &codes::IO,
                    restore::ErrorKind::Damaged => &codes::DAMAGED,
                    restore::ErrorKind::Drift => &codes::DRIFT,
                    restore::ErrorKind::State | restore::ErrorKind::Cancelled => &codes::INTERNAL,
                },
            };
            let message = other.to_string();
            match std::error::Error::source(&other).map(ToString::to_string) {
                Some(cause) => EngineError::new(code, message).caused_by(cause),
                None => EngineError::new(code, message),
            }
        }
    }
}

/// What a master answered, or why it did not.
pub(super) fn link(doing: &str, otherwise: &'static Code, error: &LinkError) -> EngineError {
    match error {
        LinkError::TimedOut => {
            EngineError::new(&codes::TIMED_OUT, format!("{doing}: the master did not answer in time"))
        }
        LinkError::Failed(failed) => {
            let code = codes::find(&failed.code).unwrap_or(otherwise);
            EngineError::new(code, format!("{doing}: {}", failed.text))
        }
        LinkError::Disconnected => {
            EngineError::new(&codes::CANNOT_ATTACH, format!("{doing}: the master is not connected"))
        }
        other => EngineError::new(otherwise, format!("{doing}: {other}")),
    }
}
