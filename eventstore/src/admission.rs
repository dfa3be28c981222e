//! Admission: everything that can be told about an append or a command without the database.
//!
//! Runs on the caller's thread before the append is queued, once; the bytes of a payload are
//! looked at once and never copied.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    Append, AppendError, EventId, Execution, ExpectedRevision, Limits, NameError, NewEvent,
    Payload, StreamName, json,
    plan::{IdOrigin, Request, RequestCommand, RequestEvent},
};

/// What an event weighs in queues besides its payload and metadata: its names, ids and numbers.
const EVENT_BYTES: usize = 128;

/// What a command weighs in queues besides its result: its name, key, ids and numbers.
const COMMAND_BYTES: usize = 256;

/// Checks `append` against `limits` and gives the missing ids.
///
/// # Errors
///
/// The first thing wrong with it, by the order of its events.
pub(crate) fn admit(append: Append, limits: &Limits) -> Result<Request, AppendError> {
    let Append { stream, expected, events } = append;
    refuse_reserved(stream.as_str())?;
    let count = events.len();
    if count == 0 {
        return Err(AppendError::NoEvents);
    }
    if count > limits.append_events_max {
        return Err(AppendError::TooManyEvents { count, max: limits.append_events_max });
    }
    let mut content_bytes = 0_usize;
    for event in &events {
        content_bytes += check_size(event, limits)?;
    }
    within("append", content_bytes, limits.append_bytes_max)?;
    for (index, event) in events.iter().enumerate() {
        check_content(index, event, limits)?;
    }
    let events = events.into_iter().map(identified).collect();
    let bytes = content_bytes + count * EVENT_BYTES;
    Ok(Request { stream, expected, events, command: None, bytes })
}

/// Checks `execution` against `limits`, gives the missing ids and one to the execution itself. Its
/// name may be one of Tidewire's own: who may use which is for whoever takes commands in.
///
/// # Errors
///
/// The first thing wrong with it: its result, then its append as by [`admit`].
pub(crate) fn admit_execution(
    execution: Execution,
    limits: &Limits,
) -> Result<Request, AppendError> {
    let Execution { name, key, input, result, append } = execution;
    within("result", result.len(), limits.result_bytes_max)?;
    json::check(&result, limits.json_depth_max)
        .map_err(|reason| AppendError::InvalidResult { reason })?;
    let mut request = match append {
        Some(append) => admit(append, limits)?,
        None => Request {
            stream: StreamName::recorded("$none").expect("a good name"),
            expected: ExpectedRevision::Any,
            events: Vec::new(),
            command: None,
            bytes: 0,
        },
    };
    request.bytes += result.len() + COMMAND_BYTES;
    request.command = Some(RequestCommand { name, key, input, execution: Uuid::now_v7(), result });
    Ok(request)
}

fn refuse_reserved(name: &str) -> Result<(), NameError> {
    if name.starts_with('$') { Err(NameError::Reserved) } else { Ok(()) }
}

/// The bytes of one event's payload and metadata.
fn check_size(event: &NewEvent, limits: &Limits) -> Result<usize, AppendError> {
    let payload = event.payload.len();
    let meta = event.meta.as_ref().map_or(0, bytes::Bytes::len);
    within("payload", payload, limits.payload_bytes_max)?;
    within("meta", meta, limits.meta_bytes_max)?;
    Ok(payload + meta)
}

fn within(what: &'static str, bytes: usize, max: usize) -> Result<(), AppendError> {
    if bytes > max { Err(AppendError::TooLarge { what, bytes, max }) } else { Ok(()) }
}

fn check_content(index: usize, event: &NewEvent, limits: &Limits) -> Result<(), AppendError> {
    refuse_reserved(event.event_type.as_str())?;
    let check = |what, text: &[u8]| {
        json::check(text, limits.json_depth_max).map_err(|reason| AppendError::InvalidJson {
            index,
            what,
            reason,
        })
    };
    match &event.payload {
        Payload::Json(data) => check("payload", data)?,
        Payload::Binary { content_type, .. } => check_content_type(index, content_type)?,
        Payload::Erased | Payload::Removed => {
            let (what, reason) = ("payload", "there is none".to_owned());
            return Err(AppendError::InvalidJson { index, what, reason });
        }
    }
    event.meta.as_ref().map_or(Ok(()), |meta| check("meta", meta))
}

fn check_content_type(index: usize, content_type: &Arc<str>) -> Result<(), AppendError> {
    let length_is_good = (1..=200).contains(&content_type.len());
    if length_is_good && content_type.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(AppendError::InvalidContentType { index })
    }
}

fn identified(event: NewEvent) -> RequestEvent {
    let NewEvent { id, event_type, payload, meta } = event;
    let (id, id_origin) = match id {
        Some(id) => (id, IdOrigin::Client),
        None => (EventId::generate(), IdOrigin::Server),
    };
    RequestEvent { id, id_origin, event_type, payload, meta }
}
