//! `/consumers`: durable consumers and what they parked, for people and their programs.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload, Query},
};
use bytes::BytesMut;
use serde::Deserialize;
use serde_json::{Value, json};
use tidewire_eventstore::{
    CONSUMERS_PAGE_MAX, ConsumerError, ConsumerInfo, ConsumerName, GlobalPosition, NUMBER_MAX,
    PARKED_PAGE_MAX, ParkedInfo, Positions, Sharing, Target, Timestamp,
};
use tidewire_protocol::{ErrorBody, ErrorCode, codec::json::format_time};

use super::{Refusal, authorize, body, number};
use crate::{
    answers,
    node::{AskError, FetchError, Node},
};

/// Parked events a page where the request names no limit.
const PARKED_DEFAULT: usize = 100;

/// Positions that one request may list.
const POSITIONS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    after: Option<String>,
    limit: Option<String>,
}

impl PageQuery {
    fn limit(&self, default: usize, max: usize) -> Result<usize, Refusal> {
        match number("limit", self.limit.as_deref())? {
            None => Ok(default),
            Some(limit) if (1..=max as u64).contains(&limit) => Ok(limit as usize),
            Some(_) => Err(Refusal::invalid(format!("`limit` is a number from 1 to {max}"))),
        }
    }
}

/// The consumers, by name.
pub(super) async fn list(
    request: HttpRequest,
    query: Query<PageQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let limit = query.limit(CONSUMERS_PAGE_MAX, CONSUMERS_PAGE_MAX)?;
    let after = query.after.as_deref().map(ConsumerName::recorded).transpose()?;
    let infos = node
        .ask(move |consumers| async move { Ok(consumers.consumers(after, limit).await?) })
        .await
        .map_err(refusal)?;
    let more = infos.len() == limit;
    let mut answer = json!({
        "consumers": infos.iter().map(consumer).collect::<Vec<_>>(),
        "head": node.log.head(),
        "more": more,
    });
    if let Some(last) = infos.last().filter(|_| more) {
        answer["next"] = json!(last.name);
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// One consumer.
pub(super) async fn show(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let name = ConsumerName::recorded(&name)?;
    let info = node
        .ask(move |consumers| async move { consumers.consumer(name).await })
        .await
        .map_err(refusal)?;
    let mut answer = consumer(&info);
    answer["head"] = json!(node.log.head());
    Ok(HttpResponse::Ok().json(answer))
}

/// Deletes a consumer, with its progress and its parked events.
pub(super) async fn delete(
    request: HttpRequest,
    name: Path<String>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let name = ConsumerName::recorded(&name)?;
    node.ask(move |consumers| async move { consumers.delete_consumer(name).await })
        .await
        .map_err(refusal)?;
    Ok(HttpResponse::NoContent().finish())
}

/// A page of what a consumer parked.
pub(super) async fn parked(
    request: HttpRequest,
    name: Path<String>,
    query: Query<PageQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let name = ConsumerName::recorded(&name)?;
    let limit = query.limit(PARKED_DEFAULT, PARKED_PAGE_MAX)?;
    let after = GlobalPosition::new(number("after", query.after.as_deref())?.unwrap_or(0));
    let page = node
        .ask(move |consumers| async move { consumers.parked(name, after, limit).await })
        .await
        .map_err(refusal)?;
    let mut answer = json!({
        "parked": page.parked.iter().map(parked_event).collect::<Vec<_>>(),
        "more": page.more,
    });
    if let Some(last) = page.parked.last().filter(|_| page.more) {
        answer["next"] = json!(last.position);
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// Has parked events delivered again.
pub(super) async fn replay(
    request: HttpRequest,
    name: Path<String>,
    payload: Payload,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    let (name, positions) = chosen(request, &name, payload, &node).await?;
    let count = node
        .ask(move |consumers| async move { consumers.replay(name, positions).await })
        .await
        .map_err(refusal)?;
    Ok(HttpResponse::Ok().json(json!({ "count": count })))
}

/// Forgets parked events.
pub(super) async fn drop_parked(
    request: HttpRequest,
    name: Path<String>,
    payload: Payload,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    let (name, positions) = chosen(request, &name, payload, &node).await?;
    let count = node
        .ask(move |consumers| async move { consumers.drop_parked(name, positions).await })
        .await
        .map_err(refusal)?;
    Ok(HttpResponse::Ok().json(json!({ "count": count })))
}

/// Which parked events a request names in its body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    positions: Option<Vec<u64>>,
    #[serde(default)]
    all: bool,
}

async fn chosen(
    request: HttpRequest,
    name: &str,
    payload: Payload,
    node: &Node,
) -> Result<(ConsumerName, Positions), Refusal> {
    authorize(&request, node)?;
    body::require_json(&request)?;
    let name = ConsumerName::recorded(name)?;
    let body = body::read(payload, node.config.message_bytes_max).await?;
    let chosen: Chosen = serde_json::from_slice(&body).map_err(|failure| {
        let text =
            format!("the body is not {{\"positions\": […]}} or {{\"all\": true}}: {failure}");
        Refusal::from(ErrorBody::new(ErrorCode::InvalidMessage, text))
    })?;
    let positions = match chosen {
        Chosen { positions: None, all: true } => Positions::All,
        Chosen { positions: Some(positions), all: false } => {
            let in_range = (1..=POSITIONS_MAX).contains(&positions.len())
                && positions.iter().all(|position| *position <= NUMBER_MAX);
            if !in_range {
                let text = format!("`positions` are 1 to {POSITIONS_MAX} positions");
                return Err(Refusal::invalid(text));
            }
            Positions::Listed(positions.into_iter().map(GlobalPosition::new).collect())
        }
        _ => {
            let text = "either `positions` or `all` has to be there".to_owned();
            return Err(ErrorBody::new(ErrorCode::MissingField, text).into());
        }
    };
    Ok((name, positions))
}

fn consumer(info: &ConsumerInfo) -> Value {
    let to = match &info.target {
        Target::All => json!({ "all": true }),
        Target::Category(category) => json!({ "category": category }),
        Target::Stream(stream) => json!({ "stream": stream }),
    };
    let sharing = match info.sharing {
        Sharing::Exclusive => "exclusive",
        Sharing::Group => "group",
    };
    let holders = info.holders.iter().map(|holder| {
        json!({
            "member": holder.member.as_uuid(),
            "node": holder.node,
            "partitions": holder.partitions.len(),
        })
    });
    let mut consumer = json!({
        "name": info.name,
        "sharing": sharing,
        "to": to,
        "created_at": time(info.created_at),
        "checkpoint": info.checkpoint,
        "parked": info.parked,
        "holders": holders.collect::<Vec<_>>(),
    });
    if let Some(filter) = &info.filter {
        // A filter was written by us as JSON; one that is not is shown as it is.
        consumer["filter"] = serde_json::from_str(filter).unwrap_or_else(|_| json!(filter));
    }
    consumer
}

fn parked_event(parked: &ParkedInfo) -> Value {
    json!({
        "position": parked.position,
        "stream": parked.stream,
        "type": parked.event_type,
        "attempts": parked.attempts,
        "reason": parked.reason,
        "at": time(parked.parked_at),
        "replaying": parked.replaying,
    })
}

fn time(time: Timestamp) -> String {
    let mut text = BytesMut::new();
    format_time(time, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn refusal(error: AskError) -> Refusal {
    let error = match error {
        AskError::Overloaded => return answers::fetch_error(&FetchError::Overloaded).into(),
        AskError::Consumer(error) => error,
    };
    let body = answers::consumer_error(&error);
    match error {
        ConsumerError::Unknown { .. } => Refusal::with_status(StatusCode::NOT_FOUND, body),
        ConsumerError::NotParked { .. } => Refusal::with_status(StatusCode::CONFLICT, body),
        _ => body.into(),
    }
}
