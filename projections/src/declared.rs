//! Declared projections: for those who write no Rust, from a table of settings.
//!
//! ```
//! use serde_json::json;
//! use tidewire_projections::{declared::DeclaredConfig, kit::{Given, event}};
//!
//! let config = json!({
//!     "name": "unread",
//!     "kind": "count_by",
//!     "category": "message",
//!     "key": "data.mailbox",
//!     "add": {"MessageReceived": 1, "MessageRead": -1},
//!     "into": "unread"
//! });
//! let config: DeclaredConfig = serde_json::from_value(config).expect("its keys are known");
//! let unread = config.build().expect("it makes sense");
//!
//! Given::events(unread.as_ref(), [
//!     event("message-1", "MessageReceived", json!({"mailbox": "inbox"})),
//!     event("message-2", "MessageReceived", json!({"mailbox": "inbox"})),
//! ])
//! .when(event("message-1", "MessageRead", json!({"mailbox": "inbox"})))
//! .then([("inbox", json!({"unread": 1}))]);
//! ```
//!
//! # Paths into an event
//!
//! `data.x.y` and `meta.x.y` are members of the event's data and metadata, `data` and `meta` the
//! whole; `stream`, `stream_id` (what stands after the first `-` of the stream's name, or the whole
//! name), `category`, `type`, `id`, `at` (RFC 3339, UTC), `position` and `revision` are the event's
//! own. Arrays are not looked into. What is absent or null is *missing*.
//!
//! # Keys of documents
//!
//! `key` is a path whose value names the document: a text, a number or a truth value. Where it is
//! missing the event is skipped, or with `missing = "refuse"` a poison event; a value that is no key,
//! such as an object or a text of more than 200 bytes, is always a poison event. The same holds for
//! what `sum_by` adds.
//!
//! # Kinds
//!
//! - `latest_by`: the document is the event's data, or the members of `include`. With `mode =
//!   "merge"`, which is the default, it is merged into the document as RFC 7396 says, so that null
//!   takes a member out; with `"replace"` it takes the document's place.
//! - `count_by`: the document's member `into` (`count`) is the number of events.
//! - `sum_by`: the document's member `into` (`sum`) is the sum of the numbers at `of`.
//! - `list_by`: the document's member `into` (`items`) is a list of the data, or of the members of
//!   `include`, of the last `limit` (10) events, newest first.
//!
//! `include` is a table from the names of members to paths. Where a path is missing the member is
//! left out. `count_by` and `sum_by` merge these members into the document beside the number.
//!
//! `add` gives each type of event a whole number which the event counts for, or which its summand
//! is multiplied by, such as −1 for what takes away; without it every event counts 1. Unless
//! `types` says otherwise, the types are those of `add`.
//!
//! An event of one of the types in `delete_on` deletes the document.
//!
//! # Numbers
//!
//! Sums of whole numbers are exact from −2⁶³ to 2⁶³ − 1. A sum that leaves this range, or to which
//! a number with a fraction is added, goes on as an IEEE 754 double and remains one. An event that
//! would make a sum infinite is a poison event. JavaScript reads numbers beyond 2⁵³ inexactly.
//!
//! # What becomes of events that do not fit
//!
//! An event that was erased has no data any more and is skipped. Data that is not JSON has no
//! members: every path into it is missing.

mod build;
mod config;
pub(crate) mod keys;
mod number;
mod path;
mod view;

use std::sync::Arc;

use serde_json::{Map, Value};
use tidewire_eventstore::{DocumentKey, EventType, Payload, RecordedEvent};

pub use self::{
    config::{DeclaredConfig, Kind, Missing, Mode},
    keys::DeclareError,
};
use self::{number::Sum, path::EventPath, view::EventView};
use crate::{
    definition::Definition,
    projection::{ProjectError, Projection},
    working::Documents,
};

/// The longest list of `list_by`.
pub const LIST_MAX: usize = 1000;

/// The most members of `include`.
pub const INCLUDE_MAX: usize = 64;

/// A projection from settings.
struct Declared {
    definition: Definition,
    key: EventPath,
    missing: Missing,
    delete_on: Vec<EventType>,
    does: Does,
}

/// What an event does with its document.
enum Does {
    /// Is merged into it, or takes its place.
    Latest { content: Content, mode: Mode },
    /// Adds to a number in it.
    Add { of: Option<EventPath>, weights: Vec<(EventType, i64)>, into: Arc<str>, beside: Content },
    /// Is added to a list in it.
    List { content: Content, limit: usize, into: Arc<str> },
}

/// What is taken from an event.
enum Content {
    /// All of its data.
    Data,
    /// What is found at these paths, by the names of the members that it becomes.
    Members(Vec<(Arc<str>, EventPath)>),
}

impl Content {
    /// What the event has of it; none where all of its data is asked for and there is none.
    fn of(&self, event: &mut EventView<'_>) -> Result<Option<Value>, ProjectError> {
        match self {
            Self::Data => event.take_data(),
            Self::Members(members) => {
                let mut found = Map::new();
                for (name, path) in members {
                    if let Some(value) = path.of(event)? {
                        found.insert(name.as_ref().to_owned(), value);
                    }
                }
                Ok(Some(Value::Object(found)))
            }
        }
    }
}

impl Declared {
    /// The document that the event concerns; none where it is skipped.
    fn key(&self, event: &EventView<'_>) -> Result<Option<DocumentKey>, ProjectError> {
        let text = match self.key.of(event)? {
            None => return self.miss(&self.key).map(|()| None),
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(truth)) => truth.to_string(),
            Some(Value::Array(_) | Value::Object(_) | Value::Null) => {
                return Err(ProjectError::EventUnreadable {
                    reason: format!("`{}` is neither a text nor a number", self.key),
                });
            }
        };
        Ok(Some(DocumentKey::new(&text)?))
    }

    /// What becomes of an event in which something is missing: nothing, or it is refused.
    fn miss(&self, path: &EventPath) -> Result<(), ProjectError> {
        match self.missing {
            Missing::Skip => Ok(()),
            Missing::Refuse => {
                Err(ProjectError::EventUnreadable { reason: format!("`{path}` is missing") })
            }
        }
    }

    fn add(
        &self,
        (of, weight, into, beside): (Option<&EventPath>, i64, &str, &Content),
        key: &DocumentKey,
        event: &mut EventView<'_>,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        let summand = match of {
            None => Sum::Whole(weight),
            Some(of) => match of.of(event)? {
                None => return self.miss(of),
                Some(Value::Number(number)) => Sum::of(&number).times(weight),
                Some(_) => {
                    return Err(ProjectError::EventUnreadable {
                        reason: format!("`{of}` is no number"),
                    });
                }
            },
        };
        let before = match documents.get(key)?.and_then(|document| document.get(into)) {
            None => Sum::Whole(0),
            Some(Value::Number(number)) => Sum::of(number),
            Some(_) => {
                return Err(ProjectError::DocumentUnreadable {
                    key: key.clone(),
                    reason: format!("`{into}` is no number"),
                });
            }
        };
        let Some(sum) = before.plus(summand).into_number() else {
            return Err(ProjectError::refused(format!("`{into}` would become infinite")));
        };
        let mut patch = beside.of(event)?.unwrap_or_default();
        patch[into] = Value::Number(sum);
        documents.patch(key, patch)
    }
}

impl Projection for Declared {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        if event.payload != Payload::Erased {
            keys.extend(self.key(&EventView::new(event))?);
        }
        Ok(())
    }

    fn project(
        &self,
        event: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        let mut view = EventView::new(event);
        let Some(key) = self.key(&view)? else { return Ok(()) };
        if self.delete_on.contains(&event.event_type) {
            return documents.delete(&key);
        }
        match &self.does {
            Does::Latest { content, mode } => {
                let Some(content) = content.of(&mut view)? else { return Ok(()) };
                match mode {
                    Mode::Merge => documents.patch(&key, content),
                    Mode::Replace => documents.put(&key, content),
                }
            }
            Does::Add { of, weights, into, beside } => {
                let weight = weights.iter().find(|(name, _)| *name == event.event_type);
                let weight = weight.map_or(1, |(_, weight)| *weight);
                self.add((of.as_ref(), weight, into, beside), &key, &mut view, documents)
            }
            Does::List { content, limit, into } => {
                let Some(content) = content.of(&mut view)? else { return Ok(()) };
                let present = documents.get(&key)?.and_then(|document| document.get(into.as_ref()));
                let present = present.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let mut items = vec![content];
                items.extend(present.iter().take(limit - 1).cloned());
                documents.put(
                    &key,
                    Value::Object(Map::from_iter([(into.as_ref().to_owned(), items.into())])),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
