//! What operators and their programs look at: health, readiness, metrics, sessions.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use tidewire_protocol::{ErrorBody, ErrorCode};

use super::{Refusal, authorize, number};
use crate::{answers, dispatcher::Describe, node::Node};

/// Sessions in one answer where the request names no limit, and at most.
const SESSIONS_DEFAULT: u64 = 100;
const SESSIONS_MAX: u64 = 10_000;

/// 200 as long as the process serves at all.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// 200 while new sessions are welcome, the log can be reached, and is followed; else 503.
pub(super) async fn readyz(node: Data<Node>) -> Result<HttpResponse, Refusal> {
    if node.is_draining() {
        return Err(ErrorBody::of(ErrorCode::Closing).into());
    }
    if !node.is_following() {
        let message = "the log is not followed any more";
        return Err(ErrorBody::new(ErrorCode::Unavailable, message).into());
    }
    let head = node.store_head().await.map_err(|failure| answers::read_error(&failure))?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready", "head": head })))
}

/// Prometheus text.
pub(super) async fn metrics(
    request: HttpRequest,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let projections = node.live.projections().map(|all| all.stats()).unwrap_or_default();
    let text = node.metrics.render(node.log.head().get(), projections).map_err(|failure| {
        tracing::error!(%failure, "metrics cannot be rendered");
        ErrorBody::of(ErrorCode::Internal)
    })?;
    Ok(HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(text))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsQuery {
    limit: Option<String>,
}

/// The sessions of this node.
pub(super) async fn sessions(
    request: HttpRequest,
    query: Query<SessionsQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let limit = match number("limit", query.limit.as_deref())? {
        None => SESSIONS_DEFAULT,
        Some(limit @ 1..=SESSIONS_MAX) => limit,
        Some(_) => {
            let message = format!("`limit` is a number from 1 to {SESSIONS_MAX}");
            return Err(Refusal::invalid(message));
        }
    } as usize;
    let dispatchers = node.dispatchers();
    let answers = join_all(dispatchers.iter().map(|worker| worker.send(Describe { limit }))).await;
    // A worker that does not answer is shutting down; it has no sessions to tell of.
    let mut sessions: Vec<_> = answers.into_iter().flatten().flatten().collect();
    sessions.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.id.cmp(&b.id)));
    sessions.truncate(limit);
    Ok(HttpResponse::Ok().json(json!({
        "node": node.name,
        "head": node.log.head(),
        "count": node.sessions(),
        "sessions": sessions,
    })))
}
