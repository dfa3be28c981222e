//! What has become of documents, as whoever watches a projection on this node is told it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition};
use tidewire_protocol::query::Reached;

/// News of a projection, in order.
#[derive(Debug, Clone)]
pub enum FeedNews {
    /// The next changes of the active generation. They go on from what was told last, or there
    /// is a hole, which the store fills: `after` tells.
    Batch(Arc<ChangeBatch>),
    /// Another generation is the active one now.
    Swapped(Reached),
}

/// What one step of a projection changed.
#[derive(Debug)]
pub struct ChangeBatch {
    /// The generation.
    pub generation: Generation,
    /// Everything through here was told before.
    pub after: GlobalPosition,
    /// Everything through here is told now.
    pub position: GlobalPosition,
    /// Each document at most once.
    pub changes: Vec<DocumentChange>,
}

/// What has become of one document.
#[derive(Debug)]
pub struct DocumentChange {
    /// Names it.
    pub key: DocumentKey,
    /// What it was.
    pub before: Before,
    /// What it is; none: deleted.
    pub after: Option<Content>,
}

/// What a document was before a change.
#[derive(Debug)]
pub enum Before {
    /// Not known on this node: it may have been anything.
    Unknown,
    /// It was not there.
    Absent,
    /// This.
    Document(Content),
}

/// The content of a document: its text, and its value once somebody asks. Clones share both.
#[derive(Debug, Clone)]
pub struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: Bytes,
    value: OnceLock<Value>,
}

impl Content {
    /// Takes JSON text of an object.
    pub fn new(text: Bytes) -> Self {
        Self(Arc::new(Inner { text, value: OnceLock::new() }))
    }

    /// Takes a text and the value that it stands for.
    pub fn with_value(text: Bytes, value: Value) -> Self {
        Self(Arc::new(Inner { text, value: OnceLock::from(value) }))
    }

    /// The text.
    pub fn text(&self) -> &Bytes {
        &self.0.text
    }

    /// The value; parsed once. Null where the text is no JSON, which a store never gives.
    pub fn value(&self) -> &Value {
        self.0.value.get_or_init(|| serde_json::from_slice(&self.0.text).unwrap_or(Value::Null))
    }

    /// The value to change. It is moved out where nobody else has this content: then the next one
    /// who asks parses it again, unless it is given back by [`Self::give_back`].
    pub(crate) fn take_value(&mut self) -> Value {
        if let Some(value) = Arc::get_mut(&mut self.0).and_then(|inner| inner.value.take()) {
            return value;
        }
        self.value().clone()
    }

    /// Puts a value back that [`Self::take_value`] moved out, unchanged.
    pub(crate) fn give_back(&self, value: Value) {
        // Somebody may have asked in between: then it is there already, and the same.
        let _ = self.0.value.set(value);
    }
}
