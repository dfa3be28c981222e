//! A client may ask for fewer frames: so many events at most, or a wait for more.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Client, Server};

async fn subscribe(client: &mut Client, sub: u32, batch: Value) {
    client
        .send(json!({ "type": "subscribe", "sub": sub, "to": { "all": true }, "after": "end",
            "batch": batch }))
        .await;
    client.expect("subscribed").await;
    client.expect("live").await;
}

/// How many events each frame has, until position `through`.
async fn frames(client: &mut Client, through: u64) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut position = 0;
    while position < through {
        let frame = client.expect("events").await;
        let events = frame["events"].as_array().expect("a list");
        for event in events {
            assert_eq!(event["position"], position + 1);
            position += 1;
        }
        sizes.push(events.len());
    }
    sizes
}

#[tokio::test]
async fn a_frame_has_no_more_events_than_the_client_asked_for() {
    let server = Server::start();
    let mut client = server.connect().await;
    subscribe(&mut client, 1, json!({ "max_events": 3 })).await;
    server.append("order-1", 8).await;
    assert_eq!(frames(&mut client, 8).await, [3, 3, 2]);
}

#[tokio::test]
async fn events_wait_for_others_and_then_come_together() {
    let server = Server::start();
    let mut client = server.connect().await;
    subscribe(&mut client, 1, json!({ "max_delay_ms": 300 })).await;
    let began = Instant::now();
    for _ in 0..5 {
        server.append("order-1", 1).await;
    }
    let appended = began.elapsed();
    let sizes = frames(&mut client, 5).await;
    assert!(began.elapsed() >= Duration::from_millis(250), "too soon");
    // Unless the machine was too slow to append them within the wait.
    assert!(sizes.len() == 1 || appended > Duration::from_millis(200), "{sizes:?}");
}

#[tokio::test]
async fn a_full_frame_does_not_wait() {
    let server = Server::start();
    let mut client = server.connect().await;
    subscribe(&mut client, 1, json!({ "max_delay_ms": 10_000, "max_events": 4 })).await;
    let began = Instant::now();
    server.append("order-1", 4).await;
    assert_eq!(frames(&mut client, 4).await, [4]);
    assert!(began.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn whoever_joins_while_events_are_held_back_misses_none() {
    let server = Server::start();
    let mut first = server.connect().await;
    subscribe(&mut first, 1, json!({ "max_delay_ms": 10_000 })).await;
    server.append("order-1", 3).await;
    // Another member of the same group, which reads the same events from the store.
    let mut second = server.connect().await;
    second
        .send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": "start",
            "batch": { "max_delay_ms": 10_000 } }))
        .await;
    assert_eq!(second.positions_through(1, 3).await, [1, 2, 3]);
    assert_eq!(first.positions_through(1, 3).await, [1, 2, 3]);
}
