//! A model of the log: gapless positions, idempotent appends, epochs, a restored backup, and the
//! consumers that read it.

use std::{collections::HashMap, sync::Arc};

use bytes::BytesMut;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use tidewire_protocol::{Answer, AppendRequest, Epoch, codec::json::encode_event};
use uuid::Uuid;

use crate::store::Store;

pub(crate) struct Log {
    pub(crate) events: Vec<RecordedEvent>,
    /// The same events as they travel, each encoded once.
    pub(crate) encoded: Vec<BytesMut>,
    pub(crate) epochs: Arc<[Epoch]>,
    /// What is kept of consumers.
    pub(crate) consumers: Store,
    /// How many events each stream has.
    lengths: HashMap<StreamName, u64>,
    answers: HashMap<(StreamName, Vec<Option<EventId>>), Answer>,
}

impl Log {
    pub(crate) fn new() -> Self {
        let first = Epoch { epoch: Uuid::from_u128(1), first_position: GlobalPosition::new(1) };
        Self {
            events: Vec::new(),
            encoded: Vec::new(),
            epochs: [first].into(),
            consumers: Store::default(),
            lengths: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    pub(crate) fn head(&self) -> GlobalPosition {
        GlobalPosition::new(self.events.len() as u64)
    }

    /// Records an append, or repeats the answer that it got before.
    pub(crate) fn append(&mut self, append: &AppendRequest) -> Answer {
        let ids = append.events.iter().map(|event| event.id).collect();
        let key = (append.stream.clone(), ids);
        if let Some(answer) = self.answers.get(&key) {
            return answer.clone();
        }
        for event in &append.events {
            let Payload::Json(data) = event.payload.clone() else { panic!("only JSON is used") };
            self.record(
                &append.stream,
                &event.event_type,
                event.id.expect("clients make ids"),
                data,
            );
        }
        let last = self.events.last().expect("just recorded");
        let answer = Answer::Appended {
            stream: append.stream.clone(),
            revision: last.revision,
            position: last.position,
        };
        self.answers.insert(key, answer.clone());
        answer
    }

    /// Records one event.
    pub(crate) fn record(
        &mut self,
        stream: &StreamName,
        event_type: &EventType,
        id: EventId,
        data: bytes::Bytes,
    ) {
        let length = self.lengths.entry(stream.clone()).or_default();
        let revision = *length;
        *length += 1;
        let event = RecordedEvent {
            position: self.head().next(),
            stream: stream.clone(),
            revision: Revision::new(revision),
            event_type: event_type.clone(),
            id,
            recorded_at: Timestamp::from_micros(0),
            payload: Payload::Json(data),
            meta: None,
        };
        let mut json = BytesMut::new();
        encode_event(&event, &mut json);
        self.encoded.push(json);
        self.events.push(event);
    }

    /// Goes back to an older backup and begins a new epoch, as an operator would.
    pub(crate) fn restore(&mut self, events: usize) {
        self.encoded.truncate(events);
        for forgotten in self.events.drain(events..) {
            *self.lengths.entry(forgotten.stream).or_default() -= 1;
        }
        let number = self.epochs.len() as u128 + 1;
        let epoch = Epoch { epoch: Uuid::from_u128(number), first_position: self.head().next() };
        self.epochs = self.epochs.iter().copied().chain([epoch]).collect();
    }
}
