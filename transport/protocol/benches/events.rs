//! The hot path: one event as JSON, a frame of events, and what a plain copy of the same bytes
//! costs; against serde writing the same object.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Serialize;
use serde_json::value::RawValue;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use tidewire_protocol::{
    Sub,
    codec::json::{encode_event, encode_events_frame},
    frame::apply_mask,
};
use uuid::Uuid;

/// Events of 250 payload bytes, as in the measurements of the whole.
fn event() -> RecordedEvent {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(239));
    RecordedEvent {
        position: GlobalPosition::new(123_456_789),
        stream: StreamName::new("flight-UA1545").expect("a name"),
        revision: Revision::new(42),
        event_type: EventType::new("FlightDeparted").expect("a name"),
        id: EventId::from(Uuid::from_u128(0x0190_b5a0_0000_7000_8000_0000_0000_0001)),
        recorded_at: Timestamp::from_micros(1_795_250_096_123_456),
        payload: Payload::Json(data.into()),
        meta: None,
    }
}

#[derive(Serialize)]
struct WithSerde<'a> {
    position: u64,
    stream: &'a str,
    revision: u64,
    r#type: &'a str,
    id: Uuid,
    at: &'a str,
    data: &'a RawValue,
}

fn events(c: &mut Criterion) {
    let event = event();
    let mut encoded = BytesMut::new();
    encode_event(&event, &mut encoded);
    let Payload::Json(data) = &event.payload else { unreachable!("it was made so") };
    let data: &RawValue = serde_json::from_slice(data).expect("it is JSON");

    let mut group = c.benchmark_group("event");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    let mut out = BytesMut::with_capacity(1 << 16);
    group.bench_function("copy", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&encoded));
        });
    });
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            encode_event(black_box(&event), &mut out);
        });
    });
    let mut text = Vec::with_capacity(1 << 16);
    group.bench_function("serde", |b| {
        b.iter(|| {
            text.clear();
            let event = black_box(&event);
            let with_serde = WithSerde {
                position: event.position.get(),
                stream: event.stream.as_str(),
                revision: event.revision.get(),
                r#type: event.event_type.as_str(),
                id: event.id.as_uuid(),
                at: "2026-11-21T08:34:56.123456Z",
                data,
            };
            serde_json::to_writer(&mut text, &with_serde).expect("memory");
        });
    });
    group.finish();

    let many = vec![encoded.clone().freeze(); 64];
    let mut group = c.benchmark_group("frame of 64");
    group.throughput(Throughput::Bytes(64 * encoded.len() as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            encode_events_frame(Sub::new(7), black_box(&many), &mut out);
        });
    });
    let mut payload = vec![7; 64 * encoded.len()];
    group.bench_function("unmask the same bytes", |b| {
        b.iter(|| apply_mask(black_box(&mut payload), [1, 2, 3, 4], 0));
    });
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
