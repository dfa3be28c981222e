//! Properties: splits do not matter, nothing panics, what is written can be read.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use tidewire_protocol::{
    Epoch, Input, Moment, Session, SessionConfig, SessionId, SessionInfo, Sub,
    codec::json::{
        decode_client, decode_server, encode_client, encode_event, encode_events_frame,
        encode_server, event_bytes,
    },
    frame::{FrameDecoder, FrameError, FrameLimits, Message, Opcode, encode_masked},
    messages::ServerMessage,
};
use uuid::Uuid;

/// Everything that comes of `bytes`, cut at `cuts`.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Message>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(FrameLimits::server(300));
    let mut buf = BytesMut::new();
    let mut messages = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        buf.extend_from_slice(&bytes[from..cut]);
        from = cut;
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        Just(Opcode::Text),
        Just(Opcode::Binary),
        Just(Opcode::Continuation),
        Just(Opcode::Ping),
        Just(Opcode::Close)
    ];
    let payload = prop_oneof![
        "\\PC{0,40}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..160)
    ];
    let frame = (opcode, any::<bool>(), payload, any::<[u8; 4]>());
    prop::collection::vec(frame, 0..6).prop_map(|frames| {
        let mut out = BytesMut::new();
        for (opcode, fin, payload, key) in frames {
            encode_masked(opcode, fin, &payload, key, &mut out);
        }
        out.to_vec()
    })
}

fn event() -> impl Strategy<Value = RecordedEvent> {
    let payload = prop_oneof![
        any::<i64>().prop_map(|number| Payload::Json(number.to_string().into())),
        "\\PC{0,30}".prop_map(|text| {
            Payload::Json(serde_json::to_string(&text).expect("a text").into())
        }),
        prop::collection::vec(any::<u8>(), 0..50).prop_map(|data| Payload::Binary {
            content_type: "application/octet-stream".into(),
            data: data.into(),
        }),
    ];
    let numbers = (0..=tidewire_eventstore::NUMBER_MAX, 0..=tidewire_eventstore::NUMBER_MAX);
    (numbers, "[^\\pC-][^\\pC]{0,20}", any::<u128>(), 0..4_000_000_000_000_000i64, payload)
        .prop_map(|((position, revision), name, id, micros, payload)| RecordedEvent {
            position: GlobalPosition::new(position),
            stream: StreamName::recorded(&name).expect("no control characters"),
            revision: Revision::new(revision),
            event_type: EventType::recorded(&name).expect("no control characters"),
            id: EventId::from(Uuid::from_u128(id)),
            recorded_at: Timestamp::from_micros(micros),
            payload,
            meta: Some(Bytes::from_static(b"{\"by\":\"ann\"}")),
        })
}

/// A good message of a client.
fn client_text() -> impl Strategy<Value = String> {
    let json = |text: String| serde_json::to_string(&text).expect("a text");
    let name = || "[^\\pC$-][^\\pC]{0,20}".prop_map(json);
    let id = || "\\PC{1,16}".prop_map(json);
    let number = || 0..=tidewire_eventstore::NUMBER_MAX;
    let target = prop_oneof![
        Just("{\"all\":true}".to_owned()),
        name().prop_map(|name| format!("{{\"stream\":{name}}}")),
        name().prop_map(|name| format!("{{\"category\":{name}}}")),
    ];
    let after = prop_oneof![
        Just("\"start\"".to_owned()),
        Just("\"end\"".to_owned()),
        number().prop_map(|number| number.to_string())
    ];
    let filter = name().prop_map(|name| {
        format!("{{\"or\":[{{\"eq\":[\"type\",{name}]}},{{\"not\":{{\"prefix\":[\"stream\",{name}]}}}}]}}")
    });
    prop_oneof![
        (any::<u32>(), target.clone(), after, filter).prop_map(|(sub, to, after, filter)| format!(
            "{{\"type\":\"subscribe\",\"sub\":{sub},\"to\":{to},\"after\":{after},\"filter\":{filter}}}"
        )),
        (id(), target, number(), 1..=5000u64).prop_map(|(id, from, after, limit)| format!(
            "{{\"type\":\"fetch\",\"id\":{id},\"from\":{from},\"after\":{after},\"limit\":{limit}}}"
        )),
        (id(), name(), number(), name(), any::<u128>()).prop_map(|(id, stream, expected, data, event)| {
            let event = Uuid::from_u128(event);
            format!(
                "{{\"type\":\"append\",\"id\":{id},\"stream\":{stream},\"expected\":{expected},\
                 \"events\":[{{\"id\":\"{event}\",\"type\":{stream},\"data\":[{data}, 1 ]}}]}}"
            )
        }),
    ]
}

proptest! {
    #[test]
    fn how_bytes_are_split_does_not_matter(
        bytes in frames(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let (whole, whole_error) = decode(&bytes, &[]);
        let (split, split_error) = decode(&bytes, &cuts);
        prop_assert_eq!(whole, split);
        prop_assert_eq!(
            whole_error.map(FrameError::close_code),
            split_error.map(FrameError::close_code)
        );
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode(&bytes, &[1, 7, 50]);
    }

    #[test]
    fn no_text_makes_a_session_panic(texts in prop::collection::vec(
        prop_oneof![
            "\\PC{0,60}",
            Just("{\"type\":\"hello\",\"protocol\":1}".to_owned()),
            "\\{\"type\":\"(subscribe|unsubscribe|append|fetch|ping|hello)\",\"(sub|id|to|after|events|filter)\":[0-9\"{}\\[\\]a-z:,]{0,20}\\}",
        ], 0..8)) {
        let epoch = Epoch { epoch: Uuid::from_u128(1), first_position: GlobalPosition::new(1) };
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(1)),
            node: Arc::from("a"),
            epochs: [epoch].into(),
            opened_at: Timestamp::from_micros(0),
            bearer: None,
        };
        let moment = Moment { now: Instant::now(), head: GlobalPosition::new(3), removed: GlobalPosition::START };
        let mut session = Session::new(SessionConfig::default(), info, moment);
        for text in texts {
            session.handle(Input::Message(Message::Text(text.into())), moment);
            while session.poll().is_some() {}
        }
    }

    #[test]
    fn messages_of_a_client_come_back_as_they_were(text in client_text()) {
        let messages = decode_client(&Bytes::from(text)).expect("JSON");
        let message = messages[0].clone().expect("a good message");
        let mut out = BytesMut::new();
        encode_client(&message, &mut out);
        prop_assert_eq!(decode_client(&out.freeze()), Ok(vec![Ok(message)]));
    }

    #[test]
    fn events_come_back_as_they_were(events in prop::collection::vec(event(), 0..4), sub in any::<u32>()) {
        let delivered = events.iter().cloned().map(Into::into).collect();
        let message = ServerMessage::Events { sub: Sub::new(sub), events: delivered };
        let mut text = BytesMut::new();
        encode_server(&message, &mut text);
        prop_assert_eq!(decode_server(&text), Ok(message));

        let encoded: Vec<BytesMut> = events
            .iter()
            .map(|event| {
                let mut out = BytesMut::new();
                encode_event(event, &mut out);
                out
            })
            .collect();
        let mut frame = BytesMut::new();
        encode_events_frame(Sub::new(sub), &encoded, &mut frame);
        let mut decoder = FrameDecoder::new(FrameLimits::client(1 << 20));
        let expected = Message::Text(text.freeze());
        prop_assert_eq!(decoder.decode(&mut frame), Ok(Some(expected)));
        for (event, encoded) in events.iter().zip(&encoded) {
            prop_assert!(encoded.len() <= event_bytes(event) + 2 * event.stream.as_str().len() + 2 * event.event_type.as_str().len());
        }
    }
}
