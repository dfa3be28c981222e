//! Over real sockets that break: acknowledged events at least once, given once while in hand,
//! retried in order; consumers that go on from their checkpoint; commands that take effect once.

mod fake_server;

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use fake_server::FakeServer;
use tidewire_client::{
    AckedOptions, After, Backoff, Client, ClientConfig, Nack, SubscribeOptions, Target,
};
use tidewire_eventstore::EventId;
use tidewire_protocol::SessionConfig;

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(20);

fn config() -> ClientConfig {
    let backoff = Backoff {
        initial: Duration::from_millis(5),
        max: Duration::from_millis(50),
        ..Backoff::default()
    };
    ClientConfig { backoff, ..ClientConfig::default() }
}

fn options() -> AckedOptions {
    let window = NonZeroU32::new(4).expect("it is not 0");
    SubscribeOptions::new(Target::All, After::Start).ack_each().window(window)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens before the deadline")
}

async fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < DEADLINE, "it happens before the deadline");
        tokio::task::yield_now().await;
    }
}

/// How far a consumer is.
fn checkpoint(server: &FakeServer, name: &str) -> u64 {
    let consumers = server.consumers.lock().expect("no test panics with it");
    consumers.get(name).map_or(0, |checkpoint| checkpoint.get())
}

#[tokio::test]
async fn a_consumer_is_given_everything_over_a_connection_that_is_cut_again_and_again() {
    let server = FakeServer::start(SessionConfig::default()).await;
    server.cut_after_events.store(7, Ordering::SeqCst);
    for number in 1..=60u64 {
        server.record("order-1", "Counted", EventId::generate(), format!("{number}").into());
    }
    let client = Client::connect(&server.url, config()).expect("an address");
    let name = "counter".parse().expect("a name");
    let mut events = client.subscribe_acked(options().consumer(name)).await.expect("open");
    let mut done = BTreeSet::new();
    while done.len() < 60 {
        let delivery = in_time(events.next_event()).await.expect("it goes on").expect("no error");
        done.insert(delivery.event().position.get());
        delivery.ack();
    }
    assert!(server.connections.load(Ordering::SeqCst) > 3, "the connection was cut");
    until(|| checkpoint(&server, "counter") == 60).await;
    client.close().await;
    assert!(in_time(events.next_event()).await.is_none(), "closing ends subscriptions");
}

#[tokio::test]
async fn an_event_that_is_retried_comes_before_the_later_ones_of_its_stream() {
    let server = FakeServer::start(SessionConfig::default()).await;
    for number in 1..=6u64 {
        let stream = if number % 2 == 0 { "order-2" } else { "order-1" };
        server.record(stream, "Counted", EventId::generate(), format!("{number}").into());
    }
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut events = client.subscribe_acked(options()).await.expect("open");
    let mut given = Vec::new();
    while given.len() < 7 {
        let delivery = in_time(events.next_event()).await.expect("it goes on").expect("no error");
        let (at, attempt) = (delivery.event().position.get(), delivery.attempt());
        given.push((at, attempt));
        match (at, attempt) {
            (1, 1) => delivery.nack(Nack::retry().because("not yet")),
            _ => delivery.ack(),
        }
    }
    let of = |odd: u64| -> Vec<(u64, u32)> {
        given.iter().copied().filter(|(at, _)| at % 2 == odd).collect()
    };
    assert_eq!(of(1), [(1, 1), (1, 2), (3, 1), (5, 1)]);
    assert_eq!(of(0), [(2, 1), (4, 1), (6, 1)], "other streams go on");
}

#[tokio::test]
async fn what_is_dropped_unsettled_holds_the_checkpoint_and_comes_again_with_the_next_client() {
    let server = FakeServer::start(SessionConfig::default()).await;
    for number in 1..=3u64 {
        server.record("order-1", "Counted", EventId::generate(), format!("{number}").into());
    }
    let consumer = || options().consumer("counter".parse().expect("a name"));
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut events = client.subscribe_acked(consumer()).await.expect("open");
    for number in 1..=3u64 {
        let delivery = in_time(events.next_event()).await.expect("it goes on").expect("no error");
        assert_eq!(delivery.event().position.get(), number);
        if number == 2 { drop(delivery) } else { delivery.ack() }
    }
    client.close().await;
    until(|| checkpoint(&server, "counter") == 1).await;
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut events = client.subscribe_acked(consumer()).await.expect("open");
    let again = in_time(events.next_event()).await.expect("it goes on").expect("no error");
    assert_eq!(again.event().position.get(), 2);
    again.ack();
}

#[tokio::test]
async fn stopping_ends_the_stream_with_the_reason() {
    let server = FakeServer::start(SessionConfig::default()).await;
    server.record("order-1", "Counted", EventId::generate(), "1".into());
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut events = client.subscribe_acked(options()).await.expect("open");
    let delivery = in_time(events.next_event()).await.expect("it goes on").expect("no error");
    delivery.nack(Nack::stop());
    let ended = in_time(events.next_event()).await.expect("the end");
    assert!(ended.expect_err("why").to_string().contains("stopped"));
    assert!(in_time(events.next_event()).await.is_none());
    until(|| server.feeds.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_command_whose_answer_is_lost_is_sent_again_with_the_same_key() {
    let server = FakeServer::start(SessionConfig::default()).await;
    server.cut_after_append.store(true, Ordering::SeqCst);
    let client = Client::connect(&server.url, config()).expect("an address");
    let answer: Vec<u32> =
        in_time(client.command("echo", &[1, 2, 3])).await.expect("it is answered in the end");
    assert_eq!(answer, [1, 2, 3]);
    let keys = server.commands.lock().expect("no test panics with it").clone();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]), "twice, under one key");
}
