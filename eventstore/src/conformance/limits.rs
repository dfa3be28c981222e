//! The limits of an append, at them and one past them.

use std::sync::Arc;

use bytes::Bytes;

use super::{append, counted, event_type, read_all, record, to};
use crate::{
    Append, AppendError, EventStore, EventType, Limits, NewEvent, Payload, StreamName, Target,
};

fn binary(content_type: &str, bytes: usize) -> NewEvent {
    let data = Bytes::from(vec![0xa5; bytes]);
    let payload = Payload::Binary { content_type: content_type.into(), data };
    NewEvent { payload, ..counted(0) }
}

fn with_meta(bytes: usize) -> NewEvent {
    let meta = format!("\"{}\"", "m".repeat(bytes - 2));
    NewEvent { meta: Some(meta.into()), ..counted(0) }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// One past each limit is refused with the limit in the error, and nothing is recorded.
pub async fn what_is_too_much_is_refused(store: Arc<dyn EventStore>) {
    let limits = Limits::default();
    let too_large = |what, bytes, max| AppendError::TooLarge { what, bytes, max };
    let (payload, meta) = (limits.payload_bytes_max, limits.meta_bytes_max);
    let many = limits.append_events_max;
    for (events, error) in [
        (vec![], AppendError::NoEvents),
        (vec![counted(0); many + 1], AppendError::TooManyEvents { count: many + 1, max: many }),
        (vec![binary("a/b", payload + 1)], too_large("payload", payload + 1, payload)),
        (vec![with_meta(meta + 1)], too_large("meta", meta + 1, meta)),
        (
            vec![binary("a/b", payload); 5],
            too_large("append", payload * 5, limits.append_bytes_max),
        ),
    ] {
        assert_eq!(append(&*store, to("a-1", events)).await, Err(error));
    }
    assert!(read_all(&*store, Target::All).await.is_empty());
}

/// At each limit an append is recorded.
pub async fn what_is_just_allowed_is_recorded(store: Arc<dyn EventStore>) {
    let limits = Limits::default();
    let json = format!("\"{}\"", "j".repeat(limits.payload_bytes_max - 2));
    let longest = "é".repeat(100);
    for events in [
        vec![counted(0); limits.append_events_max],
        vec![NewEvent::json(event_type("T"), json)],
        vec![with_meta(limits.meta_bytes_max)],
        vec![binary("a/b", limits.payload_bytes_max); 4],
        vec![binary(&"c".repeat(200), 0)],
        vec![NewEvent::json(event_type(&longest), nested(limits.json_depth_max))],
    ] {
        let count = events.len() as u64;
        let name = format!("a{}-{count}", "é".repeat(95));
        let appended = record(&*store, to(&name, events.clone())).await;
        let stored = read_all(&*store, Target::All).await;
        assert_eq!(stored.len() as u64, appended.position.get());
        for (stored, sent) in stored.iter().rev().zip(events.iter().rev()) {
            assert!(stored.payload == sent.payload && stored.meta == sent.meta);
            assert_eq!(stored.event_type, sent.event_type);
        }
    }
}

/// Broken JSON, content types and reserved names have their own codes.
pub async fn what_is_malformed_is_refused(store: Arc<dyn EventStore>) {
    let json = |text: &'static [u8]| NewEvent::json(event_type("T"), text);
    let meta = |text: &'static str| NewEvent { meta: Some(text.into()), ..counted(0) };
    let deep = NewEvent::json(event_type("T"), nested(65));
    let reserved =
        NewEvent { event_type: EventType::recorded("$t").expect("readable"), ..counted(0) };
    for (event, code) in [
        (json(b""), "invalid_json"),
        (json(b"{"), "invalid_json"),
        (json(b"{} {}"), "invalid_json"),
        (json(b"\"\xff\""), "invalid_json"),
        (json(b"\xef\xbb\xbf1"), "invalid_json"),
        (json(b"01"), "invalid_json"),
        (json(b"\"\0\""), "invalid_json"),
        (deep, "invalid_json"),
        (meta("nope"), "invalid_json"),
        (binary("", 1), "invalid_content_type"),
        (binary("text/plain\n", 1), "invalid_content_type"),
        (binary("text/\u{e9}", 1), "invalid_content_type"),
        (binary(&"c".repeat(201), 1), "invalid_content_type"),
        (reserved, "name_reserved"),
    ] {
        let error = append(&*store, to("a-1", vec![counted(0), event])).await.expect_err(code);
        assert_eq!(error.code(), code);
        assert!(!error.retryable());
        if let AppendError::InvalidJson { index, .. } = error {
            assert_eq!(index, 1);
        }
    }
    let stream = StreamName::recorded("$s").expect("readable");
    let reserved = Append { stream, ..to("a-1", vec![counted(0)]) };
    assert_eq!(append(&*store, reserved).await.expect_err("reserved").code(), "name_reserved");
    assert!(read_all(&*store, Target::All).await.is_empty());
}
