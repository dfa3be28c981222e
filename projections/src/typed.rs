//! Typed projections: documents and events as ordinary Rust types.
//!
//! The events are an enum with a variant for each type, as serde sees it: the variant's name is the
//! event's type, its fields are the event's data. The projection is given events of these types
//! alone. A document is a struct. What is left to write is a function from the document there is,
//! if any, and an event to the document there will be, if any:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//! use tidewire_projections::{kit::{Given, event}, typed};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Order { customer: String, items: u32 }
//!
//! #[derive(Deserialize)]
//! enum OrderEvent {
//!     OrderPlaced { customer: String },
//!     ItemAdded { quantity: u32 },
//!     OrderCancelled {},
//! }
//!
//! let orders = typed::projection("orders", 1)
//!     .category("order")
//!     .field("customer")
//!     .by_stream(|order: Option<Order>, event: &typed::Event<'_, OrderEvent>| match &event.data {
//!         OrderEvent::OrderPlaced { customer } => {
//!             Some(Order { customer: customer.clone(), items: 0 })
//!         }
//!         OrderEvent::ItemAdded { quantity } => {
//!             order.map(|order| Order { items: order.items + quantity, ..order })
//!         }
//!         OrderEvent::OrderCancelled {} => None,
//!     })
//!     .expect("the definition is right");
//!
//! Given::events(&orders, [event("order-7", "OrderPlaced", json!({"customer": "Ada"}))])
//!     .when(event("order-7", "ItemAdded", json!({"quantity": 2})))
//!     .then([("7", json!({"customer": "Ada", "items": 2}))]);
//! ```
//!
//! The document of [`Builder::by_stream`] has the id of the event's stream as its key. Where an
//! event concerns other documents, or several, [`Builder::by_keys`] names them.
//!
//! # What becomes of events that do not fit
//!
//! An event whose data is not what its variant says is a poison event. An event that was erased has
//! no data any more: the projection is not given it, so that a log with erased events can be
//! projected again. What was made of it before stays in the documents until they are rebuilt.

mod builder;
mod change;
mod event_data;

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tidewire_eventstore::{DocumentKey, Payload, RecordedEvent, Timestamp};

pub use self::{
    builder::{Builder, DefinitionError, projection},
    change::{Change, IntoChange},
};
use crate::{
    definition::Definition,
    projection::{EVENT_KEYS_MAX, ProjectError, Projection},
    working::Documents,
};

/// An event as a typed projection is given it.
#[derive(Debug)]
pub struct Event<'a, E> {
    /// What it carries.
    pub data: E,
    recorded: &'a RecordedEvent,
}

impl<'a, E: DeserializeOwned> Event<'a, E> {
    /// Reads an event; none where it was erased.
    fn read(recorded: &'a RecordedEvent) -> Result<Option<Self>, ProjectError> {
        let data = match &recorded.payload {
            Payload::Json(data) => data,
            Payload::Erased | Payload::Removed => return Ok(None),
            Payload::Binary { content_type, .. } => {
                return Err(ProjectError::EventUnreadable {
                    reason: format!("its data is {content_type}, not JSON"),
                });
            }
        };
        match event_data::read(recorded.event_type.as_str(), data) {
            Ok(data) => Ok(Some(Self { data, recorded })),
            Err(error) => Err(ProjectError::EventUnreadable { reason: error.to_string() }),
        }
    }
}

impl<E> Event<'_, E> {
    /// The event as the log holds it.
    pub fn recorded(&self) -> &RecordedEvent {
        self.recorded
    }

    /// When the server recorded it.
    pub fn at(&self) -> Timestamp {
        self.recorded.recorded_at
    }

    /// The id of its stream: what stands after the first `-` of the name; the whole name where
    /// there is none.
    pub fn stream_id(&self) -> &str {
        stream_id(self.recorded)
    }

    /// Its metadata; none where it has none.
    ///
    /// # Errors
    ///
    /// [`ProjectError::EventUnreadable`] where it is no `M`.
    pub fn meta<M: DeserializeOwned>(&self) -> Result<Option<M>, ProjectError> {
        let Some(meta) = &self.recorded.meta else { return Ok(None) };
        serde_json::from_slice(meta)
            .map(Some)
            .map_err(|error| ProjectError::EventUnreadable { reason: format!("meta: {error}") })
    }
}

/// What stands after the first `-` of the name of the event's stream, or the whole name.
pub(crate) fn stream_id(event: &RecordedEvent) -> &str {
    let name = event.stream.as_str();
    match name.split_once('-') {
        Some((_, id)) if !id.is_empty() => id,
        _ => name,
    }
}

/// Which documents an event concerns.
trait Keys<E>: Send + Sync + 'static {
    /// Of an event that was read.
    fn of(&self, event: &Event<'_, E>, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError>;

    /// Of one that was not, and that need not be where its data does not matter.
    fn of_recorded(
        &self,
        recorded: &RecordedEvent,
        keys: &mut Vec<DocumentKey>,
    ) -> Result<(), ProjectError>;
}

/// The document of the event's stream.
struct StreamKey;

impl<E> Keys<E> for StreamKey {
    fn of(&self, event: &Event<'_, E>, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        Keys::<E>::of_recorded(self, event.recorded, keys)
    }

    fn of_recorded(
        &self,
        recorded: &RecordedEvent,
        keys: &mut Vec<DocumentKey>,
    ) -> Result<(), ProjectError> {
        keys.push(DocumentKey::new(stream_id(recorded))?);
        Ok(())
    }
}

/// Those that a function says.
struct FunctionKeys<K>(K);

impl<E, K, I> Keys<E> for FunctionKeys<K>
where
    E: DeserializeOwned,
    K: Fn(&Event<'_, E>) -> I + Send + Sync + 'static,
    I: IntoIterator<Item: AsRef<str>>,
{
    fn of(&self, event: &Event<'_, E>, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        // One too many is enough to be told so.
        for key in (self.0)(event).into_iter().take(EVENT_KEYS_MAX + 1) {
            keys.push(DocumentKey::new(key.as_ref())?);
        }
        Ok(())
    }

    fn of_recorded(
        &self,
        recorded: &RecordedEvent,
        keys: &mut Vec<DocumentKey>,
    ) -> Result<(), ProjectError> {
        Event::read(recorded)?.map_or(Ok(()), |event| self.of(&event, keys))
    }
}

/// A projection made of functions over types.
struct Typed<K, F, D, E, C> {
    definition: Definition,
    keys: K,
    apply: F,
    types: PhantomData<fn(D, E) -> C>,
}

impl<K, F, D, E, C> Projection for Typed<K, F, D, E, C>
where
    K: Keys<E>,
    F: Fn(&DocumentKey, Option<D>, &Event<'_, E>) -> C + Send + Sync + 'static,
    D: Serialize + DeserializeOwned + 'static,
    E: DeserializeOwned + 'static,
    C: IntoChange<D> + 'static,
{
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        if event.payload == Payload::Erased { Ok(()) } else { self.keys.of_recorded(event, keys) }
    }

    fn project(
        &self,
        recorded: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        let Some(event) = Event::read(recorded)? else { return Ok(()) };
        let mut keys = Vec::new();
        self.keys.of(&event, &mut keys)?;
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].contains(key) {
                continue;
            }
            let document = documents.get(key)?.map(|value| read(key, value)).transpose()?;
            match (self.apply)(key, document, &event).into_change()? {
                Change::Keep => {}
                Change::Delete => documents.delete(key)?,
                Change::Put(document) => documents.put(key, write(key, &document)?)?,
                Change::Patch(patch) => documents.patch(key, patch)?,
            }
        }
        Ok(())
    }
}

fn read<D: DeserializeOwned>(key: &DocumentKey, value: &Value) -> Result<D, ProjectError> {
    D::deserialize(value).map_err(|error| ProjectError::DocumentUnreadable {
        key: key.clone(),
        reason: error.to_string(),
    })
}

fn write<D: Serialize>(key: &DocumentKey, document: &D) -> Result<Value, ProjectError> {
    serde_json::to_value(document).map_err(|_| ProjectError::DocumentNotObject { key: key.clone() })
}

#[cfg(test)]
mod tests;
