//! Events: [`NewEvent`] before it is recorded, [`RecordedEvent`] after.
//!
//! A payload is opaque here: JSON text or other bytes, passed through verbatim. It is validated
//! when it is appended and parsed only by whoever needs a field of it.

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{EventType, GlobalPosition, Revision, StreamName};

/// The identity of an event, made by the client (then appends are idempotent) or by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id: a UUID of version 7, so that ids rise with time.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as a UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for EventId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A moment by its microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The present, by the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

/// What an event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON text (RFC 8259), kept byte for byte.
    Json(Bytes),
    /// Anything else, with its media type.
    Binary {
        /// The media type, such as `application/cbor`: 1–200 bytes of visible ASCII.
        content_type: Arc<str>,
        /// The bytes.
        data: Bytes,
    },
    /// Nothing: the payload and the metadata were erased. The event itself stands. Nobody can
    /// append this.
    Erased,
    /// Nothing: the whole event was removed, and only its position is left, so that positions stay
    /// without holes. Its stream, revision and type are placeholders. Nobody can append this, and
    /// nobody but readers of the whole log, who count positions, is given it.
    Removed,
}

impl Payload {
    /// The payload's size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(data) | Self::Binary { data, .. } => data.len(),
            Self::Erased | Self::Removed => 0,
        }
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The client's own id. With it an append is idempotent; without it the server makes one.
    pub id: Option<EventId>,
    /// The event's type.
    pub event_type: EventType,
    /// What it carries.
    pub payload: Payload,
    /// Metadata: JSON text, kept byte for byte.
    pub meta: Option<Bytes>,
}

impl NewEvent {
    /// An event with a JSON payload and neither id nor metadata.
    pub fn json(event_type: EventType, data: impl Into<Bytes>) -> Self {
        Self { id: None, event_type, payload: Payload::Json(data.into()), meta: None }
    }
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Where it stands in the whole log.
    pub position: GlobalPosition,
    /// The stream that it belongs to.
    pub stream: StreamName,
    /// Where it stands in its stream.
    pub revision: Revision,
    /// Its type.
    pub event_type: EventType,
    /// Its id.
    pub id: EventId,
    /// When the server recorded it.
    pub recorded_at: Timestamp,
    /// What it carries.
    pub payload: Payload,
    /// Metadata: JSON text.
    pub meta: Option<Bytes>,
}

/// The type of the event that an erasure leaves behind. Its payload is
/// `{"position", "revision", "id"}` of the event that was erased, in the same stream.
pub const ERASED_TYPE: &str = "$erased";

/// The stream and the type of what is left of a removed event.
pub const REMOVED_NAME: &str = "$removed";

impl RecordedEvent {
    /// Whether nothing but the position is left. Such an event is delivered to nobody.
    pub fn is_removed(&self) -> bool {
        self.payload == Payload::Removed
    }

    /// Whether this event tells that another one was erased.
    pub fn is_erasure(&self) -> bool {
        self.event_type.as_str() == ERASED_TYPE
    }
}
