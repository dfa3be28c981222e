//! [`Entry`]: one document of a working set.

use serde_json::Value;
use tidewire_eventstore::{DocumentKey, GlobalPosition};
use tidewire_protocol::query::SortKey;

use crate::{
    definition::Index,
    documents::Write,
    feed::{Before, Content, DocumentChange},
    merge::{Undo, unmerge},
    projection::ProjectError,
};

/// What an entry takes besides its key and its content, about.
const ENTRY_BYTES: usize = 240;

/// What a parsed document takes for each byte of its text, about.
const VALUE_FACTOR: usize = 3;

/// What is known of one document.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the store has, or will have with the writes that were taken.
    stored: Option<Content>,
    /// Its entries in the indexes, once they were asked for.
    indexed: Option<Vec<SortKey>>,
    /// What has become of it since.
    pub(super) changed: Option<Changed>,
    /// The number of the last event that named it.
    pub(super) event: u64,
    /// The number of the last taking of writes that had it.
    pub(super) taken: u64,
}

/// What a document is that the store has otherwise.
#[derive(Debug)]
pub(super) struct Changed {
    /// Since which event.
    pub(super) position: GlobalPosition,
    /// This; none: deleted.
    pub(super) now: Option<Value>,
    /// Its text has at most so many bytes.
    pub(super) size: usize,
}

/// What one change was, so that it can be taken back.
#[derive(Debug)]
pub(super) enum Step {
    /// The document was made another, from this; none: from what is stored.
    Replaced(Option<Changed>),
    /// The document was patched.
    Patched {
        /// Takes the patch back.
        undo: Undo,
        /// When it had changed before and its size; none: it was what is stored.
        was: Option<(GlobalPosition, usize)>,
    },
}

impl Entry {
    /// What the store has of a document.
    pub(super) fn stored(stored: Option<Content>, event: u64) -> Self {
        Self { stored, indexed: None, changed: None, event, taken: 0 }
    }

    /// Whether there is such a document now.
    pub(super) fn exists(&self) -> bool {
        self.changed.as_ref().map_or(self.stored.is_some(), |changed| changed.now.is_some())
    }

    /// What the document is now.
    pub(super) fn value(&self, key: &DocumentKey) -> Result<Option<&Value>, ProjectError> {
        if let Some(changed) = &self.changed {
            return Ok(changed.now.as_ref());
        }
        let Some(stored) = &self.stored else { return Ok(None) };
        let value = stored.value();
        if value.is_object() {
            return Ok(Some(value));
        }
        Err(ProjectError::DocumentUnreadable {
            key: key.clone(),
            reason: "what is stored is no JSON object".into(),
        })
    }

    /// Works out where the stored document stands in the indexes, while its value is here.
    pub(super) fn index(&mut self, indexes: &[Index]) {
        if self.indexed.is_none() {
            self.indexed = Some(self.stored.as_ref().map_or_else(Vec::new, |content| {
                if indexes.is_empty() { Vec::new() } else { entries_of(indexes, content.value()) }
            }));
        }
    }

    /// What the document has become, to be changed; what is stored to begin with.
    pub(super) fn open(&mut self) -> &mut Changed {
        let stored = &mut self.stored;
        self.changed.get_or_insert_with(|| Changed {
            position: GlobalPosition::START,
            size: stored.as_ref().map_or(0, |content| content.text().len()),
            now: stored.as_mut().map(Content::take_value),
        })
    }

    /// Takes the last change back.
    pub(super) fn take_back(&mut self, step: Step) {
        match step {
            Step::Replaced(was) => self.changed = was,
            Step::Patched { undo, was } => {
                let changed = self.changed.as_mut().expect("a patched document has changed");
                let value = changed.now.as_mut().expect("what is patched is there");
                unmerge(value, undo);
                if let Some((position, size)) = was {
                    changed.position = position;
                    changed.size = size;
                } else {
                    let value = self.changed.take().and_then(|changed| changed.now);
                    if let (Some(stored), Some(value)) = (&self.stored, value) {
                        stored.give_back(value);
                    }
                }
            }
        }
    }

    /// What the store has to be told, if anything; from now on that counts as stored.
    pub(super) fn take_write(
        &mut self,
        key: &DocumentKey,
        indexes: &[Index],
    ) -> Option<(Write, DocumentChange)> {
        let Changed { position, now, .. } = self.changed.take()?;
        let indexed_before = self.indexed.take().unwrap_or_default();
        let now = now.map(|value| {
            let text = serde_json::to_vec(&value).expect("a JSON value has a text");
            (text, value)
        });
        let same = match (&self.stored, &now) {
            (None, None) => true,
            (Some(stored), Some((text, _))) => stored.text() == text,
            _ => false,
        };
        if same {
            self.indexed = Some(indexed_before);
            if let (Some(stored), Some((_, value))) = (&self.stored, now) {
                stored.give_back(value);
            }
            return None;
        }
        let indexed_after =
            now.as_ref().map_or_else(Vec::new, |(_, value)| entries_of(indexes, value));
        let after = now.map(|(text, value)| Content::with_value(text.into(), value));
        let before = std::mem::replace(&mut self.stored, after.clone());
        self.indexed = Some(indexed_after.clone());
        let write = Write {
            key: key.clone(),
            position,
            data: after.as_ref().map(|content| content.text().clone()),
            indexed_before,
            indexed_after,
        };
        let before = before.map_or(Before::Absent, Before::Document);
        Some((write, DocumentChange { key: key.clone(), before, after }))
    }

    /// About how many bytes of memory this takes.
    pub(super) fn bytes(&self, key: &DocumentKey) -> usize {
        let stored = self.stored.as_ref().map_or(0, |content| content.text().len());
        let changed = self.changed.as_ref().map_or(0, |changed| changed.size);
        ENTRY_BYTES + key.as_str().len() + (stored + changed) * (1 + VALUE_FACTOR)
    }
}

/// Where a document stands in each index.
fn entries_of(indexes: &[Index], document: &Value) -> Vec<SortKey> {
    indexes
        .iter()
        .map(|index| SortKey::of(index.fields.iter().map(|field| field.of(document))))
        .collect()
}
