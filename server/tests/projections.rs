//! Projections of the stock program: what the settings declare is kept, exactly once whatever
//! dies, and can be asked for.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    Server,
    ledger::{self, Payer, Place, SETTINGS, assert_in_step, documents, fold, head, pay},
    run_failing, run_ok, wait_until,
};

/// How soon another server has to go on with what a dead one owned. The lease is 5 s, and looked
/// at each second; the rest is for a busy machine.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(15);

fn declared_projections_answer_over_http(place: &Place) {
    let server = place.start();
    let api = &server.api;
    assert!(documents(api, "counts", 0).is_empty());
    let mut last = 0;
    for account in 0..ledger::ACCOUNTS {
        last = pay(api, account, account, 5).unwrap();
    }
    assert_in_step(api, last);

    let one = api.get_json(&format!("/projections/latest/documents?key=a3&wait={last}"));
    assert_eq!(one["documents"][0]["document"]["account"], "a3", "{one}");
    assert!(one["position"].as_u64().unwrap() >= last, "{one}");
    let none = api.get_json("/projections/latest/documents?key=nobody");
    assert_eq!(none["documents"], json!([]));

    // A window of an index, over two pages.
    let ordered = "/projections/latest/documents?order=cents&direction=descending&limit=4";
    let first = api.get_json(ordered);
    let next = first["next"].as_str().unwrap();
    let second = api.get_json(&format!("{ordered}&cursor={next}"));
    let rows = [&first, &second].map(|page| page["documents"].as_array().unwrap().clone()).concat();
    let cents: Vec<i64> =
        rows.iter().map(|row| row["document"]["cents"].as_i64().unwrap()).collect();
    let mut sorted = cents.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(cents, sorted);
    let best = documents(api, "latest", 0);
    let best = best.values().map(|document| document["cents"].as_i64().unwrap()).max();
    assert_eq!(cents.first().copied(), best);
    assert_eq!(rows.len(), 8);

    // The same on the command line, through the server and straight on the database.
    let url = api.url();
    let through = ["projections", "query", "counts", "--server", &url];
    let straight = [&["projections", "query", "counts"][..], &place.options()].concat();
    let printed = run_ok(place.path(), &through);
    assert_eq!(printed.lines().count() as u64, ledger::ACCOUNTS);
    assert_eq!(run_ok(place.path(), &straight), printed);
}

#[test]
fn declared_projections_answer_over_http_on_sqlite() {
    declared_projections_answer_over_http(&Place::sqlite(SETTINGS));
}

#[test]
fn declared_projections_answer_over_http_on_postgres() {
    declared_projections_answer_over_http(&Place::postgres(SETTINGS));
}

fn every_payment_counts_once_over_kills(place: &Place) {
    for _ in 0..4 {
        let mut server = place.start();
        let before = head(&server.api);
        let payers: Vec<Payer> = (0..3).map(|payer| Payer::start(&server.api, payer)).collect();
        wait_until("some of it is projected", || {
            let status = server.api.get_json("/projections/sums");
            status["checkpoint"].as_u64().unwrap() > before + 60
        });
        server.running.signal(Signal::SIGKILL);
        for payer in payers {
            payer.stop();
        }
        server.running.wait();
    }
    let server = place.start();
    assert_in_step(&server.api, head(&server.api));
}

#[test]
fn every_payment_counts_once_over_kills_on_sqlite() {
    every_payment_counts_once_over_kills(&Place::sqlite(SETTINGS));
}

#[test]
fn every_payment_counts_once_over_kills_on_postgres() {
    every_payment_counts_once_over_kills(&Place::postgres(SETTINGS));
}

/// Which of two servers owns a projection.
fn owner(api: &support::Api, projection: &str) -> Option<String> {
    let status = api.get_json(&format!("/projections/{projection}"));
    status["owner"]["node"].as_str().map(str::to_owned)
}

#[test]
fn another_server_goes_on_with_what_a_killed_one_owned() {
    let place = Place::postgres(SETTINGS);
    let start = |node: &str| {
        let node = format!("transport.node={node}");
        Server::start(place.path(), &[place.options(), vec!["--set", &node]].concat())
    };
    let mut one = start("one");
    wait_until("one owns everything", || {
        ["counts", "sums", "latest"].iter().all(|name| owner(&one.api, name).is_some())
    });
    let two = start("two");
    let last = pay(&one.api, 1, 0, 10).unwrap();
    // Both answer, whoever owns it.
    assert_in_step(&two.api, last);
    assert_eq!(owner(&two.api, "sums").as_deref(), Some("one"));

    let payer = Payer::start(&two.api, 7);
    one.running.signal(Signal::SIGKILL);
    one.running.wait();
    let killed_at = Instant::now();
    let last = pay(&two.api, 2, 0, 10).unwrap();
    wait_until("two has gone on", || {
        let status = two.api.get_json("/projections/sums");
        status["checkpoint"].as_u64().unwrap() >= last
    });
    let taken = killed_at.elapsed();
    assert!(taken < TAKEN_OVER_WITHIN, "{taken:?}");
    assert_eq!(owner(&two.api, "sums").as_deref(), Some("two"));
    payer.stop();
    assert_in_step(&two.api, head(&two.api));

    // One that ends in good order leaves nobody waiting for a lease.
    let three = start("three");
    let mut two = two;
    two.running.signal(Signal::SIGTERM);
    assert_eq!(two.running.wait(), Some(0));
    let last = pay(&three.api, 3, 0, 10).unwrap();
    assert_in_step(&three.api, last);
    assert_eq!(owner(&three.api, "sums").as_deref(), Some("three"));
}

#[test]
fn projections_are_looked_after_through_a_server_and_straight_on_the_database() {
    let place = Place::sqlite(SETTINGS);
    let server = place.start();
    let last = pay(&server.api, 1, 0, 10).unwrap();
    assert_in_step(&server.api, last);
    let url = server.api.url();
    let straight = place.options();
    for at in [&["--server", &url][..], &straight] {
        let verb = |args: &[&str]| run_ok(place.path(), &[&["projections"], args, at].concat());
        let failing = |args: &[&str], code, why: &str| {
            run_failing(place.path(), &[&["projections"], args, at].concat(), code, why);
        };
        let listed = verb(&["list"]);
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 3, "{listed}");
        for (line, name) in lines.iter().zip(["counts", "latest", "sums"]) {
            let expected =
                format!("{name}  running  version 1  checkpoint {last}  behind 0  parked 0");
            assert_eq!(*line, expected);
        }
        let shown = verb(&["show", "sums"]);
        assert!(shown.contains("owned by node-"), "{shown}");
        let before: Value = serde_json::from_str(&verb(&["show", "sums", "--json"])).unwrap();
        let rebuilt = verb(&["rebuild", "sums", "--wait"]);
        assert!(
            rebuilt.starts_with(&format!("rebuilt sums through position {last} ")),
            "{rebuilt}"
        );
        let after: Value = serde_json::from_str(&verb(&["show", "sums", "--json"])).unwrap();
        assert!(after["generation"].as_u64() > before["generation"].as_u64(), "{after}");
        assert_eq!(verb(&["parked", "sums"]), "");
        assert_in_step(&server.api, last);

        failing(&["show", "nobody"], 1, "no projection");
        failing(&["rebuild", "nobody"], 1, "no projection");
        failing(&["skip", "sums"], 3, "has not stopped");
        failing(&["resume", "sums"], 3, "has not stopped");
        failing(&["cancel", "sums"], 3, "is not being rebuilt");
        failing(&["query", "sums", "--where", "{"], 2, "not JSON");
        failing(&["query", "sums", "--where", r#"{"near": ["a", 1]}"#], 2, "operator");
        failing(&["query", "sums", "--where", r#"{"eq": ["colour", 1]}"#], 1, "colour");
        failing(&["query", "latest", "--order", "account"], 1, "account");
    }
    assert_eq!(fold(&server.api).len(), 1);

    let forget = |name| [&["projections", "forget", name], &straight[..]].concat();
    run_failing(place.path(), &forget("sums"), 3, "a server owns sums");
    let mut server = server;
    server.running.signal(Signal::SIGTERM);
    assert_eq!(server.running.wait(), Some(0));
    assert_eq!(run_ok(place.path(), &forget("sums")), "forgot sums\n");
    run_failing(place.path(), &forget("sums"), 1, "no projection sums");
}

#[test]
fn clients_edit_the_collections_of_the_settings() {
    let place =
        Place::sqlite("collections = [\"todos\", { name = \"lists\", indexes = [[\"title\"]] }]\n");
    let server = place.start();
    let edit = |data: Value| server.api.post("/commands/$collection", &json!({ "data": data }));
    let insert = json!({
        "collection": "todos", "op": "insert", "key": "milk",
        "document": {"text": "buy milk", "done": false},
    });
    assert_eq!(edit(insert).0, 200);
    let update = json!({
        "collection": "todos", "op": "update", "key": "milk",
        "patch": {"done": true}, "revision": 0,
    });
    let (status, done) = edit(update.clone());
    assert_eq!(status, 200, "{done}");
    let documents = documents(&server.api, "todos", done["position"].as_u64().unwrap());
    let expected = json!({"text": "buy milk", "done": true, "$revision": 1});
    assert_eq!(documents["milk"], expected);
    let (status, refused) = edit(update);
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("conflict")));
    assert_eq!(refused["error"]["details"]["document"], expected);
    let unknown = json!({"collection": "counts", "op": "delete", "key": "milk"});
    assert_eq!(edit(unknown).0, 404);
    server.api.get_json("/projections/lists/documents?order=title");
}
