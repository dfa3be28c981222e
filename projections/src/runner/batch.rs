//! Projecting: the documents that events name are loaded, and each event is given to the
//! projection. An event that it fails on, by an error or a panic, changes nothing.

use std::{
    any::Any,
    collections::HashSet,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tidewire_eventstore::{DocumentKey, Generation, Payload, RecordedEvent};
use tokio::task::yield_now;

use crate::{
    DocumentStore, EVENT_KEYS_MAX, ProjectError, Projection, StoreError, WorkingSet,
    documents::COMMIT_WRITES_MAX,
};

/// Events between two points at which other work of the runtime gets its turn.
const EVENTS_A_TURN: usize = 256;

/// The fewest and the most documents that are loaded at once.
const LOAD_MIN: usize = 64;
const LOAD_MAX: usize = COMMIT_WRITES_MAX;

/// What bounds a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Events.
    pub(super) events: usize,
    /// Bytes that they carry.
    pub(super) event_bytes: usize,
    /// Bytes of the documents that they name.
    pub(super) document_bytes: usize,
}

/// The documents that the first of some events name.
pub(super) struct Named {
    keys: Vec<DocumentKey>,
    /// For each event which of `keys`, or why it is poison.
    of: Vec<Result<Range<usize>, String>>,
}

/// Whether an event is for a projection at all. What was removed or erased is for none: it carries
/// nothing. That another event was erased is told only to those that ask for events of that type.
pub(super) fn concerns(event: &RecordedEvent, projection: &dyn Projection) -> bool {
    let carries = !matches!(event.payload, Payload::Removed | Payload::Erased);
    let asked = || projection.definition().types.contains(&event.event_type);
    carries && (!event.is_erasure() || asked())
}

impl Named {
    /// Asks which documents as many of `events` name as the bounds allow, at least one.
    pub(super) async fn of(
        projection: &dyn Projection,
        events: &[RecordedEvent],
        bounds: Bounds,
    ) -> Self {
        let mut named = Self { keys: Vec::new(), of: Vec::new() };
        let mut bytes = 0;
        for event in events.iter().take(bounds.events.max(1)) {
            bytes += event.payload.len() + event.meta.as_ref().map_or(0, bytes::Bytes::len);
            let full =
                bytes > bounds.event_bytes || named.keys.len() > COMMIT_WRITES_MAX - EVENT_KEYS_MAX;
            if full && !named.of.is_empty() {
                break;
            }
            named.ask(projection, event);
            if named.of.len().is_multiple_of(EVENTS_A_TURN) {
                yield_now().await;
            }
        }
        named
    }

    /// How many events they are.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// The documents of an event, or why it is poison.
    pub(super) fn keys(&self, event: usize) -> Result<&[DocumentKey], &str> {
        match &self.of[event] {
            Ok(range) => Ok(&self.keys[range.clone()]),
            Err(reason) => Err(reason),
        }
    }

    fn ask(&mut self, projection: &dyn Projection, event: &RecordedEvent) {
        let start = self.keys.len();
        let asked = if concerns(event, projection) {
            let ask = AssertUnwindSafe(|| projection.keys(event, &mut self.keys));
            told(catch_unwind(ask))
        } else {
            Ok(())
        };
        let count = self.keys.len() - start;
        let asked = asked.and_then(|()| match count {
            0..=EVENT_KEYS_MAX => Ok(start..self.keys.len()),
            keys => Err(told_as(&ProjectError::TooManyKeys { keys })),
        });
        if asked.is_err() {
            self.keys.truncate(start);
        }
        self.of.push(asked);
    }

    /// Loads what the working set does not know. Where that grows too large, fewer events are
    /// left.
    pub(super) async fn load(
        &mut self,
        set: &mut WorkingSet,
        documents: &dyn DocumentStore,
        generation: Generation,
        bounds: Bounds,
    ) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let mut missing: Vec<DocumentKey> = Vec::new();
        for key in &self.keys {
            if !set.contains(key) && seen.insert(key) {
                missing.push(key.clone());
            }
        }
        drop(seen);
        let mut chunk = 1000;
        let mut left = missing.as_slice();
        while !left.is_empty() {
            let (now, later) = left.split_at(chunk.min(left.len()));
            left = later;
            let stored = documents.documents(generation, now.to_vec()).await?;
            let bytes: usize = stored.iter().map(|document| document.data.len()).sum();
            for document in stored {
                set.load(document.key, Some(document.data));
            }
            for key in now {
                set.load(key.clone(), None);
            }
            let full = set.len_bytes() > bounds.document_bytes && !left.is_empty();
            if full && self.keep_loaded(set) {
                return Ok(());
            }
            let average = (bytes / now.len()).max(1);
            chunk = (bounds.document_bytes / 4 / average).clamp(LOAD_MIN, LOAD_MAX);
        }
        Ok(())
    }

    /// Leaves only the events from the first on whose documents are all there. Leaves all of them,
    /// and says `false`, if that would be none.
    fn keep_loaded(&mut self, set: &WorkingSet) -> bool {
        let loaded = |asked: &Result<Range<usize>, String>| match asked {
            Ok(range) => self.keys[range.clone()].iter().all(|key| set.contains(key)),
            Err(_) => true,
        };
        let events = self.of.iter().take_while(|asked| loaded(asked)).count();
        if events > 0 {
            self.of.truncate(events);
        }
        events > 0
    }
}

/// Gives one event to the projection. Where it fails nothing has changed, and why is told.
pub(super) fn project(
    projection: &dyn Projection,
    set: &mut WorkingSet,
    event: &RecordedEvent,
    keys: &[DocumentKey],
) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut documents = set.begin(event.position, keys)?;
        projection.project(event, &mut documents)
    }));
    match told(outcome) {
        Ok(()) => {
            set.accept();
            Ok(())
        }
        Err(reason) => {
            set.undo();
            Err(reason)
        }
    }
}

/// What a call of the projection came to, a panic being an error like any other.
fn told(outcome: Result<Result<(), ProjectError>, Box<dyn Any + Send>>) -> Result<(), String> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(told_as(&error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("without a text")))
        }
    }
}

fn told_as(error: &ProjectError) -> String {
    format!("{}: {error}", error.code())
}
