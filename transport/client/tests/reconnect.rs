//! Over real sockets that break: every event once and in order, every append once.

mod fake_server;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use fake_server::FakeServer;
use futures_util::StreamExt;
use tidewire_client::{
    After, AppendError, Backoff, Client, ClientConfig, CloseCode, Delivery, Notice, OutboxError,
    OutboxLimits, State, SubscribeOptions, Target,
};
use tidewire_eventstore::{EventId, EventType, ExpectedRevision, NewEvent, StreamName};
use tidewire_protocol::{Auth, SessionConfig};

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

fn new_event(number: u64) -> NewEvent {
    NewEvent::json(EventType::new("Counted").expect("a name"), format!("{number}"))
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

#[tokio::test]
async fn every_event_comes_once_and_in_order_over_a_connection_that_is_cut_again_and_again() {
    let server = FakeServer::start(SessionConfig::default()).await;
    server.cut_after_events.store(7, Ordering::SeqCst);
    for number in 1..=100u64 {
        server.record("order-1", "Counted", EventId::generate(), format!("{number}").into());
    }
    let client = Client::connect(&server.url, config()).expect("an address");
    let options = SubscribeOptions::new(Target::All, After::Start);
    let mut events = client.subscribe(options).await.expect("open");
    let mut positions = Vec::new();
    while positions.len() < 100 {
        let event = in_time(events.next_event()).await.expect("it goes on").expect("no error");
        positions.push(event.position.get());
    }
    assert_eq!(positions, (1..=100).collect::<Vec<_>>());
    assert!(server.connections.load(Ordering::SeqCst) > 10, "the connection was cut");
    client.close().await;
    assert!(in_time(events.next_event()).await.is_none(), "closing ends subscriptions");
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_takes_effect_once() {
    let server = FakeServer::start(SessionConfig::default()).await;
    server.cut_after_append.store(true, Ordering::SeqCst);
    let client = Client::connect(&server.url, config()).expect("an address");
    let stream = StreamName::new("order-1").expect("a name");
    let settled =
        in_time(client.append(stream, ExpectedRevision::Any, vec![new_event(1), new_event(2)]))
            .await
            .expect("it is settled after the second connection");
    assert_eq!(settled.position.get(), 2);
    assert_eq!(server.events().len(), 2);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_slow_consumer_loses_nothing() {
    let server = FakeServer::start(SessionConfig::default()).await;
    let client = Client::connect(&server.url, config()).expect("an address");
    let mut options = SubscribeOptions::new(Target::All, After::Start);
    options.buffer = 1;
    let mut events = client.subscribe(options).await.expect("open");
    let data = "x".repeat(10_000);
    for _ in 0..500 {
        server.record("order-1", "Big", EventId::generate(), format!("\"{data}\"").into());
    }
    for number in 1..=500u64 {
        tokio::task::yield_now().await;
        let event = in_time(events.next_event()).await.expect("it goes on").expect("no error");
        assert_eq!(event.position.get(), number);
    }
}

#[tokio::test]
async fn a_dropped_subscription_is_ended_on_the_server() {
    let server = FakeServer::start(SessionConfig::default()).await;
    let client = Client::connect(&server.url, config()).expect("an address");
    let options = SubscribeOptions::new(Target::All, After::End);
    let mut events = client.subscribe(options).await.expect("open");
    let first = in_time(events.next()).await;
    assert!(matches!(first, Some(Ok(Delivery::Notice(Notice::Subscribed { .. })))), "{first:?}");
    assert_eq!(server.feeds.load(Ordering::SeqCst), 1);
    drop(events);
    until(|| server.feeds.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_wrong_token_is_final() {
    let auth = Auth::Token("right".to_owned());
    let server = FakeServer::start(SessionConfig { auth, ..SessionConfig::default() }).await;
    let wrong = ClientConfig { token: Some("wrong".to_owned()), ..config() };
    let client = Client::connect(&server.url, wrong).expect("an address");
    assert!(in_time(client.connected()).await.is_err());
    assert_eq!(*client.state().borrow(), State::Failed(CloseCode::FORBIDDEN));
    let options = SubscribeOptions::new(Target::All, After::End);
    let mut events = client.subscribe(options).await.expect("the task is there");
    assert!(in_time(events.next_event()).await.expect("the end").is_err());
    let right = ClientConfig { token: Some("right".to_owned()), ..config() };
    let client = Client::connect(&server.url, right).expect("an address");
    in_time(client.connected()).await.expect("welcome");
}

#[tokio::test]
async fn a_full_outbox_refuses_visibly() {
    let outbox = OutboxLimits { requests: 1, ..OutboxLimits::default() };
    // Nobody listens there: a port that was bound and let go.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback is there")
        .port();
    let url = format!("ws://127.0.0.1:{port}/ws");
    let client = Client::connect(&url, ClientConfig { outbox, ..config() }).expect("an address");
    let append = || {
        let stream = StreamName::new("order-1").expect("a name");
        client.append(stream, ExpectedRevision::Any, vec![new_event(1)])
    };
    let (mut first, mut second) = (Box::pin(append()), Box::pin(append()));
    let refused = tokio::select! {
        biased;
        first = in_time(&mut first) => first,
        second = in_time(&mut second) => second,
    };
    assert!(
        matches!(refused, Err(AppendError::Outbox(OutboxError::Full { requests: 1, .. }))),
        "{refused:?}"
    );
}
