//! What clients say, as JSON: read by the server, written by the client.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};
use tidewire_eventstore::{
    EventId, EventType, ExpectedRevision, NUMBER_MAX, NewEvent, Payload, Revision, StreamName,
};

use super::{
    delivery::{command, delivery, nack, write_command, write_delivery, write_nack},
    event::base64,
    query::{is_projection, query_request, watch, write_query_request, write_watch},
    read::{AsObject, Field, field, invalid, missing, name_error, present, target},
    summary::{batch, write_batch},
    write::Object,
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    filter::Filter,
    messages::{
        ARRAY_MESSAGES_MAX, After, AppendRequest, ClientMessage, Cursor, Direction, FeedSpec,
        FetchRequest, Hello, Refusal, RequestId, Sub, Subscribe, Subscription, Target,
    },
};

/// The text is not JSON. The connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is not JSON")]
pub struct Malformed;

/// Every field of every message that a client can send; which ones are needed depends on `type`.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(rename = "type", borrow, default, deserialize_with = "present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    protocol: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    token: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    client: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) epoch: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    subscriptions: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) to: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) after: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) before: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) filter: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) ack: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) window: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) consumer: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) batch: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    expected: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    events: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) from: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) limit: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) direction: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    position: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) positions: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) action: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) delay_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) reason: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) generation: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) cursor: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) wait: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) timeout_ms: Option<&'a RawValue>,
}

/// Reads one text message of a client: one protocol message, or an array of them in order, each
/// of which fails alone. Payloads share memory with `text`.
///
/// # Errors
///
/// [`Malformed`] when the text is not JSON.
pub fn decode_client(text: &Bytes) -> Result<Vec<Result<ClientMessage, Refusal>>, Malformed> {
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Ok(vec![decode_one(text, text)?]);
    }
    // The cheap pass first: an array of a million messages must not be collected.
    let count = serde_json::from_slice::<Count>(text).map_err(|_| Malformed)?.0;
    if count > ARRAY_MESSAGES_MAX {
        let error = ErrorBody::of(ErrorCode::TooManyMessages)
            .with_details(json!({ "count": count, "max": ARRAY_MESSAGES_MAX }));
        return Ok(vec![Err(refusal(error))]);
    }
    let messages: Vec<&RawValue> = serde_json::from_slice(text).map_err(|_| Malformed)?;
    messages.into_iter().map(|message| decode_one(message.get().as_bytes(), text)).collect()
}

/// How many elements an array has; the elements are passed over.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Count, A::Error> {
                let mut count = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

fn refusal(error: ErrorBody) -> Refusal {
    Refusal { id: None, sub: None, error: Box::new(error) }
}

/// Reads one message; `whole` is the buffer that `json` lies in.
fn decode_one(json: &[u8], whole: &Bytes) -> Result<Result<ClientMessage, Refusal>, Malformed> {
    match serde_json::from_slice::<AsObject<Wire<'_>>>(json) {
        Ok(AsObject(wire)) => Ok(message(&wire, whole)),
        // Not an object, or a field twice; whether the rest is JSON at all is still to be seen.
        Err(error) if error.is_data() => match serde_json::from_slice::<IgnoredAny>(json) {
            Ok(_) => Ok(Err(refusal(ErrorCode::InvalidMessage.into()))),
            Err(_) => Err(Malformed),
        },
        Err(_) => Err(Malformed),
    }
}

fn message(wire: &Wire<'_>, whole: &Bytes) -> Result<ClientMessage, Refusal> {
    let id = field("id", wire.id);
    let sub = field("sub", wire.sub);
    interpret(wire, whole).map_err(|error| Refusal {
        id: id.id().ok(),
        sub: sub.sub().ok(),
        error: Box::new(error),
    })
}

fn interpret(wire: &Wire<'_>, whole: &Bytes) -> Result<ClientMessage, ErrorBody> {
    let kind = field("type", wire.kind).text(usize::MAX)?.ok_or_else(|| missing("type"))?;
    let id = || field("id", wire.id).id();
    Ok(match &*kind {
        "hello" => ClientMessage::Hello(Box::new(hello(wire)?)),
        "subscribe" => match subscription(wire)? {
            Subscription::Feed(subscribe) => ClientMessage::Subscribe(Box::new(subscribe)),
            Subscription::Query(watch) => ClientMessage::Watch(Box::new(watch)),
        },
        "unsubscribe" => ClientMessage::Unsubscribe { sub: field("sub", wire.sub).sub()? },
        "ack" => ClientMessage::Ack {
            sub: field("sub", wire.sub).sub()?,
            position: field("position", wire.position)
                .position()?
                .ok_or_else(|| missing("position"))?,
        },
        "nack" => ClientMessage::Nack { sub: field("sub", wire.sub).sub()?, nack: nack(wire)? },
        "command" => ClientMessage::Command { id: id()?, command: command(wire, whole)? },
        "append" => ClientMessage::Append { id: id()?, append: append(wire, whole)? },
        "fetch" if is_projection(field("from", wire.from)) => {
            ClientMessage::Query { id: id()?, request: Box::new(query_request(wire)?) }
        }
        "fetch" => ClientMessage::Fetch { id: id()?, fetch: fetch(wire)? },
        "ping" => ClientMessage::Ping { id: id()? },
        _ => return Err(ErrorCode::UnknownType.into()),
    })
}

fn hello(wire: &Wire<'_>) -> Result<Hello, ErrorBody> {
    let subscriptions = match field("subscriptions", wire.subscriptions).raw() {
        None => Vec::new(),
        Some(list) => {
            let list: Vec<&RawValue> = serde_json::from_str(list.get())
                .map_err(|_| invalid("subscriptions", "has to be a list"))?;
            list.into_iter().map(resubscription).collect()
        }
    };
    Ok(Hello {
        protocol: field("protocol", wire.protocol).number()?.ok_or_else(|| missing("protocol"))?,
        token: field("token", wire.token).text(usize::MAX)?.map(Into::into),
        client: field("client", wire.client).text(200)?.map(Into::into),
        epoch: field("epoch", wire.epoch).uuid()?,
        subscriptions,
    })
}

/// A subscription inside `hello`: a `subscribe` that needs no `type`.
fn resubscription(json: &RawValue) -> Result<Subscription, Refusal> {
    let wire: Wire<'_> =
        serde_json::from_str(json.get()).map_err(|_| refusal(ErrorCode::InvalidMessage.into()))?;
    subscription(&wire).map_err(|error| Refusal {
        id: None,
        sub: field("sub", wire.sub).sub().ok(),
        error: Box::new(error),
    })
}

fn subscription(wire: &Wire<'_>) -> Result<Subscription, ErrorBody> {
    if is_projection(field("to", wire.to)) {
        watch(wire).map(Subscription::Query)
    } else {
        subscribe(wire).map(Subscription::Feed)
    }
}

fn subscribe(wire: &Wire<'_>) -> Result<Subscribe, ErrorBody> {
    let sub = field("sub", wire.sub).sub()?;
    let delivery = delivery(wire)?;
    let batch = batch(field("batch", wire.batch))?;
    if batch.summary.is_some() && delivery.acknowledges() {
        return Err(invalid("batch", "has summaries, which are not acknowledged"));
    }
    let filter = match field("filter", wire.filter).optional::<Value>("has to be a filter")? {
        None => None,
        Some(json) => Some(Arc::new(Filter::parse(&json)?)),
    };
    Ok(Subscribe {
        sub,
        feed: FeedSpec { filter, batch, ..FeedSpec::of(target(field("to", wire.to))?) },
        after: after(field("after", wire.after))?,
        epoch: field("epoch", wire.epoch).uuid()?,
        delivery,
    })
}

fn after(of: Field<'_>) -> Result<After, ErrorBody> {
    const WHY: &str = "has to be a position, \"start\" or \"end\"";
    match of.raw() {
        None => Ok(After::End),
        Some(text) if text.get().starts_with('"') => match of.text(usize::MAX)?.as_deref() {
            Some("start") => Ok(After::Start),
            Some("end") => Ok(After::End),
            _ => Err(invalid(of.name, WHY)),
        },
        Some(_) => Ok(of.position()?.map_or(After::End, After::Position)),
    }
}

#[derive(Deserialize)]
struct WireNewEvent<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(rename = "type", borrow, default, deserialize_with = "present")]
    event_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data_base64: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    content_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    meta: Option<&'a RawValue>,
}

fn append(wire: &Wire<'_>, whole: &Bytes) -> Result<AppendRequest, ErrorBody> {
    let stream = field("stream", wire.stream).text(usize::MAX)?.ok_or_else(|| missing("stream"))?;
    let stream = StreamName::new(&stream).map_err(|error| name_error("stream", error))?;
    append_to(stream, wire, whole)
}

fn append_to(
    stream: StreamName,
    wire: &Wire<'_>,
    whole: &Bytes,
) -> Result<AppendRequest, ErrorBody> {
    let events: Vec<AsObject<WireNewEvent<'_>>> =
        field("events", wire.events).required("has to be a list of events")?;
    if events.is_empty() {
        return Err(ErrorCode::NoEvents.into());
    }
    Ok(AppendRequest {
        stream,
        expected: expected(field("expected", wire.expected))?,
        events: events
            .iter()
            .enumerate()
            .map(|(index, AsObject(event))| {
                new_event(event, whole).map_err(|mut error| {
                    match error.details.as_deref_mut() {
                        Some(Value::Object(details)) => {
                            details.insert("event".to_owned(), index.into());
                        }
                        _ => error.details = Some(Box::new(json!({ "event": index }))),
                    }
                    error
                })
            })
            .collect::<Result<_, _>>()?,
    })
}

fn expected(of: Field<'_>) -> Result<ExpectedRevision, ErrorBody> {
    const WHY: &str = "has to be \"any\", \"no_stream\", \"exists\" or a revision";
    match of.raw() {
        None => Ok(ExpectedRevision::Any),
        Some(text) if text.get().starts_with('"') => match of.text(usize::MAX)?.as_deref() {
            Some("any") => Ok(ExpectedRevision::Any),
            Some("no_stream") => Ok(ExpectedRevision::NoStream),
            Some("exists") => Ok(ExpectedRevision::Exists),
            _ => Err(invalid(of.name, WHY)),
        },
        Some(_) => match of.optional::<u64>(WHY)? {
            Some(revision) if revision <= NUMBER_MAX => {
                Ok(ExpectedRevision::Exact(Revision::new(revision)))
            }
            _ => Err(invalid(of.name, WHY)),
        },
    }
}

fn new_event(event: &WireNewEvent<'_>, whole: &Bytes) -> Result<NewEvent, ErrorBody> {
    let shared = |json: &RawValue| whole.slice_ref(json.get().as_bytes());
    let name = field("type", event.event_type).text(usize::MAX)?.ok_or_else(|| missing("type"))?;
    let data_base64 = field("data_base64", event.data_base64).text(usize::MAX)?;
    let content_type = field("content_type", event.content_type).text(usize::MAX)?;
    let payload = match (event.data, data_base64) {
        (Some(data), None) => {
            if content_type.is_some() {
                return Err(invalid("content_type", "goes with data_base64 only"));
            }
            Payload::Json(shared(data))
        }
        (None, Some(text)) => {
            let content_type = content_type.ok_or_else(|| missing("content_type"))?;
            if !is_content_type(&content_type) {
                return Err(ErrorCode::InvalidContentType.into());
            }
            let data = STANDARD
                .decode(&*text)
                .map_err(|_| invalid("data_base64", "has to be Base64 with padding"))?;
            Payload::Binary { content_type: (&*content_type).into(), data: data.into() }
        }
        (Some(_), Some(_)) => return Err(invalid("data_base64", "excludes data")),
        (None, None) => return Err(missing("data")),
    };
    Ok(NewEvent {
        id: field("id", event.id).uuid()?.map(EventId::from),
        event_type: EventType::new(&name).map_err(|error| name_error("type", error))?,
        payload,
        meta: field("meta", event.meta).raw().map(shared),
    })
}

fn is_content_type(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7F).contains(&byte))
}

fn fetch(wire: &Wire<'_>) -> Result<FetchRequest, ErrorBody> {
    let from = target(field("from", wire.from))?;
    let cursor = |number: u64| match from {
        Target::Stream(_) => Cursor::Revision(Revision::new(number)),
        _ => Cursor::Position(tidewire_eventstore::GlobalPosition::new(number)),
    };
    let after = field("after", wire.after).number()?.map(cursor);
    let before = field("before", wire.before).number()?.map(cursor);
    let direction = match field("direction", wire.direction).text(usize::MAX)?.as_deref() {
        None if before.is_some() => Direction::Backwards,
        None | Some("forwards") => Direction::Forwards,
        Some("backwards") => Direction::Backwards,
        Some(_) => {
            return Err(invalid("direction", "has to be \"forwards\" or \"backwards\""));
        }
    };
    match direction {
        Direction::Forwards if before.is_some() => {
            return Err(invalid("before", "goes with direction backwards only"));
        }
        Direction::Backwards if after.is_some() => {
            return Err(invalid("after", "goes with direction forwards only"));
        }
        _ => {}
    }
    let limit = field("limit", wire.limit).number()?.ok_or_else(|| missing("limit"))?;
    if limit == 0 {
        return Err(invalid("limit", "has to be at least 1"));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(FetchRequest { from, after, before, limit, direction })
}

/// Writes one message of a client.
pub fn encode_client(message: &ClientMessage, out: &mut BytesMut) {
    match message {
        ClientMessage::Hello(hello) => write_hello(hello, out),
        ClientMessage::Subscribe(subscribe) => {
            let mut object = Object::message("subscribe", out);
            write_subscribe(subscribe, &mut object);
            object.end();
        }
        ClientMessage::Watch(watch) => {
            let mut object = Object::message("subscribe", out);
            write_watch(watch, &mut object);
            object.end();
        }
        ClientMessage::Unsubscribe { sub } => {
            let mut object = Object::message("unsubscribe", out);
            write_sub(*sub, &mut object);
            object.end();
        }
        ClientMessage::Ack { sub, position } => {
            let mut object = Object::message("ack", out);
            write_sub(*sub, &mut object);
            object.number("position", position.get());
            object.end();
        }
        ClientMessage::Nack { sub, nack } => {
            let mut object = Object::message("nack", out);
            write_sub(*sub, &mut object);
            write_nack(nack, &mut object);
            object.end();
        }
        ClientMessage::Command { id, command } => {
            let mut object = Object::message("command", out);
            object.string("id", id.as_str());
            write_command(command, &mut object);
            object.end();
        }
        ClientMessage::Append { id, append } => write_append(id, append, out),
        ClientMessage::Fetch { id, fetch } => write_fetch(id, fetch, out),
        ClientMessage::Query { id, request } => {
            let mut object = Object::message("fetch", out);
            write_query_request(id, request, &mut object);
            object.end();
        }
        ClientMessage::Ping { id } => {
            let mut object = Object::message("ping", out);
            object.string("id", id.as_str());
            object.end();
        }
    }
}

fn write_sub(sub: Sub, object: &mut Object<'_>) {
    object.number("sub", u64::from(sub.get()));
}

fn write_hello(hello: &Hello, out: &mut BytesMut) {
    let mut object = Object::message("hello", out);
    object.number("protocol", hello.protocol);
    if let Some(token) = &hello.token {
        object.string("token", token);
    }
    if let Some(client) = &hello.client {
        object.string("client", client);
    }
    if let Some(epoch) = hello.epoch {
        object.plain("epoch", epoch);
    }
    if !hello.subscriptions.is_empty() {
        object.list("subscriptions", hello.subscriptions.iter().flatten(), |subscribe, out| {
            let mut object = Object::begin(out);
            match subscribe {
                Subscription::Feed(subscribe) => write_subscribe(subscribe, &mut object),
                Subscription::Query(watch) => write_watch(watch, &mut object),
            }
            object.end();
        });
    }
    object.end();
}

fn write_target(key: &str, target: &Target, object: &mut Object<'_>) {
    let mut inner = Object::begin(object.key(key));
    match target {
        Target::All => inner.boolean("all", true),
        Target::Category(category) => inner.string("category", category.as_str()),
        Target::Stream(stream) => inner.string("stream", stream.as_str()),
    }
    inner.end();
}

fn write_subscribe(subscribe: &Subscribe, object: &mut Object<'_>) {
    write_sub(subscribe.sub, object);
    write_target("to", &subscribe.feed.target, object);
    match subscribe.after {
        After::Start => object.string("after", "start"),
        After::End => object.string("after", "end"),
        After::Position(position) => object.number("after", position.get()),
    }
    if let Some(epoch) = subscribe.epoch {
        object.plain("epoch", epoch);
    }
    if let Some(filter) = &subscribe.feed.filter {
        object.raw("filter", filter.to_json().to_string().as_bytes());
    }
    write_batch(subscribe.feed.batch, object);
    write_delivery(&subscribe.delivery, object);
}

fn write_append(id: &RequestId, append: &AppendRequest, out: &mut BytesMut) {
    let mut object = Object::message("append", out);
    object.string("id", id.as_str());
    object.string("stream", append.stream.as_str());
    match append.expected {
        ExpectedRevision::Any => {}
        ExpectedRevision::Exact(revision) => object.number("expected", revision.get()),
        named => object.plain("expected", named),
    }
    object.list("events", &append.events, write_new_event);
    object.end();
}

fn write_new_event(event: &NewEvent, out: &mut BytesMut) {
    let mut object = Object::begin(out);
    if let Some(id) = event.id {
        object.plain("id", id);
    }
    object.string("type", event.event_type.as_str());
    match &event.payload {
        Payload::Json(data) => object.raw("data", data),
        Payload::Binary { content_type, data } => {
            let out = object.key("data_base64");
            out.put_u8(b'"');
            base64(data, out);
            out.put_u8(b'"');
            object.string("content_type", content_type);
        }
        // Without a payload a server refuses it, as it has to be.
        Payload::Erased | Payload::Removed => {}
    }
    if let Some(meta) = &event.meta {
        object.raw("meta", meta);
    }
    object.end();
}

fn write_fetch(id: &RequestId, fetch: &FetchRequest, out: &mut BytesMut) {
    let mut object = Object::message("fetch", out);
    object.string("id", id.as_str());
    write_target("from", &fetch.from, &mut object);
    if let Some(after) = fetch.after {
        object.number("after", after.number());
    }
    if let Some(before) = fetch.before {
        object.number("before", before.number());
    }
    object.number("limit", (fetch.limit as u64).min(NUMBER_MAX));
    if fetch.direction == Direction::Backwards {
        object.string("direction", "backwards");
    }
    object.end();
}

/// Reads the body of `POST /streams/{stream}`: the fields of `append` without `type`, `id` and
/// `stream`. Payloads share memory with `body`.
///
/// # Errors
///
/// `invalid_message` for what is not a JSON object, else what the message would be refused for.
pub fn decode_append(stream: StreamName, body: &Bytes) -> Result<AppendRequest, ErrorBody> {
    let AsObject::<Wire<'_>>(wire) = serde_json::from_slice(body)
        .map_err(|error| ErrorBody::new(ErrorCode::InvalidMessage, error.to_string()))?;
    append_to(stream, &wire, body)
}
