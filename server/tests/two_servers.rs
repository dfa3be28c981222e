//! Two servers on one PostgreSQL: what is appended through one is live on the other.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Server, postgres::Database, run_ok, socket::Socket};

/// How soon an event that another server recorded has to arrive.
const SOON: Duration = Duration::from_secs(1);

fn appended_through_one_is_live_on_the_other(options: &[&str]) {
    let database = Database::create();
    let directory = tempfile::tempdir().unwrap();
    let options = [&["--database-url", &database.url], options].concat();
    let one = Server::start(directory.path(), &options);
    let other = Server::start(directory.path(), &options);

    let mut socket = Socket::connect(&other.api);
    socket.send(&json!({"type": "subscribe", "sub": 1, "to": {"all": true}, "after": "start"}));
    socket.wait_for("live", support::PATIENCE);
    for number in 1..=20_u64 {
        let events = format!(r#"[{{"type": "T", "data": {number}}}]"#);
        // Every third event goes the other way: both write the same log.
        let through = if number % 3 == 0 { &other } else { &one };
        let (status, answer) = through.api.append("order-1", &events).unwrap();
        assert_eq!((status, answer["position"].as_u64()), (201, Some(number)));
        let arrived = socket.wait_for("events", SOON);
        assert_eq!(arrived["events"][0]["position"], number, "{arrived}");
        assert_eq!(arrived["events"].as_array().unwrap().len(), 1, "{arrived}");
    }

    let url = ["--database-url", database.url.as_str()];
    run_ok(directory.path(), &[&["append", "order-1", "T", "21"][..], &url].concat());
    assert_eq!(socket.wait_for("events", SOON)["events"][0]["position"], 21);
    assert!(one.api.positions().into_iter().eq(1..=21));
}

#[test]
fn by_notice_what_one_server_records_is_live_on_the_other() {
    appended_through_one_is_live_on_the_other(&[]);
}

#[test]
fn by_looking_what_one_server_records_is_live_on_the_other_within_a_second() {
    appended_through_one_is_live_on_the_other(&["--no-listen"]);
}

#[test]
fn servers_that_start_at_once_on_an_empty_database_agree_on_its_schema() {
    let database = Database::create();
    let directory = tempfile::tempdir().unwrap();
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let start = || Server::start(directory.path(), &["--database-url", &database.url]);
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    for (position, server) in (1_u64..).zip(&servers) {
        let (_, answer) = server.api.append("order-1", r#"[{"type":"T","data":1}]"#).unwrap();
        assert_eq!(answer["position"], position);
    }
}
