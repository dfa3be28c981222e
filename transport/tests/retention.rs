//! What was removed or erased reaches nobody any more: not from what is kept, not on another node;
//! and whoever missed something is told so, nobody else.

mod support;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use support::{Client, Server, Setup, eventually};
use tidewire_eventstore::{Category, MemoryStore};
use tidewire_transport::{Config, RetentionPolicy};

/// Two nodes on one log.
async fn two_nodes() -> [Server; 2] {
    let store: Arc<MemoryStore> = Arc::new(MemoryStore::new());
    [(); 2].map(|()| {
        let mut config = Config::default();
        config.head_poll = Duration::from_millis(20);
        Server::with(Setup { config, store: Some(store.clone()), ..Setup::default() })
    })
}

async fn delete(server: &Server, path: &str) -> Value {
    let (status, body) = server.http("DELETE", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

async fn subscribe(client: &mut Client, sub: u32, to: &Value, after: Value) -> Value {
    client.send(json!({ "type": "subscribe", "sub": sub, "to": to, "after": after })).await;
    loop {
        let message = client.message().await;
        if message["type"] != "heartbeat" {
            return message;
        }
    }
}

/// Reads the events of a client's only subscription until position `through`.
async fn events_through(client: &mut Client, through: u64) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|event| event["position"] != through) {
        let message = client.message().await;
        if message["type"] == "events" {
            events.extend(message["events"].as_array().expect("a list").iter().cloned());
        }
    }
    events
}

fn at(events: &[Value], position: u64) -> &Value {
    events.iter().find(|event| event["position"] == position).expect("the event is there")
}

#[track_caller]
fn assert_erased(event: &Value) {
    assert_eq!((&event["erased"], &event["data"]), (&json!(true), &Value::Null), "{event}");
    assert_eq!((&event["type"], event.get("meta")), (&json!("Happened"), None), "{event}");
}

/// Pages that were read and encoded before, and frames in the log of a live group.
#[tokio::test]
async fn what_is_kept_of_an_erased_event_is_thrown_away_before_the_answer() {
    let server = Server::start();
    server.append("order-1", 900).await;
    server.append("order-1", 900).await;
    let mut live = server.connect().await;
    live.subscribe_all(1, json!("start")).await;
    live.positions_through(1, 1800).await;
    for _ in 0..10 {
        server.append("order-1", 1).await;
    }
    live.positions_through(1, 1810).await;

    for (number, position) in (0..).zip([5, 1500, 1806]) {
        let answer = delete(&server, &format!("/events/{position}")).await;
        let (revision, notice) = (1810 + number, 1811 + number);
        assert_eq!(answer["erased"], 1);
        assert_eq!((&answer["revision"], &answer["position"]), (&json!(revision), &json!(notice)));
        for after in [position - 1, 1] {
            let mut late = server.connect().await;
            late.subscribe_all(1, json!(after)).await;
            let events = events_through(&mut late, notice).await;
            assert_erased(at(&events, position));
            assert!(at(&events, position + 1)["data"].is_object());
            assert_eq!(events.len() as u64, notice - after, "each once");
        }
    }
    // Who has them already is told.
    let notices = events_through(&mut live, 1813).await;
    assert_eq!(notices.len(), 3);
    assert_eq!(notices[0]["type"], "$erased");
    assert_eq!(notices[0]["data"]["position"], 5);
    assert_eq!(notices[0]["data"]["revision"], 4);
    assert!(notices[0]["data"]["id"].is_string());
    assert_eq!(delete(&server, "/events/5").await, json!({ "erased": 0, "bytes": 0 }));
    assert_eq!(server.metric("tidewire_events_erased_total").await, 3.0);
}

/// A reader in the middle of a page goes on with what is left.
#[tokio::test]
async fn a_slow_reader_is_not_given_what_was_erased_meanwhile() {
    let server = Server::start();
    for _ in 0..10 {
        server.append_sized("big-1", 100, 7_000).await;
    }
    let mut slow = server.connect().await;
    slow.subscribe_all(1, json!("start")).await;
    eventually("the page is there", || async {
        server.metric("tidewire_encoded_page_bytes").await > 7e6
    })
    .await;
    delete(&server, "/events/990").await;
    let events = events_through(&mut slow, 1001).await;
    assert_erased(at(&events, 990));
    assert_eq!(events.len(), 1001, "each once");
}

#[tokio::test]
async fn a_filter_lets_the_notice_of_an_erasure_through() {
    let server = Server::start();
    server.append("order-1", 3).await;
    for after in [json!("start"), json!("end")] {
        let mut client = server.connect().await;
        let filter = json!({ "in": ["type", ["Never"]] });
        client
            .send(json!({
                "type": "subscribe", "sub": 1, "to": { "all": true }, "after": after,
                "filter": filter,
            }))
            .await;
        client.expect("subscribed").await;
        client.expect("live").await;
        if after == "end" {
            delete(&server, "/events/2").await;
        }
        let mut late = server.connect().await;
        late.send(json!({
            "type": "subscribe", "sub": 1, "to": { "all": true }, "after": "start",
            "filter": filter,
        }))
        .await;
        if after == "end" {
            let seen = events_through(&mut client, 4).await;
            assert_eq!(seen.len(), 1);
            assert_eq!(events_through(&mut late, 4).await, seen);
        }
    }
}

#[tokio::test]
async fn the_other_node_gives_nothing_of_it_once_it_knows() {
    let [one, two] = two_nodes().await;
    for _ in 0..2 {
        one.append("order-1", 900).await;
    }
    let mut on_two = two.connect().await;
    on_two.subscribe_all(1, json!("start")).await;
    on_two.positions_through(1, 1800).await;

    delete(&one, "/events/7").await;
    // From the notice on.
    assert_eq!(events_through(&mut on_two, 1801).await[0]["data"]["position"], 7);
    let mut late = two.connect().await;
    late.subscribe_all(1, json!("start")).await;
    assert_erased(at(&events_through(&mut late, 1801).await, 7));

    // A removal leaves no notice: the next look at the head tells of it.
    assert_eq!(delete(&one, "/streams/order-1?before=1790").await["removed"], 1790);
    eventually("the other node gives only what is left", || async {
        let mut late = two.connect().await;
        late.subscribe_all(1, json!("start")).await;
        let first = &events_through(&mut late, 1801).await[0]["position"];
        first == 1791
    })
    .await;
    let last = two.append("order-2", 1).await;
    assert_eq!(on_two.positions_through(1, last).await, [last], "a live session goes on");
}

#[tokio::test]
async fn only_who_missed_something_is_reset() {
    let server = Server::start();
    // order-1 at 1 to 4, order-2 at 5 to 6, mail-1 at 7.
    for (stream, count) in [("order-1", 4), ("order-2", 2), ("mail-1", 1)] {
        server.append(stream, count).await;
    }
    let mut live = server.connect().await;
    live.subscribe_all(1, json!(2)).await;
    live.positions_through(1, 7).await;
    live.expect("live").await;
    assert_eq!(
        delete(&server, "/streams/order-1?before=3").await["removed"],
        3,
        "revisions 0 to 2"
    );
    let stream = |name: &str| json!({ "stream": name });
    let (category, all) = (json!({ "category": "order" }), json!({ "all": true }));
    let mut client = server.connect().await;
    for (to, after, expected) in [
        (stream("order-1"), json!(1), Some(4)),
        (stream("order-1"), json!(2), Some(4)),
        (stream("order-1"), json!(3), None),
        (stream("order-1"), json!(0), None),
        (stream("order-1"), json!("start"), None),
        (stream("order-1"), json!("end"), None),
        (stream("order-2"), json!(1), None),
        (json!({ "category": "mail" }), json!(1), None),
        (category.clone(), json!(2), Some(4)),
        (category, json!(3), None),
        (all.clone(), json!(1), Some(1)),
        (all, json!("start"), None),
    ] {
        let answer = subscribe(&mut client, 1, &to, after.clone()).await;
        match expected {
            None => assert_eq!(answer["type"], "subscribed", "{to} after {after}: {answer}"),
            Some(first) => {
                let reset = json!({
                    "type": "reset", "sub": 1, "reason": "truncated", "first": first,
                });
                assert_eq!(answer, reset, "{to} after {after}");
                // As it is told to, and it is not told again.
                let again = subscribe(&mut client, 1, &to, json!(first - 1)).await;
                assert_eq!(again["type"], "subscribed", "{to} after {}", first - 1);
            }
        }
        client.send(json!({ "type": "unsubscribe", "sub": 1 })).await;
        client.skip_to("unsubscribed").await;
    }
    let last = server.append("order-1", 1).await;
    assert_eq!(live.positions_through(1, last).await, [last], "a live session goes on");

    // From the start, what is left.
    let mut client = server.connect().await;
    client.subscribe_all(1, json!("start")).await;
    assert_eq!(client.positions_through(1, 8).await, [4, 5, 6, 7, 8]);
    eventually("it is live", async || server.metric("tidewire_subscriptions_behind").await == 0.0)
        .await;
}

#[tokio::test]
async fn pages_pass_over_what_was_removed() {
    let server = Server::start();
    for _ in 0..30 {
        server.append("order-1", 1).await;
        server.append("mail-1", 1).await;
    }
    delete(&server, "/streams/order-1?before=29").await;
    for (direction, expected) in [
        ("forwards", (1..=60).filter(|at| at % 2 == 0 || *at == 59).collect::<Vec<u64>>()),
        ("backwards", (1..=60).rev().filter(|at| at % 2 == 0 || *at == 59).collect()),
    ] {
        let mut positions = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/events?direction={direction}&limit=7{cursor}");
            let (status, body) = server.http("GET", &path, None).await;
            assert_eq!(status, 200, "{body}");
            let page: Value = serde_json::from_str(&body).expect("JSON");
            let events = page["events"].as_array().expect("a list");
            positions.extend(events.iter().filter_map(|event| event["position"].as_u64()));
            if page["more"] == false {
                break;
            }
            assert!(!events.is_empty(), "{path}");
            let name = if direction == "forwards" { "after" } else { "before" };
            cursor = format!("&{name}={}", page["next"]);
        }
        assert_eq!(positions, expected, "{direction}");
    }

    // By socket, too; and where a whole stretch is empty, the page after it is given.
    delete(&server, "/streams/mail-1?before=20").await;
    let mut client = server.connect().await;
    client.send(json!({ "type": "fetch", "id": "f", "from": { "all": true }, "limit": 9 })).await;
    let page = client.expect("page").await;
    let events = page["events"].as_array().expect("a list");
    assert_eq!(events[0]["position"], 42, "{page}");
    client
        .send(json!({ "type": "fetch", "id": "g", "from": { "stream": "order-1" }, "limit": 9 }))
        .await;
    let page = client.expect("page").await;
    let events = page["events"].as_array().expect("a list");
    assert_eq!((events.len(), &events[0]["revision"]), (1, &json!(29)));
}

#[tokio::test]
async fn a_category_is_cut_by_age_and_by_size() {
    let server = Server::start();
    for stream in ["order-1", "mail-1", "order-2"] {
        server.append_sized(stream, 10, 100).await;
    }
    let path = "/categories/order/retention";
    let post = async |body: &str| {
        let (status, answer) = server.http("POST", path, Some(body)).await;
        (status, serde_json::from_str::<Value>(&answer).expect("JSON"))
    };
    assert_eq!(post(r#"{"max_age_seconds":3600}"#).await.1["removed"], 0);
    let (_, answer) = post(r#"{"max_bytes":600}"#).await;
    assert_eq!(answer["removed"], 15, "{answer}");
    assert!(answer["bytes"].as_u64() > Some(1500), "{answer}");
    let (_, body) = server.http("GET", "/events?category=order", None).await;
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(page["events"].as_array().map(Vec::len), Some(5));
    for wrong in ["{}", "{", r#"{"max_byte":1}"#, r#"{"max_bytes":-1}"#] {
        let (status, answer) = post(wrong).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_field")), "{wrong}");
    }
    assert_eq!(server.metric("tidewire_events_removed_total").await, 15.0);
}

#[tokio::test]
async fn what_cannot_be_removed_is_refused_and_nothing_by_a_slip() {
    let server = Server::with(Setup { token: Some("secret".to_owned()), ..Setup::default() });
    let last = server.append("order-1", 3).await;
    let bearer = "authorization: Bearer secret\r\n";
    for (method, path, content_type, headers, status, code) in [
        ("DELETE", "/streams/order-1", "", "", 401, "unauthorized"),
        ("DELETE", "/events/1", "", "", 401, "unauthorized"),
        ("POST", "/categories/order/retention", "application/json", "", 401, "unauthorized"),
        ("DELETE", "/streams/order-1?befor=2", "", bearer, 400, "invalid_field"),
        ("DELETE", "/streams/order-1?before=x", "", bearer, 400, "invalid_field"),
        ("DELETE", "/streams/$removed", "", bearer, 400, "name_reserved"),
        ("DELETE", "/events/9", "", bearer, 404, "unknown_event"),
        ("DELETE", "/events/x", "", bearer, 400, "invalid_field"),
        (
            "POST",
            "/categories/order/retention",
            "text/plain",
            bearer,
            415,
            "unsupported_media_type",
        ),
    ] {
        let body = Some("{\"max_bytes\":0}");
        let (got, answer) = server.http_with(method, path, content_type, headers, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["error"]["code"], code, "{method} {path}");
    }
    assert_eq!(server.head().await.get(), last, "nothing was erased");
    let read = tidewire_eventstore::Read::after(
        tidewire_eventstore::Target::All,
        tidewire_eventstore::GlobalPosition::START,
        10,
    );
    let page = server.store.read(read).await.expect("a page");
    assert!(page.events.iter().all(|event| !event.payload.is_empty()), "nothing was removed");
}

#[tokio::test]
async fn the_node_follows_its_policies_by_itself() {
    let category = Category::new("order").expect("a good name");
    let mut policy = RetentionPolicy::new(category);
    policy.max_bytes = Some(1_000);
    let mut config = Config::default();
    config.retention = vec![policy];
    config.retention_interval = Duration::from_millis(20);
    let server = Server::with(Setup { config, ..Setup::default() });
    server.append_sized("mail-1", 20, 100).await;
    for _ in 0..2 {
        server.append_sized("order-1", 1000, 100).await;
        eventually("the policy is followed", || async {
            let (_, body) = server.http("GET", "/events?category=order&limit=1000", None).await;
            let page: Value = serde_json::from_str(&body).expect("JSON");
            page["events"].as_array().map(Vec::len) < Some(11)
        })
        .await;
    }
    let (_, body) = server.http("GET", "/events?category=mail", None).await;
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(page["events"].as_array().map(Vec::len), Some(20), "other categories stay");
}
