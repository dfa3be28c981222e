//! Events to test with.

use bytes::Bytes;
use serde::Serialize;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use uuid::Uuid;

/// 2026-01-01T00:00:00Z.
const FIRST_SECOND: i64 = 1_767_225_600;

/// An event to test with.
#[derive(Debug, Clone)]
pub struct TestEvent {
    stream: String,
    event_type: String,
    payload: Payload,
    meta: Option<Bytes>,
    at: Option<Timestamp>,
}

/// An event of a type in a stream, with data.
///
/// # Panics
///
/// When `data` cannot be written as JSON.
pub fn event(stream: &str, event_type: &str, data: impl Serialize) -> TestEvent {
    TestEvent {
        stream: stream.to_owned(),
        event_type: event_type.to_owned(),
        payload: Payload::Json(json(&data)),
        meta: None,
        at: None,
    }
}

impl TestEvent {
    /// The same with metadata.
    ///
    /// # Panics
    ///
    /// When `meta` cannot be written as JSON.
    #[must_use]
    pub fn meta(mut self, meta: impl Serialize) -> Self {
        self.meta = Some(json(&meta));
        self
    }

    /// The same, recorded at this moment.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        self.at = Some(at);
        self
    }

    /// The same with another payload, such as [`Payload::Erased`].
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The event as a log would hold it after these.
    pub(super) fn record(self, before: &[RecordedEvent]) -> RecordedEvent {
        let position = before.len() as u64 + 1;
        let stream = StreamName::recorded(&self.stream).expect("a good name of a stream");
        let revision = before.iter().filter(|event| event.stream == stream).count();
        let seconds = FIRST_SECOND + before.len() as i64;
        RecordedEvent {
            position: GlobalPosition::new(position),
            revision: Revision::new(revision as u64),
            event_type: EventType::recorded(&self.event_type).expect("a good event type"),
            id: EventId::from(Uuid::from_u128(u128::from(position))),
            recorded_at: self.at.unwrap_or(Timestamp::from_micros(seconds * 1_000_000)),
            payload: self.payload,
            meta: self.meta,
            stream,
        }
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("data can be written as JSON").into()
}
