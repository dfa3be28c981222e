//! `tidewire demo`: all flights arrive once, however often the demo is started.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use support::{Api, PATIENCE, Running, ledger::documents_by, live::Live, run_ok, tidewire};

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
    // All flights, and their documents beside them.
    assert_eq!(demo.wait_within(4 * PATIENCE), Some(0), "{}", demo.logged());
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

/// Each twelfth flight of the two weeks.
fn some_flights() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights-two-weeks.csv.gz");
    let mut rows = String::new();
    GzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut rows).unwrap();
    rows.split_inclusive('\n').step_by(12).collect()
}

/// What the events of a log come to, flight by flight.
fn fold(log: &str) -> BTreeMap<String, Value> {
    let mut flights = BTreeMap::<String, Value>::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let data = &event["data"];
        let stream = event["stream"].as_str().unwrap().to_owned();
        let flight = flights.entry(stream).or_insert_with(|| {
            json!({
                "carrier": data["carrier"], "carrier_name": data["carrier_name"],
                "flight": data["flight"], "origin": data["origin"], "destination": data["dest"],
                "destination_name": data["dest_name"], "scheduled": data["scheduled_departure"],
                "day": data["scheduled_departure"].as_str().unwrap()[..10],
                "scheduled_arrival": data["scheduled_arrival"],
            })
        });
        let status = match event["type"].as_str().unwrap() {
            "FlightScheduled" => "scheduled",
            "FlightDeparted" => {
                flight["departed"] = data["at"].clone();
                flight["delay_minutes"] = data["delay_minutes"].clone();
                "departed"
            }
            "FlightArrived" => {
                flight["arrived"] = data["at"].clone();
                flight["delay_minutes"] = data["delay_minutes"].clone();
                "arrived"
            }
            "FlightDiverted" => {
                flight["arrived"] = data["at"].clone();
                "diverted"
            }
            "FlightCancelled" => {
                flight.as_object_mut().unwrap().remove("delay_minutes");
                "cancelled"
            }
            other => panic!("{other}"),
        };
        flight["status"] = status.into();
        flight["changed_at"] = event["meta"]["happened_at"].clone();
    }
    flights
}

#[test]
fn the_flights_are_documents_that_a_board_can_follow() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("some.csv"), some_flights()).unwrap();
    let mut command = tidewire(directory.path());
    command.args(["demo", "--address", "127.0.0.1:0", "--database", "flights.db"]);
    command.args(["--speed", "1e9", "--file", "some.csv"]);
    let demo = Running::start(command);
    let line = demo.line();
    let address = line.strip_prefix("Tidewire demo: http://").unwrap().trim_end_matches('/');
    let api = Api::at(address);
    let line = demo.line();
    let events = line.split(", ").nth(1).unwrap().strip_suffix(" events").unwrap();
    let departures = documents_by(1000, &api, "departures", events.parse().unwrap());
    let log =
        run_ok(directory.path(), &["tail", "--no-follow", "--json", "--database", "flights.db"]);
    let expected = fold(&log);
    assert_eq!(departures.len(), expected.len());
    for (key, flight) in &expected {
        assert_eq!(&departures[key], flight, "{key}");
    }
    assert_eq!(api.get_json("/projections/departures")["parked"], 0);

    let days = json!({
        "projection": "departures", "where": {"in": ["day", ["2013-02-07", "2013-02-08"]]},
    });
    let shown = Live::subscribe(&api, &days).shown;
    let of_days = |flight: &Value| flight["day"] == "2013-02-07" || flight["day"] == "2013-02-08";
    assert_eq!(shown.len(), expected.values().filter(|flight| of_days(flight)).count());
    assert!(shown.values().all(of_days));
    let newest = json!({
        "projection": "departures", "limit": 1,
        "order": {"by": "changed_at", "direction": "descending"},
    });
    let newest = Live::subscribe(&api, &newest).shown;
    let last = expected.values().map(|flight| flight["changed_at"].as_str().unwrap()).max();
    assert_eq!(newest.values().next().unwrap()["changed_at"].as_str(), last);
}
