//! `POST /streams/{stream}` appends; `GET /streams/{stream}` reads one stream by page.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Payload, Query},
};
use serde_json::json;
use tidewire_eventstore::{ReadStart, Revision, StreamName, Target};
use tidewire_protocol::codec::json;

use super::{
    Refusal, authorize, body,
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
    body::require_json(&request)?;
    let stream = StreamName::new(&stream)?;
    let body = body::read(payload, node.config.message_bytes_max).await?;
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
