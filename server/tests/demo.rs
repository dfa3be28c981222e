//! `tidewire demo`: all flights arrive once, however often the demo is started.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Running, run_ok, tidewire};

const EVENTS: u64 = 35_972;

#[test]
fn a_demo_that_is_started_again_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let arguments = ["demo", "--address", "127.0.0.1:0", "--database", "flights.db", "--speed"];

    // A slow start: what was announced before the first departure, and little more.
    let mut command = tidewire(path);
    command.args(arguments).arg("1");
    let mut demo = Running::start(command);
    assert!(demo.line().starts_with("Tidewire demo: http://127.0.0.1:"));
    assert!(demo.line().starts_with("12340 flights, 35972 events, from 2013-02-04T00:00:00-05:00"));
    support::wait_until("the first flights are in the log", || {
        let count = ["tail", "--no-follow", "--database", "flights.db"];
        run_ok(path, &count).lines().count() > 100
    });
    demo.signal(nix::sys::signal::Signal::SIGKILL);
    demo.wait();

    let mut command = tidewire(path);
    command.args(arguments).args(["1e9", "--once"]);
    let mut demo = Running::start(command);
    demo.line();
    assert!(demo.line().starts_with("going on with event "));
    assert_eq!(demo.wait(), Some(0), "{}", demo.logged());
    let log = run_ok(path, &["tail", "--no-follow", "--json", "--database", "flights.db"]);
    assert_eq!(log.lines().count() as u64, EVENTS);
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["position"], EVENTS);

    let mut command = tidewire(path);
    command.args(arguments).args(["1e9", "--once"]);
    let mut demo = Running::start(command);
    demo.line();
    assert_eq!(demo.line(), format!("all {EVENTS} events are in the log already"));
    assert_eq!(demo.wait(), Some(0), "{}", demo.logged());
}
