//! Many sessions that come back at once reach the store as a few shared reads.

mod support;

use futures_util::future::join_all;
use serde_json::json;
use support::{Server, Setup};

const EVENTS: u64 = 10_000;
const SESSIONS: usize = 60;

#[tokio::test]
async fn sessions_that_return_at_once_share_the_pages_they_read() {
    let server = Server::with(Setup { workers: 2, ..Setup::default() });
    for _ in 0..EVENTS / 500 {
        server.append("order-1", 500).await;
    }
    let sessions = (0..SESSIONS as u64).map(|session| {
        let server = &server;
        async move {
            // Each left somewhere else.
            let after = session * 13;
            let mut client = server.connect().await;
            client.subscribe_all(3, json!(after)).await;
            let got = client.positions_through(3, EVENTS + 20).await;
            assert_eq!(got, (after + 1..=EVENTS + 20).collect::<Vec<_>>());
        }
    });
    let appends = async {
        for _ in 0..20 {
            server.append("order-2", 1).await;
        }
    };
    tokio::join!(join_all(sessions), appends);

    let asked = server.metric("tidewire_catch_up_requests_total").await;
    let read = server.metric("tidewire_catch_up_reads_total").await;
    // Ten distinct pages, of which the one at the head is read once a worker.
    assert!(read < asked, "{read} of {asked}");
    assert!(read <= 2.0 * 10.0, "{read} reads");
}

#[tokio::test]
async fn pages_with_large_events_are_cut_and_lose_nothing() {
    let server = Server::with_config(|config| config.write_bytes_max = 4 << 10);
    for _ in 0..12 {
        server.append_sized("big-1", 3, 900_000).await;
    }
    let mut client = server.connect().await;
    client.subscribe_all(0, json!(1)).await;
    assert_eq!(client.positions_through(0, 36).await, (2..=36).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_rare_type_is_read_without_reading_everything() {
    let server = Server::start();
    for _ in 0..6 {
        server.append("order-1", 1000).await;
    }
    let mut client = server.connect().await;
    client
        .send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": "start",
            "filter": { "eq": ["type", "Rare"] } }))
        .await;
    client.expect("subscribed").await;
    // Nothing matches, so it is live after one page, not after six.
    assert_eq!(client.expect("live").await["position"], 6000);
    assert!(server.metric("tidewire_catch_up_reads_total").await <= 2.0);
    let (status, _) = server
        .http("POST", "/streams/order-2", Some(r#"{"events":[{"type":"Rare","data":{}}]}"#))
        .await;
    assert_eq!(status, 201);
    assert_eq!(client.positions_through(1, 6001).await, [6001]);
}
