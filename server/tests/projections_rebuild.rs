//! A rebuild during live traffic: clients see one picture before, during and after it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    ledger::{ACCOUNTS, Payer, Place, SETTINGS, assert_in_step, documents, head, pay},
    live::Live,
    wait_until,
};

/// Payments in the log before the rebuild, in thousands.
const THOUSANDS: u64 = 20;

fn counted(shown: &BTreeMap<String, Value>) -> u64 {
    shown.values().map(|document| document["count"].as_u64().unwrap()).sum()
}

fn clients_see_one_picture_over_a_rebuild(place: &Place) {
    let server = place.start();
    let api = &server.api;
    let mut last = 0;
    for number in 0..THOUSANDS {
        last = pay(api, number % ACCOUNTS, number, 1000).unwrap();
    }
    assert_in_step(api, last);
    let to = json!({"projection": "counts"});
    let mut watching = Live::subscribe(api, &to);
    assert_eq!(watching.shown, documents(api, "counts", last), "before");
    let before = watching.generation;

    let payer = Payer::start(api, 3);
    let (status, asked) = api.post("/projections/counts/rebuild", &json!({}));
    assert_eq!((status, asked), (202, json!({"name": "counts", "wish": "rebuild"})));
    let (mut progress, mut least) = (Vec::new(), counted(&watching.shown));
    wait_until("another generation is read", || {
        let row = api.get_json("/projections/counts");
        if let Some(position) = row["building"]["position"].as_u64() {
            assert!(row["building"]["head"].as_u64().unwrap() >= position, "{row}");
            progress.push(position);
        }
        watching.take_arrived();
        // Never less than it was shown before: no empty picture, and none of the past.
        let now = counted(&watching.shown);
        assert!(now >= least, "{now} after {least}");
        least = now;
        row["generation"].as_u64().unwrap() > before
    });
    assert!(progress.is_sorted(), "{progress:?}");
    watching.wait_until("the new state is shown", |live| live.generation > before);
    assert!(counted(&watching.shown) >= least);
    assert_eq!(watching.resets, ["generation"]);
    assert_eq!(watching.states, 2, "one state at first, and one after the rebuild");

    assert!(payer.stop() > 0);
    let last = head(api);
    watching.wait_until("everything is told", |live| live.is_live && live.position >= last);
    assert_eq!(watching.shown, documents(api, "counts", last), "after");
    assert_in_step(api, last);
    let fresh = Live::subscribe(api, &to);
    assert_eq!(fresh.shown, watching.shown);
}

#[test]
fn clients_see_one_picture_over_a_rebuild_on_sqlite() {
    clients_see_one_picture_over_a_rebuild(&Place::sqlite(SETTINGS));
}

#[test]
fn clients_see_one_picture_over_a_rebuild_on_postgres() {
    clients_see_one_picture_over_a_rebuild(&Place::postgres(SETTINGS));
}

#[test]
fn a_new_version_is_rebuilt_by_itself_only_where_the_settings_say_so() {
    let place = Place::sqlite(SETTINGS);
    let mut server = place.start();
    let last = pay(&server.api, 1, 0, 100).unwrap();
    assert_in_step(&server.api, last);
    server.running.signal(Signal::SIGTERM);
    assert_eq!(server.running.wait(), Some(0));

    place.settle(&SETTINGS.replace("version = 1", "version = 2"));
    let mut server = place.start();
    let last = pay(&server.api, 1, 0, 10).unwrap();
    wait_until("what has no leave to is outdated", || {
        server.api.get_json("/projections/counts")["state"] == "outdated"
    });
    let old = documents(&server.api, "counts", 0);
    assert_eq!(counted(&old), 100, "it is answered from, and stands still");
    wait_until("what has leave to is rebuilt", || {
        let row = server.api.get_json("/projections/sums");
        row["version"] == 2 && row["checkpoint"].as_u64().unwrap() >= last
    });
    let (status, _) = server.api.post("/projections/counts/rebuild", &json!({}));
    assert_eq!(status, 202);
    wait_until("the other is rebuilt when it is asked to", || {
        server.api.get_json("/projections/counts")["version"] == 2
    });
    let asked = server.api.post("/projections/latest/rebuild", &json!({}));
    assert_eq!(asked.0, 202);
    assert_in_step(&server.api, last);
    server.running.signal(Signal::SIGTERM);
    assert_eq!(server.running.wait(), Some(0));
}

#[test]
fn a_rebuild_goes_on_after_a_kill() {
    let place = Place::sqlite(SETTINGS);
    let mut server = place.start();
    for number in 0..THOUSANDS {
        pay(&server.api, number % ACCOUNTS, number, 1000).unwrap();
    }
    let last = head(&server.api);
    assert_in_step(&server.api, last);
    let before = server.api.get_json("/projections/sums")["generation"].as_u64().unwrap();
    assert_eq!(server.api.post("/projections/sums/rebuild", &json!({})).0, 202);
    // Whatever it has done of it by now: nothing, part of it, or all.
    server.running.signal(Signal::SIGKILL);
    server.running.wait();

    let server = place.start();
    wait_until("the rebuild is through", || {
        server.api.get_json("/projections/sums")["generation"].as_u64().unwrap() > before
    });
    assert_in_step(&server.api, last);
}
