//! A request that is refused: the error of the protocol, with the status that fits it.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use bytes::BytesMut;
use tidewire_eventstore::NameError;
use tidewire_protocol::{ErrorBody, ErrorCode, codec::json};

use crate::answers::RETRY_AFTER;

/// Why a request is refused; answered as `{"error": {"code", "message", "retryable", …}}`.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: Box<ErrorBody>,
}

impl Refusal {
    /// An error that only HTTP knows.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let retryable = status.is_server_error();
        let error = Box::new(ErrorBody {
            code: code.into(),
            message: message.into().into(),
            retryable,
            retry_after_ms: retryable.then_some(RETRY_AFTER.as_millis() as u64),
            details: None,
        });
        Self { status, error }
    }

    /// `error`, with a status of its own.
    pub(crate) fn with_status(status: StatusCode, error: ErrorBody) -> Self {
        Self { status, error: Box::new(error) }
    }

    /// A field or a parameter with a value that is not allowed.
    pub(crate) fn invalid(message: String) -> Self {
        ErrorBody::new(ErrorCode::InvalidField, message).into()
    }
}

impl From<ErrorBody> for Refusal {
    fn from(error: ErrorBody) -> Self {
        let status = match error.known() {
            Some(ErrorCode::Unauthorized) => StatusCode::UNAUTHORIZED,
            Some(
                ErrorCode::UnknownCommand
                | ErrorCode::UnknownCollection
                | ErrorCode::UnknownProjection
                | ErrorCode::NoSuchDocument,
            ) => StatusCode::NOT_FOUND,
            Some(
                ErrorCode::WrongExpectedRevision
                | ErrorCode::IdReused
                | ErrorCode::KeyReused
                | ErrorCode::StaleCursor
                | ErrorCode::Conflict,
            ) => StatusCode::CONFLICT,
            Some(ErrorCode::CommandFailed) => StatusCode::UNPROCESSABLE_ENTITY,
            Some(ErrorCode::TooLarge | ErrorCode::TooManyEvents) => StatusCode::PAYLOAD_TOO_LARGE,
            Some(ErrorCode::TooManyRequests | ErrorCode::Overloaded) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Some(
                ErrorCode::Unavailable
                | ErrorCode::Closing
                | ErrorCode::WaitTimeout
                | ErrorCode::ProjectionUnavailable,
            ) => StatusCode::SERVICE_UNAVAILABLE,
            Some(
                ErrorCode::Internal
                | ErrorCode::Corrupt
                | ErrorCode::Refused
                | ErrorCode::OutcomeUnknown,
            ) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, error: Box::new(error) }
    }
}

impl From<NameError> for Refusal {
    fn from(refused: NameError) -> Self {
        ErrorBody {
            code: refused.code().into(),
            ..ErrorBody::new(ErrorCode::InvalidField, refused.to_string())
        }
        .into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(wait_ms) = self.error.retry_after_ms {
            response.insert_header((header::RETRY_AFTER, wait_ms.div_ceil(1000).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        let mut body = BytesMut::from(&b"{\"error\":"[..]);
        json::encode_error(&self.error, &mut body);
        body.extend_from_slice(b"}\n");
        response.content_type("application/json").body(body.freeze())
    }
}
