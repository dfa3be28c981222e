//! Subscriptions that settle every event: windows, redelivery, parking, on real sockets.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Server, eventually};

impl Client {
    async fn subscribe_acked(&mut self, window: u32, after: Value) {
        self.send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": after,
            "ack": "each", "window": window }))
            .await;
        self.expect("subscribed").await;
    }

    async fn ack(&mut self, position: u64) {
        self.send(json!({ "type": "ack", "sub": 1, "position": position })).await;
    }

    /// The next `count` events, as pairs of position and attempt.
    async fn events(&mut self, count: usize) -> Vec<(u64, u64)> {
        let mut got = Vec::new();
        while got.len() < count {
            let message = self.skip_to("events").await;
            for event in message["events"].as_array().expect("a list") {
                let attempt = event["attempt"].as_u64().unwrap_or(1);
                got.push((event["position"].as_u64().expect("a position"), attempt));
            }
        }
        assert_eq!(got.len(), count, "{got:?}");
        got
    }

    /// Fails if an event is on its way: a `pong` stands behind everything that was sent before.
    async fn expect_silence(&mut self) {
        for id in ["one", "two"] {
            self.send(json!({ "type": "ping", "id": id })).await;
            loop {
                let message = self.message().await;
                match message["type"].as_str() {
                    Some("pong") => break,
                    Some("heartbeat" | "live" | "behind") => {}
                    _ => panic!("not silent: {message}"),
                }
            }
        }
    }
}

fn first(positions: std::ops::RangeInclusive<u64>) -> Vec<(u64, u64)> {
    positions.map(|position| (position, 1)).collect()
}

#[tokio::test]
async fn a_window_holds_events_back_until_others_are_settled_while_catching_up_and_live() {
    let server = Server::start();
    server.append("order-1", 10).await;
    let mut client = server.connect().await;
    client.subscribe_acked(4, json!("start")).await;
    assert_eq!(client.events(4).await, first(1..=4));
    client.expect_silence().await;
    client.ack(2).await;
    assert_eq!(client.events(2).await, first(5..=6));
    client.expect_silence().await;
    client.ack(6).await;
    assert_eq!(client.events(4).await, first(7..=10));
    client.ack(10).await;
    client.skip_to("live").await;

    server.append("order-1", 3).await;
    assert_eq!(client.events(3).await, first(11..=13));
    // The frames of others have more events than there is room for.
    server.append("order-2", 9).await;
    assert_eq!(client.events(1).await, first(14..=14));
    client.expect_silence().await;
    for position in 11..=22 {
        client.ack(position).await;
        if position + 4 <= 22 {
            assert_eq!(client.events(1).await, first(position + 4..=position + 4));
        }
    }
    client.expect_silence().await;
    assert!(server.metric("tidewire_windows_filled_total").await > 0.0);
}

#[tokio::test]
async fn a_retry_brings_the_event_again_and_then_what_its_stream_had_after_it() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.subscribe_acked(16, json!("start")).await;
    client.skip_to("live").await;
    for stream in ["a-1", "b-1", "a-1", "b-1"] {
        server.append(stream, 1).await;
    }
    assert_eq!(client.events(4).await, first(1..=4));
    client
        .send(json!({ "type": "nack", "sub": 1, "positions": [1], "action": "retry",
            "delay_ms": 50 }))
        .await;
    // New events of its stream wait, too; those of others do not.
    server.append("a-1", 1).await;
    server.append("b-1", 1).await;
    let mut got = client.events(4).await;
    let late = got.iter().position(|event| *event == (6, 1)).expect("the other stream goes on");
    got.remove(late);
    assert_eq!(got[0], (1, 2));
    assert_eq!(got.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [1, 3, 5]);
    client.ack(6).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn an_event_that_nobody_settles_is_tried_again_then_parked_and_the_rest_goes_on() {
    let server = Server::with_config(|config| {
        config.ack_timeout = Duration::from_millis(60);
        config.attempts_max = 2;
    });
    server.append("a-1", 3).await;
    let mut client = server.connect().await;
    client.subscribe_acked(1, json!("start")).await;
    assert_eq!(client.events(1).await, [(1, 1)]);
    assert_eq!(client.events(1).await, [(1, 2)]);
    let parked = client.expect("parked").await;
    assert_eq!(parked["positions"], json!([1]));
    assert_eq!(client.events(1).await, [(2, 1)]);
    client.ack(2).await;
    assert_eq!(client.events(1).await, [(3, 1)]);
}

#[tokio::test]
async fn events_can_be_parked_skipped_and_the_subscription_stopped() {
    let server = Server::start();
    server.append("a-1", 5).await;
    let mut client = server.connect().await;
    client.subscribe_acked(2, json!("start")).await;
    assert_eq!(client.events(2).await, first(1..=2));
    let nack = |position: u64, action: &str| json!({ "type": "nack", "sub": 1, "positions": [position], "action": action });
    client.send(nack(1, "skip")).await;
    assert_eq!(client.events(1).await, first(3..=3));
    client.send(nack(2, "park")).await;
    let parked = client.skip_to("parked").await;
    assert_eq!(parked["positions"], json!([2]));
    assert_eq!(client.events(1).await, first(4..=4));
    client.send(nack(3, "stop")).await;
    let ended = client.skip_to("unsubscribed").await;
    assert_eq!(ended["code"], "stopped");
    client.ack(4).await;
    assert_eq!(client.expect("error").await["code"], "unknown_sub");
}

#[tokio::test]
async fn what_cannot_be_settled_is_said_and_changes_nothing() {
    let server = Server::start();
    server.append("a-1", 3).await;
    let mut client = server.connect().await;
    client.subscribe_acked(2, json!("start")).await;
    assert_eq!(client.events(2).await, first(1..=2));
    client.ack(3).await;
    assert_eq!(client.expect("error").await["code"], "ack_ahead");
    client.send(json!({ "type": "nack", "sub": 1, "positions": [3], "action": "skip" })).await;
    assert_eq!(client.expect("error").await["code"], "unknown_position");
    client.expect_silence().await;
    client.subscribe_all(2, json!("end")).await;
    client.send(json!({ "type": "ack", "sub": 2, "position": 1 })).await;
    assert_eq!(client.skip_to("error").await["code"], "ack_none");
    for window in [0, 1025] {
        client
            .send(json!({ "type": "subscribe", "sub": 3, "to": { "all": true }, "ack": "each",
                "window": window }))
            .await;
        let error = client.skip_to("error").await;
        assert_eq!(error["code"], "invalid_field", "{error}");
    }
    client
        .send(json!({ "type": "subscribe", "sub": 3, "to": { "all": true }, "ack": "each",
            "window": 1024 }))
        .await;
    client.skip_to("subscribed").await;
}

#[tokio::test]
async fn a_reader_whose_window_is_full_falls_behind_and_catches_up_when_it_settles() {
    let server = Server::with_config(|config| config.shared_log_bytes_max = 8 << 10);
    let mut client = server.connect().await;
    client.subscribe_acked(8, json!("end")).await;
    client.skip_to("live").await;
    for _ in 0..40 {
        server.append("a-1", 5).await;
    }
    let mut next = 1;
    let mut behind = false;
    while next <= 200 {
        let message = client.message().await;
        match message["type"].as_str() {
            Some("events") => {
                for event in message["events"].as_array().expect("a list") {
                    assert_eq!(event["position"], next);
                    next += 1;
                }
                client.ack(next - 1).await;
            }
            Some("behind") => behind = true,
            _ => {}
        }
    }
    assert!(behind, "the short log holds only the last of the events");
    server.append("a-1", 1).await;
    assert_eq!(client.events(1).await, [(201, 1)]);
    eventually("it is live", async || server.metric("tidewire_subscriptions_behind").await == 0.0)
        .await;
}
