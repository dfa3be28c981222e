//! The golden wire vectors: this implementation reads and writes what `vectors/` says.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tidewire_protocol::{
    codec::json::{DecodeError, decode_client, decode_server, encode_client, encode_server},
    frame::{FrameDecoder, FrameLimits, Message},
};

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are part of the package");
    let mut file: Value = serde_json::from_str(&text).expect("vectors are JSON");
    let Value::Array(cases) = file["cases"].take() else { panic!("cases are a list") };
    assert!(cases.len() > 20);
    cases
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn describe(message: &Message) -> Value {
    match message {
        Message::Text(text) => {
            json!({"kind": "text", "text": std::str::from_utf8(text).expect("the decoder checked")})
        }
        Message::Binary(data) => json!({"kind": "binary", "hex": to_hex(data)}),
        Message::Ping(data) => json!({"kind": "ping", "hex": to_hex(data)}),
        Message::Pong(data) => json!({"kind": "pong", "hex": to_hex(data)}),
        Message::Close(None) => json!({"kind": "close"}),
        Message::Close(Some(reason)) => {
            json!({"kind": "close", "code": reason.code.0, "reason": reason.text})
        }
    }
}

/// The messages and the close code that come of `bytes`, arriving `step` at a time.
fn decode(case: &Value, bytes: &[u8], step: usize) -> (Vec<Value>, Option<u16>) {
    let limits = match case["from"].as_str() {
        Some("server") => FrameLimits::client(1000),
        _ => FrameLimits::server(1000),
    };
    let mut decoder = FrameDecoder::new(limits);
    let mut buf = BytesMut::new();
    let mut messages = Vec::new();
    for part in bytes.chunks(step) {
        buf.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(message)) => messages.push(describe(&message)),
                Ok(None) => break,
                Err(error) => return (messages, Some(error.close_code().0)),
            }
        }
    }
    (messages, None)
}

#[test]
fn frames_mean_what_the_vectors_say_however_they_are_split() {
    for case in cases("frames") {
        let bytes = hex(case["hex"].as_str().expect("hex"));
        for step in [bytes.len().max(1), 1, 2, 3, 7] {
            let (messages, close) = decode(&case, &bytes, step);
            assert_eq!(json!(messages), case["messages"], "{} in steps of {step}", case["name"]);
            let expected = case["close"].as_u64().map(|code| code as u16);
            assert_eq!(close, expected, "{} in steps of {step}", case["name"]);
        }
    }
}

#[test]
fn client_messages_mean_what_the_vectors_say() {
    for case in cases("client_messages") {
        let name = &case["name"];
        let text = Bytes::copy_from_slice(case["text"].as_str().expect("text").as_bytes());
        let Ok(decoded) = decode_client(&text) else {
            assert_eq!(case["close"], 4501, "{name}");
            continue;
        };
        assert_eq!(case["close"], Value::Null, "{name}");
        let replies = case["replies"].as_array().expect("replies");
        assert_eq!(decoded.len(), replies.len(), "{name}");
        for (decoded, reply) in decoded.iter().zip(replies) {
            match decoded {
                Ok(message) => {
                    let mut out = BytesMut::new();
                    encode_client(message, &mut out);
                    let json: Value = serde_json::from_slice(&out).expect("we write JSON");
                    assert_eq!(json, reply["message"], "{name}");
                    let again = decode_client(&out.freeze()).expect("we write JSON");
                    assert_eq!(again, [Ok(message.clone())], "{name}");
                }
                Err(refusal) => {
                    let expected = &reply["error"];
                    assert_eq!(
                        *refusal.error.code,
                        *expected["code"].as_str().expect("code"),
                        "{name}"
                    );
                    let id = refusal.id.as_ref().map(|id| id.as_str());
                    assert_eq!(id, expected["id"].as_str(), "{name}");
                    let sub = refusal.sub.map(|sub| u64::from(sub.get()));
                    assert_eq!(sub, expected["sub"].as_u64(), "{name}");
                    if let Some(field) = expected["field"].as_str() {
                        let details = refusal.error.details.as_ref().expect("details");
                        assert_eq!(details["field"], field, "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn server_messages_mean_what_the_vectors_say() {
    for case in cases("server_messages") {
        let name = &case["name"];
        match decode_server(case["text"].as_str().expect("text").as_bytes()) {
            Ok(message) => {
                let mut out = BytesMut::new();
                encode_server(&message, &mut out);
                let json: Value = serde_json::from_slice(&out).expect("we write JSON");
                assert_eq!(json, case["message"], "{name}");
                assert_eq!(decode_server(&out), Ok(message), "{name}");
            }
            Err(DecodeError::UnknownType(_)) => assert_eq!(case["error"], "unknown_type", "{name}"),
            Err(error) => assert_eq!(case["error"], "invalid", "{name}: {error}"),
        }
    }
}
