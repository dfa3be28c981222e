//! What is wrong with a projection or a question is said clearly, and hurts nothing else.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{
    Api,
    ledger::{self, Place, SETTINGS, assert_in_step, documents, pay},
    run_ok, wait_until,
};

/// Pays what is no number: `sums` cannot take it, `counts` and `latest` can.
fn pay_nonsense(api: &Api, account: u64) -> u64 {
    let event = json!([{"type": "Paid", "data": {"account": format!("a{account}"), "cents": "x"}}]);
    let (status, answer) = api.append("payment-x", &event.to_string()).unwrap();
    assert_eq!(status, 201, "{answer}");
    answer["position"].as_u64().unwrap()
}

fn wait_for(api: &Api, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut row = Value::Null;
    wait_until(what, || {
        row = api.get_json("/projections/sums");
        holds(&row)
    });
    row
}

#[test]
fn a_projection_stops_at_what_it_cannot_take_and_goes_on_when_it_is_told_to_skip_it() {
    let place = Place::sqlite(SETTINGS);
    let server = place.start();
    let api = &server.api;
    let good = pay(api, 1, 0, 10).unwrap();
    assert_in_step(api, good);
    let before = documents(api, "sums", good);
    let poison = pay_nonsense(api, 1);
    let last = pay(api, 2, 0, 10).unwrap();

    let row = wait_for(api, "it stops", |row| row["state"] == "stopped");
    assert_eq!(row["stopped"]["position"], poison);
    assert!(row["stopped"]["reason"].as_str().unwrap().contains("cents"), "{row}");
    assert_eq!(documents(api, "sums", 0), before, "the documents stand as they were");
    assert!(row["lag_events"].as_u64().unwrap() >= 10, "{row}");
    // Nobody else notices.
    assert_eq!(documents(api, "counts", last).len(), 2);
    let waited = api.get(&format!("/projections/sums/documents?wait={last}&timeout_ms=1000"));
    assert_eq!(waited.0, 503, "{}", waited.1);
    let (_, metrics) = api.get("/metrics");
    let stopped = r#"tidewire_projection_state{projection="sums",state="stopped"} 1"#;
    assert!(metrics.contains(stopped), "{metrics}");

    // It cannot be taken the second time either.
    assert_eq!(api.post("/projections/sums/resume", &json!({})).0, 202);
    wait_for(api, "the wish is followed", |row| row["wish"].is_null());
    wait_for(api, "it stops again", |row| row["stopped"]["position"] == poison);
    assert_eq!(api.post("/projections/sums/skip", &json!({})).0, 202);
    wait_for(api, "it goes on", |row| {
        row["state"] == "running" && row["checkpoint"].as_u64() >= Some(last)
    });
    let parked = api.get_json("/projections/sums/parked");
    assert_eq!(parked["parked"][0]["position"], poison, "{parked}");
    let url = api.url();
    let printed = run_ok(place.path(), &["projections", "parked", "sums", "--server", &url]);
    assert!(printed.trim_start().starts_with(&format!("{poison}  ")), "{printed}");
    assert_eq!(documents(api, "sums", last)["a1"], before["a1"]);
}

#[test]
fn a_projection_that_may_parks_what_it_cannot_take() {
    let place = Place::sqlite(&SETTINGS.replace("on_poison = \"stop\"", "on_poison = \"park\""));
    let server = place.start();
    let api = &server.api;
    let mut poison = Vec::new();
    for account in 0..5 {
        pay(api, account, 0, 3).unwrap();
        poison.push(pay_nonsense(api, account));
    }
    let last = pay(api, 9, 0, 3).unwrap();
    assert_eq!(documents(api, "sums", last).len(), 6);
    let row = api.get_json("/projections/sums");
    assert_eq!((&row["state"], &row["parked"]), (&json!("running"), &json!(5)), "{row}");
    let first = api.get_json("/projections/sums/parked?limit=3");
    let next = first["next"].as_u64().unwrap();
    let second = api.get_json(&format!("/projections/sums/parked?limit=3&after={next}"));
    assert_eq!(second["more"], false, "{second}");
    let parked = [&first, &second].map(|page| page["parked"].as_array().unwrap().clone()).concat();
    let positions: Vec<u64> = parked.iter().map(|row| row["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, poison);
}

#[test]
fn a_question_that_makes_no_sense_is_refused_for_what_is_wrong_with_it() {
    let place = Place::sqlite(SETTINGS);
    let server = place.start();
    let api = &server.api;
    for account in 0..ledger::ACCOUNTS {
        pay(api, account, 0, 1).unwrap();
    }
    let last = ledger::head(api);
    assert_in_step(api, last);
    let page = api.get_json("/projections/latest/documents?limit=2");
    let cursor = page["next"].as_str().unwrap();
    let get = |path: &str| {
        let (status, body) = api.get(path);
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["error"].clone())
    };
    for (path, status, code) in [
        ("/projections/nobody", 404, "unknown_projection"),
        ("/projections/nobody/documents", 404, "unknown_projection"),
        ("/projections/nobody/parked", 404, "unknown_projection"),
        ("/projections/latest/parked?limit=0", 400, "invalid_field"),
        ("/projections/latest/parked?after=x", 400, "invalid_field"),
        ("/projections/latest/documents?order=colour", 400, "unknown_field"),
        ("/projections/latest/documents?order=account", 400, "unindexed_order"),
        ("/projections/latest/documents?where=%7B", 400, "invalid_query"),
        ("/projections/latest/documents?where=%7B%22near%22:1%7D", 400, "invalid_query"),
        ("/projections/latest/documents?cursor=abc", 400, "invalid_cursor"),
        ("/projections/latest/documents?wait=999999999&timeout_ms=50", 503, "wait_timeout"),
    ] {
        let (answered, error) = get(path);
        assert_eq!((answered, &error["code"]), (status, &json!(code)), "{path}: {error}");
    }
    let unknown = get("/projections/latest/documents?order=colour").1;
    assert_eq!(unknown["details"]["field"], "colour", "{unknown}");
    assert!(unknown["details"]["known"].as_array().unwrap().contains(&json!("cents")));

    let before = api.get_json("/projections/latest")["generation"].as_u64();
    for (path, status, code) in [
        ("/projections/nobody/rebuild", 404, "unknown_projection"),
        ("/projections/latest/skip", 409, "not_stopped"),
        ("/projections/latest/resume", 409, "not_stopped"),
        ("/projections/latest/cancel", 409, "not_building"),
    ] {
        let (answered, body) = api.post(path, &json!({}));
        assert_eq!((answered, &body["error"]["code"]), (status, &json!(code)), "{path}");
    }
    assert_eq!(api.post("/projections/latest/rebuild", &json!({})).0, 202);
    wait_until("it is rebuilt", || {
        api.get_json("/projections/latest")["generation"].as_u64() > before
    });
    let (status, error) = get(&format!("/projections/latest/documents?limit=2&cursor={cursor}"));
    assert_eq!((status, &error["code"]), (409, &json!("stale_cursor")));
}
