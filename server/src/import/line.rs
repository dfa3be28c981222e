//! One line of an import: a JSON object that names its stream.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidewire_eventstore::{EventId, EventType, NewEvent, Payload, StreamName};
use uuid::Uuid;

/// The longest line; an event has at most 1 MiB of data.
pub(super) const LINE_BYTES_MAX: usize = 4 << 20;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    id: Option<Uuid>,
    // `null` is data too.
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(field).map(Some)
}

/// Reads a line. Fields that only the log can know (`position`, `revision`, `at`) are passed over.
///
/// # Errors
///
/// What is wrong with it, for people.
pub(super) fn parse(line: &[u8]) -> Result<(StreamName, NewEvent), String> {
    // Serde would take an array for the fields in their order.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".to_owned());
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let stream = StreamName::new(&line.stream).map_err(|error| format!("stream: {error}"))?;
    let event_type = EventType::new(&line.event_type).map_err(|error| format!("type: {error}"))?;
    let payload = match (line.data, line.data_base64, line.content_type) {
        (Some(data), None, None) => Payload::Json(data.get().to_owned().into()),
        (None, Some(data), Some(content_type)) => Payload::Binary {
            content_type: Arc::from(&*content_type),
            data: STANDARD.decode(&*data).map_err(|error| format!("data_base64: {error}"))?.into(),
        },
        _ => return Err("it needs data, or data_base64 and content_type".to_owned()),
    };
    let meta = line.meta.map(|meta| meta.get().to_owned().into());
    let event = NewEvent { id: line.id.map(EventId::from), event_type, payload, meta };
    Ok((stream, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_metadata_are_kept_byte_for_byte() {
        let line =
            br#"{"position":7,"stream":"order-1","type":"Paid","data":{ "a" : 1.50 },"meta":[ ]}"#;
        let (stream, event) = parse(line).unwrap();
        assert_eq!(stream.as_str(), "order-1");
        assert_eq!(event.payload, Payload::Json(r#"{ "a" : 1.50 }"#.into()));
        assert_eq!(event.meta.as_deref(), Some(&b"[ ]"[..]));
    }

    #[test]
    fn null_is_data() {
        let (_, event) = parse(br#"{"stream":"s","type":"T","data":null}"#).unwrap();
        assert_eq!(event.payload, Payload::Json("null".into()));
    }

    #[test]
    fn bytes_come_as_base64() {
        let line = br#"{"stream":"s","type":"T","data_base64":"AAE=","content_type":"a/b"}"#;
        let (_, event) = parse(line).unwrap();
        let expected = Payload::Binary { content_type: "a/b".into(), data: vec![0, 1].into() };
        assert_eq!(event.payload, expected);
    }

    #[test]
    fn a_line_is_refused_for_what_is_wrong_with_it() {
        for (line, complaint) in [
            (r"[]", "no JSON object"),
            ("{", "EOF"),
            (r#"{"type":"T","data":1}"#, "stream"),
            (r#"{"stream":"","type":"T","data":1}"#, "stream"),
            (r#"{"stream":"s","type":"$T","data":1}"#, "type"),
            (r#"{"stream":"s","type":"T"}"#, "needs data"),
            (r#"{"stream":"s","type":"T","data":1,"data_base64":"AA=="}"#, "needs data"),
            (r#"{"stream":"s","type":"T","data_base64":"!","content_type":"a/b"}"#, "base64"),
            (r#"{"stream":"s","type":"T","data":{"a":}}"#, "expected value"),
            (r#"{"stream":"s","type":"T","data":1,"id":"seven"}"#, "UUID"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
