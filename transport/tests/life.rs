//! Heartbeats, pings, drains: how sessions live and how they end.

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use support::{Server, eventually};

#[tokio::test]
async fn a_heartbeat_tells_how_far_each_subscription_was_looked_at() {
    let server =
        Server::with_config(|config| config.heartbeat_interval = Duration::from_millis(50));
    let mut client = server.connect().await;
    client
        .send(
            json!({ "type": "subscribe", "sub": 4, "to": { "stream": "quiet-1" }, "after": "end" }),
        )
        .await;
    client.expect("subscribed").await;
    client.expect("live").await;
    server.append("loud-1", 25).await;
    // Nothing matched, and yet the position moves on.
    loop {
        let heartbeat = client.expect("heartbeat").await;
        if heartbeat["positions"]["4"] == 25 {
            assert_eq!(heartbeat["head"], 25);
            break;
        }
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed_and_one_that_does_is_not() {
    let server = Server::with_config(|config| {
        config.ping_interval = Duration::from_millis(50);
        config.pong_timeout = Duration::from_millis(100);
    });
    // A client that is not polled answers nothing.
    let silent = server.connect().await;
    let mut alive = server.connect().await;
    let reading = tokio::spawn(async move { while alive.socket.next().await.is_some() {} });
    eventually("the silent one is gone", async || server.tidewire().sessions() == 1).await;
    let (_, metrics) = server.http("GET", "/metrics", None).await;
    assert!(metrics.contains("tidewire_closes_total{code=\"4012\"} 1"), "{metrics}");

    let (status, sessions) = server.http("GET", "/sessions", None).await;
    assert_eq!(status, 200);
    let sessions: serde_json::Value = serde_json::from_str(&sessions).expect("JSON");
    assert_eq!(sessions["count"], 1);
    let session = &sessions["sessions"][0];
    assert!(session["round_trip_ms"].as_f64().expect("it was measured") >= 0.0);
    assert_eq!(session["quality"], "good");
    assert!(session["address"].as_str().expect("an address").starts_with("127.0.0.1:"));
    reading.abort();
    drop(silent);
}

#[tokio::test]
async fn a_drain_says_goodbye_with_a_spread_and_closes() {
    let server = Server::with_config(|config| config.drain_spread = Duration::from_secs(4));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        client.subscribe_all(0, json!("end")).await;
        client.expect("live").await;
        clients.push(client);
    }
    let tidewire = server.tidewire();
    let draining = tokio::spawn(async move { tidewire.drain().await });
    let mut delays = Vec::new();
    for client in &mut clients {
        let goodbye = client.skip_to("goodbye").await;
        assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4001), &json!(true)));
        delays.push(goodbye["after_ms"].as_u64().expect("a number"));
        assert_eq!(client.close_code().await, 4001);
    }
    delays.sort_unstable();
    assert_eq!(delays, [0, 1000, 2000, 3000]);
    drop(clients);
    assert_eq!(draining.await.expect("it ends"), 0);
    assert_eq!(server.handshake(&[]).await.err(), Some(503));
    assert_eq!(server.http("GET", "/readyz", None).await.0, 503);
    assert_eq!(server.http("GET", "/healthz", None).await.0, 200);
    assert_eq!(server.http("HEAD", "/healthz", None).await.0, 200);
}

#[tokio::test]
async fn a_new_epoch_resets_who_remembers_the_old_one() {
    let server = Server::start();
    server.append("order-1", 10).await;
    let mut client = server.connect_silently().await;
    client.send(json!({ "type": "hello", "protocol": 1 })).await;
    let epoch = client.expect("welcome").await["epoch"].clone();
    server.store.begin_epoch().await.expect("a new epoch");

    eventually("the node knows the new epoch", async || {
        let mut client = server.connect_silently().await;
        client.send(json!({ "type": "hello", "protocol": 1, "epoch": epoch })).await;
        client.expect("welcome").await["epoch"] != epoch
    })
    .await;
    let mut client = server.connect_silently().await;
    client
        .send(json!({ "type": "hello", "protocol": 1, "epoch": epoch, "subscriptions": [
            { "sub": 1, "to": { "all": true }, "after": 10 },
            { "sub": 2, "to": { "all": true }, "after": 20 },
        ] }))
        .await;
    client.expect("welcome").await;
    // What came before the new epoch began is the same in both; what comes after is not.
    assert_eq!(client.expect("subscribed").await["sub"], 1);
    let reset = client.skip_to("reset").await;
    assert_eq!((&reset["sub"], &reset["reason"]), (&json!(2), &json!("epoch")));
}

#[tokio::test]
async fn a_position_ahead_of_the_log_is_reset() {
    let server = Server::start();
    server.append("order-1", 3).await;
    let mut client = server.connect().await;
    client.send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": 99 })).await;
    let reset = client.expect("reset").await;
    assert_eq!(reset["reason"], "ahead");
}
