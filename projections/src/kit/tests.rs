//! The kit tells what is wrong with a projection, in words that help.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::{
    ProjectError,
    typed::{self, Change},
};

#[derive(Serialize, Deserialize)]
struct Counter {
    clicks: u64,
}

#[derive(Deserialize)]
enum ButtonEvent {
    Clicked { times: u64 },
}

fn counters() -> impl Projection {
    typed::projection("counters", 1)
        .by_stream(|counter: Option<Counter>, event: &typed::Event<'_, ButtonEvent>| {
            let ButtonEvent::Clicked { times } = event.data;
            if times == 0 {
                return Err(ProjectError::refused("no clicks at all"));
            }
            let clicks = counter.map_or(0, |counter| counter.clicks) + times;
            Ok(Some(Counter { clicks }))
        })
        .expect("the definition is right")
}

fn clicked(stream: &str, times: u64) -> TestEvent {
    event(stream, "Clicked", json!({"times": times}))
}

/// What a check that fails says.
fn told(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check fails");
    *panic.downcast::<String>().expect("it says why")
}

#[test]
fn what_differs_is_told() {
    let counters = counters();
    let given = || Given::events(&counters, [clicked("b-x", 2), clicked("b-y", 3)]);
    given().then([("x", json!({"clicks": 2})), ("y", json!({"clicks": 3}))]);
    given().then_document("y", json!({"clicks": 3}));
    let told = told(|| {
        given().then([("x", json!({"clicks": 5, "name": "X"})), ("z", json!({}))]);
    });
    assert_eq!(
        told,
        "counters: after 2 events, the last being Clicked of b-y\n\
         \n  \"x\" at clicks: expected 5, is 2\
         \n  \"x\" has no name; expected \"X\"\
         \n  \"z\" is missing; expected {}\
         \n  \"y\" was not expected: {\"clicks\":3}"
    );
}

#[test]
fn an_event_that_is_refused_is_told() {
    let counters = counters();
    Given::events(&counters, [clicked("b-x", 2)]).when(clicked("b-x", 0)).then_refused("refused");
    Given::nothing(&counters)
        .when(event("b-x", "Clicked", json!({"times": "many"})))
        .then_refused("event_unreadable");
    let told = told(|| {
        let given = Given::events(&counters, [clicked("b-x", 0)]);
        given.when(clicked("b-x", 1)).then([("x", json!({"clicks": 1}))]);
    });
    assert_eq!(told, "counters: refused event 1 (Clicked of b-x): refused (no clicks at all)");
}

#[test]
fn a_projection_with_a_memory_of_its_own_is_found_out() {
    let calls = AtomicU64::new(0);
    let counters = typed::projection("counters", 1)
        .by_stream(move |_: Option<Counter>, _: &typed::Event<'_, ButtonEvent>| {
            let clicks = calls.fetch_add(1, Ordering::Relaxed) / 2;
            Some(Counter { clicks })
        })
        .expect("the definition is right");
    let told = told(|| {
        let given = Given::events(&counters, [clicked("b-x", 1), clicked("b-x", 1)]);
        given.then([("x", json!({"clicks": 0}))]);
    });
    assert!(told.contains("not pure"), "{told}");
}

#[test]
fn a_float_is_the_same_once_it_was_stored() {
    #[derive(Serialize, Deserialize)]
    struct Mean {
        sum: f64,
    }
    let means = typed::projection("means", 1)
        .by_stream(|mean: Option<Mean>, event: &typed::Event<'_, ButtonEvent>| {
            let ButtonEvent::Clicked { times } = event.data;
            Some(Mean { sum: mean.map_or(0.0, |mean| mean.sum) + 1.0 / times as f64 })
        })
        .expect("the definition is right");
    let events = (1..200).map(|times| clicked("b-x", times));
    let sum = (1..200).fold(0.0, |sum, times| sum + 1.0 / f64::from(times));
    Given::events(&means, events).then([("x", Mean { sum })]);
}

#[test]
fn a_patch_and_what_is_kept_are_documents_too() {
    let counters = typed::projection("counters", 1)
        .by_stream(|counter: Option<Counter>, event: &typed::Event<'_, ButtonEvent>| {
            let ButtonEvent::Clicked { times } = event.data;
            match counter {
                None => Change::Patch(json!({"clicks": times, "label": "new"})),
                Some(_) if times == 0 => Change::Keep,
                Some(_) if times == 9 => Change::Delete,
                Some(_) => Change::Patch(json!({"label": null})),
            }
        })
        .expect("the definition is right");
    let given = || Given::events(&counters, [clicked("b-x", 1)]);
    given().when(clicked("b-x", 0)).then([("x", json!({"clicks": 1, "label": "new"}))]);
    given().when(clicked("b-x", 2)).then([("x", json!({"clicks": 1}))]);
    given().when(clicked("b-x", 9)).then::<&str, Value>([]);
}
