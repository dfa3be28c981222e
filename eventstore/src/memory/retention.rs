//! Removing from the log in memory. Everything happens in one step under the log's lock.

use super::Log;
use crate::{
    Appended, ERASED_TYPE, EventId, EventRef, EventType, GlobalPosition, Payload, REMOVED_NAME,
    RecordedEvent, Removal, RemoveError, Removed, Revision, StreamName, Target, Timestamp,
    removal::{erasure_data, older_than, read_instead},
};

impl Log {
    /// The revision that the stream goes on from; none where it never had events.
    pub(super) fn last_revision(&self, stream: &StreamName) -> Option<Revision> {
        match self.streams.get(stream).and_then(|events| events.last()) {
            Some(at) => Some(self.events[*at].revision),
            None => self.removed_streams.get(stream).map(|(revision, _)| *revision),
        }
    }

    /// Whether the stream had events and has none any more.
    pub(super) fn is_emptied(&self, stream: &StreamName) -> bool {
        self.removed_streams.contains_key(stream) && !self.streams.contains_key(stream)
    }

    /// Removes, or erases.
    pub(super) fn remove(&mut self, removal: Removal) -> Result<Removed, RemoveError> {
        let doomed: Vec<usize> = match removal {
            Removal::Erase(event) => return self.erase(event),
            Removal::Delete { stream } => self.streams.get(&stream).cloned().unwrap_or_default(),
            Removal::Truncate { stream, before } => {
                let events = self.streams.get(&stream).into_iter().flatten().copied();
                events.take_while(|at| self.events[*at].revision < before).collect()
            }
            Removal::Older { category, than } => {
                let cut = older_than(than);
                let events = self.categories.get(&category).into_iter().flatten().copied();
                events.take_while(|at| self.events[*at].recorded_at < cut).collect()
            }
            Removal::Beyond { category, bytes } => {
                let events = self.categories.get(&category).map_or(&[][..], Vec::as_slice);
                let mut kept = 0_u64;
                let newest_first = events.iter().rev();
                let fits = newest_first.take_while(|at| {
                    kept = kept.saturating_add(bytes_of(&self.events[**at]));
                    kept <= bytes
                });
                let stay = fits.count();
                events[..events.len() - stay].to_vec()
            }
        };
        Ok(self.bury(&doomed))
    }

    /// Removes events, by where they are; they are the first ones of their streams.
    fn bury(&mut self, doomed: &[usize]) -> Removed {
        let mut removed = Removed::default();
        for &at in doomed {
            let event = &self.events[at];
            let (stream, category) = (event.stream.clone(), event.stream.category());
            removed.add(Removed {
                events: 1,
                bytes: bytes_of(event),
                last: Some(event.position),
                erasure: None,
            });
            self.removed_streams.insert(stream.clone(), (event.revision, event.position));
            let through = self.removed_categories.entry(category.clone()).or_default();
            *through = event.position.max(*through);
            forget(&mut self.streams, &stream, at);
            forget(&mut self.categories, &category, at);
            self.events[at] = tombstone(event);
        }
        if let Some(last) = removed.last {
            self.removals.batches += 1;
            self.removals.through = self.removals.through.max(last);
        }
        removed
    }

    fn erase(&mut self, event: EventRef) -> Result<Removed, RemoveError> {
        let position = match event {
            EventRef::Position(position) => position,
            EventRef::Revision(stream, revision) => {
                let is_removed = |(through, _): &(Revision, _)| revision <= *through;
                if self.removed_streams.get(&stream).is_some_and(is_removed) {
                    return Ok(Removed::default());
                }
                let mut events = self.streams.get(&stream).into_iter().flatten();
                let at = events.find(|at| self.events[**at].revision == revision);
                self.events[*at.ok_or(RemoveError::NotFound)?].position
            }
        };
        let at = usize::try_from(position.get()).ok().and_then(|number| number.checked_sub(1));
        let event = at.and_then(|at| self.events.get_mut(at)).ok_or(RemoveError::NotFound)?;
        match event.payload {
            Payload::Erased | Payload::Removed => return Ok(Removed::default()),
            _ if event.event_type.as_str().starts_with('$') => return Err(RemoveError::Reserved),
            _ => {}
        }
        let bytes = bytes_of(event);
        event.payload = Payload::Erased;
        event.meta = None;
        let (stream, revision, id) = (event.stream.clone(), event.revision, event.id);
        let last = self.last_revision(&stream).unwrap_or(revision);
        let notice = RecordedEvent {
            position: self.head().next(),
            stream,
            revision: last.next(),
            event_type: EventType::recorded(ERASED_TYPE).expect("it is a name"),
            id: EventId::generate(),
            recorded_at: Timestamp::now(),
            payload: Payload::Json(erasure_data(position, revision, id).into()),
            meta: None,
        };
        let erasure = Appended { revision: notice.revision, position: notice.position };
        self.push(notice);
        Ok(Removed { events: 1, bytes, last: Some(position), erasure: Some(erasure) })
    }

    /// See [`EventStore::retained_after`](crate::EventStore::retained_after).
    pub(super) fn retained_after(
        &self,
        target: &Target,
        after: GlobalPosition,
    ) -> Option<GlobalPosition> {
        let first = |events: Option<&Vec<usize>>| {
            events.and_then(|events| events.first()).map(|at| self.events[*at].position)
        };
        let (removed, first) = match target {
            Target::All => (
                (self.removals.batches > 0).then_some(self.removals.through),
                self.events.iter().find(|event| !event.is_removed()).map(|event| event.position),
            ),
            Target::Category(category) => (
                self.removed_categories.get(category).copied(),
                first(self.categories.get(category)),
            ),
            Target::Stream(stream) => (
                self.removed_streams.get(stream).map(|(_, position)| *position),
                first(self.streams.get(stream)),
            ),
        };
        read_instead(after, removed, first, self.head().next())
    }
}

fn bytes_of(event: &RecordedEvent) -> u64 {
    (event.payload.len() + event.meta.as_ref().map_or(0, bytes::Bytes::len)) as u64
}

/// What is left of `event`.
fn tombstone(event: &RecordedEvent) -> RecordedEvent {
    RecordedEvent {
        stream: StreamName::recorded(REMOVED_NAME).expect("it is a name"),
        revision: Revision::new(event.position.get()),
        event_type: EventType::recorded(REMOVED_NAME).expect("it is a name"),
        payload: Payload::Removed,
        meta: None,
        ..*event
    }
}

/// Takes the event at `at` from those listed under `name`, mostly the first.
fn forget<K: std::hash::Hash + Eq>(
    lists: &mut std::collections::HashMap<K, Vec<usize>>,
    name: &K,
    at: usize,
) {
    if let Some(list) = lists.get_mut(name) {
        if let Ok(index) = list.binary_search(&at) {
            list.remove(index);
        }
        if list.is_empty() {
            lists.remove(name);
        }
    }
}
