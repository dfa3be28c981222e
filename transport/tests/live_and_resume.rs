//! A subscription delivers every event once, in order: what was there, what comes, and after a
//! reconnect what was missed.

mod support;

use serde_json::json;
use support::Server;

#[tokio::test]
async fn what_was_there_comes_first_and_then_what_is_appended() {
    let server = Server::start();
    server.append("order-1", 3).await;
    let mut client = server.connect().await;
    let subscribed = client.subscribe_all(7, json!("start")).await;
    assert_eq!(subscribed["after"], 0);
    assert_eq!(client.positions_through(7, 3).await, [1, 2, 3]);
    assert_eq!(client.expect("live").await["position"], 3);
    server.append("order-2", 2).await;
    assert_eq!(client.positions_through(7, 5).await, [4, 5]);
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.subscribe_all(0, json!("end")).await;
    client.expect("live").await;
    server.append("order-1", 5).await;
    let first = client.positions_through(0, 5).await;
    drop(client);

    server.append("order-1", 4).await;
    let mut client = server.connect().await;
    let subscribed = client.subscribe_all(0, json!(5)).await;
    assert_eq!(subscribed["resumed"], true);
    server.append("order-1", 1).await;
    let second = client.positions_through(0, 10).await;
    assert_eq!([first, second].concat(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn streams_and_categories_get_their_own_events_only() {
    let server = Server::start();
    let mut client = server.connect().await;
    for (sub, to) in [(1, json!({ "stream": "order-1" })), (2, json!({ "category": "order" }))] {
        client.send(json!({ "type": "subscribe", "sub": sub, "to": to, "after": "end" })).await;
        client.expect("subscribed").await;
        client.expect("live").await;
    }
    server.append("mail-1", 1).await;
    server.append("order-2", 1).await;
    server.append("order-1", 1).await;
    let mut got = Vec::new();
    while got.len() < 3 {
        let message = client.expect("events").await;
        for event in message["events"].as_array().expect("a list") {
            got.push((message["sub"].as_u64().expect("a handle"), event["position"].clone()));
        }
    }
    got.sort_by_key(|(sub, position)| (*sub, position.as_u64()));
    assert_eq!(got, [(1, json!(3)), (2, json!(2)), (2, json!(3))]);
}

#[tokio::test]
async fn an_append_over_the_socket_is_answered_and_delivered() {
    let server = Server::start();
    let mut client = server.connect().await;
    client
        .send(json!({ "type": "append", "id": "a", "stream": "order-1", "expected": "no_stream",
            "events": [{ "type": "OrderPlaced", "data": { "total": 1.50 } }] }))
        .await;
    let appended = client.expect("appended").await;
    assert_eq!((&appended["id"], &appended["position"]), (&json!("a"), &json!(1)));
    client.subscribe_all(0, json!("start")).await;
    // By catch-up, or live: the append may be answered before the worker has seen it.
    let events = client.skip_to("events").await;
    assert_eq!(events["events"][0]["stream"], "order-1");
    assert_eq!(events["events"][0]["revision"], 0);
    assert_eq!(events["events"][0]["data"], json!({ "total": 1.50 }));

    client
        .send(json!({ "type": "append", "id": "b", "stream": "order-1", "expected": "no_stream",
            "events": [{ "type": "OrderPlaced", "data": 1 }] }))
        .await;
    let error = client.skip_to("error").await;
    assert_eq!(error["code"], "wrong_expected_revision");
    assert_eq!(error["details"]["actual"], 0);
}

#[tokio::test]
async fn every_session_of_several_workers_gets_every_event() {
    let server = Server::with(support::Setup { workers: 2, ..Default::default() });
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = server.connect().await;
        client.subscribe_all(0, json!("start")).await;
        clients.push(client);
    }
    for _ in 0..50 {
        server.append("order-1", 3).await;
    }
    for client in &mut clients {
        assert_eq!(client.positions_through(0, 150).await, (1..=150).collect::<Vec<_>>());
    }
}
