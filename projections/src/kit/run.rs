//! Runs a projection over events in batches, as a runner does, on documents in a map.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use tidewire_eventstore::{DocumentKey, RecordedEvent};

use super::compare;
use crate::{
    projection::{ProjectError, Projection},
    working::WorkingSet,
};

/// What a projection made of events.
pub(super) struct Outcome {
    /// The documents, by key.
    pub(super) documents: BTreeMap<String, Value>,
    /// The events that it refused, by their number from 0.
    pub(super) refused: Vec<(usize, ProjectError)>,
}

impl Outcome {
    /// How another outcome differs, if it does.
    pub(super) fn difference(&self, other: Self) -> Option<String> {
        let expected = self.documents.clone().into_iter().collect();
        compare::documents(expected, other.documents).or_else(|| {
            (self.refused != other.refused).then(|| {
                format!(
                    "\n  refused before: {:?}\n  refused now: {:?}",
                    self.refused, other.refused
                )
            })
        })
    }
}

/// Projects events in batches; after each of them all that is known of documents is what was
/// stored of them.
pub(super) fn run(projection: &dyn Projection, events: &[RecordedEvent], batch: usize) -> Outcome {
    let mut stored = BTreeMap::<DocumentKey, Bytes>::new();
    let mut refused = Vec::new();
    for (number, batch_events) in events.chunks(batch).enumerate() {
        let mut set = WorkingSet::new(projection.definition());
        for (index, event) in batch_events.iter().enumerate() {
            if !projection.definition().wants(event) {
                continue;
            }
            match project(projection, event, &mut set, &stored) {
                Ok(()) => set.accept(),
                Err(error) => {
                    set.undo();
                    refused.push((number * batch + index, error));
                }
            }
        }
        for write in set.take_writes().0 {
            match write.data {
                Some(data) => stored.insert(write.key, data),
                None => stored.remove(&write.key),
            };
        }
    }
    let documents = stored
        .into_iter()
        .map(|(key, text)| {
            let value = serde_json::from_slice(&text).expect("what was written is JSON");
            (key.as_str().to_owned(), value)
        })
        .collect();
    Outcome { documents, refused }
}

fn project(
    projection: &dyn Projection,
    event: &RecordedEvent,
    set: &mut WorkingSet,
    stored: &BTreeMap<DocumentKey, Bytes>,
) -> Result<(), ProjectError> {
    let mut keys = Vec::new();
    projection.keys(event, &mut keys)?;
    if keys.is_empty() {
        return Ok(());
    }
    for key in &keys {
        set.load(key.clone(), stored.get(key).cloned());
    }
    projection.project(event, &mut set.begin(event.position, &keys)?)
}
