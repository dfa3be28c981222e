//! The decoder, a row a case.

use bytes::BytesMut;

use super::*;
use crate::frame::encode_masked;

fn decode_all(bytes: &[u8]) -> (Vec<Message>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(FrameLimits::server(1000));
    let mut buf = BytesMut::from(bytes);
    let mut messages = Vec::new();
    loop {
        match decoder.decode(&mut buf) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        }
    }
}

#[test]
fn a_masked_text_is_read() {
    let mut out = BytesMut::new();
    encode_masked(Opcode::Text, true, b"hello", [1, 2, 3, 4], &mut out);
    let (messages, error) = decode_all(&out);
    assert_eq!(messages, [Message::Text("hello".into())]);
    assert_eq!(error, None);
}

#[test]
fn an_oversized_frame_is_refused_by_its_header() {
    let (messages, error) = decode_all(&[0x82, 0xFE, 0x03, 0xE9]);
    assert!(messages.is_empty());
    assert_eq!(error, Some(FrameError::TooBig { bytes: 1001, max: 1000 }));
}

#[test]
fn a_decoder_between_messages_holds_nothing() {
    let mut decoder = FrameDecoder::new(FrameLimits::server(1000));
    let mut buf = BytesMut::new();
    encode_masked(Opcode::Text, false, "κό".as_bytes(), [9; 4], &mut buf);
    encode_masked(Opcode::Continuation, true, "σμε".as_bytes(), [7; 4], &mut buf);
    assert_eq!(decoder.decode(&mut buf), Ok(Some(Message::Text("κόσμε".into()))));
    assert!(decoder.is_idle());
}
