//! `GET /events` reads the log, or a category of it, by page.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use bytes::BytesMut;
use serde::Deserialize;
use tidewire_eventstore::{
    Category, Direction, EventType, GlobalPosition, Read, ReadStart, Target,
};
use tidewire_protocol::codec::json;

use super::{Refusal, authorize, number};
use crate::{
    answers,
    node::{Fetched, Node},
};

/// Events a page where the request names no limit.
const LIMIT_DEFAULT: usize = 100;

/// The largest page that a request may ask for, in events.
const LIMIT_MAX: u64 = 1000;

/// What a request for a page may say. Numbers are parsed later, for errors that say more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
    limit: Option<String>,
    direction: Option<String>,
    category: Option<String>,
    types: Option<String>,
}

/// Reads a page of the whole log or of a category, by position.
pub(super) async fn read(
    request: HttpRequest,
    query: Query<PageQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let target = match &query.category {
        None => Target::All,
        Some(category) => Target::Category(Category::new(category)?),
    };
    let position = |number| ReadStart::Position(GlobalPosition::new(number));
    let after = number("after", query.after.as_deref())?.map(position);
    let before = number("before", query.before.as_deref())?.map(position);
    read_page(&node, target, after, before, &query, false).await
}

/// Reads a page of `target`; pages of one stream are numbered by revision.
pub(super) async fn read_page(
    node: &Node,
    target: Target,
    after: Option<ReadStart>,
    before: Option<ReadStart>,
    query: &PageQuery,
    by_revision: bool,
) -> Result<HttpResponse, Refusal> {
    let direction = match (query.direction.as_deref(), after, before) {
        (_, Some(_), Some(_)) => {
            return Err(Refusal::invalid("`after` and `before` exclude each other".to_owned()));
        }
        (Some("forwards"), _, None) | (None, _, None) => Direction::Forwards,
        (Some("backwards"), None, _) | (None, None, Some(_)) => Direction::Backwards,
        (Some("forwards" | "backwards"), ..) => {
            return Err(Refusal::invalid("`after` reads forwards, `before` backwards".to_owned()));
        }
        (Some(other), ..) => {
            return Err(Refusal::invalid(format!(
                "`direction` is forwards or backwards, not {other:?}"
            )));
        }
    };
    if by_revision && (query.category.is_some() || query.types.is_some()) {
        return Err(Refusal::invalid("`category` and `types` belong to /events".to_owned()));
    }
    let limit = match number("limit", query.limit.as_deref())? {
        None => LIMIT_DEFAULT,
        Some(limit @ 1..=LIMIT_MAX) => limit as usize,
        Some(_) => {
            return Err(Refusal::invalid(format!("`limit` is a number from 1 to {LIMIT_MAX}")));
        }
    };
    let types = query.types.iter().flat_map(|types| types.split(','));
    let types: Result<Vec<_>, _> = types.map(EventType::recorded).collect();
    let read = Read {
        types: types?,
        direction,
        from: after.or(before).unwrap_or(ReadStart::End),
        ..Read::after(target, GlobalPosition::START, limit)
    };
    // Before the page is read: whoever takes positions of an epoch's end for an earlier one's starts
    // over, which does no harm; the reverse would lose events.
    let epoch = node.log.epochs().last().map(|epoch| epoch.epoch).filter(|_| !by_revision);
    let page = node.fetch(read).await.map_err(|failure| answers::fetch_error(&failure))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(render(&page, by_revision, epoch)))
}

fn render(page: &Fetched, by_revision: bool, epoch: Option<uuid::Uuid>) -> bytes::Bytes {
    let mut out = BytesMut::from(&b"{\"events\":["[..]);
    for (index, event) in page.events.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b",");
        }
        json::encode_event(event, &mut out);
    }
    out.extend_from_slice(format!("],\"more\":{}", page.next.is_some()).as_bytes());
    if let Some((position, revision)) = page.next {
        let next = if by_revision { revision.get() } else { position.get() };
        out.extend_from_slice(format!(",\"next\":{next}").as_bytes());
    }
    if let Some(epoch) = epoch {
        out.extend_from_slice(format!(",\"head\":{},\"epoch\":\"{epoch}\"", page.head).as_bytes());
    }
    out.extend_from_slice(b"}\n");
    out.freeze()
}
