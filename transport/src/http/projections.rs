//! `/projections`: read models and how they are doing, for people and their programs.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Query},
};
use bytes::BytesMut;
use serde::Deserialize;
use serde_json::{Value, json};
use tidewire_eventstore::{GlobalPosition, ProjectionName, Timestamp};
use tidewire_projections::{
    Progress, ProjectionStatus, StoreError, Watched,
    documents::{self, GenerationStatus, Parked, Status, Stopped, Wish},
};
use tidewire_protocol::{ErrorBody, ErrorCode, codec::json::format_time};

use super::{Refusal, authorize, body, number};
use crate::node::Node;

/// Parked events a page where the request names no limit.
const PARKED_DEFAULT: usize = 100;

/// The projections that this node has in its settings, by name.
pub(super) async fn list(request: HttpRequest, node: Data<Node>) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let all = node.live.projections().map(|all| all.all()).unwrap_or_default();
    let mut projections = Vec::with_capacity(all.len());
    for watched in all {
        projections.push(projection(&status(&node, watched).await?));
    }
    let head = node.log.head();
    Ok(HttpResponse::Ok().json(json!({ "projections": projections, "head": head })))
}

/// One projection.
pub(super) async fn show(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let watched = find(&node, &name)?;
    Ok(HttpResponse::Ok().json(projection(&status(&node, watched).await?)))
}

/// Asks for a rebuild.
pub(super) async fn rebuild(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    ask(&request, &name, &node, Wish::Rebuild).await
}

/// Gives a rebuild up.
pub(super) async fn cancel(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    ask(&request, &name, &node, Wish::Cancel).await
}

/// Has the event tried again at which a projection stopped.
pub(super) async fn resume(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    ask(&request, &name, &node, Wish::Resume).await
}

/// Has the event parked at which a projection stopped.
pub(super) async fn skip(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    ask(&request, &name, &node, Wish::Skip).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// A page of what a projection parked.
pub(super) async fn parked(
    request: HttpRequest,
    name: Path<String>,
    query: Query<PageQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let watched = find(&node, &name)?;
    let limit = match number("limit", query.limit.as_deref())? {
        None => PARKED_DEFAULT,
        Some(limit) if (1..=documents::PAGE_MAX as u64).contains(&limit) => limit as usize,
        Some(_) => {
            let text = format!("`limit` is a number from 1 to {}", documents::PAGE_MAX);
            return Err(Refusal::invalid(text));
        }
    };
    let after = GlobalPosition::new(number("after", query.after.as_deref())?.unwrap_or(0));
    let parked = on_runtime(&node, async move {
        let generation = watched.reached().generation;
        watched.documents().parked(generation, after, limit).await
    })
    .await?;
    let more = parked.len() == limit;
    let mut answer = json!({
        "parked": parked.iter().map(parked_event).collect::<Vec<_>>(),
        "more": more,
    });
    if let Some(last) = parked.last().filter(|_| more) {
        answer["next"] = json!(last.position);
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// Notes what the owner of a projection is to do.
async fn ask(
    request: &HttpRequest,
    name: &str,
    node: &Node,
    wish: Wish,
) -> Result<HttpResponse, Refusal> {
    authorize(request, node)?;
    body::require_json(request)?;
    let watched = find(node, name)?;
    let before = status(node, watched.clone()).await?;
    refuse_in_vain(&before.status, wish)?;
    on_runtime(node, async move { watched.wish(wish).await }).await?;
    let answer = json!({ "name": before.status.name, "wish": word(wish) });
    Ok(HttpResponse::Accepted().json(answer))
}

/// Refuses what there is nothing to do for.
fn refuse_in_vain(status: &Status, wish: Wish) -> Result<(), Refusal> {
    let building = status.building.as_ref();
    let is_stopped = status.active.stopped.is_some()
        || building.is_some_and(|building| building.stopped.is_some());
    let (code, message) = match wish {
        Wish::Resume | Wish::Skip if !is_stopped => ("not_stopped", "has not stopped"),
        Wish::Cancel if building.is_none() => ("not_building", "is not being rebuilt"),
        _ => return Ok(()),
    };
    let message = format!("the projection {} {message}", status.name);
    Err(Refusal::new(StatusCode::CONFLICT, code, message))
}

fn find(node: &Node, name: &str) -> Result<Watched, Refusal> {
    Ok(node.live.watched(&ProjectionName::recorded(name)?)?)
}

async fn status(node: &Node, watched: Watched) -> Result<ProjectionStatus, Refusal> {
    on_runtime(node, async move { watched.status().await }).await
}

/// Asks the database on its own runtime.
async fn on_runtime<T: Send + 'static>(
    node: &Node,
    question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, Refusal> {
    node.on_runtime(question)
        .await
        .unwrap_or(Err(StoreError::Unavailable))
        .map_err(|error| refusal(&error))
}

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Unavailable => ErrorBody::of(ErrorCode::Unavailable).into(),
        StoreError::Unknown => ErrorBody::of(ErrorCode::UnknownProjection).into(),
        other => {
            tracing::error!(failure = %other, "a projection cannot be looked at");
            ErrorBody::of(ErrorCode::Internal).into()
        }
    }
}

fn projection(status: &ProjectionStatus) -> Value {
    let Status { name, active, building, owner, wish, .. } = &status.status;
    json!({
        "name": name,
        "state": status.state.as_str(),
        "version": active.version,
        "generation": active.generation,
        "checkpoint": active.checkpoint,
        "head": status.head,
        "lag_events": status.lag.events,
        "lag_seconds": status.lag.age.as_secs_f64(),
        "owner": owner.as_ref().map(|(node, until)| {
            json!({ "node": node.as_ref(), "lease_until": time(*until) })
        }),
        "stopped": active.stopped.as_ref().map(stopped),
        "parked": active.parked,
        "building": building.as_ref().map(|building| {
            rebuilding(building, status.head, status.progress.as_ref())
        }),
        "wish": wish.map(word),
    })
}

fn rebuilding(
    building: &GenerationStatus,
    head: GlobalPosition,
    progress: Option<&Progress>,
) -> Value {
    json!({
        "generation": building.generation,
        "version": building.version,
        "position": building.checkpoint,
        "head": head,
        "events_per_second": progress.map(|progress| progress.events_per_second.round()),
        "left_ms": progress.and_then(|progress| progress.left).map(|left| left.as_millis() as u64),
        "parked": building.parked,
        "stopped": building.stopped.as_ref().map(stopped),
    })
}

fn stopped(stopped: &Stopped) -> Value {
    json!({ "position": stopped.position, "reason": stopped.reason })
}

fn parked_event(parked: &Parked) -> Value {
    json!({ "position": parked.position, "reason": parked.reason })
}

/// What a wish is called; also the end of the path that asks for it.
const fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Rebuild => "rebuild",
        Wish::Cancel => "cancel",
        Wish::Resume => "resume",
        Wish::Skip => "skip",
        _ => "other",
    }
}

fn time(time: Timestamp) -> String {
    let mut text = BytesMut::new();
    format_time(time, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
