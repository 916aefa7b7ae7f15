//! A failed operation of the engine: a code of the catalogue and what happened, in words.

use super::Interrupt;
use journal::{ErrorKind, JournalError};
use std::fmt;
use wire::codes::{self, Code};
use wire::{Failure, failure};

/// Why an operation failed.
///
/// It is a struct, not an enum, because its readers are clients behind a network: what they branch on is the code.
#[derive(Debug)]
pub struct EngineError {
    code: &'static Code,
    message: String,
    reason: Option<String>,
    action: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// An error with a message that names what it is about.
    #[must_use]
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        EngineError { code, message: message.into(), reason: None, action: None, source: None }
    }

    /// The same with the error that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with a reason that says more than the catalogue can.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The same with an action that says more than the catalogue can.
    #[must_use]
    pub fn advise(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// `NO_SUCH_SCENARIO`.
    #[must_use]
    pub fn no_such_scenario(name: &str) -> Self {
        EngineError::new(&codes::NO_SUCH_SCENARIO, format!("no scenario is named \"{name}\""))
    }

    /// `NOT_REPLICATING`, with the state it is in.
    #[must_use]
    pub fn not_replicating(name: &str, state: super::State) -> Self {
        EngineError::new(
            &codes::NOT_REPLICATING,
            format!("scenario \"{name}\" is not in replication state (state: {})", state.word()),
        )
    }

    /// What an operation returns that was asked to stop.
    #[must_use]
    pub fn interrupted(interrupt: Interrupt) -> Self {
        let message = match interrupt {
            Interrupt::Cancelled => "cancelled on request",
            Interrupt::Shutdown => "interrupted because the daemon stops",
        };
        EngineError::new(&codes::CANCELLED, message)
    }

    /// This error, or the interruption that caused it.
    #[must_use]
    pub fn or_interrupted(self, interrupt: Option<Interrupt>) -> Self {
        interrupt.filter(|_| *self.code == codes::CANCELLED).map_or(self, Self::interrupted)
    }

    /// The system refused an operation on a file.
    #[must_use]
    pub fn io(operation: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let code = if is_full(&source) { &codes::DISK_FULL } else { &codes::IO };
        EngineError::new(code, format!("{operation} {}", path.display())).caused_by(source)
    }

    /// Its entry of the catalogue.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        self.code
    }

    /// As clients see it: the message with all causes.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let mut failure = Failure::new(self.code, failure::chain(self));
        if let Some(reason) = &self.reason {
            failure.reason = reason.as_str().into();
        }
        if let Some(action) = &self.action {
            failure.action = action.as_str().into();
        }
        failure
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        error.to_failure()
    }
}

impl From<EngineError> for tonic::Status {
    fn from(error: EngineError) -> Self {
        error.to_failure().to_status()
    }
}

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        let code = match &error {
            JournalError::OutsideWindow { .. } => &codes::OUTSIDE_WINDOW,
            JournalError::Thinned { .. } => &codes::THINNED,
            JournalError::NewerVersion { .. } => &codes::NEWER_FORMAT,
            JournalError::InUse { .. } => &codes::DATA_IN_USE,
            JournalError::NotFound { what: "bookmark", .. } => &codes::NO_SUCH_BOOKMARK,
            JournalError::NotFound { what: "path", .. } => &codes::NO_SUCH_PATH,
            JournalError::Exists { what: "bookmark", .. } => &codes::BOOKMARK_EXISTS,
            other => match other.kind() {
                ErrorKind::Damaged => &codes::DAMAGED,
                ErrorKind::Io => &codes::IO,
                ErrorKind::Full => &codes::DISK_FULL,
                ErrorKind::Poisoned => &codes::POISONED,
                ErrorKind::Drift => &codes::DRIFT,
                ErrorKind::NotFound | ErrorKind::State => &codes::INTERNAL,
            },
        };
        let message = error.to_string();
        // Display of the cause is the message already; only what lies below it is added.
        let mut result = EngineError::new(code, message);
        result.source = take_source(error);
        result
    }
}

/// The cause of a journal error, by value.
fn take_source(error: JournalError) -> Option<Box<dyn std::error::Error + Send + Sync>> {
    match error {
        JournalError::File { source, .. } | JournalError::Tree { source, .. } => Some(Box::new(source)),
        JournalError::Tables { source, .. } => Some(source),
        _ => None,
    }
}
