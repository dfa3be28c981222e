//! The body of a request that writes: JSON, and bounded.

use actix_web::{
    HttpRequest,
    http::{StatusCode, header},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tidewire_protocol::ErrorCode;

use super::Refusal;

/// Refuses a body that is not said to be JSON: a page of another origin cannot say so unasked.
pub(super) fn require_json(request: &HttpRequest) -> Result<(), Refusal> {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if is_json {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the body has to be application/json",
    ))
}

/// The body, unless it is larger than `bytes_max`: then it is refused before it is buffered.
pub(super) async fn read(mut payload: Payload, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|failure| {
            Refusal::new(StatusCode::BAD_REQUEST, "incomplete_body", failure.to_string())
        })?;
        if body.len() + chunk.len() > bytes_max {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::TooLarge.as_str(),
                format!("the body has more than {bytes_max} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
