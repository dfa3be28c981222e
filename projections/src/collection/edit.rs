//! What a client asks of a collection, and whether that can be.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidewire_eventstore::{
    DocumentKey, EventType, ExpectedRevision, GlobalPosition, NUMBER_MAX, NewEvent, RecordedEvent,
    Revision, StreamName,
};

use super::{DELETED, EDIT_DEPTH_MAX, FIELDS_BYTES_MAX, INSERTED, REVISION_MEMBER, UPDATED};
use crate::merge::merge;

/// An edit, as a client sends it: the data of the command [`EDIT_COMMAND`](super::EDIT_COMMAND).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The collection.
    pub collection: String,
    /// What to do.
    pub op: Operation,
    /// With which document.
    pub key: String,
    /// For an insertion: the document.
    pub document: Option<Map<String, Value>>,
    /// For an update: a JSON merge patch (RFC 7396).
    pub patch: Option<Map<String, Value>>,
    /// For an update and a deletion: the revision that the document has to be at.
    pub revision: Option<u64>,
}

/// What to do with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Make it, where there is none.
    Insert,
    /// Change it, where there is one.
    Update,
    /// Delete it, where there is one.
    Delete,
}

/// An edit that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedEdit {
    stream: StreamName,
    key: DocumentKey,
    content: Content,
    revision: Option<Revision>,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Insert(Map<String, Value>),
    Update(Map<String, Value>),
    Delete,
}

/// Why an edit is not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// A field of the edit has a value that is not allowed.
    #[error("`{field}` {reason}")]
    Field {
        /// Which: `key`, `document`, `patch` or `revision`.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The document would become too large.
    #[error("the document would have {bytes} bytes; at most {FIELDS_BYTES_MAX} are allowed")]
    TooLarge {
        /// How large it would be.
        bytes: usize,
    },
    /// The document is not what the edit was made upon.
    #[error("the document is not at the revision that the edit was made upon")]
    Conflict {
        /// What it is; none: it is not there.
        document: Option<Value>,
        /// At which revision it is.
        revision: Option<Revision>,
    },
    /// There is no such document.
    #[error("there is no document with this key")]
    NoSuchDocument,
}

/// What was found at the end of the document's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// The revision of the stream's last event; none where it has none.
    pub stream: Option<Revision>,
    /// The last of its events that is the collection's.
    pub edit: Option<LastEdit>,
}

/// The last edit of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEdit {
    /// The event's revision, which is the document's.
    pub revision: Revision,
    /// Where it stands in the log.
    pub position: GlobalPosition,
    /// Whether it left a document.
    pub present: bool,
}

/// What is to be done about an edit.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Record it.
    Append(Appending),
    /// Look at the document, as it is once the projection has come to this position, and ask
    /// [`CheckedEdit::upon`].
    Look(GlobalPosition),
}

/// What is to be recorded, and what the client is answered then.
#[derive(Debug, Clone, PartialEq)]
pub struct Appending {
    /// The stream.
    pub stream: StreamName,
    /// Where it must still end.
    pub expected: ExpectedRevision,
    /// What to append.
    pub event: NewEvent,
    /// The answer.
    pub edited: Edited,
}

/// What a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Edited {
    /// The document's revision now; after a deletion, that of the event.
    pub revision: Revision,
}

impl Edit {
    /// Checks what can be checked without looking at the document.
    ///
    /// # Errors
    ///
    /// [`EditError::Field`] and [`EditError::TooLarge`].
    pub fn check(self) -> Result<CheckedEdit, EditError> {
        let key = DocumentKey::new(&self.key).map_err(|error| field("key", error))?;
        let stream = format!("{}-{key}", self.collection);
        let stream = StreamName::new(&stream).map_err(|error| {
            let reason = format!("gives a name of a stream that cannot be: {error}");
            EditError::Field { field: "key", reason }
        })?;
        let revision = self.revision.map(checked_revision).transpose()?;
        let forbid = |name, present| {
            if present { Err(field(name, "has no meaning for this operation")) } else { Ok(()) }
        };
        let content = match self.op {
            Operation::Insert => {
                forbid("patch", self.patch.is_some())?;
                forbid("revision", revision.is_some())?;
                let document = self.document.ok_or_else(|| field("document", "is missing"))?;
                Content::Insert(checked("document", document)?)
            }
            Operation::Update => {
                forbid("document", self.document.is_some())?;
                let patch = self.patch.ok_or_else(|| field("patch", "is missing"))?;
                Content::Update(checked("patch", patch)?)
            }
            Operation::Delete => {
                forbid("document", self.document.is_some())?;
                forbid("patch", self.patch.is_some())?;
                Content::Delete
            }
        };
        Ok(CheckedEdit { stream, key, content, revision })
    }
}

impl Found {
    /// What the events say that stand at the end of a stream, newest first; the stream is looked at
    /// until one of them is the collection's. `None`: look further.
    pub fn from_newest(events: &[RecordedEvent]) -> Option<Self> {
        let edit = events.iter().find_map(|event| {
            let present = match event.event_type.as_str() {
                INSERTED | UPDATED => true,
                DELETED => false,
                _ => return None,
            };
            Some(LastEdit { revision: event.revision, position: event.position, present })
        });
        edit.map(|edit| Self {
            stream: events.first().map(|event| event.revision),
            edit: Some(edit),
        })
    }
}

impl CheckedEdit {
    /// The stream of the document.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// The document's key.
    pub fn key(&self) -> &DocumentKey {
        &self.key
    }

    /// What is to be done about the edit where the stream ends like this.
    ///
    /// # Errors
    ///
    /// [`EditError::NoSuchDocument`], and [`EditError::Conflict`] where the document was deleted.
    pub fn after(&self, found: Found) -> Result<Step, EditError> {
        let present = found.edit.filter(|edit| edit.present);
        match (&self.content, present) {
            (Content::Insert(_), None) => Ok(Step::Append(self.appending(found))),
            (Content::Insert(_), Some(edit)) => Ok(Step::Look(edit.position)),
            (Content::Update(_) | Content::Delete, None) => Err(self.absent(found.edit)),
            (Content::Update(_), Some(edit)) => Ok(Step::Look(edit.position)),
            (Content::Delete, Some(edit)) if self.demands_other_than(edit.revision) => {
                Ok(Step::Look(edit.position))
            }
            (Content::Delete, Some(_)) => Ok(Step::Append(self.appending(found))),
        }
    }

    /// What is to be recorded where the stream ends like this and the document is this.
    ///
    /// # Errors
    ///
    /// [`EditError::Conflict`], [`EditError::NoSuchDocument`] and [`EditError::TooLarge`].
    pub fn upon(&self, found: Found, document: Option<&Bytes>) -> Result<Appending, EditError> {
        let document: Option<Map<String, Value>> =
            document.and_then(|text| serde_json::from_slice(text).ok());
        let revision = document.as_ref().and_then(|members| members.get(REVISION_MEMBER)?.as_u64());
        let revision = revision.map(Revision::new);
        match (&self.content, document) {
            (Content::Insert(_), document) => {
                Err(EditError::Conflict { document: document.map(Value::Object), revision })
            }
            // It was deleted since the stream was looked at.
            (Content::Update(_) | Content::Delete, None) if self.revision.is_some() => {
                Err(EditError::Conflict { document: None, revision: None })
            }
            (Content::Update(_) | Content::Delete, None) => Err(EditError::NoSuchDocument),
            (_, Some(document)) if revision.is_none_or(|at| self.demands_other_than(at)) => {
                Err(EditError::Conflict { document: Some(Value::Object(document)), revision })
            }
            (Content::Update(patch), Some(mut document)) => {
                document.remove(REVISION_MEMBER);
                let mut document = Value::Object(document);
                merge(&mut document, Value::Object(patch.clone()));
                check_size(&document)?;
                Ok(self.appending(found))
            }
            (Content::Delete, Some(_)) => Ok(self.appending(found)),
        }
    }

    fn demands_other_than(&self, revision: Revision) -> bool {
        self.revision.is_some_and(|demanded| demanded != revision)
    }

    /// Why a document that is not there cannot be edited. Who edits one that was deleted meanwhile
    /// is told of a conflict.
    fn absent(&self, last: Option<LastEdit>) -> EditError {
        if last.is_some_and(|edit| self.demands_other_than(edit.revision)) {
            EditError::Conflict { document: None, revision: None }
        } else {
            EditError::NoSuchDocument
        }
    }

    fn appending(&self, found: Found) -> Appending {
        let (event_type, data) = match &self.content {
            Content::Insert(document) => (INSERTED, serde_json::json!({ "document": document })),
            Content::Update(patch) => (UPDATED, serde_json::json!({ "patch": patch })),
            Content::Delete => (DELETED, serde_json::json!({})),
        };
        let event_type = EventType::new(event_type).expect("the collection's types are names");
        let revision = found.stream.map_or(Revision::FIRST, Revision::next);
        Appending {
            stream: self.stream.clone(),
            expected: found.stream.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact),
            event: NewEvent::json(event_type, data.to_string()),
            edited: Edited { revision },
        }
    }
}

fn field(field: &'static str, reason: impl ToString) -> EditError {
    EditError::Field { field, reason: reason.to_string() }
}

fn checked_revision(revision: u64) -> Result<Revision, EditError> {
    if revision > NUMBER_MAX {
        return Err(field("revision", "is larger than a revision can be"));
    }
    Ok(Revision::new(revision))
}

/// A document or a patch, if clients may send it.
fn checked(
    name: &'static str,
    members: Map<String, Value>,
) -> Result<Map<String, Value>, EditError> {
    if let Some(reserved) = members.keys().find(|name| name.starts_with('$')) {
        let reason = format!("has a member {reserved:?}: names that begin with `$` are reserved");
        return Err(field(name, reason));
    }
    let value = Value::Object(members);
    if is_deeper(&value, EDIT_DEPTH_MAX) {
        return Err(field(name, format!("is deeper than {EDIT_DEPTH_MAX} levels")));
    }
    check_size(&value)?;
    match value {
        Value::Object(members) => Ok(members),
        _ => unreachable!("it was made of members"),
    }
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth == 0 || items.iter().any(|item| is_deeper(item, depth - 1)),
        Value::Object(members) => {
            depth == 0 || members.values().any(|item| is_deeper(item, depth - 1))
        }
        _ => false,
    }
}

fn check_size(document: &Value) -> Result<(), EditError> {
    let bytes = crate::working::text_bytes(document);
    if bytes > FIELDS_BYTES_MAX { Err(EditError::TooLarge { bytes }) } else { Ok(()) }
}
