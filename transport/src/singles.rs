//! The events of a frame one by one, for subscriptions that settle each of them.
//!
//! A subscription with acks is given its group's shared frame wherever it may have all of it. Where
//! its window has less room, an event's stream waits for a retry, or a consumer's partition is
//! further than the others, it is given a frame of its own, made from these.

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{GlobalPosition, RecordedEvent, StreamHash};
use tidewire_protocol::{EventRef, Sub, codec::json};

/// The events of one frame, in order.
#[derive(Debug)]
pub(crate) struct Singles {
    refs: Vec<EventRef>,
    events: Vec<RecordedEvent>,
}

impl Singles {
    pub(crate) fn new(events: Vec<RecordedEvent>) -> Self {
        let event_ref = |event: &RecordedEvent| EventRef {
            position: event.position,
            stream: StreamHash::of(&event.stream),
        };
        Self { refs: events.iter().map(event_ref).collect(), events }
    }

    /// How many events at the front have positions up to and including `position`.
    pub(crate) fn through(&self, position: GlobalPosition) -> usize {
        self.refs.partition_point(|event| event.position <= position)
    }

    /// The events from the one with this index on.
    pub(crate) fn from(&self, index: usize) -> &[EventRef] {
        &self.refs[index..]
    }

    /// A frame with the events of these indices.
    pub(crate) fn frame(&self, sub: Sub, indices: impl Iterator<Item = usize>) -> Bytes {
        let mut buffer = BytesMut::new();
        let fragments: Vec<Bytes> = indices
            .map(|index| {
                json::encode_event(&self.events[index], &mut buffer);
                buffer.split().freeze()
            })
            .collect();
        let bytes: usize = fragments.iter().map(Bytes::len).sum();
        let mut out = BytesMut::with_capacity(bytes + fragments.len() + 64);
        json::encode_events_frame(sub, &fragments, &mut out);
        out.freeze()
    }
}
