//! A client may ask for counts by type in place of events: everything is counted exactly once,
//! whatever becomes of the connection.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Client, Server};
use tidewire_eventstore::{Append, EventStore, EventType, ExpectedRevision, NewEvent, StreamName};

async fn subscribe(client: &mut Client, after: Value, batch: Value) {
    client
        .send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": after,
            "batch": batch }))
        .await;
    client.expect("subscribed").await;
}

/// What a client was told, added up.
#[derive(Debug, Default)]
struct Told {
    through: u64,
    counts: BTreeMap<String, u64>,
    summaries: Vec<u64>,
}

impl Told {
    /// Adds a message, which has to go on from the ones before.
    fn add(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().expect("a number");
        match message["type"].as_str() {
            Some("summary") => {
                assert!(number("after") >= self.through, "counted twice: {message}");
                assert!(number("position") > number("after"), "{message}");
                self.through = number("position");
                let counts = message["counts"].as_object().expect("counts");
                let mut sum = 0;
                for (name, count) in counts {
                    let count = count.as_u64().expect("a number");
                    assert!(count > 0, "{message}");
                    sum += count;
                    *self.counts.entry(name.clone()).or_default() += count;
                }
                assert_eq!(number("count"), sum);
                let times = ["from", "to"].map(|name| message[name].as_str().expect("a time"));
                assert!(times[0] <= times[1]);
                self.summaries.push(sum);
            }
            Some("heartbeat") => {
                let position = message["positions"]["1"].as_u64().unwrap_or(0);
                self.through = self.through.max(position);
            }
            Some("live" | "behind") => {}
            _ => panic!("{message}"),
        }
    }

    /// Listens until everything through `position` was told.
    async fn listen(&mut self, client: &mut Client, position: u64) {
        while self.through < position {
            let message = client.message().await;
            self.add(&message);
        }
    }

    fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Appends one event of a type.
async fn append(store: &dyn EventStore, event_type: &str) -> u64 {
    let append = Append {
        stream: StreamName::new("order-1").expect("a good name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(EventType::new(event_type).expect("a good name"), "1")],
    };
    let pending = store.append(append).expect("room in the queue");
    pending.await.expect("recorded").position.get()
}

#[tokio::test]
async fn what_there_was_is_counted_page_by_page_and_what_comes_by_time() {
    let server = Server::start();
    for stream in ["order-1", "order-2", "order-3"] {
        server.append(stream, 1000).await;
    }
    let mut client = server.connect().await;
    subscribe(&mut client, json!("start"), json!({ "summary_ms": 200 })).await;
    let mut told = Told::default();
    told.listen(&mut client, 3000).await;
    assert_eq!(told.counts, BTreeMap::from([("Happened".into(), 3000)]));
    assert!(told.summaries.len() < 10, "{:?}", told.summaries);
    client.skip_to("live").await;

    let began = Instant::now();
    for _ in 0..20 {
        append(&*server.store, "Paid").await;
    }
    let before = told.summaries.len();
    told.listen(&mut client, 3020).await;
    assert_eq!(told.counts["Paid"], 20);
    let windows = 2 + began.elapsed().as_millis() / 200;
    assert!((told.summaries.len() - before) as u128 <= windows, "{:?}", told.summaries);
}

#[tokio::test]
async fn a_number_of_events_is_counted_together() {
    let server = Server::start();
    server.append("order-1", 7).await;
    let mut client = server.connect().await;
    subscribe(&mut client, json!("start"), json!({ "summary_events": 5 })).await;
    let mut told = Told::default();
    told.listen(&mut client, 7).await;
    assert_eq!(told.summaries, [5, 2], "what there was is told whole");
    client.expect("live").await;
    server.append("order-1", 4).await;
    server.append("order-1", 7).await;
    told.listen(&mut client, 17).await;
    assert_eq!(told.summaries, [5, 2, 5, 5]);
    // One more event waits for four others; a second client takes it from the store, and cuts no
    // window of the first that it does not have to.
    let mut other = server.connect().await;
    subscribe(&mut other, json!(17), json!({ "summary_events": 5 })).await;
    server.append("order-1", 4).await;
    for client in [&mut client, &mut other] {
        let mut rest = Told { through: 17, ..Told::default() };
        while rest.through < 22 {
            let message = client.message().await;
            rest.add(&message);
        }
        assert_eq!(rest.total(), 5);
    }
}

#[tokio::test]
async fn a_filter_decides_what_is_counted() {
    let server = Server::with_config(|config| {
        config.heartbeat_interval = Duration::from_millis(50);
    });
    let mut client = server.connect().await;
    client
        .send(json!({ "type": "subscribe", "sub": 1, "to": { "category": "order" },
            "after": "start", "filter": { "eq": ["type", "Paid"] },
            "batch": { "summary_ms": 100 } }))
        .await;
    client.expect("subscribed").await;
    for event_type in ["Paid", "Placed", "Paid", "Shipped"] {
        append(&*server.store, event_type).await;
    }
    let last = server.append("mail-1", 5).await;
    let mut told = Told::default();
    told.listen(&mut client, last).await;
    assert_eq!(told.counts, BTreeMap::from([("Paid".into(), 2)]));
}

/// Events that come while a reader's page is on its way fill small windows all the time; it gets to
/// the live end all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_rest_keeps_nobody_from_the_live_end() {
    let server = Server::start();
    server.append("order-1", 500).await;
    let (store, done) = (server.store.clone(), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let done = done.clone();
        async move {
            while !done.load(Ordering::Relaxed) {
                append(&*store, "Paid").await;
            }
        }
    });
    for round in 0..5 {
        let mut client = server.connect().await;
        subscribe(&mut client, json!("start"), json!({ "summary_events": 3 })).await;
        let (mut told, deadline) = (Told::default(), Instant::now() + support::DEADLINE);
        loop {
            assert!(Instant::now() < deadline, "round {round}: never live");
            let message = client.message().await;
            told.add(&message);
            if message["type"] == "live" {
                break;
            }
        }
        assert_eq!(told.total(), told.through, "everything is counted");
    }
    done.store(true, Ordering::Relaxed);
    writer.await.expect("the writer ends");
}

/// Clients that are cut off again and again, at any time, and go on from what they were told,
/// while somebody appends without rest: what they were told adds up to the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_add_up_over_cuts_and_catching_up() {
    let server = Server::with_config(|config| {
        config.heartbeat_interval = Duration::from_millis(40);
    });
    let (store, done) = (server.store.clone(), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let done = done.clone();
        async move {
            let mut recorded = BTreeMap::<String, u64>::new();
            for number in 0.. {
                let event_type = ["Placed", "Paid", "Shipped"][number % 3];
                let position = append(&*store, event_type).await;
                *recorded.entry(event_type.into()).or_default() += 1;
                if done.load(Ordering::Relaxed) {
                    return (recorded, position);
                }
            }
            unreachable!("numbers do not end");
        }
    });
    let batches = [json!({ "summary_ms": 100 }), json!({ "summary_events": 20 })];
    let mut all = [Told::default(), Told::default()];
    for round in 0..12 {
        for (batch, told) in batches.iter().zip(&mut all) {
            let mut client = server.connect().await;
            subscribe(&mut client, json!(told.through), batch.clone()).await;
            for _ in 0..=round % 5 {
                let message = client.message().await;
                told.add(&message);
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    let (recorded, last) = writer.await.expect("the writer ends");
    for (batch, mut told) in batches.into_iter().zip(all) {
        let mut client = server.connect().await;
        subscribe(&mut client, json!(told.through), batch).await;
        told.listen(&mut client, last).await;
        assert_eq!(told.counts, recorded);
        assert_eq!(told.total(), last);
    }
}
