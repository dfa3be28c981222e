//! Live queries on real sockets: a client's documents are the query's, whatever happens on the way.

mod support;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use support::{
    Server, Setup, eventually,
    things::{All, Dice, Things, View, change, put, put_all, queries, settle, take_one},
};
use tidewire_eventstore::{EventStore, MemoryStore};
use tidewire_projections::{DocumentStore, MemoryDocuments, documents::Wish};
use tidewire_transport::Config;

fn setup(change: impl FnOnce(&mut Config)) -> Setup {
    let mut setup = Setup { projections: Some(Things::add), ..Setup::default() };
    setup.config.heartbeat_interval = Duration::from_millis(50);
    setup.config.head_poll = Duration::from_millis(10);
    change(&mut setup.config);
    setup
}

fn start() -> Server {
    Server::with(setup(|_| {}))
}

/// Every query of [`queries`] on one connection, each under its number from 1.
async fn subscribe_all(client: &mut support::Client, views: &[View]) {
    for ((to, _), (sub, view)) in queries().iter().zip((1..).zip(views)) {
        client.send(view.subscribe(sub, to)).await;
    }
}

fn assert_all(views: &[View], all: &All) {
    for ((to, select), view) in queries().iter().zip(views) {
        assert_eq!(view.documents, select(all), "{to}");
    }
}

fn views() -> Vec<View> {
    vec![View::default(); queries().len()]
}

#[actix_web::test]
async fn every_kind_of_query_is_told_its_state_and_what_becomes_of_it() {
    let server = start();
    let (mut dice, mut all) = (Dice(1), All::new());
    let position = change(&server.store, &mut dice, 100, &mut all).await;
    let (mut client, mut views) = (server.connect().await, views());
    subscribe_all(&mut client, &views).await;
    settle(&mut client, &mut views, position).await;
    assert_all(&views, &all);
    for round in 0..60 {
        let position = change(&server.store, &mut dice, 1 + round % 5, &mut all).await;
        settle(&mut client, &mut views, position).await;
        assert_all(&views, &all);
    }
    assert!(views[0].patches > 0, "what is long and changes little is patched");
    assert!(views.iter().all(|view| view.resets.is_empty()), "{views:?}");
    assert_eq!(server.metric("tidewire_live_queries").await, queries().len() as f64);
    drop(client);
    eventually("the queries end", async || server.metric("tidewire_live_queries").await == 0.0)
        .await;
    assert_eq!(server.metric("tidewire_live_groups").await, 0.0);
    assert_eq!(server.metric("tidewire_live_log_bytes").await, 0.0);
    assert_eq!(server.metric("tidewire_live_queries_behind").await, 0.0);
}

#[actix_web::test]
async fn after_any_history_of_cuts_the_documents_are_the_querys() {
    let server = start();
    for seed in 1..=6 {
        let (mut dice, mut all) = (Dice(seed), server.things().await);
        let mut views = views();
        for _ in 0..8 {
            let mut client = server.connect().await;
            subscribe_all(&mut client, &views).await;
            for _ in 0..dice.roll(60) {
                take_one(&mut client, &mut views).await;
                if dice.roll(3) == 0 {
                    let count = 1 + dice.roll(10) as usize;
                    change(&server.store, &mut dice, count, &mut all).await;
                }
            }
            drop(client);
            views.iter_mut().for_each(View::cut);
            if dice.roll(2) == 0 {
                let count = 1 + dice.roll(50) as usize;
                change(&server.store, &mut dice, count, &mut all).await;
            }
        }
        let position = change(&server.store, &mut dice, 1, &mut all).await;
        let mut client = server.connect().await;
        subscribe_all(&mut client, &views).await;
        settle(&mut client, &mut views, position).await;
        assert_all(&views, &all);
        let resumed = views.iter().filter(|view| view.resumed).count();
        assert!(resumed >= 3, "seed {seed}: all but windows resume: {views:?}");
    }
}

#[actix_web::test]
async fn a_reader_that_is_too_slow_falls_behind_and_catches_up() {
    let server = Server::with(setup(|config| config.live_log_bytes_max = 64 << 10));
    let to = json!({ "projection": "things" });
    let window = json!({ "projection": "things",
        "order": { "by": "at", "direction": "descending" }, "limit": 3 });
    let mut client = server.connect().await;
    let mut views = vec![View::default(), View::default()];
    client.send(views[0].subscribe(1, &to)).await;
    client.send(views[1].subscribe(2, &window)).await;
    settle(&mut client, &mut views, 0).await;
    let (mut position, mut all) = (0, All::new());
    // Nobody reads while far more comes than sockets and logs hold.
    for round in 0..400 {
        let document = json!({ "at": round, "text": "y".repeat(40_000) });
        let key = format!("t{}", round % 10);
        position = put(&server.store, &key, Some(&document)).await;
        all.insert(key, document);
    }
    let falls = || server.metric("tidewire_live_restarts_total");
    settle(&mut client, &mut views, position).await;
    assert_eq!(views[0].documents, all);
    assert_eq!(views[1].documents.len(), 3);
    assert!(views[1].documents.values().all(|value| value["at"].as_u64() >= Some(397)));
    assert!(views[0].behind > 0 && views[1].behind > 0, "{}", falls().await);
    assert_eq!(views[1].resets.first().map(String::as_str), Some("window"));
    assert!(server.metric("tidewire_live_log_bytes").await <= (64 << 10) as f64 + 45_000.0);
}

#[actix_web::test]
async fn a_swap_gives_live_clients_one_consistent_state_and_goes_on() {
    let server = start();
    let (mut dice, mut all) = (Dice(9), All::new());
    let position = change(&server.store, &mut dice, 200, &mut all).await;
    let (mut client, mut views) = (server.connect().await, views());
    subscribe_all(&mut client, &views).await;
    settle(&mut client, &mut views, position).await;
    assert_all(&views, &all);
    let before = views[0].generation;
    for round in 0..3 {
        let watched = server.projections().get("things").expect("it runs");
        watched.wish(Wish::Rebuild).await.expect("a store that answers");
        // Changes go on while it is rebuilt, and whoever reads never sees anything in between.
        while views.iter().any(|view| view.resets.len() <= round) {
            change(&server.store, &mut dice, 1, &mut all).await;
            take_one(&mut client, &mut views).await;
        }
        let position = change(&server.store, &mut dice, 3, &mut all).await;
        settle(&mut client, &mut views, position).await;
        assert_all(&views, &all);
    }
    for view in &views {
        assert!(view.generation > before, "{view:?}");
        assert!(view.resets.iter().all(|reset| reset == "generation"), "{view:?}");
    }
}

#[actix_web::test]
async fn who_comes_back_after_much_has_changed_is_given_what_costs_less() {
    let server = start();
    let to = [
        json!({ "projection": "things", "key": "t1" }),
        json!({ "projection": "things", "where": { "eq": ["box", "b1"] } }),
        json!({ "projection": "things" }),
    ];
    let document = json!({ "box": "b1", "at": 1 });
    let position = put(&server.store, "t1", Some(&document)).await;
    let mut views = vec![View::default(); to.len()];
    let mut client = server.connect().await;
    for (to, (sub, view)) in to.iter().zip((1..).zip(&views)) {
        client.send(view.subscribe(sub, to)).await;
    }
    settle(&mut client, &mut views, position).await;
    drop(client);
    views.iter_mut().for_each(View::cut);
    let others: Vec<_> = (0..4000).map(|number| format!("other-{number}")).collect();
    let position = put_all(&server.store, &others, &json!({ "box": "b0", "at": 2 })).await;
    let path = format!("/projections/things/documents?limit=1&wait={position}&timeout_ms=20000");
    assert_eq!(server.http("GET", &path, None).await.0, 200);
    let mut client = server.connect().await;
    for (to, (sub, view)) in to.iter().zip((1..).zip(&views)) {
        client.send(view.subscribe(sub, to)).await;
    }
    settle(&mut client, &mut views, position).await;
    let counts: Vec<_> = views.iter().map(|view| view.documents.len()).collect();
    assert_eq!(counts, [1, 1, 4001]);
    let resets: Vec<_> = views.iter().map(|view| view.resets.join(" ")).collect();
    assert_eq!(resets, ["truncated", "truncated", ""], "all of it is told by its changes alone");
    assert!(views.iter().all(|view| view.resumed));
}

#[actix_web::test]
async fn two_nodes_tell_the_same_documents() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let documents: Arc<dyn DocumentStore> = Arc::new(MemoryDocuments::new());
    let shared = |_: &mut Config| {};
    let node = || {
        let (store, documents) = (Some(store.clone()), Some(documents.clone()));
        Server::with(Setup { store, documents, ..setup(shared) })
    };
    let (one, other) = (node(), node());
    let (mut dice, mut all) = (Dice(4), All::new());
    let mut clients = [one.connect().await, other.connect().await];
    let mut views = [views(), views()];
    for (client, views) in clients.iter_mut().zip(&views) {
        subscribe_all(client, views).await;
    }
    for round in 0..30 {
        let position = change(&store, &mut dice, 1 + round % 4, &mut all).await;
        for (client, views) in clients.iter_mut().zip(&mut views) {
            settle(client, views, position).await;
            assert_all(views, &all);
        }
    }
    // A client changes nodes and goes on.
    let mut moved = views[0].clone();
    moved.iter_mut().for_each(View::cut);
    let mut client = other.connect().await;
    subscribe_all(&mut client, &moved).await;
    let position = change(&store, &mut dice, 5, &mut all).await;
    settle(&mut client, &mut moved, position).await;
    assert_all(&moved, &all);
    assert!(moved[0].resumed);
}

#[actix_web::test]
async fn who_writes_reads_what_they_wrote() {
    let server = start();
    let mut client = server.connect().await;
    for round in 0..20 {
        let document = json!({ "at": round, "box": "b" });
        let position = put(&server.store, "mine", Some(&document)).await;
        let from = json!({ "projection": "things", "key": "mine" });
        client
            .send(json!({ "type": "fetch", "id": "f", "from": from, "limit": 1, "wait": position }))
            .await;
        let page = client.expect("page").await;
        assert_eq!(page["documents"], json!([{ "key": "mine", "document": document }]));
        assert!(page["position"].as_u64() >= Some(position));
        let path = format!("/projections/things/documents/mine?wait={position}");
        let (status, body) = server.http("GET", &path, None).await;
        assert_eq!(status, 200, "{body}");
        let found: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&found["key"], &found["document"]), (&json!("mine"), &document));
    }
    let gone = put(&server.store, "mine", None).await;
    let path = format!("/projections/things/documents/mine?wait={gone}");
    let (status, body) = server.http("GET", &path, None).await;
    assert!(status == 404 && body.contains("no_such_document"), "{status} {body}");
    let path = format!("/projections/things/documents?wait={}&timeout_ms=20", gone + 1000);
    let (status, body) = server.http("GET", &path, None).await;
    assert!(status == 503 && body.contains("wait_timeout"), "{status} {body}");
    client
        .send(json!({ "type": "fetch", "id": "g", "from": { "projection": "things" }, "limit": 1,
            "wait": gone + 1000, "timeout_ms": 20 }))
        .await;
    let error = client.expect("error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!("g"), &json!("wait_timeout")));
    assert_eq!(error["retryable"], true);
}

#[actix_web::test]
async fn pages_follow_one_another_by_cursor_in_their_order() {
    let server = start();
    let (mut dice, mut all) = (Dice(7), All::new());
    let position = change(&server.store, &mut dice, 300, &mut all).await;
    let mut client = server.connect().await;
    let from =
        json!({ "projection": "things", "order": { "by": "at", "direction": "descending" } });
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut fetch =
            json!({ "type": "fetch", "id": "f", "from": from, "limit": 7, "wait": position });
        if let Some(cursor) = &cursor {
            fetch["cursor"] = json!(cursor);
        }
        client.send(fetch).await;
        let page = client.expect("page").await;
        found.extend(page["documents"].as_array().expect("a list").clone());
        assert_eq!(page["more"] == true, page["next"].is_string());
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    let mut expected: Vec<_> = all.iter().collect();
    expected.sort_by_key(|(key, value)| (std::cmp::Reverse(value["at"].as_u64()), (*key).clone()));
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(key, document)| json!({ "key": key, "document": document }))
        .collect();
    assert_eq!(found, expected);
    let (status, body) = server
        .http("GET", "/projections/things/documents?order=at&direction=descending&limit=1000", None)
        .await;
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(page["documents"], json!(expected));
    let (_, body) = server
        .http(
            "GET",
            "/projections/things/documents?where=%7B%22eq%22:%5B%22box%22,%22b1%22%5D%7D",
            None,
        )
        .await;
    let page: Value = serde_json::from_str(&body).expect("JSON");
    let in_box = all.values().filter(|value| value["box"] == "b1").count();
    assert_eq!(page["documents"].as_array().map(Vec::len), Some(in_box), "{body}");
}

#[actix_web::test]
async fn what_cannot_be_asked_is_refused_with_its_reason() {
    let server = Server::with(setup(|config| config.subscriptions_max = 2));
    let mut client = server.connect().await;
    let things = |more: Value| {
        let mut to = json!({ "projection": "things" });
        for (name, value) in more.as_object().expect("an object") {
            to[name] = value.clone();
        }
        to
    };
    for (to, code) in [
        (json!({ "projection": "nothing" }), "unknown_projection"),
        (things(json!({ "where": { "eq": ["colour", "red"] } })), "unknown_field"),
        (things(json!({ "order": { "by": "size" }, "limit": 3 })), "unindexed_order"),
        (things(json!({ "order": { "by": "at" } })), "invalid_query"),
        (things(json!({ "where": { "almost": ["at", 1] } })), "invalid_query"),
        (things(json!({ "limit": 5000 })), "invalid_query"),
    ] {
        client.send(json!({ "type": "subscribe", "sub": 1, "to": to })).await;
        let error = client.expect("error").await;
        assert_eq!((&error["code"], &error["sub"]), (&json!(code), &json!(1)), "{to}");
        if code == "unknown_field" {
            let details = json!({ "field": "colour", "known": ["at", "box", "size"] });
            assert_eq!(error["details"], details);
        }
    }
    for (fetch, code) in [
        (json!({ "from": things(json!({})), "limit": 1, "cursor": "nonsense" }), "invalid_cursor"),
        (
            json!({ "from": things(json!({ "order": { "by": "size" } })), "limit": 1 }),
            "unindexed_order",
        ),
        (json!({ "from": json!({ "projection": "nothing" }), "limit": 1 }), "unknown_projection"),
    ] {
        let mut message = fetch.clone();
        (message["type"], message["id"]) = (json!("fetch"), json!("f"));
        client.send(message).await;
        let error = client.expect("error").await;
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &json!("f")), "{fetch}");
    }
    for (path, status, code) in [
        ("/projections/nothing/documents", 404, "unknown_projection"),
        ("/projections/things/documents?where=nonsense", 400, "invalid_query"),
        (
            "/projections/things/documents?where=%7B%22eq%22:%5B%22colour%22,1%5D%7D",
            400,
            "unknown_field",
        ),
        ("/projections/things/documents?order=size", 400, "unindexed_order"),
        ("/projections/things/documents?limit=0", 400, "invalid_field"),
        ("/projections/things/documents?cursor=nonsense", 400, "invalid_cursor"),
        ("/projections/things/documents/t1", 404, "no_such_document"),
    ] {
        let (found, body) = server.http("GET", path, None).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.contains(code), "{path}: {body}");
    }

    // A cursor of documents that were replaced since.
    let mut all = All::new();
    change(&server.store, &mut Dice(2), 50, &mut all).await;
    let mut views = vec![View::default()];
    client.send(views[0].subscribe(1, &things(json!({})))).await;
    settle(&mut client, &mut views, 50).await;
    client.send(json!({ "type": "fetch", "id": "f", "from": things(json!({})), "limit": 1 })).await;
    let page = client.skip_to("page").await;
    let watched = server.projections().get("things").expect("it runs");
    watched.wish(Wish::Rebuild).await.expect("a store that answers");
    while views[0].resets.is_empty() {
        take_one(&mut client, &mut views).await;
    }
    settle(&mut client, &mut views, 50).await;
    client
        .send(json!({ "type": "fetch", "id": "f", "from": things(json!({})), "limit": 1,
            "cursor": page["next"] }))
        .await;
    let error = client.skip_to("error").await;
    assert_eq!(error["code"], "stale_cursor", "{error}");

    client.send(json!({ "type": "subscribe", "sub": 2, "to": things(json!({})) })).await;
    client.send(json!({ "type": "subscribe", "sub": 3, "to": things(json!({})) })).await;
    let error = client.skip_to("error").await;
    assert_eq!((&error["code"], &error["sub"]), (&json!("too_many_subscriptions"), &json!(3)));
    client.send(json!({ "type": "subscribe", "sub": 2, "to": things(json!({})) })).await;
    let error = client.skip_to("error").await;
    assert_eq!(error["code"], "sub_in_use");
}
