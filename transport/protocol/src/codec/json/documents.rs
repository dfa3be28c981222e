//! What servers say of documents, as JSON: `state`, `changes` and pages. The texts of documents
//! and patches pass through byte for byte.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire_eventstore::{DocumentKey, GlobalPosition};

use super::{
    read::{AsObject, Field, present},
    server_message::DecodeError,
    write::{self, Object},
};
use crate::{
    frame,
    messages::{QueryReset, Sub},
    query::{Change, Document, Reached},
};

/// What a change costs beside its key and its text, at most, in bytes.
const OVERHEAD_BYTES: usize = 48;

/// About how many bytes a document takes in a frame: never fewer, unless its key needs escaping.
pub fn document_bytes(document: &Document) -> usize {
    OVERHEAD_BYTES + document.key.as_str().len() + document.data.len()
}

/// About how many bytes a change takes in a frame: never fewer, unless its key needs escaping.
pub fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Put(document) => document_bytes(document),
        Change::Patch { key, patch } => OVERHEAD_BYTES + key.as_str().len() + patch.len(),
        Change::Delete { key } => OVERHEAD_BYTES + key.as_str().len(),
    }
}

/// A whole unmasked WebSocket text frame with a `state` message.
pub fn encode_state_frame(
    sub: Sub,
    reached: Reached,
    reset: Option<QueryReset>,
    documents: &[Document],
    more: bool,
) -> Bytes {
    let size = documents.iter().map(document_bytes).sum::<usize>();
    in_frame(size, |out| write_state(sub, reached, reset, documents, more, out))
}

/// A whole unmasked WebSocket text frame with a `changes` message.
pub fn encode_changes_frame(
    sub: Sub,
    position: GlobalPosition,
    changes: &[Change],
    more: bool,
) -> Bytes {
    let size = changes.iter().map(change_bytes).sum::<usize>();
    in_frame(size, |out| write_changes(sub, position, changes, more, out))
}

/// A whole unmasked WebSocket text frame of about `size` bytes.
pub(super) fn in_frame(size: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    // Enough for the fields of every message that is framed here.
    let mut text = BytesMut::with_capacity(size + 256);
    write(&mut text);
    let mut out = BytesMut::with_capacity(frame::HEADER_BYTES_MAX + text.len());
    frame::text(&text, &mut out);
    out.freeze()
}

pub(super) fn write_state(
    sub: Sub,
    reached: Reached,
    reset: Option<QueryReset>,
    documents: &[Document],
    more: bool,
    out: &mut BytesMut,
) {
    let mut object = Object::message("state", out);
    object.number("sub", u64::from(sub.get()));
    object.number("generation", reached.generation.get());
    object.number("position", reached.position.get());
    if let Some(reset) = reset {
        object.string("reset", reset.as_str());
    }
    object.list("documents", documents, write_document);
    object.boolean("more", more);
    object.end();
}

pub(super) fn write_changes(
    sub: Sub,
    position: GlobalPosition,
    changes: &[Change],
    more: bool,
    out: &mut BytesMut,
) {
    let mut object = Object::message("changes", out);
    object.number("sub", u64::from(sub.get()));
    object.number("position", position.get());
    object.list("changes", changes, write_change);
    if more {
        object.boolean("more", true);
    }
    object.end();
}

/// Writes `{"key": …, "document": …}`.
pub fn write_document(document: &Document, out: &mut BytesMut) {
    out.put_slice(b"{\"key\":");
    write::string(document.key.as_str(), out);
    out.put_slice(b",\"document\":");
    out.put_slice(&document.data);
    out.put_u8(b'}');
}

fn write_change(change: &Change, out: &mut BytesMut) {
    let (op, body) = match change {
        Change::Put(document) => ("put", Some(("document", &document.data))),
        Change::Patch { patch, .. } => ("patch", Some(("patch", patch))),
        Change::Delete { .. } => ("delete", None),
    };
    let mut object = Object::begin(out);
    object.string("op", op);
    object.string("key", change.key().as_str());
    if let Some((name, json)) = body {
        object.raw(name, json);
    }
    object.end();
}

#[derive(Deserialize)]
struct WireDocument<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    document: &'a RawValue,
}

#[derive(Deserialize)]
struct WireChange<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    document: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    patch: Option<&'a RawValue>,
}

fn key(text: &str) -> Result<DocumentKey, DecodeError> {
    DocumentKey::new(text).map_err(|error| DecodeError::Invalid(error.to_string()))
}

/// The text of an object.
fn object(json: Option<&RawValue>) -> Result<Bytes, DecodeError> {
    match json {
        Some(json) if json.get().starts_with('{') => {
            Ok(Bytes::copy_from_slice(json.get().as_bytes()))
        }
        _ => Err(DecodeError::Invalid("a document and a patch are objects".to_owned())),
    }
}

pub(super) fn read_documents(of: Field<'_>) -> Result<Vec<Document>, DecodeError> {
    let documents: Vec<AsObject<WireDocument<'_>>> =
        of.required("has to be a list of documents")?;
    let read = |AsObject(document): AsObject<WireDocument<'_>>| {
        Ok(Document { key: key(&document.key)?, data: object(Some(document.document))? })
    };
    documents.into_iter().map(read).collect()
}

pub(super) fn read_changes(of: Field<'_>) -> Result<Vec<Change>, DecodeError> {
    let changes: Vec<AsObject<WireChange<'_>>> = of.required("has to be a list of changes")?;
    let read = |AsObject(change): AsObject<WireChange<'_>>| {
        let key = key(&change.key)?;
        match &*change.op {
            "put" => Ok(Change::Put(Document { key, data: object(change.document)? })),
            "patch" => Ok(Change::Patch { key, patch: object(change.patch)? }),
            "delete" => Ok(Change::Delete { key }),
            other => Err(DecodeError::Invalid(format!("unknown op {other:?}"))),
        }
    };
    changes.into_iter().map(read).collect()
}

pub(super) fn read_reset(of: Field<'_>) -> Result<Option<QueryReset>, DecodeError> {
    let Some(name) = of.text(usize::MAX)? else { return Ok(None) };
    match QueryReset::parse(&name) {
        Some(reset) => Ok(Some(reset)),
        None => Err(DecodeError::Invalid(format!("unknown reset {name:?}"))),
    }
}
