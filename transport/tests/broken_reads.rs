//! A read of the log that dies is our bug; nobody waits for its answer for ever, and whoever has to
//! act learns of it.

mod support;

use serde_json::json;
use support::{
    Server, Setup, eventually,
    rewindable::{Reader, Rewindable},
};

#[tokio::test]
async fn a_page_read_that_dies_ends_the_subscription() {
    let log = Rewindable::new(true).await;
    let server = Server::with(Setup { store: Some(log.clone()), ..Setup::default() });
    server.append("order-1", 10).await;
    log.break_next(Reader::CatchUp);
    let mut client = server.connect().await;
    client.subscribe_all(1, json!(3)).await;
    let ended = client.expect("unsubscribed").await;
    assert_eq!((&ended["code"], &ended["retryable"]), (&json!("corrupt"), &json!(false)));
    client.subscribe_all(1, json!(3)).await;
    assert_eq!(client.positions_through(1, 10).await, (4..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_does_not_follow_the_log_is_not_ready() {
    let log = Rewindable::new(false).await;
    let server = Server::with(Setup { store: Some(log.clone()), ..Setup::default() });
    assert_eq!(server.http("GET", "/readyz", None).await.0, 200);
    log.break_next(Reader::Tail);
    server.append("order-1", 1).await;
    eventually("it is noticed", async || server.http("GET", "/readyz", None).await.0 == 503).await;
    let (_, answer) = server.http("GET", "/readyz", None).await;
    assert!(answer.contains("not followed"), "{answer}");
    assert_eq!(server.http("GET", "/healthz", None).await.0, 200);
}

#[tokio::test]
async fn who_goes_while_pages_wait_costs_no_reads() {
    let log = Rewindable::new(true).await;
    let server = Server::with(Setup { store: Some(log.clone()), ..Setup::default() });
    server.append("order-1", 10).await;
    log.hold();
    let waiting = async || server.metric("tidewire_catch_up_waiting_pages").await;
    let mut client = server.connect().await;
    for sub in 0..50 {
        let to = json!({ "stream": format!("order-{sub}") });
        client.send(json!({ "type": "subscribe", "sub": sub, "to": to, "after": "start" })).await;
        client.expect("subscribed").await;
    }
    eventually("every page is asked for", async || waiting().await == 50.0).await;
    // Some end in order, the others with their connection.
    for sub in 10..20 {
        client.send(json!({ "type": "unsubscribe", "sub": sub })).await;
        client.expect("unsubscribed").await;
    }
    drop(client);
    eventually("the session ends", async || server.tidewire().sessions() == 0).await;
    log.release();
    eventually("nothing waits", async || waiting().await == 0.0).await;
    assert_eq!(server.metric("tidewire_catch_up_reads_total").await, 4.0);
}
