//! Summaries as JSON: what `subscribe` says of its batches, and the counts.

use std::{collections::BTreeMap, num::NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use tidewire_eventstore::{EventType, GlobalPosition, Timestamp};

use super::{
    documents::in_frame,
    read::{AsObject, Field, invalid},
    server_message::DecodeError,
    time::{format_time, parse_time},
    write::{self, Object},
};
use crate::{
    codes::ErrorBody,
    messages::{Batch, Sub, Summary, SummaryWindow},
};

#[derive(Deserialize)]
struct WireBatch {
    max_events: Option<NonZeroU32>,
    max_delay_ms: Option<u32>,
    summary_ms: Option<u32>,
    summary_events: Option<u32>,
}

/// The longest time that a client may ask the server to hold events back, in milliseconds.
const BATCH_DELAY_MS_MAX: u32 = 10_000;

/// Reads `batch`.
pub(super) fn batch(of: Field<'_>) -> Result<Batch, ErrorBody> {
    const WHY: &str = "has to be {\"max_events\": 1…, \"max_delay_ms\": 0…10000}, \
                       {\"summary_ms\": 100…60000} or {\"summary_events\": 1…100000}";
    let Some(AsObject(batch)) = of.optional::<AsObject<WireBatch>>(WHY)? else {
        return Ok(Batch::default());
    };
    let WireBatch { max_events, max_delay_ms, summary_ms, summary_events } = batch;
    let summary = match (summary_ms, summary_events) {
        (None, None) => None,
        (Some(ms @ Summary::MILLIS_MIN..=Summary::MILLIS_MAX), None) => Some(Summary::Millis(ms)),
        (None, Some(events @ 1..=Summary::EVENTS_MAX)) => Some(Summary::Events(events)),
        _ => return Err(invalid(of.name, WHY)),
    };
    let limited = max_events.is_some() || max_delay_ms.is_some();
    if summary.is_some() && limited || max_delay_ms.is_some_and(|delay| delay > BATCH_DELAY_MS_MAX)
    {
        return Err(invalid(of.name, WHY));
    }
    Ok(Batch { max_events, max_delay_ms, summary })
}

/// Writes `batch`, where it says anything.
pub(super) fn write_batch(batch: Batch, object: &mut Object<'_>) {
    if batch == Batch::default() {
        return;
    }
    let mut inner = Object::begin(object.key("batch"));
    if let Some(max_events) = batch.max_events {
        inner.number("max_events", u64::from(max_events.get()));
    }
    if let Some(max_delay_ms) = batch.max_delay_ms {
        inner.number("max_delay_ms", u64::from(max_delay_ms));
    }
    match batch.summary {
        None => {}
        Some(Summary::Millis(ms)) => inner.number("summary_ms", u64::from(ms)),
        Some(Summary::Events(events)) => inner.number("summary_events", u64::from(events)),
    }
    inner.end();
}

/// A whole unmasked WebSocket text frame with a `summary` message.
pub fn encode_summary_frame(sub: Sub, summary: &SummaryWindow) -> Bytes {
    let types = summary.counts.keys().map(|name| name.as_str().len() + 24);
    in_frame(types.sum(), |out| write_summary(sub, summary, out))
}

pub(super) fn write_summary(sub: Sub, summary: &SummaryWindow, out: &mut BytesMut) {
    let mut object = Object::message("summary", out);
    object.number("sub", u64::from(sub.get()));
    object.number("after", summary.after.get());
    object.number("position", summary.position.get());
    let out = object.key("counts");
    out.put_u8(b'{');
    for (at, (name, count)) in summary.counts.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        write::string(name.as_str(), out);
        out.put_u8(b':');
        write::number(*count, out);
    }
    out.put_u8(b'}');
    object.number("count", summary.count());
    if let Some((from, to)) = summary.between {
        for (name, at) in [("from", from), ("to", to)] {
            let out = object.key(name);
            out.put_u8(b'"');
            format_time(at, out);
            out.put_u8(b'"');
        }
    }
    object.end();
}

/// Reads the fields of a `summary`.
pub(super) fn read_summary(
    after: GlobalPosition,
    position: GlobalPosition,
    counts: Field<'_>,
    from: Field<'_>,
    to: Field<'_>,
) -> Result<SummaryWindow, DecodeError> {
    let time = |of: Field<'_>| -> Result<Option<Timestamp>, DecodeError> {
        let Some(text) = of.text(usize::MAX)? else { return Ok(None) };
        let at = parse_time(&text);
        Ok(Some(at.ok_or_else(|| DecodeError::Invalid(format!("{} is not a time", of.name)))?))
    };
    let counts: BTreeMap<String, u64> = counts.required("has to be an object of counts")?;
    let counts = counts.into_iter().map(|(name, count)| {
        let name = EventType::recorded(&name);
        Ok((name.map_err(|error| DecodeError::Invalid(error.to_string()))?, count))
    });
    let counts: BTreeMap<EventType, u64> = counts.collect::<Result<_, DecodeError>>()?;
    if counts.values().try_fold(0_u64, |sum, count| sum.checked_add(*count)).is_none() {
        return Err(DecodeError::Invalid("the counts are too large".to_owned()));
    }
    if position < after {
        return Err(DecodeError::Invalid("position is before after".to_owned()));
    }
    let between = time(from)?.zip(time(to)?);
    Ok(SummaryWindow { after, position, counts, between })
}
