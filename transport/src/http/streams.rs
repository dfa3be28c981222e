//! `POST /streams/{stream}` appends; `GET /streams/{stream}` reads one stream by page.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Path, Payload, Query},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::json;
use tidewire_eventstore::{ReadStart, Revision, StreamName, Target};
use tidewire_protocol::{ErrorCode, codec::json};

use super::{
    Refusal, authorize,
    events::{PageQuery, read_page},
    number,
};
use crate::{answers, node::Node};

/// Appends the events of the body, and answers 201 once they are durable.
pub(super) async fn append(
    request: HttpRequest,
    stream: Path<String>,
    payload: Payload,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    demand_json(&request)?;
    let stream = StreamName::new(&stream)?;
    let body = body(payload, node.config.message_bytes_max).await?;
    let append = json::decode_append(stream.clone(), &body)?;
    let failed = |failure| answers::append_error(&failure);
    let pending = node.store.append(answers::append(append)).map_err(failed)?;
    let appended = pending.await.map_err(failed)?;
    Ok(HttpResponse::Created().json(json!({
        "stream": stream,
        "revision": appended.revision,
        "position": appended.position,
    })))
}

/// Reads a page of one stream, by revision.
pub(super) async fn read(
    request: HttpRequest,
    stream: Path<String>,
    query: Query<PageQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let target = Target::Stream(StreamName::new(&stream)?);
    let revision = |number| ReadStart::Revision(Revision::new(number));
    let after = number("after", query.after.as_deref())?.map(revision);
    let before = number("before", query.before.as_deref())?.map(revision);
    read_page(&node, target, after, before, &query, true).await
}

/// Refuses a body that does not call itself JSON.
pub(super) fn demand_json(request: &HttpRequest) -> Result<(), Refusal> {
    let json_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if json_type {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the body has to be application/json",
    ))
}

/// The body, unless it is larger than `bytes_max`: then it is refused before it is buffered.
pub(super) async fn body(mut payload: Payload, bytes_max: usize) -> Result<Bytes, Refusal> {
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
