//! HTTP beside the socket: append, read by page, health, metrics, sessions.
//!
//! The same fields and codes as on the wire. Errors are `{"error": {"code", "message",
//! "retryable", …}}`. There are no CORS headers, and a write has to be `application/json`, which a
//! page of another origin cannot send without asking first — so it cannot write at all.

pub(crate) mod admin;
mod events;
mod streams;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use bytes::BytesMut;
use tidewire_protocol::{ErrorBody, ErrorCode, codec::json};

use crate::{answers::RETRY_AFTER, node::Node, websocket};

/// Routes everything that Tidewire serves.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/ws").route(web::get().to(websocket::open)))
        .service(
            web::resource("/streams/{stream:.+}")
                .route(web::post().to(streams::append))
                .route(web::get().to(streams::read)),
        )
        .service(web::resource("/events").route(web::get().to(events::read)))
        .service(web::resource("/healthz").route(web::get().to(admin::healthz)))
        .service(web::resource("/readyz").route(web::get().to(admin::readyz)))
        .service(web::resource("/metrics").route(web::get().to(admin::metrics)))
        .service(web::resource("/sessions").route(web::get().to(admin::sessions)));
}

/// An error that only HTTP knows.
pub(crate) fn problem(status: StatusCode, code: &'static str, message: String) -> HttpResponse {
    let retryable = status.is_server_error();
    let error = ErrorBody {
        code: code.into(),
        message: message.into(),
        retryable,
        retry_after_ms: retryable.then_some(RETRY_AFTER.as_millis() as u64),
        details: None,
    };
    respond(status, &error)
}

/// An error of the protocol, with the status that fits it.
pub(crate) fn error(error: &ErrorBody) -> HttpResponse {
    let status = match error.known() {
        Some(ErrorCode::Unauthorized) => StatusCode::UNAUTHORIZED,
        Some(ErrorCode::WrongExpectedRevision | ErrorCode::IdReused) => StatusCode::CONFLICT,
        Some(ErrorCode::TooLarge | ErrorCode::TooManyEvents) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(ErrorCode::TooManyRequests | ErrorCode::Overloaded) => StatusCode::TOO_MANY_REQUESTS,
        Some(ErrorCode::Unavailable | ErrorCode::Closing) => StatusCode::SERVICE_UNAVAILABLE,
        Some(ErrorCode::Internal | ErrorCode::Corrupt | ErrorCode::Refused) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::BAD_REQUEST,
    };
    respond(status, error)
}

fn respond(status: StatusCode, error: &ErrorBody) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if let Some(retry_after_ms) = error.retry_after_ms {
        response.insert_header((header::RETRY_AFTER, retry_after_ms.div_ceil(1000).to_string()));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    let mut body = BytesMut::from(&b"{\"error\":"[..]);
    json::encode_error(error, &mut body);
    body.extend_from_slice(b"}\n");
    response.content_type("application/json").body(body.freeze())
}

/// Lets a request pass that carries the server's token, or any where there is none.
fn authorize(request: &HttpRequest, node: &Node) -> Result<(), HttpResponse> {
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if node.session.auth.accepts(bearer) {
        Ok(())
    } else {
        Err(error(&ErrorBody::of(ErrorCode::Unauthorized)))
    }
}

/// A number in the query, or why it is not one.
fn number(name: &'static str, text: Option<&str>) -> Result<Option<u64>, HttpResponse> {
    text.map(|text| {
        text.parse().ok().filter(|number| *number <= tidewire_eventstore::NUMBER_MAX).ok_or_else(
            || invalid(format!("`{name}` has to be a number from 0 to 2^53 - 1, not {text:?}")),
        )
    })
    .transpose()
}

fn invalid(message: String) -> HttpResponse {
    error(&ErrorBody::new(ErrorCode::InvalidField, message))
}
