//! `place-order` takes effect once: sent again, sent by many at once, sent to an application that
//! is killed in the middle of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Application, Session, events, post};

fn wish(customer: &str, product: &str, quantity: u64) -> Value {
    json!({ "customer": customer, "items": [{ "product": product, "quantity": quantity }] })
}

fn command(id: &str, data: &Value, key: &str) -> Value {
    json!({ "type": "command", "id": id, "name": "place-order", "data": data, "key": key })
}

#[test]
fn an_order_is_placed_once_and_answered_alike_by_socket_and_http() {
    let directory = tempfile::tempdir().unwrap();
    let application = Application::start(directory.path());
    let address = &application.address;
    let mut session = Session::open(address);
    session
        .send(&json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": "start" }));
    assert_eq!(session.receive()["type"], "subscribed");
    assert_eq!(session.receive()["type"], "live");

    session.send(&command("1", &wish("ann", "bread", 2), "k-1"));
    // The answer and the event come in either order.
    let (mut result, mut delivered) = (None, None);
    while result.is_none() || delivered.is_none() {
        let message = session.receive();
        match message["type"].as_str().unwrap() {
            "result" => result = Some(message),
            "events" => delivered = Some(message["events"][0].clone()),
            _ => panic!("{message}"),
        }
    }
    let (result, delivered) = (result.unwrap(), delivered.unwrap());
    assert_eq!(result["data"], json!({ "order": "ann-1", "total": 700 }));
    assert_eq!((&result["position"], &delivered["position"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&delivered["stream"], &delivered["type"]),
        (&json!("orders-ann"), &json!("OrderPlaced"))
    );

    let again = post(address, &wish("ann", "bread", 2), Some("k-1"));
    let expected = json!({ "data": { "order": "ann-1", "total": 700 }, "position": 1 });
    assert_eq!(again, Some((200, expected)));
    let other = post(address, &wish("ann", "bread", 3), Some("k-1")).unwrap();
    assert_eq!((other.0, &other.1["error"]["code"]), (409, &json!("key_reused")));
    let next = post(address, &wish("ann", "cheese", 1), None).unwrap();
    assert_eq!(next.1["data"], json!({ "order": "ann-2", "total": 1290 }));
    assert_eq!(events(address).len(), 2);
}

#[test]
fn what_cannot_be_ordered_is_refused_with_the_applications_own_codes() {
    let directory = tempfile::tempdir().unwrap();
    let application = Application::start(directory.path());
    for (data, code, details) in [
        (json!({ "customer": "ann", "items": [] }), "empty_order", Value::Null),
        (wish("ann", "gold", 1), "unknown_product", json!({ "product": "gold" })),
        (wish("ann", "bread", 0), "bad_quantity", json!({ "quantity": 0, "max": 100 })),
        (wish("ann\n", "bread", 1), "bad_customer", Value::Null),
    ] {
        let (status, answer) = post(&application.address, &data, Some("k")).unwrap();
        let error = &answer["error"];
        assert_eq!((status, &error["code"]), (422, &json!("command_failed")), "{answer}");
        assert_eq!(
            (&error["details"]["code"], &error["details"]["details"]),
            (&json!(code), &details)
        );
    }
    for data in [json!({ "customer": "ann" }), json!({ "customer": 7, "items": [] }), json!(null)] {
        let (status, answer) = post(&application.address, &data, Some("k")).unwrap();
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_field")));
    }
    assert!(events(&application.address).is_empty());
    assert_eq!(post(&application.address, &wish("ann", "bread", 1), Some("k")).unwrap().0, 200);
}

#[test]
fn twenty_sockets_that_send_the_same_order_at_once_place_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let application = Application::start(directory.path());
    let ready = Arc::new(Barrier::new(20));
    let sessions: Vec<_> = (0..20)
        .map(|_| {
            let (address, ready) = (application.address.clone(), Arc::clone(&ready));
            thread::spawn(move || {
                let mut session = Session::open(&address);
                ready.wait();
                (0..5)
                    .map(|n| {
                        session.send(&command(
                            "1",
                            &wish("ann", "apple", n + 1),
                            &format!("k-{n}"),
                        ));
                        let answer = session.receive();
                        (answer["data"].clone(), answer["position"].clone())
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let told: Vec<_> = sessions.into_iter().map(|session| session.join().unwrap()).collect();
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    let placed: Vec<_> =
        (1..=5).map(|n| json!({ "order": format!("ann-{n}"), "total": 40 * n })).collect();
    assert_eq!(told[0].iter().map(|(data, _)| data.clone()).collect::<Vec<_>>(), placed);
    assert_eq!(events(&application.address).len(), 5);
}

/// Clients that order at the same time, so that the application is killed with many orders under
/// way.
const CLIENTS: usize = 16;
/// How often it is killed.
const ROUNDS: u32 = 4;

/// What the clients were told, by key.
type Told = Arc<Mutex<BTreeMap<String, Value>>>;

/// Each client sends one order after the other, until the application is gone. Returns how many
/// keys each has used; the last ones may or may not have taken effect.
fn order_until_gone(address: &str, round: u32, told: &Told) -> Vec<thread::JoinHandle<u32>> {
    (0..CLIENTS)
        .map(|client| {
            let (address, told) = (address.to_owned(), Arc::clone(told));
            thread::spawn(move || {
                for n in 1.. {
                    let key = format!("{round}-{client}-{n}");
                    let quantity = u64::from(n % 100) + 1;
                    match post(
                        &address,
                        &wish(&format!("c{client}"), "apple", quantity),
                        Some(&key),
                    ) {
                        Some((200, answer)) => {
                            told.lock().unwrap().insert(key, answer);
                        }
                        Some(refused) => panic!("{refused:?}"),
                        None => return n,
                    }
                }
                unreachable!("the application is killed before that")
            })
        })
        .collect()
}

#[test]
fn an_order_sent_again_after_a_kill_is_placed_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut placed = 0;
    for round in 0..ROUNDS {
        let application = Application::start(directory.path());
        let told = Told::default();
        let clients = order_until_gone(&application.address, round, &told);
        let deadline = Instant::now() + Duration::from_secs(20);
        while told.lock().unwrap().len() < 4 * CLIENTS {
            assert!(Instant::now() < deadline, "some orders are placed in time");
            thread::sleep(Duration::from_millis(1));
        }
        application.kill();
        let used: Vec<u32> = clients.into_iter().map(|client| client.join().unwrap()).collect();

        // Every order again, those that were answered and those that were not.
        let application = Application::start(directory.path());
        let told = told.lock().unwrap();
        for (client, last) in used.iter().enumerate() {
            for n in 1..=*last {
                let key = format!("{round}-{client}-{n}");
                let data = wish(&format!("c{client}"), "apple", u64::from(n % 100) + 1);
                let (status, answer) = post(&application.address, &data, Some(&key)).unwrap();
                assert_eq!(status, 200, "{answer}");
                if let Some(first) = told.get(&key) {
                    assert_eq!(&answer, first, "the first answer, for {key}");
                }
            }
            placed += last;
        }
        let events = events(&application.address);
        assert_eq!(events.len(), placed as usize, "each order once");
        let orders: std::collections::BTreeSet<_> =
            events.iter().map(|event| event["order"].to_string()).collect();
        assert_eq!(orders.len(), events.len(), "no number was given twice");
    }
}
