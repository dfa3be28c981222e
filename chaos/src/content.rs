//! What is appended, and how it is recognised again: by position, by id and by a fingerprint of
//! everything else.

use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire_eventstore::{Payload, RecordedEvent};
use uuid::Uuid;

use crate::random::Random;

/// The category that most events are of, and that most readers read.
pub(crate) const CATEGORY: &str = "order";
/// The stream that probes go to: it matches what every reader reads.
pub(crate) const PROBED_STREAM: &str = "order-0";
/// The type of probes.
pub(crate) const PROBED_TYPE: &str = "Placed";
/// The types of events.
pub(crate) const TYPES: [&str; 3] = [PROBED_TYPE, "Paid", "Shipped"];

/// One event as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) id: Uuid,
    pub(crate) stream: String,
    pub(crate) event_type: String,
    /// Of the stream, the type and the payload.
    pub(crate) content: u64,
    /// The number in the payload, which projections sum.
    pub(crate) number: i64,
}

#[derive(Deserialize)]
struct Numbered {
    number: i64,
}

/// The number in a payload; 0 in one that nobody here has made, which is reported by its content.
fn number(data: &[u8]) -> i64 {
    serde_json::from_slice(data).map_or(0, |Numbered { number }| number)
}

impl Seen {
    /// Everything but the position, in one number.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = self.content;
        for part in [&self.revision.to_le_bytes()[..], self.id.as_bytes()] {
            hash = fold(hash, part);
        }
        hash
    }
}

/// One event as it stands in messages and pages.
#[derive(Debug, Deserialize)]
pub(crate) struct WireEvent<'a> {
    position: u64,
    revision: u64,
    id: Uuid,
    stream: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    data: &'a RawValue,
    /// Which delivery of the event this is, where it is not the first.
    #[serde(default = "first_attempt")]
    pub(crate) attempt: u32,
}

fn first_attempt() -> u32 {
    1
}

impl WireEvent<'_> {
    /// What is remembered of it.
    pub(crate) fn seen(self) -> Seen {
        let content = content(&self.stream, &self.event_type, self.data.get().as_bytes());
        let number = number(self.data.get().as_bytes());
        Seen {
            number,
            position: self.position,
            revision: self.revision,
            id: self.id,
            stream: self.stream,
            event_type: self.event_type,
            content,
        }
    }

    /// Whether whoever works on it crashes.
    pub(crate) fn is_poison(&self) -> bool {
        self.data.get().contains(POISON)
    }
}

/// What is remembered of an event that our client delivered.
pub(crate) fn seen(event: &RecordedEvent) -> Seen {
    let data: &[u8] = match &event.payload {
        Payload::Json(data) | Payload::Binary { data, .. } => data,
        // Nobody removes anything here: a wrong content is reported.
        Payload::Erased | Payload::Removed => b"",
    };
    Seen {
        position: event.position.get(),
        revision: event.revision.get(),
        id: event.id.as_uuid(),
        stream: event.stream.as_str().to_owned(),
        event_type: event.event_type.as_str().to_owned(),
        content: content(event.stream.as_str(), event.event_type.as_str(), data),
        number: number(data),
    }
}

/// Whether whoever works on an event that our client delivered crashes.
pub(crate) fn is_poison(event: &RecordedEvent) -> bool {
    let Payload::Json(data) = &event.payload else { return false };
    std::str::from_utf8(data).is_ok_and(|data| data.contains(POISON))
}

/// What stands in the payload of a poison event.
const POISON: &str = "\"poison\":true";

/// One event that is to be appended.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) id: Uuid,
    pub(crate) event_type: &'static str,
    pub(crate) data: String,
}

impl New {
    /// An event of `writer`; its payload says who made it and when.
    pub(crate) fn random(random: &mut Random, writer: &str, number: u64, part: usize) -> Self {
        let event_type = TYPES[random.index(TYPES.len())];
        let padding = match random.range(0..100) {
            0 => 20_000,
            1..10 => random.range(500..3000),
            _ => random.range(0..200),
        };
        let padding = "x".repeat(padding as usize);
        let poison = if random.once_in(2000) { format!(",{POISON}") } else { String::new() };
        let data = format!(
            r#"{{"writer":"{writer}","number":{number},"part":{part}{poison},"padding":"{padding}"}}"#
        );
        Self { id: random.uuid(), event_type, data }
    }

    /// An event that every reader of the probed stream gets.
    pub(crate) fn probe(random: &mut Random, number: u64) -> Self {
        let data = format!(r#"{{"writer":"probe","number":{number},"part":0}}"#);
        Self { id: random.uuid(), event_type: PROBED_TYPE, data }
    }

    /// What [`Seen::content`] of it has to be.
    pub(crate) fn content(&self, stream: &str) -> u64 {
        content(stream, self.event_type, self.data.as_bytes())
    }
}

/// The body of an append over HTTP.
pub(crate) fn body(expected: Expected, events: &[New]) -> String {
    let expected = match expected {
        Expected::Any => "\"any\"".to_owned(),
        Expected::NoStream => "\"no_stream\"".to_owned(),
        Expected::Revision(revision) => revision.to_string(),
    };
    let events: Vec<String> = events
        .iter()
        .map(|event| {
            let New { id, event_type, data } = event;
            format!(r#"{{"id":"{id}","type":"{event_type}","data":{data}}}"#)
        })
        .collect();
    format!(r#"{{"expected":{expected},"events":[{}]}}"#, events.join(","))
}

/// What a writer demands of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Any,
    NoStream,
    Revision(u64),
}

fn content(stream: &str, event_type: &str, data: &[u8]) -> u64 {
    [stream.as_bytes(), event_type.as_bytes(), data].iter().fold(OFFSET, |hash, part| {
        // The length keeps parts apart.
        fold(fold(hash, &part.len().to_le_bytes()), part)
    })
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    fold(OFFSET, bytes)
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_over_the_wire_is_recognised_and_what_differs_is_not() {
        let new = New::probe(&mut Random::new(1, "test"), 7);
        let wire = |data: &str| {
            let text = format!(
                r#"{{"position":3,"stream":"s-1","revision":2,"type":"{}","id":"{}","data":{data}}}"#,
                new.event_type, new.id
            );
            let event: WireEvent<'_> = serde_json::from_str(&text).unwrap();
            event.seen()
        };
        let same = wire(&new.data);
        assert_eq!((same.position, same.id), (3, new.id));
        assert_eq!(same.content, new.content("s-1"));
        assert_ne!(same.content, new.content("s-2"));
        assert_ne!(same.fingerprint(), wire("{}").fingerprint());
    }
}
