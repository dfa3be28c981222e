//! What operators and their programs look at: health, readiness, metrics, sessions.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Query},
};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;

use super::{authorize, error, invalid, number, problem};
use crate::{answers, dispatcher::Describe, node::Node};

/// Sessions in one answer where the request names no limit, and at most.
const SESSIONS_DEFAULT: u64 = 100;
const SESSIONS_MAX: u64 = 10_000;

/// 200 as long as the process serves at all.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// 200 while new sessions are welcome and the log can be reached; else 503.
pub(super) async fn readyz(node: Data<Node>) -> HttpResponse {
    if node.is_draining() {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "closing",
            "the server is shutting down".to_owned(),
        );
    }
    match node.store_head().await {
        Ok(head) => HttpResponse::Ok().json(json!({ "status": "ready", "head": head })),
        Err(failure) => error(&answers::read_error(&failure)),
    }
}

/// Prometheus text.
pub(super) async fn metrics(request: HttpRequest, node: Data<Node>) -> HttpResponse {
    if let Err(refusal) = authorize(&request, &node) {
        return refusal;
    }
    match node.metrics.render(node.head().get()) {
        Ok(text) => HttpResponse::Ok()
            .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
            .body(text),
        Err(failure) => {
            tracing::error!(%failure, "metrics cannot be rendered");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", failure.to_string())
        }
    }
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
) -> HttpResponse {
    if let Err(refusal) = authorize(&request, &node) {
        return refusal;
    }
    let limit = match number("limit", query.limit.as_deref()) {
        Err(refusal) => return refusal,
        Ok(None) => SESSIONS_DEFAULT,
        Ok(Some(limit @ 1..=SESSIONS_MAX)) => limit,
        Ok(Some(_)) => return invalid(format!("`limit` is a number from 1 to {SESSIONS_MAX}")),
    } as usize;
    let dispatchers = node.dispatchers();
    let answers = join_all(dispatchers.iter().map(|worker| worker.send(Describe { limit }))).await;
    // A worker that does not answer is shutting down; it has no sessions to tell of.
    let mut sessions: Vec<_> = answers.into_iter().flatten().flatten().collect();
    sessions.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.id.cmp(&b.id)));
    sessions.truncate(limit);
    HttpResponse::Ok().json(json!({
        "node": node.name,
        "head": node.head(),
        "count": node.sessions(),
        "sessions": sessions,
    }))
}
