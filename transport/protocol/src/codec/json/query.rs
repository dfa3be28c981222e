//! What clients ask of projections, as JSON: `subscribe` and `fetch` where they name one.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tidewire_eventstore::{Generation, NUMBER_MAX};

use super::{
    client_message::Wire,
    read::{AsObject, Field, field, invalid, missing, present},
    write::Object,
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    messages::{QueryRequest, RequestId, Watch},
    query::{Reached, WrittenQuery},
};

#[derive(Deserialize)]
struct WireProjection<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    projection: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    category: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    all: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    channel: Option<&'a RawValue>,
}

/// Whether a target is a projection, and nothing else. What is no target at all is not.
pub(super) fn is_projection(of: Field<'_>) -> bool {
    let target = of.optional::<AsObject<WireProjection<'_>>>("");
    let Ok(Some(AsObject(target))) = target else { return false };
    let others = [target.stream, target.category, target.all, target.channel];
    target.projection.is_some() && others.iter().all(Option::is_none)
}

fn written(of: Field<'_>) -> Result<WrittenQuery, ErrorBody> {
    WrittenQuery::parse(&of.required::<Value>("has to be a query")?)
}

/// Refuses fields that go with events only.
fn refuse(fields: &[(&'static str, Option<&RawValue>)]) -> Result<(), ErrorBody> {
    match fields.iter().find(|(name, json)| field(name, *json).raw().is_some()) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("{name} does not go with a projection");
            Err(ErrorBody::new(ErrorCode::InvalidQuery, message)
                .with_details(json!({ "field": name })))
        }
    }
}

/// Reads a `subscribe` to a projection.
pub(super) fn watch(wire: &Wire<'_>) -> Result<Watch, ErrorBody> {
    refuse(&[
        ("filter", wire.filter),
        ("ack", wire.ack),
        ("window", wire.window),
        ("consumer", wire.consumer),
        ("batch", wire.batch),
    ])?;
    Ok(Watch {
        sub: field("sub", wire.sub).sub()?,
        query: written(field("to", wire.to))?.live()?,
        after: after(field("after", wire.after), field("generation", wire.generation))?,
        epoch: field("epoch", wire.epoch).uuid()?,
    })
}

/// What the client holds: nothing, whether it says `"start"` or `"end"`, or a generation through
/// a position.
fn after(after: Field<'_>, generation: Field<'_>) -> Result<Option<Reached>, ErrorBody> {
    let Some(json) = after.raw() else { return Ok(None) };
    if json.get().starts_with('"') {
        return match after.text(usize::MAX)?.as_deref() {
            Some("start" | "end") => Ok(None),
            _ => Err(invalid(after.name, "has to be a position, \"start\" or \"end\"")),
        };
    }
    let position = after.position()?.ok_or_else(|| missing(after.name))?;
    let generation = generation.number()?.ok_or_else(|| missing(generation.name))?;
    Ok(Some(Reached { generation: Generation::new(generation), position }))
}

/// Reads a `fetch` from a projection.
pub(super) fn query_request(wire: &Wire<'_>) -> Result<QueryRequest, ErrorBody> {
    const TIMEOUT_WHY: &str = "has to be a whole number from 0 to 30000";
    const LIMIT_WHY: &str = "has to be at least 1";
    refuse(&[("after", wire.after), ("before", wire.before), ("direction", wire.direction)])?;
    let written = written(field("from", wire.from))?;
    let limit = match field("limit", wire.limit).number()? {
        None => None,
        Some(limit) => {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            Some(NonZeroU32::new(limit).ok_or_else(|| invalid("limit", LIMIT_WHY))?)
        }
    };
    // One document needs no limit.
    let limit = match [limit, written.limit].into_iter().flatten().min() {
        None if written.key.is_some() => NonZeroU32::MIN,
        limit => limit.ok_or_else(|| missing("limit"))?,
    };
    let cursor = field("cursor", wire.cursor).text(usize::MAX)?;
    if cursor.as_ref().is_some_and(|cursor| cursor.len() > QueryRequest::CURSOR_BYTES_MAX) {
        return Err(ErrorCode::InvalidCursor.into());
    }
    let timeout_ms = field("timeout_ms", wire.timeout_ms).optional::<u32>(TIMEOUT_WHY)?;
    if timeout_ms.is_some_and(|timeout| timeout > QueryRequest::TIMEOUT_MS_MAX) {
        return Err(invalid("timeout_ms", TIMEOUT_WHY));
    }
    Ok(QueryRequest {
        query: written.paged(Some(limit)),
        cursor: cursor.map(Into::into),
        limit: limit.get() as usize,
        wait: field("wait", wire.wait).position()?,
        timeout_ms: timeout_ms.unwrap_or(QueryRequest::TIMEOUT_MS_DEFAULT),
    })
}

/// Writes the fields of a `subscribe`.
pub(super) fn write_watch(watch: &Watch, object: &mut Object<'_>) {
    object.number("sub", u64::from(watch.sub.get()));
    object.raw("to", watch.query.to_json().to_string().as_bytes());
    if let Some(after) = watch.after {
        object.number("after", after.position.get());
        object.number("generation", after.generation.get());
    }
    if let Some(epoch) = watch.epoch {
        object.plain("epoch", epoch);
    }
}

/// Writes the fields of a `fetch`.
pub(super) fn write_query_request(id: &RequestId, request: &QueryRequest, object: &mut Object<'_>) {
    object.string("id", id.as_str());
    object.raw("from", request.query.to_json_from().to_string().as_bytes());
    object.number("limit", (request.limit as u64).min(NUMBER_MAX));
    if let Some(cursor) = &request.cursor {
        object.string("cursor", cursor);
    }
    if let Some(wait) = request.wait {
        object.number("wait", wait.get());
    }
    if request.timeout_ms != QueryRequest::TIMEOUT_MS_DEFAULT {
        object.number("timeout_ms", u64::from(request.timeout_ms));
    }
}
