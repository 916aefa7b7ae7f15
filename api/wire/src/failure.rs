//! An error on its way: from the daemon through a gRPC status to the eyes of a person or a script.
//!
//! Code, reason, action and module travel as `google.rpc.ErrorInfo` in the details of the status, so any gRPC client
//! can branch on the code without reading messages. All fields are owned texts: a client shows errors of a newer
//! daemon, whose codes it does not know, as that daemon worded them.

use crate::codes::{self, Code, Exit};
use std::collections::HashMap;
use std::fmt;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of our error infos.
pub const DOMAIN: &str = "rewind";

/// An operation that failed, worded for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `RW` and four digits.
    pub code: Box<str>,
    /// What failed, with names.
    pub message: Box<str>,
    /// Why.
    pub reason: Box<str>,
    /// What to do.
    pub action: Box<str>,
    /// Which part raised it.
    pub module: Box<str>,
    /// What a command exits with.
    pub exit: Exit,
}

impl Failure {
    /// A failure with the reason and the action of the catalogue.
    #[must_use]
    pub fn new(code: &Code, message: impl Into<Box<str>>) -> Self {
        Failure {
            code: code.id.into(),
            message: message.into(),
            reason: code.reason.into(),
            action: code.action.into(),
            module: code.module.into(),
            exit: code.exit,
        }
    }

    /// The same with a reason that says more than the catalogue can.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Box<str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The same with an action that says more than the catalogue can.
    #[must_use]
    pub fn advise(mut self, action: impl Into<Box<str>>) -> Self {
        self.action = action.into();
        self
    }

    /// As the status of a call.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let grpc = codes::find(&self.code).map_or(tonic::Code::Unknown, |code| code.grpc);
        let metadata = HashMap::from([
            ("reason".to_owned(), self.reason.to_string()),
            ("action".to_owned(), self.action.to_string()),
            ("module".to_owned(), self.module.to_string()),
            ("exit".to_owned(), self.exit.number().to_string()),
        ]);
        let details = ErrorDetails::with_error_info(&*self.code, DOMAIN, metadata);
        Status::with_error_details(grpc, &*self.message, details)
    }

    /// From the status of a call. A status without our details comes from the transport or from a foreign server.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        if let Some(info) = status.get_details_error_info().filter(|info| info.domain == DOMAIN) {
            let text = |key: &str| info.metadata.get(key).map(|text| text.as_str()).unwrap_or_default();
            return Failure {
                code: info.reason.as_str().into(),
                message: status.message().into(),
                reason: text("reason").into(),
                action: text("action").into(),
                module: text("module").into(),
                exit: text("exit").parse().ok().and_then(Exit::from_number).unwrap_or(Exit::Failed),
            };
        }
        if let Some(failure) = Failure::from_transport(status) {
            return failure;
        }
        let code = match status.code() {
            tonic::Code::DeadlineExceeded => &codes::TIMED_OUT,
            tonic::Code::Unavailable => &codes::UNREACHABLE,
            tonic::Code::PermissionDenied => &codes::NOT_PERMITTED,
            tonic::Code::Unauthenticated => &codes::BAD_CERTIFICATE,
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => &codes::BAD_PARAMETERS,
            tonic::Code::Unimplemented => &codes::NOT_AVAILABLE,
            tonic::Code::Cancelled => &codes::CANCELLED,
            _ => &codes::INTERNAL,
        };
        let cause = std::error::Error::source(status).map(chain).filter(|text| !text.is_empty());
        Failure::new(code, cause.unwrap_or_else(|| status.message().to_owned()))
    }

    /// A refusal at the door: the socket belongs to another user, or TLS found no trust. `None` for anything else.
    #[must_use]
    pub fn from_transport(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        Some(match cause_of(error)? {
            Cause::Certificate(text) => Failure::new(&codes::BAD_CERTIFICATE, text),
            Cause::Denied(text) => Failure::new(&codes::NOT_PERMITTED, text),
        })
    }
}

/// What the operating system or TLS said, at the bottom of an error of the transport.
enum Cause {
    Certificate(String),
    Denied(String),
}

/// How rustls begins what it says of certificates.
const TLS_ERRORS: [&str; 2] = ["received fatal alert: ", "invalid peer certificate: "];

/// Layers wrap one another, and an I/O error hides what it was made from behind `get_ref`, not `source`.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> Option<Cause> {
    let mut next = Some(error);
    // Bounded, should a chain ever lead back to itself.
    for _ in 0..32 {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(Cause::Certificate(tls.to_string()));
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            if io.kind() == std::io::ErrorKind::PermissionDenied {
                return Some(Cause::Denied(io.to_string()));
            }
            // h2 keeps of an I/O error only its kind and its text.
            let text = io.to_string();
            if io.kind() == std::io::ErrorKind::InvalidData
                && TLS_ERRORS.iter().any(|head| text.starts_with(head))
            {
                return Some(Cause::Certificate(text));
            }
            if let Some(inner) = io.get_ref() {
                next = Some(inner);
                continue;
            }
        }
        next = error.source();
    }
    None
}

/// The message of an error and of all that caused it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Layers of the transport repeat one another, and the outermost says only that it is one.
        if !text.contains(&cause_text) && cause_text != "transport error" {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.to_status()
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Failure::from_status(&status)
    }
}

#[cfg(test)]
mod tests;
