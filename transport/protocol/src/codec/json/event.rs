//! One event as JSON: the hot path, nearly all of it copying.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName,
};
use uuid::Uuid;

use super::{
    read::{AsObject, present},
    time, write,
};
use crate::{
    frame::{self, Opcode},
    messages::{Delivered, Sub},
};

/// What an event costs beside its payload, names and metadata, at most, in bytes.
const OVERHEAD_BYTES: usize = 224;

/// About how many bytes an event takes as JSON: never fewer, unless its names need escaping.
pub fn event_bytes(event: &RecordedEvent) -> usize {
    let payload = match &event.payload {
        Payload::Json(data) => data.len(),
        Payload::Binary { content_type, data } => content_type.len() + data.len().div_ceil(3) * 4,
        Payload::Erased | Payload::Removed => 0,
    };
    OVERHEAD_BYTES
        + payload
        + event.stream.as_str().len()
        + event.event_type.as_str().len()
        + event.meta.as_ref().map_or(0, Bytes::len)
}

/// Writes one event object.
///
/// A JSON payload and metadata are copied verbatim; they were validated when they were appended.
pub fn encode_event(event: &RecordedEvent, out: &mut BytesMut) {
    write_fields(event, out);
    out.put_u8(b'}');
}

/// Writes one event object with its `attempt`, which the first one goes without.
pub fn encode_delivered(delivered: &Delivered, out: &mut BytesMut) {
    write_fields(&delivered.event, out);
    if delivered.attempt > 1 {
        out.put_slice(b",\"attempt\":");
        write::number(u64::from(delivered.attempt), out);
    }
    out.put_u8(b'}');
}

/// Writes an event object up to its closing brace.
fn write_fields(event: &RecordedEvent, out: &mut BytesMut) {
    out.reserve(event_bytes(event));
    out.put_slice(b"{\"position\":");
    write::number(event.position.get(), out);
    out.put_slice(b",\"stream\":");
    write::string(event.stream.as_str(), out);
    out.put_slice(b",\"revision\":");
    write::number(event.revision.get(), out);
    out.put_slice(b",\"type\":");
    write::string(event.event_type.as_str(), out);
    out.put_slice(b",\"id\":\"");
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    out.put_slice(event.id.as_uuid().hyphenated().encode_lower(&mut id).as_bytes());
    out.put_slice(b"\",\"at\":\"");
    time::format_time(event.recorded_at, out);
    out.put_u8(b'"');
    match &event.payload {
        Payload::Json(data) => {
            out.put_slice(b",\"data\":");
            out.put_slice(data);
        }
        Payload::Binary { content_type, data } => {
            out.put_slice(b",\"data_base64\":\"");
            base64(data, out);
            out.put_slice(b"\",\"content_type\":");
            write::string(content_type, out);
        }
        // Nobody is sent a removed event; should one come here, it has nothing to show either.
        Payload::Erased | Payload::Removed => out.put_slice(b",\"data\":null,\"erased\":true"),
    }
    if let Some(meta) = &event.meta {
        out.put_slice(b",\"meta\":");
        out.put_slice(meta);
    }
}

/// Writes bytes as Base64 (RFC 4648, section 4).
pub(super) fn base64(data: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.resize(start + data.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(data, &mut out[start..]);
    debug_assert_eq!(written, Ok(out.len() - start), "the size is exact");
}

/// Writes a whole unmasked WebSocket text frame `{"type":"events","sub":…,"events":[…]}` from
/// events that [`encode_event`] wrote, in their order.
pub fn encode_events_frame(sub: Sub, events: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    const HEAD: &[u8] = b"{\"type\":\"events\",\"sub\":";
    const OPEN: &[u8] = b",\"events\":[";
    const END: &[u8] = b"]}";
    let digits = sub.get().checked_ilog10().unwrap_or(0) as usize + 1;
    let commas = events.len().saturating_sub(1);
    let objects: usize = events.iter().map(|event| event.as_ref().len()).sum();
    let len = HEAD.len() + digits + OPEN.len() + objects + commas + END.len();
    out.reserve(frame::HEADER_BYTES_MAX + len);
    frame::encode_header(Opcode::Text, len, out);
    let start = out.len();
    out.put_slice(HEAD);
    write::number(u64::from(sub.get()), out);
    out.put_slice(OPEN);
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(event.as_ref());
    }
    out.put_slice(END);
    debug_assert_eq!(out.len() - start, len, "the header announced what was written");
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    position: u64,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    revision: u64,
    #[serde(rename = "type", borrow)]
    event_type: std::borrow::Cow<'a, str>,
    id: Uuid,
    #[serde(borrow)]
    at: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    content_type: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    attempt: Option<u32>,
    #[serde(default)]
    erased: bool,
}

/// Reads one event object as [`encode_event`] writes it; unknown fields are passed over.
///
/// # Errors
///
/// What is wrong with it, for people.
pub fn decode_event(json: &[u8]) -> Result<RecordedEvent, String> {
    decode_delivered(json).map(|delivered| delivered.event)
}

/// Reads one event object as [`encode_delivered`] writes it; unknown fields are passed over.
///
/// # Errors
///
/// What is wrong with it, for people.
pub fn decode_delivered(json: &[u8]) -> Result<Delivered, String> {
    let AsObject(event): AsObject<WireEvent<'_>> =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let payload = match (event.data, event.data_base64, event.content_type) {
        _ if event.erased => Payload::Erased,
        (Some(data), None, _) => Payload::Json(Bytes::copy_from_slice(data.get().as_bytes())),
        (None, Some(data), Some(content_type)) => Payload::Binary {
            content_type: Arc::from(&*content_type),
            data: STANDARD.decode(&*data).map_err(|error| error.to_string())?.into(),
        },
        _ => return Err("an event has either data, or data_base64 with content_type".to_owned()),
    };
    if event.position > tidewire_eventstore::NUMBER_MAX
        || event.revision > tidewire_eventstore::NUMBER_MAX
    {
        return Err("a position or a revision is too large".to_owned());
    }
    let attempt = event.attempt.unwrap_or(1);
    if attempt == 0 {
        return Err("attempts are counted from 1".to_owned());
    }
    let event = RecordedEvent {
        position: GlobalPosition::new(event.position),
        stream: StreamName::recorded(&event.stream).map_err(|error| error.to_string())?,
        revision: Revision::new(event.revision),
        event_type: EventType::recorded(&event.event_type).map_err(|error| error.to_string())?,
        id: EventId::from(event.id),
        recorded_at: time::parse_time(&event.at).ok_or("at is not a time")?,
        payload,
        meta: event.meta.map(|meta| Bytes::copy_from_slice(meta.get().as_bytes())),
    };
    Ok(Delivered { event, attempt })
}
