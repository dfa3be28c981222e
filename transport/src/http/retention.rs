//! Removing over HTTP: `DELETE /streams/{stream}` deletes a stream, or truncates it with
//! `?before=REVISION`; `DELETE /events/{position}` erases what an event carries; and
//! `POST /categories/{category}/retention` removes the oldest events of a category by age or size.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload, Query},
};
use serde::Deserialize;
use serde_json::json;
use tidewire_eventstore::{
    Category, EventRef, GlobalPosition, Removal, RemoveError, Removed, Revision, StreamName,
};
use tidewire_protocol::{ErrorBody, ErrorCode};

use super::{Refusal, authorize, body, number};
use crate::{answers, node::Node, retention::RemovalFailure};

/// The largest body of a request for a category, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;

/// What may be said about a stream that is to go. A parameter that is misspelt must not delete it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    before: Option<String>,
}

/// Deletes a stream, or removes its events before a revision.
pub(super) async fn remove_stream(
    request: HttpRequest,
    stream: Path<String>,
    query: Query<StreamQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let stream = StreamName::new(&stream)?;
    let removal = match number("before", query.before.as_deref())? {
        None => Removal::Delete { stream },
        Some(before) => Removal::Truncate { stream, before: Revision::new(before) },
    };
    Ok(answer(&node.remove(removal).await?))
}

/// Erases what one event carries.
pub(super) async fn erase(
    request: HttpRequest,
    position: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let position = number("position", Some(&position))?.unwrap_or_default();
    let event = EventRef::Position(GlobalPosition::new(position));
    let removed = node.remove(Removal::Erase(event)).await?;
    Ok(HttpResponse::Ok().json(match removed.erasure {
        Some(notice) => json!({
            "erased": removed.events,
            "bytes": removed.bytes,
            "revision": notice.revision,
            "position": notice.position,
        }),
        None => json!({ "erased": 0, "bytes": 0 }),
    }))
}

/// What may stay of a category.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retention {
    max_age_seconds: Option<u64>,
    max_bytes: Option<u64>,
}

/// Removes the oldest events of a category.
pub(super) async fn retain(
    request: HttpRequest,
    category: Path<String>,
    payload: Payload,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    body::require_json(&request)?;
    let category = Category::new(&category)?;
    let body = body::read(payload, BODY_BYTES_MAX).await?;
    let retention: Retention = serde_json::from_slice(&body)
        .map_err(|failure| Refusal::invalid(format!("the body is wrong: {failure}")))?;
    let Retention { max_age_seconds, max_bytes } = retention;
    if max_age_seconds.is_none() && max_bytes.is_none() {
        return Err(Refusal::invalid(
            "`max_age_seconds` or `max_bytes` has to be there".to_owned(),
        ));
    }
    let mut removed = Removed::default();
    let older = max_age_seconds.map(|seconds| Removal::Older {
        category: category.clone(),
        than: Duration::from_secs(seconds),
    });
    let beyond = max_bytes.map(|bytes| Removal::Beyond { category, bytes });
    for removal in older.into_iter().chain(beyond) {
        let part = node.remove(removal).await?;
        removed.events += part.events;
        removed.bytes += part.bytes;
    }
    Ok(answer(&removed))
}

fn answer(removed: &Removed) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "removed": removed.events, "bytes": removed.bytes }))
}

impl From<RemovalFailure> for Refusal {
    fn from(failure: RemovalFailure) -> Self {
        match failure {
            RemovalFailure::Overloaded => {
                ErrorBody::new(ErrorCode::Overloaded, "too many removals are waiting").into()
            }
            RemovalFailure::Unsettled => ErrorBody::new(
                ErrorCode::Unavailable,
                "it is removed from the log, but this server may still have copies; try again",
            )
            .into(),
            RemovalFailure::Store(RemoveError::Store(error)) => answers::read_error(&error).into(),
            RemovalFailure::Store(error @ RemoveError::NotFound) => {
                Self::new(StatusCode::NOT_FOUND, error.code(), error.to_string())
            }
            RemovalFailure::Store(error) => {
                Self::new(StatusCode::BAD_REQUEST, error.code(), error.to_string())
            }
        }
    }
}
