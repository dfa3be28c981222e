//! Events as lines: for people, or JSON.

use std::io::{self, Write};

use anyhow::Result;
use bytes::BytesMut;
use tidewire_eventstore::{Payload, RecordedEvent};
use tidewire_protocol::codec::json::{encode_event, format_time};

/// Whether further events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Wanted,
    Enough,
}

/// Standard output, with a count of what may still be printed.
#[derive(Debug)]
pub(super) struct Output {
    json: bool,
    left: Option<u64>,
    line: BytesMut,
}

impl Output {
    pub(super) fn new(json: bool, limit: Option<u64>) -> Self {
        Self { json, left: limit, line: BytesMut::new() }
    }

    /// Prints events and flushes.
    pub(super) fn print<'a>(
        &mut self,
        events: impl Iterator<Item = &'a RecordedEvent>,
    ) -> Result<More> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut more = More::Wanted;
        for event in events {
            if self.left == Some(0) {
                break;
            }
            self.line.clear();
            if self.json {
                json_line(event, &mut self.line)
            } else {
                human_line(event, &mut self.line)
            }
            out.write_all(&self.line)?;
            self.left = self.left.map(|left| left - 1);
        }
        if self.left == Some(0) {
            more = More::Enough;
        }
        out.flush()?;
        Ok(more)
    }
}

/// Whether the reader of our output went away.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

fn json_line(event: &RecordedEvent, line: &mut BytesMut) {
    encode_event(event, line);
    unbreak(line);
    line.extend_from_slice(b"\n");
}

fn human_line(event: &RecordedEvent, line: &mut BytesMut) {
    line.extend_from_slice(format!("{:>8}  ", event.position.get()).as_bytes());
    format_time(event.recorded_at, line);
    let RecordedEvent { stream, revision, event_type, .. } = event;
    line.extend_from_slice(format!("  {stream}@{revision}  {event_type}  ").as_bytes());
    match &event.payload {
        Payload::Json(data) => line.extend_from_slice(data),
        Payload::Binary { content_type, data } => {
            line.extend_from_slice(format!("{} bytes of {content_type}", data.len()).as_bytes());
        }
        Payload::Erased => line.extend_from_slice(b"erased"),
        Payload::Removed => line.extend_from_slice(b"removed"),
    }
    unbreak(line);
    line.extend_from_slice(b"\n");
}

/// Payloads are kept as they were given, and JSON may have line breaks between its tokens (in a
/// string they are escaped): spaces mean the same and keep the event on one line.
fn unbreak(line: &mut BytesMut) {
    for byte in line.iter_mut() {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewire_eventstore::{
        EventId, EventType, GlobalPosition, Revision, StreamName, Timestamp,
    };
    use uuid::Uuid;

    use super::*;

    fn event(payload: Payload) -> RecordedEvent {
        RecordedEvent {
            position: GlobalPosition::new(7),
            stream: StreamName::new("order-1").unwrap(),
            revision: Revision::new(2),
            event_type: EventType::new("Paid").unwrap(),
            id: EventId::from(Uuid::nil()),
            recorded_at: Timestamp::from_micros(0),
            payload,
            meta: None,
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_its_data_looks_like() {
        let event = event(Payload::Json("{\r\n  \"total\": 12\n}".into()));
        let mut line = BytesMut::new();
        json_line(&event, &mut line);
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(parsed["data"]["total"], 12);

        line.clear();
        human_line(&event, &mut line);
        assert_eq!(
            std::str::from_utf8(&line).unwrap(),
            "       7  1970-01-01T00:00:00.000000Z  order-1@2  Paid  {    \"total\": 12 }\n"
        );
    }

    #[test]
    fn people_are_spared_binary_data() {
        let payload = Payload::Binary { content_type: "a/b".into(), data: vec![0; 3].into() };
        let mut line = BytesMut::new();
        human_line(&event(payload), &mut line);
        assert!(line.ends_with(b"Paid  3 bytes of a/b\n"));
    }
}
