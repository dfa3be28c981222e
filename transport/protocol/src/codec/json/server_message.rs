//! What servers say, as JSON: written by the server, read by the client.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire_eventstore::{Generation, GlobalPosition, Revision, StreamName};
use uuid::Uuid;

use super::{
    documents::{
        read_changes, read_documents, read_reset, write_changes, write_document, write_state,
    },
    event::{decode_delivered, decode_event, encode_delivered, encode_event},
    read::{AsObject, field, missing, present},
    summary::{read_summary, write_summary},
    time::{format_time, parse_time},
    write::{Object, number},
};
use crate::{
    codes::{CloseCode, ErrorBody},
    messages::{
        Goodbye, ReconnectHint, ResetReason, ServerMessage, SessionId, Sub, Welcome, WireLimits,
    },
    query::Reached,
};

/// Writes one message of a server.
pub fn encode_server(message: &ServerMessage, out: &mut BytesMut) {
    match message {
        ServerMessage::Welcome(welcome) => write_welcome(welcome, out),
        ServerMessage::Subscribed { sub, head, after, resumed } => {
            let mut object = about("subscribed", *sub, out);
            object.number("head", head.get());
            object.number("after", after.get());
            object.boolean("resumed", *resumed);
            object.end();
        }
        ServerMessage::Watching { sub, head, after, resumed, reset } => {
            let mut object = about("subscribed", *sub, out);
            object.number("head", head.get());
            object.number("after", after.position.get());
            object.number("generation", after.generation.get());
            object.boolean("resumed", *resumed);
            if let Some(reset) = reset {
                object.string("reset", reset.as_str());
            }
            object.end();
        }
        ServerMessage::Unsubscribed { sub, error } => {
            let mut object = about("unsubscribed", *sub, out);
            if let Some(error) = error {
                write_error(error, &mut object);
            }
            object.end();
        }
        ServerMessage::Reset { sub, reason, first } => {
            let mut object = about("reset", *sub, out);
            object.string("reason", reason.as_str());
            object.number("first", first.get());
            object.end();
        }
        ServerMessage::Events { sub, events } => {
            let mut object = about("events", *sub, out);
            object.list("events", events, encode_delivered);
            object.end();
        }
        ServerMessage::State { sub, reached, documents, more, reset } => {
            write_state(*sub, *reached, *reset, documents, *more, out);
        }
        ServerMessage::Changes { sub, position, changes, more } => {
            write_changes(*sub, *position, changes, *more, out);
        }
        ServerMessage::Summary { sub, summary } => write_summary(*sub, summary, out),
        ServerMessage::Retrying { sub, positions } => {
            let mut object = about("retrying", *sub, out);
            object.list("positions", positions, |at, out| number(at.get(), out));
            object.end();
        }
        ServerMessage::Parked { sub, positions, reason } => {
            let mut object = about("parked", *sub, out);
            object.list("positions", positions, |at, out| number(at.get(), out));
            object.string("reason", reason);
            object.end();
        }
        ServerMessage::Live { sub, position } => {
            let mut object = about("live", *sub, out);
            object.number("position", position.get());
            object.end();
        }
        ServerMessage::Behind { sub, position, lag } => {
            let mut object = about("behind", *sub, out);
            object.number("position", position.get());
            object.number("lag", *lag);
            object.end();
        }
        ServerMessage::Appended { id, stream, revision, position } => {
            let mut object = Object::message("appended", out);
            object.string("id", id.as_str());
            object.string("stream", stream.as_str());
            object.number("revision", revision.get());
            object.number("position", position.get());
            object.end();
        }
        ServerMessage::Result { id, data, position } => {
            let mut object = Object::message("result", out);
            object.string("id", id.as_str());
            object.raw("data", data);
            if let Some(position) = position {
                object.number("position", position.get());
            }
            object.end();
        }
        ServerMessage::Page { id, events, more, next, head } => {
            let mut object = Object::message("page", out);
            object.string("id", id.as_str());
            object.list("events", events, encode_event);
            object.boolean("more", *more);
            if let Some(next) = next {
                object.number("next", *next);
            }
            object.number("head", head.get());
            object.end();
        }
        ServerMessage::Documents { id, reached, documents, more, next } => {
            let mut object = Object::message("page", out);
            object.string("id", id.as_str());
            object.list("documents", documents, write_document);
            object.boolean("more", *more);
            if let Some(next) = next {
                object.string("next", next);
            }
            object.number("position", reached.position.get());
            object.number("generation", reached.generation.get());
            object.end();
        }
        ServerMessage::Pong { id, at } => {
            let mut object = Object::message("pong", out);
            object.string("id", id.as_str());
            let out = object.key("at");
            out.put_u8(b'"');
            format_time(*at, out);
            out.put_u8(b'"');
            object.end();
        }
        ServerMessage::Heartbeat { head, positions } => {
            let mut object = Object::message("heartbeat", out);
            object.number("head", head.get());
            let mut inner = Object::begin(object.key("positions"));
            for (sub, position) in positions {
                inner.number(&sub.to_string(), position.get());
            }
            inner.end();
            object.end();
        }
        ServerMessage::Error { id, sub, error } => {
            let mut object = Object::message("error", out);
            if let Some(id) = id {
                object.string("id", id.as_str());
            }
            if let Some(sub) = sub {
                object.number("sub", u64::from(sub.get()));
            }
            write_error(error, &mut object);
            object.end();
        }
        ServerMessage::Goodbye(goodbye) => {
            let mut object = Object::message("goodbye", out);
            object.number("code", u64::from(goodbye.code.0));
            object.string("reason", &goodbye.reason);
            object.boolean("reconnect", goodbye.reconnect);
            object.number("after_ms", goodbye.after_ms);
            object.end();
        }
    }
}

/// Begins a message about a subscription.
fn about<'a>(kind: &str, sub: Sub, out: &'a mut BytesMut) -> Object<'a> {
    let mut object = Object::message(kind, out);
    object.number("sub", u64::from(sub.get()));
    object
}

/// Writes an error as a JSON object of its own: the `error` of an HTTP body.
pub fn encode_error(error: &ErrorBody, out: &mut BytesMut) {
    let mut object = Object::begin(out);
    write_error(error, &mut object);
    object.end();
}

fn write_error(error: &ErrorBody, object: &mut Object<'_>) {
    object.string("code", &error.code);
    object.string("message", &error.message);
    object.boolean("retryable", error.retryable);
    if let Some(after) = error.retry_after_ms {
        object.number("retry_after_ms", after);
    }
    if let Some(details) = &error.details {
        object.raw("details", details.to_string().as_bytes());
    }
}

fn write_welcome(welcome: &Welcome, out: &mut BytesMut) {
    let mut object = Object::message("welcome", out);
    object.plain("session", welcome.session);
    object.string("node", &welcome.node);
    object.plain("epoch", welcome.epoch);
    object.number("head", welcome.head.get());
    object.number("heartbeat_ms", welcome.heartbeat_ms);
    let limits = &welcome.limits;
    let mut inner = Object::begin(object.key("limits"));
    inner.number("message_bytes", limits.message_bytes);
    inner.number("array_messages", limits.array_messages);
    inner.number("subscriptions", limits.subscriptions);
    inner.number("requests", limits.requests);
    inner.number("append_events", limits.append_events);
    inner.number("page_events", limits.page_events);
    inner.number("window", limits.window);
    inner.end();
    if let Some(expires) = welcome.token_expires_in_ms {
        object.number("token_expires_in_ms", expires);
    }
    let mut inner = Object::begin(object.key("reconnect"));
    inner.number("min_ms", welcome.reconnect.min_ms);
    inner.number("max_ms", welcome.reconnect.max_ms);
    inner.number("spread_ms", welcome.reconnect.spread_ms);
    inner.end();
    object.end();
}

/// Why a text is not a message of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The `type` is not known: a newer server; the message may be passed over.
    #[error("messages of type {0:?} are not known")]
    UnknownType(String),
    /// The text is not a message.
    #[error("the message cannot be read: {0}")]
    Invalid(String),
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<ErrorBody> for DecodeError {
    fn from(error: ErrorBody) -> Self {
        Self::Invalid(error.message.into_owned())
    }
}

/// Every field of every message that a server can send.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    session: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    node: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    epoch: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    head: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    heartbeat_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    limits: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    token_expires_in_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    reconnect: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    after: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    resumed: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    reason: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    first: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    events: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    position: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    positions: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    lag: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    revision: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    more: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    next: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    at: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    retryable: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    retry_after_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    details: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    after_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    generation: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    reset: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    documents: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    changes: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    counts: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    from: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    to: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireHint {
    min_ms: u64,
    max_ms: u64,
    spread_ms: u64,
}

#[derive(Deserialize)]
struct WireLimitsFields {
    message_bytes: u64,
    array_messages: u64,
    subscriptions: u64,
    requests: u64,
    append_events: u64,
    page_events: u64,
    /// A server that serves no acknowledgements has none.
    #[serde(default)]
    window: u64,
}

/// Reads one message of a server.
///
/// # Errors
///
/// [`DecodeError`] when it is not one that this version knows.
pub fn decode_server(json: &[u8]) -> Result<ServerMessage, DecodeError> {
    let AsObject(wire) = serde_json::from_slice::<AsObject<Wire<'_>>>(json)?;
    let whole = |name: &'static str, json| -> Result<u64, ErrorBody> {
        field(name, json).number()?.ok_or_else(|| missing(name))
    };
    let position = |name: &'static str, json| whole(name, json).map(GlobalPosition::new);
    let text = |name: &'static str, json| -> Result<Cow<'_, str>, ErrorBody> {
        field(name, json).text(usize::MAX)?.ok_or_else(|| missing(name))
    };
    let boolean = |name: &'static str, json| -> Result<bool, ErrorBody> {
        field(name, json).required("has to be true or false")
    };
    let sub = || field("sub", wire.sub).sub();
    let id = || field("id", wire.id).id();
    let events = || -> Result<Vec<&RawValue>, ErrorBody> {
        field("events", wire.events).required("has to be a list")
    };
    let list = || -> Result<Vec<GlobalPosition>, ErrorBody> {
        let positions = field("positions", wire.positions);
        let positions: Vec<u64> = positions.required("has to be a list of positions")?;
        Ok(positions.into_iter().map(GlobalPosition::new).collect())
    };
    let error = || -> Result<Box<ErrorBody>, ErrorBody> {
        Ok(Box::new(ErrorBody {
            code: Cow::Owned(text("code", wire.code)?.into_owned()),
            message: Cow::Owned(text("message", wire.message)?.into_owned()),
            retryable: boolean("retryable", wire.retryable)?,
            retry_after_ms: field("retry_after_ms", wire.retry_after_ms).number()?,
            details: field("details", wire.details).optional("has to be JSON")?.map(Box::new),
        }))
    };
    let reached = |name: &'static str, json| -> Result<Reached, ErrorBody> {
        let generation = Generation::new(whole("generation", wire.generation)?);
        Ok(Reached { generation, position: position(name, json)? })
    };
    Ok(match &*wire.kind {
        "welcome" => ServerMessage::Welcome(Box::new(welcome(&wire)?)),
        "subscribed" if field("generation", wire.generation).raw().is_some() => {
            ServerMessage::Watching {
                sub: sub()?,
                head: position("head", wire.head)?,
                after: reached("after", wire.after)?,
                resumed: boolean("resumed", wire.resumed)?,
                reset: read_reset(field("reset", wire.reset))?,
            }
        }
        "subscribed" => ServerMessage::Subscribed {
            sub: sub()?,
            head: position("head", wire.head)?,
            after: position("after", wire.after)?,
            resumed: boolean("resumed", wire.resumed)?,
        },
        "unsubscribed" => ServerMessage::Unsubscribed {
            sub: sub()?,
            error: if wire.code.is_some() { Some(error()?) } else { None },
        },
        "reset" => ServerMessage::Reset {
            sub: sub()?,
            reason: match &*text("reason", wire.reason)? {
                "epoch" => ResetReason::Epoch,
                "truncated" => ResetReason::Truncated,
                "ahead" => ResetReason::Ahead,
                other => return Err(DecodeError::Invalid(format!("unknown reason {other:?}"))),
            },
            first: position("first", wire.first)?,
        },
        "events" => {
            ServerMessage::Events { sub: sub()?, events: each(events()?, decode_delivered)? }
        }
        "state" => ServerMessage::State {
            sub: sub()?,
            reached: reached("position", wire.position)?,
            documents: read_documents(field("documents", wire.documents))?,
            more: boolean("more", wire.more)?,
            reset: read_reset(field("reset", wire.reset))?,
        },
        "changes" => ServerMessage::Changes {
            sub: sub()?,
            position: position("position", wire.position)?,
            changes: read_changes(field("changes", wire.changes))?,
            more: field("more", wire.more).optional("has to be true or false")?.unwrap_or(false),
        },
        "summary" => ServerMessage::Summary {
            sub: sub()?,
            summary: Box::new(read_summary(
                position("after", wire.after)?,
                position("position", wire.position)?,
                field("counts", wire.counts),
                field("from", wire.from),
                field("to", wire.to),
            )?),
        },
        "retrying" => ServerMessage::Retrying { sub: sub()?, positions: list()? },
        "parked" => ServerMessage::Parked {
            sub: sub()?,
            positions: list()?,
            reason: text("reason", wire.reason)?.into_owned(),
        },
        "live" => {
            ServerMessage::Live { sub: sub()?, position: position("position", wire.position)? }
        }
        "behind" => ServerMessage::Behind {
            sub: sub()?,
            position: position("position", wire.position)?,
            lag: whole("lag", wire.lag)?,
        },
        "appended" => ServerMessage::Appended {
            id: id()?,
            stream: StreamName::recorded(&text("stream", wire.stream)?)
                .map_err(|error| DecodeError::Invalid(error.to_string()))?,
            revision: Revision::new(whole("revision", wire.revision)?),
            position: position("position", wire.position)?,
        },
        "result" => ServerMessage::Result {
            id: id()?,
            data: wire
                .data
                .map(|data| Bytes::copy_from_slice(data.get().as_bytes()))
                .ok_or_else(|| missing("data"))?,
            position: field("position", wire.position).position()?,
        },
        "page" if field("documents", wire.documents).raw().is_some() => ServerMessage::Documents {
            id: id()?,
            reached: reached("position", wire.position)?,
            documents: read_documents(field("documents", wire.documents))?,
            more: boolean("more", wire.more)?,
            next: field("next", wire.next).text(usize::MAX)?.map(Into::into),
        },
        "page" => ServerMessage::Page {
            id: id()?,
            events: each(events()?, decode_event)?,
            more: boolean("more", wire.more)?,
            next: field("next", wire.next).number()?,
            head: position("head", wire.head)?,
        },
        "pong" => ServerMessage::Pong {
            id: id()?,
            at: parse_time(&text("at", wire.at)?)
                .ok_or_else(|| DecodeError::Invalid("at is not a time".to_owned()))?,
        },
        "heartbeat" => ServerMessage::Heartbeat {
            head: position("head", wire.head)?,
            positions: positions(wire.positions)?,
        },
        "error" => ServerMessage::Error {
            id: field("id", wire.id).raw().map(|_| id()).transpose()?,
            sub: field("sub", wire.sub).raw().map(|_| sub()).transpose()?,
            error: error()?,
        },
        "goodbye" => ServerMessage::Goodbye(Box::new(Goodbye {
            code: CloseCode(field("code", wire.code).required("has to be a close code")?),
            reason: text("reason", wire.reason)?.into_owned(),
            reconnect: boolean("reconnect", wire.reconnect)?,
            after_ms: whole("after_ms", wire.after_ms)?,
        })),
        other => return Err(DecodeError::UnknownType(other.to_owned())),
    })
}

fn each<T>(
    events: Vec<&RawValue>,
    decode: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<Vec<T>, DecodeError> {
    events
        .into_iter()
        .map(|event| decode(event.get().as_bytes()).map_err(DecodeError::Invalid))
        .collect()
}

fn positions(json: Option<&RawValue>) -> Result<Vec<(Sub, GlobalPosition)>, DecodeError> {
    let map: std::collections::BTreeMap<u32, u64> =
        field("positions", json).required("has to be an object of positions")?;
    Ok(map.into_iter().map(|(sub, at)| (Sub::new(sub), GlobalPosition::new(at))).collect())
}

fn welcome(wire: &Wire<'_>) -> Result<Welcome, DecodeError> {
    let uuid = |name: &'static str, json| -> Result<Uuid, ErrorBody> {
        field(name, json).uuid()?.ok_or_else(|| missing(name))
    };
    let AsObject(limits): AsObject<WireLimitsFields> =
        field("limits", wire.limits).required("has to be an object")?;
    let AsObject(hint): AsObject<WireHint> =
        field("reconnect", wire.reconnect).required("has to be an object")?;
    Ok(Welcome {
        session: SessionId(uuid("session", wire.session)?),
        node: field("node", wire.node)
            .text(usize::MAX)?
            .ok_or_else(|| missing("node"))?
            .into_owned()
            .into(),
        epoch: uuid("epoch", wire.epoch)?,
        head: field("head", wire.head).position()?.ok_or_else(|| missing("head"))?,
        heartbeat_ms: field("heartbeat_ms", wire.heartbeat_ms)
            .number()?
            .ok_or_else(|| missing("heartbeat_ms"))?,
        limits: WireLimits {
            message_bytes: limits.message_bytes,
            array_messages: limits.array_messages,
            subscriptions: limits.subscriptions,
            requests: limits.requests,
            append_events: limits.append_events,
            page_events: limits.page_events,
            window: limits.window,
        },
        token_expires_in_ms: field("token_expires_in_ms", wire.token_expires_in_ms).number()?,
        reconnect: ReconnectHint {
            min_ms: hint.min_ms,
            max_ms: hint.max_ms,
            spread_ms: hint.spread_ms,
        },
    })
}
