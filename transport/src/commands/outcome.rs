//! The ways in which a command can end, and what the client is told of those in which it fails.

use serde_json::json;
use tidewire_eventstore::AppendError;
use tidewire_protocol::{ErrorBody, ErrorCode};

use super::{CommandError, handler::Failure};
use crate::answers::{RETRY_AFTER, append_error, read_error};

/// How a command ended; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done, now.
    Executed,
    /// Answered with what was recorded before.
    Repeated,
    /// The application said no.
    Refused,
    /// The data is not of the handler's type.
    Invalid,
    /// The stream moved on each time, or a key or an id was used before for something else.
    Conflict,
    /// The handler panicked, took too long, or came to what cannot be recorded.
    Failed,
    /// No handler has this name.
    Unknown,
    /// Too many commands were waiting.
    Overloaded,
    /// The log could not be read or written.
    Unavailable,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: &[Self] = &[
        Self::Executed,
        Self::Repeated,
        Self::Refused,
        Self::Invalid,
        Self::Conflict,
        Self::Failed,
        Self::Unknown,
        Self::Overloaded,
        Self::Unavailable,
    ];

    /// As a label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A command that failed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) error: ErrorBody,
}

impl Ended {
    fn new(outcome: Outcome, error: ErrorBody) -> Self {
        Self { outcome, error }
    }

    pub(super) fn unknown() -> Self {
        Self::new(Outcome::Unknown, ErrorCode::UnknownCommand.into())
    }

    pub(super) fn overloaded() -> Self {
        let error = ErrorBody {
            retry_after_ms: Some(RETRY_AFTER.as_millis() as u64),
            ..ErrorBody::new(ErrorCode::Overloaded, "too many commands are waiting")
        };
        Self::new(Outcome::Overloaded, error)
    }

    /// The runtime is gone.
    pub(super) fn closing() -> Self {
        Self::new(Outcome::Unavailable, ErrorCode::Closing.into())
    }

    pub(super) fn panicked() -> Self {
        Self::failed("$panicked", "the handler panicked")
    }

    pub(super) fn timed_out() -> Self {
        let Self { outcome, error } = Self::failed("$timed_out", "the handler took too long");
        let retry_after_ms = Some(RETRY_AFTER.as_millis() as u64);
        Self { outcome, error: ErrorBody { retryable: true, retry_after_ms, ..error } }
    }

    pub(super) fn answer_too_large(bytes: usize, max: usize) -> Self {
        let message = format!("the handler's answer has {bytes} bytes; at most {max} are allowed");
        Self::failed("$answer_too_large", message)
    }

    /// A failure that is the handler's own fault.
    fn failed(code: &'static str, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        let error = ErrorBody::new(ErrorCode::CommandFailed, message);
        Self::new(Outcome::Failed, error.with_details(json!({ "code": code })))
    }

    pub(super) fn of_input(error: &serde_json::Error) -> Self {
        // What serde says may quote the data: it is told to whoever sent it, apart from the
        // message, which may be logged.
        let body = ErrorBody::new(ErrorCode::InvalidField, "data is not what the command takes");
        let details = json!({ "field": "data", "reason": error.to_string() });
        Self::new(Outcome::Invalid, body.with_details(details))
    }

    pub(super) fn of_handler(failure: Failure) -> Self {
        match failure {
            Failure::Input(error) => Self::of_input(&error),
            Failure::Error(error) => Self::of_error(error),
            Failure::Answer(error) => {
                tracing::error!(%error, "a command's answer cannot be written as JSON");
                Self::failed("$invalid_decision", "the handler's answer cannot be written as JSON")
            }
        }
    }

    fn of_error(error: CommandError) -> Self {
        let outcome = if error.is_refusal() { Outcome::Refused } else { Outcome::Unavailable };
        Self::new(outcome, error.into_body())
    }

    pub(super) fn of_read(error: &tidewire_eventstore::ReadError) -> Self {
        Self::new(Outcome::Unavailable, read_error(error))
    }

    /// What was decided could not be recorded.
    pub(super) fn of_append(error: &AppendError) -> Self {
        let outcome = match error {
            AppendError::WrongExpectedRevision { .. }
            | AppendError::IdReused { .. }
            | AppendError::KeyReused { .. } => Outcome::Conflict,
            AppendError::Overloaded => Outcome::Overloaded,
            AppendError::Unavailable
            | AppendError::Refused { .. }
            | AppendError::Unknown
            | AppendError::Closed => Outcome::Unavailable,
            // Everything else could have been known when it was decided.
            _ => {
                tracing::error!(%error, "a command's decision cannot be recorded");
                let message = "what the handler decided cannot be recorded";
                let details = json!({ "code": "$invalid_decision", "reason": error.code() });
                let body = ErrorBody::new(ErrorCode::CommandFailed, message).with_details(details);
                return Self::new(Outcome::Failed, body);
            }
        };
        Self::new(outcome, append_error(error))
    }
}
