//! [`Order`]: how documents stand to each other.

use serde_json::Value;
use tidewire_eventstore::DocumentKey;

use super::{FieldPath, SortKey};

/// An order of documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Order {
    /// The field that they are ordered by; the key, if none.
    pub by: Option<FieldPath>,
    /// Which way.
    pub direction: OrderDirection,
}

/// Which way documents are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OrderDirection {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

impl Order {
    /// Puts documents, each the JSON text of an object, into this order. Those that are equal in it
    /// stand in ascending order of their keys, whichever way it goes. Of a text that is no JSON
    /// every field is absent.
    pub fn arrange<'a, Text: AsRef<[u8]>>(
        &self,
        documents: impl IntoIterator<Item = (&'a DocumentKey, Text)>,
    ) -> Vec<(&'a DocumentKey, Text)> {
        let place = |text: &Text| {
            let by = self.by.as_ref()?;
            let document: Value = serde_json::from_slice(text.as_ref()).ok()?;
            Some(SortKey::of([by.of(&document)]))
        };
        let absent = || SortKey::of([None]);
        let mut placed: Vec<_> = documents
            .into_iter()
            .map(|(key, text)| (place(&text).unwrap_or_else(absent), key, text))
            .collect();
        let descending = self.direction == OrderDirection::Descending;
        placed.sort_by(|(a, x, _), (b, y, _)| match (&self.by, descending) {
            (Some(_), true) => b.cmp(a).then(x.cmp(y)),
            (Some(_), false) => a.cmp(b).then(x.cmp(y)),
            (None, true) => y.cmp(x),
            (None, false) => x.cmp(y),
        });
        placed.into_iter().map(|(_, key, text)| (key, text)).collect()
    }
}
