//! [`CollectionProjection`]: the documents of a collection, from its events.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use tidewire_eventstore::{DocumentKey, Payload, RecordedEvent};

use super::{DELETED, INSERTED, REVISION_MEMBER, UPDATED};
use crate::{
    definition::Definition,
    projection::{ProjectError, Projection},
    typed::stream_id,
    working::Documents,
};

/// Keeps the documents of a collection.
///
/// It takes whatever stands in the collection's streams as far as it makes sense: an update of what
/// is not there changes nothing. Of an event that was erased only the revision is left.
pub(super) struct CollectionProjection {
    definition: Definition,
}

#[derive(Deserialize)]
struct Inserted {
    document: Map<String, Value>,
}

#[derive(Deserialize)]
struct Updated {
    patch: Map<String, Value>,
}

impl CollectionProjection {
    pub(super) fn new(definition: Definition) -> Self {
        Self { definition }
    }
}

impl Projection for CollectionProjection {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        keys.push(DocumentKey::new(stream_id(event))?);
        Ok(())
    }

    fn project(
        &self,
        event: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        let key = DocumentKey::new(stream_id(event))?;
        match event.event_type.as_str() {
            INSERTED => {
                let members = read::<Inserted>(event)?.map(|data| data.document);
                documents.put(&key, with_revision(members, event))
            }
            UPDATED => {
                let patch = read::<Updated>(event)?.map(|data| data.patch);
                if documents.get(&key)?.is_none() {
                    return Ok(());
                }
                documents.patch(&key, with_revision(patch, event))
            }
            DELETED => documents.delete(&key),
            _ => Ok(()),
        }
    }
}

/// The data; none where it was erased.
fn read<T: for<'de> Deserialize<'de>>(event: &RecordedEvent) -> Result<Option<T>, ProjectError> {
    let empty = Bytes::new();
    let text = match &event.payload {
        Payload::Erased => return Ok(None),
        Payload::Json(text) => text,
        _ => &empty,
    };
    serde_json::from_slice(text)
        .map(Some)
        .map_err(|error| ProjectError::EventUnreadable { reason: error.to_string() })
}

fn with_revision(members: Option<Map<String, Value>>, event: &RecordedEvent) -> Value {
    let mut members = members.unwrap_or_default();
    members.insert(REVISION_MEMBER.to_owned(), event.revision.get().into());
    Value::Object(members)
}
