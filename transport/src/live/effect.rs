//! What a change of a document is for a query: nothing, or that the document comes, changes or
//! goes.

use std::cell::OnceCell;

use bytes::Bytes;
use tidewire_eventstore::DocumentKey;
use tidewire_projections::{Before, ChangeBatch, Content, DocumentChange};
use tidewire_protocol::query::{Change, Document, Query, difference};

/// Shorter documents are not worth a patch.
const PATCHED_BYTES_MIN: usize = 64;

/// What a change is for those who hold the query's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is among the documents now, and they may not have it.
    Put,
    /// They have it as it was before.
    Update,
    /// It is not among the documents, and they may have it.
    Delete,
}

/// Whether a document is among those that the query selects; its window apart.
pub(super) fn selects(query: &Query, key: &DocumentKey, content: &Content) -> bool {
    query.key.as_ref().is_none_or(|only| only == key)
        && query.condition.as_ref().is_none_or(|condition| condition.matches(content.value()))
}

/// What a change is for a query; none: nothing.
pub(super) fn effect(query: &Query, change: &DocumentChange) -> Option<Effect> {
    if query.key.as_ref().is_some_and(|only| *only != change.key) {
        return None;
    }
    let is = change.after.as_ref().is_some_and(|after| selects(query, &change.key, after));
    let was = match &change.before {
        Before::Document(before) => {
            let same = change.after.as_ref().is_some_and(|after| after.text() == before.text());
            if same {
                return None;
            }
            selects(query, &change.key, before)
        }
        Before::Absent => false,
        Before::Unknown => return Some(if is { Effect::Put } else { Effect::Delete }),
    };
    match (was, is) {
        (false, false) => None,
        (false, true) => Some(Effect::Put),
        (true, true) => Some(Effect::Update),
        (true, false) => Some(Effect::Delete),
    }
}

/// A document as it is told.
pub(super) fn put(key: &DocumentKey, content: &Content) -> Change {
    Change::Put(Document { key: key.clone(), data: content.text().clone() })
}

/// The patch from one content of a document to another, where it is worth it.
pub(super) fn patch(from: &Content, to: &Content) -> Option<Bytes> {
    let size = to.text().len();
    if size < PATCHED_BYTES_MIN {
        return None;
    }
    let patch = difference(from.value(), to.value())?.to_string();
    (patch.len() * 4 <= size * 3).then(|| Bytes::from(patch))
}

/// The patches of one batch, each made once, for the first group that can use it.
pub(super) struct Patches(Vec<OnceCell<Option<Bytes>>>);

impl Patches {
    pub(super) fn of(batch: &ChangeBatch) -> Self {
        Self(batch.changes.iter().map(|_| OnceCell::new()).collect())
    }

    /// The patch of the change with this index.
    fn get(&self, index: usize, change: &DocumentChange) -> Option<&Bytes> {
        let made = self.0[index].get_or_init(|| match (&change.before, &change.after) {
            (Before::Document(before), Some(after)) => patch(before, after),
            _ => None,
        });
        made.as_ref()
    }

    /// The change as it is told, and without a patch, where it is one.
    pub(super) fn told(
        &self,
        index: usize,
        change: &DocumentChange,
        effect: Effect,
    ) -> (Change, Option<Change>) {
        let key = change.key.clone();
        let plain = match (&change.after, effect) {
            (Some(after), Effect::Put | Effect::Update) => put(&key, after),
            _ => return (Change::Delete { key }, None),
        };
        match self.get(index, change) {
            Some(patch) if effect == Effect::Update => {
                (Change::Patch { key, patch: patch.clone() }, Some(plain))
            }
            _ => (plain, None),
        }
    }
}
